"""Noise that remembers: each number as without a memory, the spectrum that of 1/f, the state kept."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from scipy.stats import kstest

from tensor_optix import HyperparamSet, make_agent
from tensor_optix.algorithms.exploration_noise import HeldActions, PinkNoise
from tensor_optix.core.checkpoints.saved_state import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    from tensor_optix.core.types import Array

SPACE = Box(-1, 1, (3,))


def drawn(memory: int, steps: int, width: int = 1) -> Array:
    noise = PinkNoise(np.random.default_rng(0), memory)
    return np.array([noise.standard_normal((width, 1))[:, 0] for _ in range(steps)])


@pytest.mark.parametrize("memory", [1, 16, 300])
def test_each_number_by_itself_is_standard_normal(memory: int) -> None:
    # The last of several steps, in 4,000 environments that know nothing of each other.
    last = drawn(memory, 5, width=4000)[-1]
    assert kstest(last, "norm").pvalue > 1e-3
    assert drawn(memory, 1, width=4000)[0].std() == pytest.approx(1.0, abs=0.05)


def test_power_falls_with_the_frequency() -> None:
    numbers = drawn(1024, 1 << 15, width=16)
    power = np.square(np.abs(np.fft.rfft(numbers, axis=0))).mean(axis=1)
    frequency = np.fft.rfftfreq(len(numbers))
    inside = (frequency > 2 / 1024) & (frequency < 0.1)
    slope, _ = np.polyfit(np.log(frequency[inside]), np.log(power[inside]), 1)
    assert slope == pytest.approx(-1.0, abs=0.15)


def test_numbers_are_alike_within_the_memory_and_not_beyond() -> None:
    numbers = drawn(64, 20_000)[:, 0]
    after = {lag: float(np.corrcoef(numbers[:-lag], numbers[lag:])[0, 1]) for lag in (1, 16, 640)}
    assert after[1] > 0.7
    assert 0.2 < after[16] < 0.5
    assert abs(after[640]) < 0.1


def test_it_goes_on_from_its_state_and_anew_with_another_size() -> None:
    first = PinkNoise(np.random.default_rng(1), 64)
    first.standard_normal((2, 3))
    second = PinkNoise.of_state(np.random.default_rng(), first.state_dict())
    second.rng.bit_generator.state = first.rng.bit_generator.state
    np.testing.assert_array_equal(first.standard_normal((2, 3)), second.standard_normal((2, 3)))
    assert first.standard_normal((5, 3)).shape == (5, 3)


def agent_of(algorithm: str, **params: Any) -> Any:
    class Env:
        observation_space = SPACE
        action_space = Box(-2, 2, (2,))

    given = HyperparamSet({"learning_starts": 100, **params})
    return make_agent(Env(), algorithm, "native", hyperparams=given, hidden_sizes=(8,), seed=0)


def acted(agent: Any, steps: int) -> Array:
    return np.array([agent.act_batch(np.zeros((4, 3), np.float32)) for _ in range(steps)])


@pytest.mark.parametrize("algorithm", ["sac", "td3"])
def test_actions_follow_one_another_only_with_a_memory(algorithm: str) -> None:
    for memory, low, high in ((0, -0.15, 0.15), (64, 0.6, 1.0)):
        actions = acted(agent_of(algorithm, noise_memory=memory), 400)
        assert np.abs(actions).max() <= 1.0
        alike = np.corrcoef(actions[:-1].ravel(), actions[1:].ravel())[0, 1]
        assert low < alike < high


@pytest.mark.parametrize("algorithm", ["sac", "td3"])
def test_a_learner_that_is_taken_up_again_draws_what_it_would_have_drawn(
    algorithm: str, tmp_path: Path
) -> None:
    agent = agent_of(algorithm, noise_memory=64)
    acted(agent, 10)
    agent.save_state(tmp_path / "one")
    other = agent_of(algorithm)
    other.load_state(tmp_path / "one")
    other.set_hyperparams(agent.get_hyperparams())
    np.testing.assert_array_equal(acted(agent, 10), acted(other, 10))


def test_a_learner_from_before_the_first_action_is_taken_up(tmp_path: Path) -> None:
    agent = agent_of("sac", noise_memory=64)
    agent.save_state(tmp_path / "one")
    expected = acted(agent, 5)
    agent.load_state(tmp_path / "one")
    np.testing.assert_array_equal(acted(agent, 5), expected)


def test_damaged_noise_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    agent = agent_of("sac", noise_memory=64)
    acted(agent, 5)
    agent.save_state(tmp_path / "one")
    (file,) = (tmp_path / "one").rglob("agent.json")
    stored = json.loads(file.read_text())
    stored["lasting"]["parts"] = [["much"]]
    file.write_text(json.dumps(stored))
    before = agent.act_greedy(np.zeros((1, 3), np.float32))
    with pytest.raises(CheckpointError, match=r"agent\.json"):
        agent.load_state(tmp_path / "one")
    np.testing.assert_array_equal(agent.act_greedy(np.zeros((1, 3), np.float32)), before)


def test_a_memory_that_is_no_whole_number_is_refused() -> None:
    with pytest.raises(
        ValueError, match="noise_memory must be a whole number of at least 0, got -1"
    ):
        agent_of("sac", noise_memory=-1)


def held(memory: int, epsilon: float, steps: int, width: int = 1) -> Array:
    """Return actions `[steps, width]` among 1 to 3, while 0, which is never drawn, is the best one."""
    noise = HeldActions(np.random.default_rng(0), memory)
    masks = np.ones((width, 4), bool)
    masks[:, 0] = False
    best = np.zeros(width, np.int64)
    return np.array([noise.choose(best, epsilon, 4, masks) for _ in range(steps)])


@pytest.mark.parametrize("memory", [1, 8, 64])
@pytest.mark.parametrize("epsilon", [0.05, 0.5, 1.0])
def test_epsilon_is_the_share_of_random_actions(memory: int, epsilon: float) -> None:
    actions = held(memory, epsilon, 3000, width=50)
    assert np.mean(actions[500:] > 0) == pytest.approx(epsilon, abs=0.02)
    counts = np.bincount(actions.ravel(), minlength=4)[1:]
    assert counts.min() > 0.75 * counts.max()


def test_random_actions_are_held_as_long_as_the_zeta_distribution_says() -> None:
    actions = held(64, 0.01, 200_000)[:, 0]
    starts = np.flatnonzero(np.diff(np.concatenate([[0], actions > 0, [0]])))
    spans = np.diff(starts)[::2]
    # Spans that follow each other at once are rare at this epsilon.
    assert np.mean(spans == 1) == pytest.approx(0.61, abs=0.06)
    assert np.mean(spans > 8) == pytest.approx(0.06, abs=0.03)
    assert spans.max() <= 3 * 64


def test_what_is_no_longer_allowed_is_let_go() -> None:
    noise = HeldActions(np.random.default_rng(0), 64)
    best, both = np.zeros(200, np.int64), np.ones((200, 2), bool)
    for _ in range(20):
        noise.choose(best, 1.0, 2, both)
    only = np.zeros((200, 2), bool)
    only[:, 1] = True
    assert set(noise.choose(best + 1, 1.0, 2, only)) == {1}


def test_held_actions_go_on_from_their_state() -> None:
    first = HeldActions(np.random.default_rng(1), 64)
    best = np.zeros(8, np.int64)
    first.choose(best, 0.8, 3, None)
    second = HeldActions.of_state(np.random.default_rng(), first.state_dict())
    second.rng.bit_generator.state = first.rng.bit_generator.state
    for _ in range(10):
        np.testing.assert_array_equal(
            first.choose(best, 0.8, 3, None), second.choose(best, 0.8, 3, None)
        )
    assert first.choose(best[:3], 0.8, 3, None).shape == (3,)
    with pytest.raises(ValueError, match="as long as each other"):
        HeldActions.of_state(first.rng, {"memory": 8, "held": [1, 2], "left": [1]})


def test_dqn_holds_its_random_actions_and_is_taken_up_again(tmp_path: Path) -> None:
    class Env:
        observation_space = SPACE
        action_space = Discrete(3)

    def made() -> Any:
        given = HyperparamSet({"epsilon": 1.0, "noise_memory": 64})
        return make_agent(Env(), "dqn", "native", hyperparams=given, hidden_sizes=(8,), seed=0)

    agent, other = made(), made()
    actions = acted(agent, 300)
    # Of three actions the next is the same in a third of all steps, where each is drawn apart.
    assert np.mean(actions[1:] == actions[:-1]) > 0.6
    agent.save_state(tmp_path / "one")
    other.load_state(tmp_path / "one")
    np.testing.assert_array_equal(acted(agent, 20), acted(other, 20))
