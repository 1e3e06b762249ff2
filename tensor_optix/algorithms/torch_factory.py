"""Ready-made agents on PyTorch: a checked plan comes in, an agent with its networks goes out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import Discrete

from tensor_optix.adapters.pytorch.networks import (
    ActionCritic,
    OneHot,
    adam,
    image_critic,
    mlp,
    nature_cnn,
    number_adam,
    relu_mlp,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from gymnasium.spaces import Box
    from torch import nn

    from tensor_optix.algorithms.agent_factory import AgentPlan
    from tensor_optix.core.base_agent import BaseAgent

POLICY_GAIN = 0.01
"""Scale of a policy's last layer: it starts out almost uniform. A Gaussian's mean and log_std then start
near 0; a standard deviation of 1 before the tanh spreads the first actions over the whole interval."""
LARGEST_BYTE = 255.0
REPLAY_ADAM_EPSILON = 1e-8
"""PyTorch's default: the many small updates from a replay are no first steps for long."""


def build(plan: AgentPlan) -> BaseAgent:
    """Make the agent of a plan.

    Raises:
        ValueError: If the device cannot be used.
    """
    builders = {"ppo": _ppo, "dqn": _dqn, "sac": _sac}
    return builders[plan.algorithm](plan)


def _ppo(plan: AgentPlan) -> BaseAgent:
    from tensor_optix.algorithms.torch_ppo import TorchPPOAgent
    from tensor_optix.algorithms.torch_ppo_continuous import TorchGaussianPPOAgent

    is_discrete = isinstance(plan.action_space, Discrete)
    outputs = _count(plan.action_space) if is_discrete else 2 * _action_dim(plan)
    actor = _network(plan, mlp, outputs, plan.network_seeds[0], POLICY_GAIN)
    critic = _network(plan, mlp, 1, plan.network_seeds[1])
    optimizer = adam([actor, critic], plan.hyperparams.params["learning_rate"])
    if is_discrete:
        return TorchPPOAgent(actor, critic, optimizer, **_settings(plan))
    return TorchGaussianPPOAgent(actor, critic, optimizer, _action_dim(plan), **_settings(plan))


def _dqn(plan: AgentPlan) -> BaseAgent:
    from tensor_optix.algorithms.torch_dqn import TorchDQNAgent

    n_actions = _count(plan.action_space)
    q_network = _network(plan, relu_mlp, n_actions, plan.network_seeds[0])
    rate = plan.hyperparams.params["learning_rate"]
    optimizer = adam([q_network], rate, REPLAY_ADAM_EPSILON)
    return TorchDQNAgent(q_network, n_actions, optimizer, **_settings(plan))


def _sac(plan: AgentPlan) -> BaseAgent:
    from tensor_optix.algorithms.torch_sac import TorchSACAgent

    action_dim, rate = _action_dim(plan), plan.hyperparams.params["learning_rate"]
    actor = _network(plan, relu_mlp, 2 * action_dim, plan.network_seeds[0], POLICY_GAIN)
    critic1 = _critic_of_actions(plan, plan.network_seeds[1])
    critic2 = _critic_of_actions(plan, plan.network_seeds[2])
    return TorchSACAgent(
        actor,
        critic1,
        critic2,
        action_dim,
        adam([actor], rate, REPLAY_ADAM_EPSILON),
        adam([critic1, critic2], rate, REPLAY_ADAM_EPSILON),
        number_adam(rate),
        **_settings(plan),
    )


def _network(
    plan: AgentPlan,
    perceptron: Callable[..., nn.Sequential],
    outputs: int,
    seed: int,
    output_gain: float = 1.0,
) -> nn.Sequential:
    """Return a network from observations to `[B, outputs]`."""
    space, hidden = plan.observation_space, plan.hidden_sizes
    if isinstance(space, Discrete):
        layers = perceptron(int(space.n), outputs, hidden, seed, output_gain)
        return layers.insert(0, OneHot(int(space.n), int(space.start)))
    if len(space.shape) > 1:
        return nature_cnn(space.shape, outputs, hidden, seed, output_gain, _divisor(space))
    return perceptron(space.shape[0], outputs, hidden, seed, output_gain)


def _critic_of_actions(plan: AgentPlan, seed: int) -> nn.Module:
    """Return a critic of observations and actions, in the form that SAC takes for the space."""
    space, hidden, action_dim = plan.observation_space, plan.hidden_sizes, _action_dim(plan)
    if isinstance(space, Discrete):
        head = relu_mlp(int(space.n) + action_dim, 1, hidden, seed)
        return ActionCritic(OneHot(int(space.n), int(space.start)), head)
    if len(space.shape) > 1:
        return image_critic(space.shape, action_dim, hidden, seed, _divisor(space))
    return relu_mlp(space.shape[0] + action_dim, 1, hidden, seed)


def _divisor(space: Box) -> float:
    return LARGEST_BYTE if space.dtype == np.uint8 else 1.0


def _count(space: Box | Discrete) -> int:
    assert isinstance(space, Discrete)
    return int(space.n)


def _action_dim(plan: AgentPlan) -> int:
    assert plan.action_space.shape is not None
    return plan.action_space.shape[0]


def _settings(plan: AgentPlan) -> dict[str, Any]:
    return {
        "hyperparams": plan.hyperparams,
        "device": plan.device,
        "reward_normalizer": plan.reward_normalizer,
        "obs_normalizer": plan.obs_normalizer,
    }
