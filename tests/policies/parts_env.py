"""CartPole with its observation in parts, by an id of its own."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, Tuple


class Parts(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Shows where the cart is, how the pole stands, and to which side it leans."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        vector = Box(-np.inf, np.inf, (2,), np.float32)
        self.observation_space = Dict(cart=vector, pole=Tuple((vector, Discrete(2, start=1))))

    def observation(self, observation: Any) -> Any:
        cart, pole = observation[:2], observation[2:]
        return {"cart": cart, "pole": (pole, 1 + int(pole[0] > 0))}


def make() -> Any:
    """Return the environment; an episode has at most 60 steps."""
    return Parts(gymnasium.make("CartPole-v1", max_episode_steps=60))


gymnasium.register("Parts-v0", entry_point=make, disable_env_checker=True, order_enforce=False)
