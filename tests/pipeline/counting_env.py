"""An environment that counts, and windows of it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

if TYPE_CHECKING:
    from tensor_optix.core.types import EpisodeData


class Counter(gymnasium.Env[np.ndarray, int]):
    """Observes (who, steps of this episode); pays 1 a step; ends at `length`, by a time limit or not."""

    def __init__(self, who: int = 0, length: int = 5, truncates: bool = False) -> None:
        self.observation_space = gymnasium.spaces.Box(-1e6, 1e6, (2,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(2)
        self.who, self.length, self.truncates = who, length, truncates
        self.steps = self.resets = 0
        self.closed = False

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.steps = 0
        self.resets += 1
        return self.observation(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.steps += 1
        over = self.steps >= self.length
        info = {"steps": self.steps}
        return self.observation(), 1.0, over and not self.truncates, over and self.truncates, info

    def observation(self) -> np.ndarray:
        return np.array([self.who, self.steps], np.float32)

    def close(self) -> None:
        self.closed = True


def collect(pipeline: Any, count: int) -> list[EpisodeData]:
    """Return the next windows."""
    return list(itertools.islice(pipeline.episodes(), count))
