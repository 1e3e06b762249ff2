"""The parts of ready-made agents: spaces and settings come in, networks and optimizers that fit go out.

Which network an observation space gets is decided here, once for every framework and algorithm; which parts
an algorithm takes is in `catalogue`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from tensor_optix.adapters.backend import ByteField
from tensor_optix.adapters.network_recipes import Output, Part, Sight, plan_image
from tensor_optix.core.discrete_spaces import choice_counts, first_choices
from tensor_optix.core.observation_layout import AnySpace, Encoding, ObservationField, layout_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensor_optix.adapters.backend import Network, Optimizer
    from tensor_optix.adapters.network_recipes import Channels, NetworkRecipes, Perceptron
    from tensor_optix.core.discrete_spaces import DiscreteSpace

POLICY_GAIN = 0.01
"""Scale of a policy's last layer: it starts out almost uniform. A Gaussian's mean and log_std then start
near 0; a standard deviation of 1 before the tanh spreads the first actions over the whole interval."""
REPLAY_ADAM_EPSILON = 1e-8
"""PyTorch's default: the many small updates from a replay are no first steps for long."""


class AgentParts(NamedTuple):
    """What an algorithm may take of networks and optimizers; all that they follow from was checked."""

    recipes: NetworkRecipes
    """The framework's."""
    sight: Sight
    """Of the observations."""
    action_space: Box | DiscreteSpace
    hidden_sizes: tuple[int, ...]
    learning_rate: float
    network_seeds: tuple[int, ...]
    """Different ones, one for each network."""

    @property
    def choices(self) -> tuple[int, ...]:
        """Among how many discrete actions each choice is."""
        assert not isinstance(self.action_space, Box)
        return choice_counts(self.action_space)

    @property
    def action_dim(self) -> int:
        """The number of components of a continuous action."""
        assert isinstance(self.action_space, Box)
        return math.prod(self.action_space.shape)

    def network(
        self, perceptron: Perceptron, outputs: int, index: int, output_gain: float = 1.0
    ) -> Network:
        """Return a network from observations to `[B, outputs]`.

        Args:
            perceptron: The recipe of one for vectors; behind images it is that of `NetworkRecipes.network`.
            outputs: How many numbers it returns.
            index: Which of the agent's networks it is, for its seed.
            output_gain: Scale of its last layer.
        """
        seed = self.network_seeds[index]
        return self.recipes.network(
            self.sight, perceptron, outputs, self.hidden_sizes, seed, output_gain
        )

    def networks_of_images(self, *outputs: tuple[int, float]) -> list[Network]:
        """Return networks that share all but their last layers, given what each returns, and its gain."""
        pairs = zip(outputs, self.network_seeds, strict=False)
        heads = [Output(size, seed, gain) for (size, gain), seed in pairs]
        return self.recipes.networks_of_images(self.sight, heads, self.hidden_sizes)

    def action_critic(self, index: int) -> Network:
        """Return a critic of observations and actions, in the form that twin critics take for the space."""
        seed = self.network_seeds[index]
        return self.recipes.action_critic(self.sight, self.action_dim, self.hidden_sizes, seed)

    def adam(self, networks: Sequence[Network]) -> Optimizer:
        """Return Adam for the minibatches of a window."""
        return self.recipes.adam(networks, self.learning_rate)

    def replay_adam(self, networks: Sequence[Network]) -> Optimizer:
        """Return Adam for the batches of a replay."""
        return self.recipes.adam(networks, self.learning_rate, REPLAY_ADAM_EPSILON)


def sight_of(space: AnySpace, channels: Channels | None, divides_bytes: bool) -> Sight:
    """Return what networks see of the arrays of a space, the masks of actions left out.

    Args:
        space: One that `seen_space` returns, without masks.
        channels: Which axis of its images they are.
        divides_bytes: Whether networks are to divide bytes.
    """
    fields = layout_of(space).fields
    highest = [_highest_byte(field) for field in fields]
    has_bytes = any(one is not None for one in highest)
    byte_fields = [ByteField(f.size, most or 1) for f, most in zip(fields, highest, strict=True)]
    sizes, starts = _counts(space)
    return Sight(
        shape=tuple(space.shape or ()),
        parts=_parts(fields, channels),
        sizes=sizes,
        starts=starts,
        byte_fields=tuple(byte_fields) if divides_bytes and has_bytes else (),
        is_index=isinstance(space, Discrete),
    )


def _parts(fields: Sequence[ObservationField], channels: Channels | None) -> tuple[Part, ...]:
    """Return the images, and what lies between them as one part each."""
    parts: list[Part] = []
    for field in fields:
        if field.encoding is Encoding.IMAGE:
            parts.append(Part(field.first, field.shape, plan_image(field.shape, channels)))
        elif parts and parts[-1].image is None:
            parts[-1] = Part(parts[-1].first, (parts[-1].size + field.size,))
        else:
            parts.append(Part(field.first, (field.size,)))
    return tuple(parts)


def _counts(space: AnySpace) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return how many numbers each choice of a space has, and the first of them."""
    if not isinstance(space, Discrete | MultiDiscrete):
        return (), ()
    return choice_counts(space), tuple(first_choices(space).tolist())


def _highest_byte(field: ObservationField) -> int | None:
    """Return what the bytes of a field are at most, and at least 1; None where it is not of bytes."""
    space = field.space
    if not isinstance(space, Box) or space.dtype != np.uint8:
        return None
    return max(int(space.high.max()), 1)
