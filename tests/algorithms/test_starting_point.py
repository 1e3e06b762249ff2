"""What is chosen from a first look, rule by rule."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from tensor_optix.algorithms.catalogue import ALGORITHMS
from tensor_optix.algorithms.starting_point import best_suited, starting_point
from tensor_optix.pipeline.first_look import FirstLook

VECTOR = Box(-1, 1, (4,))
IMAGE = Box(0, 255, (84, 84, 3), np.uint8)
REACH = Box(-1, 1, (1,))
MEMORY = "hyperparams.noise_memory"


def look(**figures: Any) -> FirstLook:
    """Return a look at an environment that gives no reason for anything."""
    usual: dict[str, Any] = {
        "backend": "sync",
        "num_envs": 8,
        "time_limit": 200,
        "steps": 1000,
        "step_seconds": 1e-5,
        "rewards": np.linspace(-1, 1, 1000, dtype=np.float32),
        "reward_paths": np.linspace(-1, 1, 1000, dtype=np.float32).reshape(8, 125).T,
        "actions": None,
        "returns": np.array([1.0, 2.0, 3.0, 4.0]),
        "last_rewards": np.array([0.5, -0.5, 0.5, 1.0], np.float32),
        "lengths": np.array([200, 200, 200, 200]),
        "spreads": np.ones(4),
        "centers": np.zeros(4),
    }
    return FirstLook(**usual | figures)


def choices(
    algorithm: str, seen: FirstLook, observation: Any = VECTOR, action: Any = REACH, **others: Any
) -> dict[str, Any]:
    known = {"processors": 2, "most_steps": 10_000} | others
    made = starting_point(ALGORITHMS[algorithm], observation, action, seen, **known)
    return {one.option: one.value for one in made}


@pytest.mark.parametrize(
    ("observation", "action", "step_seconds", "among", "expected"),
    [
        (VECTOR, Discrete(2), 1e-5, "ppo dqn sac td3", "ppo"),
        (VECTOR, Discrete(2), 0.02, "ppo dqn sac td3", "dqn"),
        (VECTOR, REACH, 1e-5, "ppo dqn sac td3", "sac"),
        (VECTOR, REACH, 0.02, "ppo dqn sac td3", "sac"),
        (IMAGE, REACH, 1e-5, "ppo dqn sac td3", "ppo"),
        (IMAGE, Discrete(2), 1e-5, "ppo dqn sac td3", "ppo"),
        (VECTOR, MultiDiscrete([2, 3]), 0.02, "ppo dqn sac td3", "ppo"),
        (VECTOR, MultiBinary(3), 1e-5, "ppo dqn sac td3", "ppo"),
        (VECTOR, REACH, 1e-5, "td3", "td3"),
        (VECTOR, REACH, 1e-5, "ppo td3", "td3"),
        (IMAGE, Discrete(2), 0.02, "ppo dqn sac td3", "dqn"),
        (VECTOR, Discrete(2), 1e-5, "dqn sac", "dqn"),
        # Nothing fits: whoever makes the agent says so.
        (VECTOR, Discrete(2), 1e-5, "sac td3", "sac"),
    ],
)
def test_the_algorithm_follows_from_spaces_and_the_cost_of_a_step(
    observation: Any, action: Any, step_seconds: float, among: str, expected: str
) -> None:
    candidates = [ALGORITHMS[name] for name in among.split()]
    choice = best_suited(observation, action, step_seconds, candidates)
    assert (choice.option, choice.value) == ("algorithm", expected)
    assert choice.reason


def test_where_random_play_met_nothing_it_is_the_one_that_reaches_farther() -> None:
    known = list(ALGORITHMS.values())
    assert best_suited(VECTOR, Discrete(3), 1e-5, known, is_blind=True).value == "dqn"
    assert best_suited(VECTOR, REACH, 1e-5, known, is_blind=True).value == "sac"
    assert best_suited(IMAGE, Discrete(3), 1e-5, known, is_blind=True).value == "ppo"
    assert best_suited(VECTOR, MultiDiscrete([2, 3]), 1e-5, known, is_blind=True).value == "ppo"
    blind = look(returns=np.full(5, -200.0))
    assert choices("dqn", blind, VECTOR, Discrete(3))[MEMORY] == 50


def test_what_gives_no_reason_is_left_to_the_catalogue() -> None:
    assert choices("ppo", look()) == {}
    assert choices("sac", look(), Box(-1, 1, (20,)), given={MEMORY}) == {}
    assert choices("dqn", look(spreads=None, centers=None), Discrete(5)) == {}


@pytest.mark.parametrize(
    ("numbers", "sizes", "rate"),
    [(5, (64, 64), 1e-3), (6, (128, 128), 7e-4), (15, (128, 128), 7e-4)],
)
def test_networks_for_few_numbers_are_small_and_learn_faster(
    numbers: int, sizes: tuple[int, ...], rate: float
) -> None:
    expected = {"hidden_sizes": sizes, "hyperparams.learning_rate": rate}
    space = Box(-1, 1, (numbers,))
    for name in ("sac", "td3"):
        assert choices(name, look(), space, given={MEMORY}) == expected
        assert choices(name, look(), space, given={MEMORY, "hidden_sizes"}) == {}
        known = choices(name, look(), space, given={MEMORY, "hyperparams.learning_rate"})
        assert known == {"hidden_sizes": sizes}
    assert choices("ppo", look(), space) == {}
    assert choices("sac", look(), IMAGE, given={MEMORY}) == {}


@pytest.mark.parametrize(
    ("spreads", "centers", "expected"),
    [
        ([1.0, 0.1, 1.0], [0, 0, 0], False),
        ([1.0, 0.04, 1.0], [0, 0, 0], True),
        ([0.05, 0.05, 0.05], [0, 0, 0], True),
        ([6.0, 6.0, 6.0], [0, 0, 0], True),
        ([1.0, 1.0, 1.0], [0, -30.0, 0], True),
        # What never varied tells nothing.
        ([1.0, 0.0, 1.0], [0, 1000.0, 0], False),
        ([0.0, 0.0, 0.0], [0, 0, 0], False),
    ],
)
def test_observations_are_normalized_where_they_are_far_from_unit_scale(
    spreads: list[float], centers: list[float], expected: bool
) -> None:
    seen = look(spreads=np.array(spreads), centers=np.array(centers))
    assert choices("ppo", seen) == ({"normalize_observations": True} if expected else {})
    assert choices("ppo", seen, given={"normalize_observations"}) == {}


@pytest.mark.parametrize(
    ("limit", "gamma"), [(200, 0.995), (1000, 0.999), (50, None), (100_000, 0.9999), (None, None)]
)
def test_the_horizon_reaches_the_limit_where_random_play_met_nothing_that_pays(
    limit: int | None, gamma: float | None
) -> None:
    nothing = look(time_limit=limit, rewards=np.zeros(1000, np.float32), returns=np.zeros(5))
    alike = look(time_limit=limit, returns=np.full(5, -200.0))
    expected = {} if gamma is None else {"hyperparams.gamma": gamma}
    assert choices("ppo", nothing) == choices("ppo", alike) == expected
    assert choices("sac", nothing, Box(-1, 1, (20,)), given={MEMORY}) == expected


def test_the_horizon_reaches_the_limit_where_the_end_is_what_counts() -> None:
    ends = look(time_limit=1000, last_rewards=np.full(4, -100.0, np.float32))
    assert choices("ppo", ends) == {"hyperparams.gamma": 0.999}
    assert choices("sac", ends, Box(-1, 1, (20,)), given={MEMORY}) == {}
    few = look(time_limit=1000, last_rewards=np.full(2, -100.0, np.float32))
    assert choices("ppo", few) == {}


@pytest.mark.parametrize(("limit", "gamma"), [(500, 0.9998), (1000, 0.9999), (5000, 0.9999)])
def test_the_whole_episode_counts_alike_where_later_rewards_take_back_what_earlier_ones_give(
    limit: int, gamma: float
) -> None:
    swing = np.sin(np.arange(500)[:, None] / 10 + np.arange(8)).astype(np.float32)
    swings = look(time_limit=limit, reward_paths=swing, lengths=np.zeros(0, np.int64))
    given = {MEMORY, "hyperparams.learning_starts"}
    assert swings.takes_back
    for name, space in {"ppo": VECTOR, "sac": Box(-1, 1, (20,)), "td3": Box(-1, 1, (20,))}.items():
        assert choices(name, swings, space, given=given) == {"hyperparams.gamma": gamma}


@pytest.mark.parametrize(("limit", "memory"), [(1000, 64), (None, 64), (50, 12), (3, None)])
def test_noise_lasts_for_a_part_of_an_episode_where_what_pays_is_rare(
    limit: int | None, memory: int | None
) -> None:
    blind, far = look(time_limit=limit, returns=np.zeros(5)), {"hyperparams.gamma"}
    expected = {} if memory is None else {MEMORY: memory}
    for name in ("sac", "td3"):
        assert choices(name, blind, Box(-1, 1, (20,)), given=far) == expected
        assert choices(name, look(time_limit=limit), Box(-1, 1, (20,))) == {}
    assert choices("ppo", blind, given=far) == {}
    assert choices("dqn", look(time_limit=limit), VECTOR, Discrete(2)) == {}


def test_slow_environments_get_a_processor_each() -> None:
    assert choices("ppo", look(step_seconds=2e-3), processors=16) == {"num_envs": 16}
    assert choices("ppo", look(step_seconds=2e-3), processors=8) == {}
    assert choices("ppo", look(step_seconds=1e-4), processors=16) == {}
    assert choices("ppo", look(step_seconds=2e-3), processors=16, given={"num_envs"}) == {}


def test_where_hardly_anything_pays_the_search_is_longer_and_more_is_learned_from_each_step() -> (
    None
):
    blind = look(returns=np.array([-200.0] * 16))
    made = choices("dqn", blind, action=Discrete(3))
    assert made["hyperparams.epsilon_decay_steps"] == 30_000
    assert made["hyperparams.updates_per_step"] == 1.0
    seen = choices("dqn", look(), action=Discrete(3))
    assert not {"hyperparams.epsilon_decay_steps", "hyperparams.updates_per_step"} & seen.keys()
    of_images = choices("dqn", blind, IMAGE, Discrete(3))
    assert of_images["hyperparams.epsilon_decay_steps"] == 300_000
    # They make as many already, and their exploration has no end.
    others = choices("sac", blind)
    assert not {"hyperparams.epsilon_decay_steps", "hyperparams.updates_per_step"} & others.keys()


@pytest.mark.parametrize(
    ("limit", "most_steps", "starts"),
    [
        (499, None, None),
        (500, None, 5_000),
        (1000, None, 10_000),
        (5000, 1_000_000, 10_000),
        (1000, 50_000, 5_000),
        (1000, 10_000, None),
        (50, None, None),
        (None, None, None),
    ],
)
def test_critics_of_continuous_actions_begin_with_random_episodes(
    limit: int | None, most_steps: int | None, starts: int | None
) -> None:
    seen, space = look(time_limit=limit), Box(-1, 1, (20,))
    expected = {} if starts is None else {"hyperparams.learning_starts": starts}
    for name in ("sac", "td3"):
        assert choices(name, seen, space, most_steps=most_steps) == expected
    assert choices("ppo", seen, space, most_steps=most_steps) == {}
    assert choices("dqn", seen, space, Discrete(2), most_steps=most_steps) == {}
    # Random play that ends at once shows little, and shows it soon.
    few = starts and min(starts, 2500)
    short = look(time_limit=limit, steps=1000, lengths=np.full(40, 25))
    expected = {} if few is None else {"hyperparams.learning_starts": few}
    assert choices("sac", short, space, most_steps=most_steps) == expected
    shortest = look(time_limit=limit, steps=1000, lengths=np.full(100, 10))
    assert choices("sac", shortest, space, most_steps=most_steps) == {}
    # Random play that meets nothing teaches nothing.
    blind = look(time_limit=limit, returns=np.zeros(5))
    made = choices("sac", blind, space, most_steps=most_steps)
    assert "hyperparams.learning_starts" not in made
