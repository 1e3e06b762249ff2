"""Environments whose spaces have no arrays, and that note or reuse what they give and get."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, Space

LENGTH = 4


class Words(Space[Any]):
    """A space of the user's, which has a shape and a dtype that its elements do not have."""

    def __init__(self) -> None:
        super().__init__((3,), np.float32)

    def sample(self, mask: Any = None, probability: Any = None) -> Any:
        return ["some", {"words": 3}]

    def contains(self, x: Any) -> bool:
        return isinstance(x, list)


class SampledEnv(gymnasium.Env[Any, Any]):
    """Episodes of 4 steps that show samples of a space; the reward is the number of the step."""

    def __init__(self, observation_space: Space[Any], action_space: Space[Any]) -> None:
        self.observation_space, self.action_space = observation_space, action_space
        self.shown: list[Any] = []
        self.got: list[Any] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        if seed is not None:
            self.observation_space.seed(seed)
        self._steps = 0
        return self._show(), {}

    def step(self, action: Any) -> Any:
        self.got.append(action)
        self._steps += 1
        return self._show(), self._steps, self._steps == LENGTH, False, {}

    def _show(self) -> Any:
        self.shown.append(self.observation_space.sample())
        return self.shown[-1]


class BufferedEnv(gymnasium.Env[Any, Any]):
    """Pays 1 where the action picks the target shown; writes into its one observation and the actions."""

    observation_space = Dict(target=Discrete(3), past=Box(0, 100, (2,), np.int64))
    action_space = Dict(pick=Discrete(3), strength=Box(-1, 1, (2,), np.float32))

    def __init__(self) -> None:
        self._past = np.zeros(2, np.int64)
        self._shown = {"target": 0, "past": self._past}

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._past[:] = 0
        return self._show(), {}

    def step(self, action: Any) -> Any:
        reward = float(action.pop("pick") == self._shown["target"])
        action["strength"][:] = 9
        self._past += 1, int(reward)
        return self._show(), reward, False, bool(self._past[0] == LENGTH), {}

    def _show(self) -> Any:
        self._shown["target"] = int(self._past[0]) % 3
        return self._shown
