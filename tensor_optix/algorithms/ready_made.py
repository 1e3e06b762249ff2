"""The parts of ready-made agents: spaces and settings come in, networks and optimizers that fit go out.

Which network an observation space gets is decided here, once for every framework and algorithm; which parts
an algorithm takes is in `catalogue`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from gymnasium.spaces import Box, Discrete

from tensor_optix.core.discrete_actions import choice_counts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensor_optix.adapters.backend import Network, Optimizer
    from tensor_optix.adapters.network_recipes import NetworkRecipes, Perceptron
    from tensor_optix.core.discrete_actions import DiscreteSpace

POLICY_GAIN = 0.01
"""Scale of a policy's last layer: it starts out almost uniform. A Gaussian's mean and log_std then start
near 0; a standard deviation of 1 before the tanh spreads the first actions over the whole interval."""
LARGEST_BYTE = 255.0
REPLAY_ADAM_EPSILON = 1e-8
"""PyTorch's default: the many small updates from a replay are no first steps for long."""


class AgentParts(NamedTuple):
    """What an algorithm may take of networks and optimizers; all that they follow from was checked."""

    recipes: NetworkRecipes
    """The framework's."""
    observation_space: Box | Discrete
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
            perceptron: The recipe of one for vectors; images get convolutions instead.
            outputs: How many numbers it returns.
            index: Which of the agent's networks it is, for its seed.
            output_gain: Scale of its last layer.
        """
        space, hidden, seed = self.observation_space, self.hidden_sizes, self.network_seeds[index]
        if isinstance(space, Discrete):
            size, start = int(space.n), int(space.start)
            network = perceptron(size, outputs, hidden, seed, output_gain)
            return self.recipes.of_numbers(network, size, start)
        if len(space.shape) > 1:
            return self.recipes.nature_cnn(
                space.shape, outputs, hidden, seed, output_gain, _divisor(space)
            )
        return perceptron(space.shape[0], outputs, hidden, seed, output_gain)

    def action_critic(self, index: int) -> Network:
        """Return a critic of observations and actions, in the form that twin critics take for the space."""
        recipes, action_dim = self.recipes, self.action_dim
        space, hidden, seed = self.observation_space, self.hidden_sizes, self.network_seeds[index]
        if isinstance(space, Discrete):
            return recipes.number_critic(int(space.n), int(space.start), action_dim, hidden, seed)
        if len(space.shape) > 1:
            return recipes.image_critic(space.shape, action_dim, hidden, seed, _divisor(space))
        return recipes.relu_mlp(space.shape[0] + action_dim, 1, hidden, seed)

    def adam(self, networks: Sequence[Network]) -> Optimizer:
        """Return Adam for the minibatches of a window."""
        return self.recipes.adam(networks, self.learning_rate)

    def replay_adam(self, networks: Sequence[Network]) -> Optimizer:
        """Return Adam for the batches of a replay."""
        return self.recipes.adam(networks, self.learning_rate, REPLAY_ADAM_EPSILON)


def _divisor(space: Box) -> float:
    return LARGEST_BYTE if space.dtype == np.uint8 else 1.0
