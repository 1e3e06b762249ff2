"""What small ready-made networks see: images, numbers, rows of several parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete

from tensor_optix.algorithms.ready_made import sight_of
from tensor_optix.core.observation_layout import seen_space

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensor_optix.adapters.network_recipes import NetworkRecipes, Sight

LEFT = Box(0, 255, (9, 8, 2), np.uint8)
RIGHT = Box(0.0, 1.0, (1, 9, 9), np.float32)
PARTS = Dict({"a": LEFT, "b": Box(-1.0, 1.0, (3,)), "c": Discrete(2), "d": RIGHT})
"""Two images, and in between five columns of others."""


def sight(space: Any, channels: Any = None) -> Sight:
    """Return what networks see of a space."""
    return sight_of(seen_space(space), channels, divides_bytes=True)


def image_sight(shape: Sequence[int], highest: int | None = None) -> Sight:
    """Return what networks see of images: floating, or bytes up to `highest`."""
    dtype: Any = np.float32 if highest is None else np.uint8
    return sight(Box(0, highest or 1, tuple(shape), dtype))


NUMBERS = sight(Discrete(3, start=2))
CHOICES = sight(MultiDiscrete([2, 3], start=[1, 0]))


class Maker:
    """Ready-made networks of images and numbers, of a framework."""

    def __init__(self, recipes: NetworkRecipes) -> None:
        self.recipes = recipes

    def nature_cnn(
        self,
        shape: Sequence[int],
        outputs: int,
        hidden: Sequence[int],
        seed: int,
        output_gain: float = 1.0,
        highest: int | None = None,
    ) -> Any:
        """Return a network of images."""
        seen = image_sight(shape, highest)
        return self.recipes.network(seen, self.recipes.mlp, outputs, hidden, seed, output_gain)

    def image_critic(
        self,
        shape: Sequence[int],
        action_dim: int,
        hidden: Sequence[int],
        seed: int,
        highest: int | None = None,
    ) -> Any:
        """Return a critic of images and actions."""
        return self.recipes.action_critic(image_sight(shape, highest), action_dim, hidden, seed)

    def number_critic(
        self, size: int, start: int, action_dim: int, hidden: Sequence[int], seed: int
    ) -> Any:
        """Return a critic of numbers and actions."""
        seen = sight(Discrete(size, start=start))
        return self.recipes.action_critic(seen, action_dim, hidden, seed)
