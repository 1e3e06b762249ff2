"""Environments that raise are made anew where that is asked for, and their episodes cut."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest

from tensor_optix import VectorBatchPipeline
from tensor_optix.core.trajectory_buffer import transitions_of
from tensor_optix.pipeline.checked_env import CheckedEnv
from tensor_optix.pipeline.restarting_env import MOST_IN_A_ROW, RestartingEnv
from tests.pipeline.masked_envs import OnlyItsMethodTells
from tests.scripted import CountingAgent


class Frail(gymnasium.Env[Any, Any]):
    """Counts its steps; raises in the one that it is told, each time that it is made."""

    observation_space = gymnasium.spaces.Box(-1e9, 1e9, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    closed = 0

    def __init__(self, fails_at: int = 5, fails_in_reset: bool = False) -> None:
        self.fails_at, self.fails_in_reset = fails_at, fails_in_reset
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        if self.fails_in_reset and self.steps:
            raise RuntimeError("the reset failed")
        return np.array([self.steps], np.float32), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        if self.steps == self.fails_at:
            raise RuntimeError("the arm is stuck")
        return np.array([self.steps], np.float32), 1.0, False, False, {}

    def close(self) -> None:
        type(self).closed += 1


def collected(pipeline: VectorBatchPipeline, windows: int) -> list[Any]:
    pipeline.set_agent(CountingAgent())
    pipeline.setup()
    episodes = pipeline.episodes()
    found = [next(episodes) for _ in range(windows)]
    pipeline.teardown()
    return found


@pytest.mark.parametrize("async_envs", [False, True])
def test_the_episode_is_cut_and_the_run_goes_on(async_envs: bool, caplog: Any) -> None:
    functions = [Frail, partial(Frail, fails_at=10**9)]
    pipeline = VectorBatchPipeline(
        functions, window_size=12, async_envs=async_envs, restart_environments=True
    )
    window = collected(pipeline, 1)[0]
    frail = {
        name: window.grid(np.asarray(getattr(window, name)))[:, 0]
        for name in ("rewards", "truncated", "terminated", "valid")
    }
    cut = np.flatnonzero(frail["truncated"])
    assert frail["terminated"].sum() == 0
    assert cut.tolist() == [4, 10]  # a row of each reset is in between
    assert frail["rewards"][cut].tolist() == [0.0, 0.0]
    # Cut where it was last seen.
    steps = transitions_of(window)
    ends = [
        float(one.next_observations[k][0]) for one in steps for k in np.flatnonzero(one.truncated)
    ]
    assert ends == [4.0, 4.0]
    steady = window.grid(np.asarray(window.truncated))[:, 1]
    assert not steady.any()
    if not async_envs:
        assert "environment 0 failed and is made anew, its episode is cut (2 so far)" in caplog.text
        assert "the arm is stuck" in caplog.text


def test_a_reset_that_fails_is_tried_in_a_new_environment() -> None:
    env = RestartingEnv(partial(Frail, 10**9, fails_in_reset=True))
    env.reset()
    env.step(0)
    observation, _ = env.reset()
    assert observation == [0.0]
    assert env.restarts == 1


def test_what_fails_again_and_again_ends_the_run() -> None:
    env = RestartingEnv(partial(Frail, fails_at=1))
    env.reset()
    for _ in range(MOST_IN_A_ROW):
        assert env.step(0)[3]
        env.reset()
    with pytest.raises(RuntimeError, match="the arm is stuck"):
        env.step(0)


def test_a_registered_environment_is_made_anew_as_well(monkeypatch: Any) -> None:
    monkeypatch.setitem(
        gymnasium.registry, "Frail-v0", gymnasium.envs.registration.EnvSpec("Frail-v0", Frail)
    )
    pipeline = VectorBatchPipeline(
        env_id="Frail-v0", num_envs=2, window_size=12, restart_environments=True
    )
    assert np.asarray(collected(pipeline, 1)[0].truncated).sum() == 4


def test_it_is_refused_where_nothing_can_be_made_anew() -> None:
    with pytest.raises(ValueError, match="restart_environments needs env_fns= or env_id="):
        VectorBatchPipeline(env=Frail(), restart_environments=True)
    pipeline = VectorBatchPipeline(
        env_id="CartPole-v1", backend="vector", restart_environments=True
    )
    with pytest.raises(ValueError, match='restart_environments needs backend="sync"'):
        _ = pipeline.env


class MaskedOnce(OnlyItsMethodTells):
    """Breaks in the second step of its life; after that, another one is asked what it allows."""

    made = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).made += 1
        self.breaks = type(self).made == 1

    def step(self, action: Any) -> Any:
        if self.breaks and self._t == 1:
            raise OSError("gone")
        return super().step(action)


def test_one_made_anew_is_asked_itself_which_actions_are_allowed_and_for_its_random_state():
    env = CheckedEnv(RestartingEnv(MaskedOnce), "environment")
    env.reset(seed=0)
    for _ in range(4):
        _, _, terminated, truncated, info = env.step(int(np.flatnonzero(env.unwrapped._mask)[-1]))
        if terminated or truncated:
            _, info = env.reset()
        assert info["action_mask"].tolist() == env.unwrapped._mask.tolist()
    assert MaskedOnce.made == 2
    state = env.episode_state
    assert state is not None
    assert state["random"] == env.unwrapped.np_random.bit_generator.state
