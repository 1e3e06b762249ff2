"""Environments so small that the right value of every observation is known by heart.

A `Task`, a table of a few states, comes in; a Gymnasium environment that plays it goes out, with vector
or image observations and with Discrete or Box actions. Nothing is registered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

if TYPE_CHECKING:
    from tensor_optix.core.types import Array

IMAGE_SHAPE = (1, 8, 8)
BOUND = 2.0
"""Box actions are in [-2, 2]: not in [-1, 1], so that an agent whose actions are not stretched shows."""


@dataclass(frozen=True)
class Task:
    """A deterministic table of S states. Only the choice among several `starts` is random."""

    successors: tuple[int, ...]
    """`[S]`, the state that follows; also after the last step, as the episode's final observation."""
    rewards: tuple[float, ...] = ()
    """`[S]`, what a step from the state pays, whatever the action. Unused with `right_actions`."""
    right_actions: tuple[float, ...] = ()
    """`[S]`, the best action in each state. Discrete: it pays 1, the other one 0. Box: an action `a`
    pays `-(a - best)**2`."""
    starts: tuple[int, ...] = (0,)
    """Where episodes begin, one of them drawn at random."""
    ends: tuple[int, ...] = ()
    """States from which a step terminates the episode."""
    time_limit: int | None = None
    """Steps after which the episode is truncated."""


class ProbeEnv(gymnasium.Env[Any, Any]):
    """Plays a task.

    Args:
        task: What happens.
        observations: `[S, ...]`, what each state looks like.
        action_space: Discrete(2) or a Box of one component.
        first_start: The state in which the very first episode begins, and the first after a reset with
            a seed; environments with different ones are out of step. None: drawn from the task's starts.
    """

    def __init__(
        self,
        task: Task,
        observations: Array,
        action_space: Discrete | Box,
        first_start: int | None = None,
    ) -> None:
        high = 255 if observations.dtype == np.uint8 else 1
        low = 0 if observations.dtype == np.uint8 else -1
        dtype: Any = observations.dtype.type
        self.observation_space = Box(low, high, observations.shape[1:], dtype)
        self.action_space = action_space
        self._task = task
        self._observations = observations
        self._first_start = first_start
        self._was_reset = False
        self._is_under_way = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        super().reset(seed=seed)
        starts = self._task.starts
        self._state = starts[int(self.np_random.integers(len(starts)))]
        if self._first_start is not None and (seed is not None or not self._was_reset):
            self._state = self._first_start
        self._steps = 0
        self._was_reset = self._is_under_way = True
        return self._observations[self._state].copy(), {}

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Take a step.

        Raises:
            RuntimeError: If no episode is under way.
            ValueError: If the action is not in the action space.
        """
        if not self._is_under_way:
            raise RuntimeError("no episode is under way: reset the environment first")
        if not self.action_space.contains(action):
            raise ValueError(f"an action of {self.action_space} was expected, got {action!r}")
        task = self._task
        reward = self._reward(action)
        terminated = self._state in task.ends
        self._state = task.successors[self._state]
        self._steps += 1
        truncated = self._steps == task.time_limit and not terminated
        self._is_under_way = not (terminated or truncated)
        return self._observations[self._state].copy(), reward, terminated, truncated, {}

    def _reward(self, action: Any) -> float:
        if not self._task.right_actions:
            return self._task.rewards[self._state]
        best = self._task.right_actions[self._state]
        if isinstance(self.action_space, Discrete):
            return float(action == best)
        return -((float(action[0]) - best) ** 2)


def state_observations(num_states: int, kind: str) -> Array:
    """Return what `num_states` states look like.

    Args:
        num_states: S, at most 8.
        kind: "vector": float32, -1 and 1 for two states, else one-hot. "image": uint8 `[S, 1, 8, 8]`, one
            line of the picture lit.

    Raises:
        ValueError: On another kind, or more states than the picture has lines.
    """
    if num_states > IMAGE_SHAPE[1]:
        raise ValueError(f"num_states must be at most {IMAGE_SHAPE[1]}, got {num_states}")
    if kind == "image":
        images = np.zeros((num_states, *IMAGE_SHAPE), np.uint8)
        images[np.arange(num_states), :, np.arange(num_states)] = 255
        return images
    if kind != "vector":
        raise ValueError(f'kind must be "vector" or "image", got {kind!r}')
    if num_states == 2:
        return np.array([[-1.0], [1.0]], np.float32)
    return np.eye(num_states, dtype=np.float32)


def probe_action_space(kind: str) -> Discrete | Box:
    """Return Discrete(2) for "discrete", Box(-2, 2, (1,)) for "box".

    Raises:
        ValueError: On another kind.
    """
    if kind == "discrete":
        return Discrete(2)
    if kind != "box":
        raise ValueError(f'kind must be "discrete" or "box", got {kind!r}')
    return Box(-BOUND, BOUND, (1,), np.float32)
