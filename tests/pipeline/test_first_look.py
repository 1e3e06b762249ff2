"""What random play shows: figures of scripted environments, which are known beforehand."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete

from tensor_optix.pipeline import first_look
from tensor_optix.pipeline.first_look import (
    FirstLook,
    is_blind,
    look_at,
    pays_for_actions_only,
    variance_ratios,
)
from tensor_optix.pipeline.vector_env import from_env_fns, make_vector_env


class Corridor(gymnasium.Env[Any, Any]):
    """Episodes of 5 steps; pays `paid` a step, and `last` at the end. Observations are the step and 1000."""

    observation_space: Any = Box(-np.inf, np.inf, (2,), np.float32)
    action_space: Any = Discrete(3)

    def __init__(self, paid: float = 0.0, last: float = 0.0) -> None:
        self.paid, self.last = paid, last
        self.actions: list[int] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return self._seen(), self._info()

    def step(self, action: Any) -> Any:
        self.actions.append(int(action))
        self.time += 1
        is_over = self.time == 5
        paid = self.last if is_over else self.paid
        return self._seen(), paid, is_over, False, self._info()

    def _seen(self) -> Any:
        return np.array([self.time, 1000.0], np.float32)

    def _info(self) -> dict[str, Any]:
        return {}


class Masked(Corridor):
    """Allows only action 2 in even steps, 0 and 1 in odd ones."""

    def _info(self) -> dict[str, Any]:
        return {"action_mask": np.array([0, 0, 1] if self.time % 2 == 0 else [1, 1, 0], np.int8)}


class Chooser(Corridor):
    observation_space: Any = Discrete(6)

    def _seen(self) -> Any:
        return self.time


class Parts(Corridor):
    observation_space: Any = Dict(
        {"clock": Box(0, 9, (1,)), "camera": Box(0, 255, (4, 4, 3), np.uint8)}
    )

    def _seen(self) -> Any:
        return {"clock": np.array([self.time], np.float32), "camera": np.zeros((4, 4, 3), np.uint8)}


def looked(envs: list[Corridor]) -> FirstLook:
    env = from_env_fns([lambda one=one: one for one in envs])
    try:
        return look_at(env)
    finally:
        env.close()


def test_episodes_and_rewards_are_counted() -> None:
    look = looked([Corridor(paid=1.0, last=7.0), Corridor(paid=1.0, last=7.0)])
    assert (look.backend, look.num_envs, look.time_limit) == ("sync", 2, None)
    assert first_look.MOST_STEPS <= look.steps < first_look.MOST_STEPS + 2
    assert len(look.rewards) == look.steps
    assert len(look.returns) == len(look.lengths) == len(look.last_rewards) == look.steps // 5
    assert set(look.returns) == {11.0}
    assert set(look.lengths) == {5}
    assert set(look.last_rewards) == {7.0}
    assert look.step_seconds > 0.0
    assert look.is_blind  # All episodes paid the same.


def test_spreads_and_means_are_those_of_all_observations() -> None:
    look = looked([Corridor()])
    assert look.spreads is not None
    assert look.centers is not None
    # Each episode shows 0 to 4, and its end or the next beginning.
    assert 1.3 < look.spreads[0] < 1.8
    assert look.spreads[1] == 0.0
    assert look.centers[1] == 1000.0


def test_play_is_blind_where_nothing_pays_and_where_all_episodes_pay_alike() -> None:
    assert looked([Corridor()]).is_blind
    assert looked([Corridor(paid=-1.0, last=-1.0)]).is_blind
    assert not looked([Corridor(last=1.0), Corridor(last=2.0)]).is_blind


@pytest.mark.parametrize(("paying", "blind"), [(0, True), (4, True), (5, False), (60, False)])
def test_what_pays_in_one_of_many_episodes_is_hardly_anything(paying: int, blind: bool) -> None:
    returns = np.zeros(100)
    returns[:paying] = np.arange(1, paying + 1)
    assert is_blind(np.ones(300), returns) == blind


class Clock(Corridor):
    """Pays the number of its step, and a hundred for each of the resets so far; has `length` steps."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length, self.resets = length, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.resets += 1
        return super().reset(seed=seed)

    def step(self, action: Any) -> Any:
        seen, *_, info = super().step(action)
        return seen, 100.0 * self.resets + self.time, self.time == self.length, False, info


def test_the_rewards_of_each_environment_are_kept_in_their_order() -> None:
    lengths = (5, 3, 7)
    look = looked([Clock(length) for length in lengths])
    # Between two episodes lies a reset, which pays nothing: the shortest ones have the most of them.
    assert 0.9 * look.steps // 3 < len(look.reward_paths) < look.steps // 3
    times = np.arange(len(look.reward_paths))
    for path, length in zip(look.reward_paths.T, lengths, strict=True):
        np.testing.assert_array_equal(path - path[0], 100.0 * (times // length) + times % length)


def test_variance_ratios_tell_rewards_that_go_together_from_those_that_take_each_other_back() -> (
    None
):
    spans = np.array([1, 2, 10])
    lasting = np.tile([1.0, -1.0], (20, 1))
    np.testing.assert_allclose(variance_ratios(lasting, spans), spans)
    alternating = np.tile([[1.0], [-1.0]], (10, 2))
    np.testing.assert_allclose(variance_ratios(alternating, spans), [1.0, 0.0, 0.0], atol=1e-12)
    apart = np.random.default_rng(0).normal(5.0, 3.0, (2000, 8))
    np.testing.assert_allclose(variance_ratios(apart, spans), 1.0, atol=0.05)
    np.testing.assert_array_equal(variance_ratios(np.full((20, 2), 7.0), spans), 0.0)


def moving_sums(values: Any, count: int) -> Any:
    sums = np.concatenate([np.zeros((1, values.shape[1])), values.cumsum(axis=0)])
    return sums[count:] - sums[:-count]


def paid_along(paths: Any, limit: int | None = 1000, lengths: tuple[int, ...] = ()) -> FirstLook:
    """Return a look at nothing but rewards in their order."""
    none, paths = np.zeros(0), paths.astype(np.float32)
    return FirstLook(
        backend="sync",
        num_envs=paths.shape[1],
        time_limit=limit,
        steps=paths.size,
        step_seconds=1e-5,
        rewards=paths.ravel(),
        reward_paths=paths,
        actions=None,
        returns=none,
        last_rewards=none,
        lengths=np.array(lengths, np.int64),
        spreads=None,
        centers=None,
    )


@pytest.mark.parametrize("num_envs", [1, 8])
@pytest.mark.parametrize("seed", range(5))
def test_rewards_that_get_nowhere_are_told_from_those_that_do(num_envs: int, seed: int) -> None:
    noise = np.random.default_rng(seed).normal(size=(4020 // num_envs + 40, num_envs))
    together = moving_sums(noise, 20)
    back_and_forth = together[20:] - together[:-20]
    assert paid_along(back_and_forth).takes_back
    assert not paid_along(together).takes_back
    assert not paid_along(noise).takes_back
    # Steps of it take each other back, but no two of them go together.
    assert not paid_along(np.diff(noise, axis=0)).takes_back


@pytest.mark.parametrize(("env_id", "expected"), [("Swimmer-v5", True), ("HalfCheetah-v5", False)])
@pytest.mark.parametrize("num_envs", [2, 8])
def test_a_swimmer_that_moves_at_random_gets_nowhere(
    env_id: str, expected: bool, num_envs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_look, "MOST_SECONDS", 60.0)
    env = make_vector_env(env_id, num_envs, "envpool")
    try:
        assert look_at(env).takes_back is expected
    finally:
        env.close()


def test_what_short_episodes_pay_does_not_tell_what_is_taken_back() -> None:
    swing = np.sin(np.arange(500)[:, None] / 10 + np.arange(8))
    assert paid_along(swing).takes_back
    assert paid_along(swing, limit=400, lengths=(400, 400)).takes_back
    assert not paid_along(swing, lengths=(1000, 999)).takes_back
    assert not paid_along(swing, limit=399).takes_back
    assert not paid_along(swing, limit=None).takes_back
    assert not paid_along(swing[:399]).takes_back
    assert not paid_along(swing[:, :5]).takes_back


RNG = np.random.default_rng(0)
ACTIONS = RNG.uniform(-1, 1, (1000, 2)).astype(np.float32)
COSTS = (-0.1 * ACTIONS**2).sum(axis=1)


@pytest.mark.parametrize(
    ("rewards", "lengths", "blind"),
    [
        (COSTS, [200] * 5, True),
        (0.5 * np.abs(ACTIONS[:, 0]), [30, 40, 50], True),
        # A step pays by itself: whoever lasts longer gets more, if anybody does.
        (COSTS + 1.0, [200] * 5, True),
        (COSTS + 1.0, [30, 40, 50], False),
        # The goal was met once, and often.
        (COSTS + 100.0 * (np.arange(1000) == 7), [200] * 5, True),
        (COSTS + 100.0 * (np.arange(1000) % 100 == 7), [200] * 5, False),
        (COSTS + RNG.normal(size=1000), [200] * 5, False),
        (np.ones(1000), [30, 40, 50], False),
    ],
)
def test_what_pays_for_actions_only_tells_nothing(
    rewards: Any, lengths: list[int], blind: bool
) -> None:
    figures = {"rewards": rewards.astype(np.float32), "lengths": np.array(lengths)}
    assert pays_for_actions_only(actions=ACTIONS, **figures) == blind


def test_few_steps_of_many_actions_tell_nothing_of_their_cost() -> None:
    actions = RNG.uniform(-1, 1, (300, 100)).astype(np.float32)
    rewards = RNG.normal(size=300).astype(np.float32)
    assert not pays_for_actions_only(rewards, actions, np.array([100] * 3))


def test_actions_are_those_that_the_rewards_were_paid_for() -> None:
    env = make_vector_env("MountainCarContinuous-v0", 3, "sync")
    look = look_at(env)
    env.close()
    assert look.actions is not None
    np.testing.assert_allclose(look.rewards, -0.1 * look.actions[:, 0] ** 2, atol=1e-6)
    assert look.is_blind
    assert looked([Corridor()]).actions is None


def test_only_actions_that_are_allowed_are_played() -> None:
    envs = [Masked(), Masked()]
    looked(list(envs))
    for env in envs:
        even = [one for number, one in enumerate(env.actions) if number % 5 % 2 == 0]
        odd = [one for number, one in enumerate(env.actions) if number % 5 % 2 == 1]
        assert set(even) == {2}
        assert set(odd) == {0, 1}


@pytest.mark.parametrize("make", [Chooser, Parts])
def test_what_is_no_plain_number_has_no_spread(make: type[Corridor]) -> None:
    look = looked([make(), make()])
    assert look.spreads is None
    assert look.centers is None
    assert look.steps >= first_look.MOST_STEPS


def test_a_busy_machine_does_not_cut_it_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of 0.3 ms was seen: three times that is to change nothing of what is chosen."""
    now = itertools.count(0.0, 9e-4)
    monkeypatch.setattr(first_look, "time", SimpleNamespace(perf_counter=lambda: next(now)))
    assert looked([Corridor()]).steps == first_look.MOST_STEPS


def test_no_step_is_begun_when_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_look, "MOST_SECONDS", 0.0)
    look = looked([Corridor(), Corridor(), Corridor()])
    assert look.steps == 3
    assert not look.is_blind  # Too few steps to tell.


def test_what_an_environment_raises_passes_through() -> None:
    class Broken(Corridor):
        def step(self, action: Any) -> Any:
            raise OSError("the cable is out")

    with pytest.raises(OSError, match="the cable is out"):
        looked([Broken()])


def test_the_same_seed_shows_the_same() -> None:
    looks = []
    for _ in range(2):
        env = make_vector_env("MountainCarContinuous-v0", 2, "sync")
        looks.append(look_at(env, seed=3))
        env.close()
    first, second = looks
    assert first.time_limit == 999
    np.testing.assert_array_equal(first.rewards[:100], second.rewards[:100])
    assert first.steps != second.steps or np.array_equal(first.rewards, second.rewards)
