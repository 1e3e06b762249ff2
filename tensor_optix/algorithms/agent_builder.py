"""Ready-made agents, once for every framework: a checked plan comes in, an agent with its networks goes out.

Which network, which scale of its last layer and which optimizer an algorithm gets is decided here; a
framework brings its networks and its agents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from gymnasium.spaces import Discrete

if TYPE_CHECKING:
    from collections.abc import Callable

    from gymnasium.spaces import Box

    from tensor_optix.adapters.backend import Network
    from tensor_optix.adapters.network_recipes import NetworkRecipes, Perceptron
    from tensor_optix.algorithms.agent_factory import AgentPlan
    from tensor_optix.core.base_agent import BaseAgent

POLICY_GAIN = 0.01
"""Scale of a policy's last layer: it starts out almost uniform. A Gaussian's mean and log_std then start
near 0; a standard deviation of 1 before the tanh spreads the first actions over the whole interval."""
LARGEST_BYTE = 255.0
REPLAY_ADAM_EPSILON = 1e-8
"""PyTorch's default: the many small updates from a replay are no first steps for long."""


class AgentClasses(NamedTuple):
    """The agents of a framework."""

    ppo: Callable[..., BaseAgent]
    gaussian_ppo: Callable[..., BaseAgent]
    dqn: Callable[..., BaseAgent]
    sac: Callable[..., BaseAgent]


class AgentBuilder:
    """Builds the agent of a plan.

    Args:
        plan: What is wanted.
        library: The framework's networks.
        agents: The framework's agents.
    """

    def __init__(self, plan: AgentPlan, library: NetworkRecipes, agents: AgentClasses) -> None:
        self._plan = plan
        self._library = library
        self._agents = agents

    def build(self) -> BaseAgent:
        """Make the agent.

        Raises:
            ValueError: If the plan's device cannot be used.
        """
        builders = {"ppo": self._ppo, "dqn": self._dqn, "sac": self._sac}
        return builders[self._plan.algorithm]()

    def _ppo(self) -> BaseAgent:
        plan, library = self._plan, self._library
        is_discrete = isinstance(plan.action_space, Discrete)
        outputs = self._count() if is_discrete else 2 * self._action_dim()
        actor = self._network(library.mlp, outputs, plan.network_seeds[0], POLICY_GAIN)
        critic = self._network(library.mlp, 1, plan.network_seeds[1])
        optimizer = library.adam([actor, critic], self._rate())
        if is_discrete:
            return self._agents.ppo(actor, critic, optimizer, **self._settings())
        return self._agents.gaussian_ppo(
            actor, critic, optimizer, self._action_dim(), **self._settings()
        )

    def _dqn(self) -> BaseAgent:
        library, n_actions = self._library, self._count()
        q_network = self._network(library.relu_mlp, n_actions, self._plan.network_seeds[0])
        optimizer = library.adam([q_network], self._rate(), REPLAY_ADAM_EPSILON)
        return self._agents.dqn(q_network, n_actions, optimizer, **self._settings())

    def _sac(self) -> BaseAgent:
        library, rate, action_dim = self._library, self._rate(), self._action_dim()
        seeds = self._plan.network_seeds
        actor = self._network(library.relu_mlp, 2 * action_dim, seeds[0], POLICY_GAIN)
        critics = [self._critic_of_actions(seed) for seed in seeds[1:3]]
        return self._agents.sac(
            actor,
            *critics,
            action_dim,
            library.adam([actor], rate, REPLAY_ADAM_EPSILON),
            library.adam(critics, rate, REPLAY_ADAM_EPSILON),
            library.number_adam(rate),
            **self._settings(),
        )

    def _network(
        self, perceptron: Perceptron, outputs: int, seed: int, output_gain: float = 1.0
    ) -> Network:
        """Return a network from observations to `[B, outputs]`."""
        space, hidden = self._plan.observation_space, self._plan.hidden_sizes
        if isinstance(space, Discrete):
            size, start = int(space.n), int(space.start)
            network = perceptron(size, outputs, hidden, seed, output_gain)
            return self._library.of_numbers(network, size, start)
        if len(space.shape) > 1:
            return self._library.nature_cnn(
                space.shape, outputs, hidden, seed, output_gain, _divisor(space)
            )
        return perceptron(space.shape[0], outputs, hidden, seed, output_gain)

    def _critic_of_actions(self, seed: int) -> Network:
        """Return a critic of observations and actions, in the form that SAC takes for the space."""
        library, action_dim = self._library, self._action_dim()
        space, hidden = self._plan.observation_space, self._plan.hidden_sizes
        if isinstance(space, Discrete):
            return library.number_critic(int(space.n), int(space.start), action_dim, hidden, seed)
        if len(space.shape) > 1:
            return library.image_critic(space.shape, action_dim, hidden, seed, _divisor(space))
        return library.relu_mlp(space.shape[0] + action_dim, 1, hidden, seed)

    def _rate(self) -> float:
        return float(self._plan.hyperparams.params["learning_rate"])

    def _count(self) -> int:
        assert isinstance(self._plan.action_space, Discrete)
        return int(self._plan.action_space.n)

    def _action_dim(self) -> int:
        assert self._plan.action_space.shape is not None
        return self._plan.action_space.shape[0]

    def _settings(self) -> dict[str, Any]:
        plan = self._plan
        return {
            "hyperparams": plan.hyperparams,
            "device": plan.device,
            "reward_normalizer": plan.reward_normalizer,
            "obs_normalizer": plan.obs_normalizer,
        }


def _divisor(space: Box) -> float:
    return LARGEST_BYTE if space.dtype == np.uint8 else 1.0
