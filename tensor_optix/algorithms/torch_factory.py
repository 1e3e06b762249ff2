"""Ready-made agents on PyTorch: a checked plan comes in, an agent with its networks goes out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensor_optix.adapters.network_recipes import NetworkRecipes
from tensor_optix.adapters.pytorch import layers
from tensor_optix.algorithms.agent_builder import AgentBuilder, AgentClasses
from tensor_optix.algorithms.torch_dqn import TorchDQNAgent
from tensor_optix.algorithms.torch_ppo import TorchPPOAgent
from tensor_optix.algorithms.torch_ppo_continuous import TorchGaussianPPOAgent
from tensor_optix.algorithms.torch_sac import TorchSACAgent

if TYPE_CHECKING:
    from tensor_optix.algorithms.agent_factory import AgentPlan
    from tensor_optix.core.base_agent import BaseAgent

AGENTS = AgentClasses(
    ppo=TorchPPOAgent, gaussian_ppo=TorchGaussianPPOAgent, dqn=TorchDQNAgent, sac=TorchSACAgent
)


def build(plan: AgentPlan) -> BaseAgent:
    """Make the agent of a plan.

    Raises:
        ValueError: If the device cannot be used.
    """
    return AgentBuilder(plan, NetworkRecipes(layers), AGENTS).build()
