"""A point on a small screen that is to be brought to its middle, by an id of its own."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

SIZE = 12
STEPS = 20


class Screen(gymnasium.Env[Any, Any]):
    """Four moves; the reward is the nearness to the middle."""

    observation_space = Box(0, 255, (SIZE, SIZE, 1), np.uint8)
    action_space = Discrete(4)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.place = self.np_random.integers(SIZE, size=2)
        self.steps = 0
        return self.screen(), {}

    def step(self, action: Any) -> Any:
        move = ((0, 1), (0, -1), (1, 0), (-1, 0))[int(action)]
        self.place = np.clip(self.place + move, 0, SIZE - 1)
        self.steps += 1
        reward = -float(np.abs(self.place - SIZE // 2).sum())
        return self.screen(), reward, False, self.steps == STEPS, {}

    def screen(self) -> Any:
        picture = np.zeros(self.observation_space.shape, np.uint8)
        picture[tuple(self.place)] = 255
        return picture


gymnasium.register("Screen-v0", Screen)
