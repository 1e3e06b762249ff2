"""Agents of `make_agent` on probes of every kind of action: each learns what is best in both states."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from tensor_optix.algorithms.agent_factory import make_agent
from tensor_optix.core.types import HyperparamSet
from tensor_optix.pipeline.play import play_episodes
from tensor_optix.pipeline.vector_env import wrap_env
from tensor_optix.pipeline.vector_pipeline import VectorBatchPipeline

if TYPE_CHECKING:
    from tests.frameworks import Framework

SPACES: dict[str, tuple[Any, Any]] = {
    "a number from another start": (Discrete(4, start=-6), [-5, -3]),
    "choices": (MultiDiscrete([2, 3, 4]), [[1, 0, 3], [0, 2, 0]]),
    "choices of two axes and other starts": (
        MultiDiscrete([[2, 3], [2, 3]], start=[[5, -1], [0, 7]]),
        [[[6, -1], [1, 7]], [[5, 1], [0, 9]]],
    ),
    "bits": (MultiBinary((2, 3)), [[[1, 0, 0], [1, 1, 0]], [[0, 0, 1], [0, 1, 1]]]),
}
"""The action space, and its best element in each state."""
BOXES: dict[str, tuple[Any, Any]] = {
    "two axes": (
        Box(np.array([[-4, 0], [-1, 10]], "f4"), np.array([[4, 1], [1, 20]], "f4")),
        [[[2, 0.25], [0.5, 18]], [[-2, 0.75], [-0.5, 12]]],
    ),
    "without bounds": (Box(-np.inf, np.inf, (2,), np.float32), [[0.5, -0.5], [-0.5, 0.5]]),
    "whole numbers": (Box(0, 8, (1, 1), np.int64), [[[7]], [[1]]]),
}
REACH = {"two axes": [[4, 0.5], [1, 5]], "without bounds": [1, 1], "whole numbers": [[4]]}
"""Half the width of what actions in [-1, 1] are stretched to."""

NEARLY = -0.05
"""What one whole number of eight beside the best one in either state is paid is -0.06; any action, -0.6."""


class Pick(gymnasium.Env[Any, Any]):
    """One step; takes elements of its action space only. The best action pays 0, others less."""

    def __init__(self, space: Any, best: Any, reach: Any = 1.0) -> None:
        self.observation_space = Box(-1, 1, (1,), np.float32)
        self.action_space = space
        self._best, self._reach = np.array(best), np.array(reach)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._state = int(self.np_random.integers(2))
        return self._shown(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), (self.action_space, action)
        errors = (np.asarray(action) - self._best[self._state]) / self._reach
        is_box = isinstance(self.action_space, Box)
        reward = -np.square(errors).mean() if is_box else -(errors != 0).mean()
        return self._shown(), float(reward), True, False, {}

    def _shown(self) -> np.ndarray:
        return np.array([2 * self._state - 1], np.float32)


def trained(algorithm: str, framework: str, arguments: Any, steps: int, **params: Any) -> float:
    """Return what the greedy actions are paid on average after training for so many steps."""
    envs = [lambda: Pick(*arguments) for _ in range(4)]
    hyperparams = HyperparamSet({"gamma": 0.5} | params)
    agent = make_agent(
        Pick(*arguments), algorithm, framework, hyperparams=hyperparams, hidden_sizes=(32,), seed=0,
        device="cpu",
    )  # fmt: skip
    pipeline = VectorBatchPipeline(envs, agent, 32, seed=1)
    pipeline.setup()
    for window in pipeline.episodes():
        agent.learn(window)
        if (steps := steps - window.num_steps) <= 0:
            break
    pipeline.teardown()
    returns, _ = play_episodes(agent, wrap_env(Pick(*arguments)), 20, seed=2)
    return float(returns.mean())


@pytest.mark.parametrize(
    ("framework", "name"),
    [
        *((framework, name) for framework in ("torch", "native") for name in SPACES),
        ("tensorflow", "choices of two axes and other starts"),
    ],
    indirect=["framework"],
)
def test_ppo_learns_every_choice_for_every_observation(name: str, framework: Framework) -> None:
    params = {"learning_rate": 0.01, "minibatch_size": 32, "n_epochs": 4, "entropy_coef": 0.01}
    assert trained("ppo", framework.name, SPACES[name], 3840, **params) == 0.0


def test_dqn_counts_from_zero_wherever_the_space_starts() -> None:
    params = {"learning_rate": 0.005, "learning_starts": 64, "epsilon_decay_steps": 1000}
    arguments = SPACES["a number from another start"]
    assert trained("dqn", "torch", arguments, 1536, **params) == 0.0


@pytest.mark.parametrize(
    ("framework", "name"),
    [
        *((framework, name) for framework in ("torch", "native") for name in BOXES),
        ("tensorflow", "two axes"),
    ],
    indirect=["framework"],
)
def test_ppo_learns_the_best_of_every_box(name: str, framework: Framework) -> None:
    params = {"learning_rate": 0.005, "minibatch_size": 32, "n_epochs": 8, "entropy_coef": 0.01}
    arguments = (*BOXES[name], REACH[name])
    assert trained("ppo", framework.name, arguments, 5120, **params) > NEARLY


@pytest.mark.parametrize("algorithm", ["sac", "td3"])
@pytest.mark.parametrize("name", BOXES)
def test_so_do_those_with_a_replay(algorithm: str, name: str, torch_framework: Framework) -> None:
    params = {"learning_rate": 0.005, "learning_starts": 128, "batch_size": 64}
    params |= {"updates_per_step": 0.5, "tau": 0.05}
    arguments = (*BOXES[name], REACH[name])
    assert trained(algorithm, "torch", arguments, 1536, **params) > NEARLY
