"""Environments with arguments, and wrappers, for tests that name them."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete


class Hall(gymnasium.Env[np.ndarray, int]):
    """Pays `pay` a step; an episode takes `length` steps, no end if None."""

    action_space = Discrete(2)  # type: ignore[assignment]

    def __init__(
        self, size: int = 2, length: int | None = 10, config: Any = None, shape: Any = (1,)
    ) -> None:
        self.observation_space = Box(-1, 1, (size,), np.float32)
        self.length, self.config, self.shape = length, config, shape
        self.pay = 1.0 if config is None else float(config["pay"])

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.age = 0
        return self.observation_space.sample() * 0, {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.age += 1
        return self.observation_space.sample() * 0, self.pay, self.age == self.length, False, {}


class Stairs(Hall):
    """Hands its arguments on, and needs one."""

    def __init__(self, floors: int, **others: Any) -> None:
        super().__init__(**others)


class Half(gymnasium.RewardWrapper[np.ndarray, int]):
    """Halves rewards."""

    def reward(self, reward: Any) -> float:
        return float(reward) / 2


class Scaled(gymnasium.RewardWrapper[np.ndarray, int]):
    """Needs a number."""

    def __init__(self, env: Any, factor: float) -> None:
        super().__init__(env)
        self.factor = factor

    def reward(self, reward: Any) -> float:
        return float(reward) * self.factor


def less_one(env: Any) -> Any:
    """Take one from every reward: a wrapper that is a function."""
    return gymnasium.wrappers.TransformReward(env, lambda reward: float(reward) - 1)


def nothing(env: Any) -> None:
    """Make no environment."""


NUMBER = 3
gymnasium.register("Hall-v0", Hall)
gymnasium.register("Stairs-v0", f"{__name__}:Stairs")
