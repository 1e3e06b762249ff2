"""Ready-made agents on TensorFlow: a checked plan comes in, an agent with its networks goes out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensor_optix.adapters.network_recipes import NetworkRecipes
from tensor_optix.adapters.tensorflow import layers
from tensor_optix.adapters.tensorflow.network import placed_on
from tensor_optix.algorithms.agent_builder import AgentBuilder, AgentClasses
from tensor_optix.algorithms.tf_dqn import TFDQNAgent
from tensor_optix.algorithms.tf_ppo import TFPPOAgent
from tensor_optix.algorithms.tf_ppo_continuous import TFGaussianPPOAgent
from tensor_optix.algorithms.tf_sac import TFSACAgent

if TYPE_CHECKING:
    from tensor_optix.algorithms.agent_factory import AgentPlan
    from tensor_optix.core.base_agent import BaseAgent

AGENTS = AgentClasses(
    ppo=TFPPOAgent, gaussian_ppo=TFGaussianPPOAgent, dqn=TFDQNAgent, sac=TFSACAgent
)


def build(plan: AgentPlan) -> BaseAgent:
    """Make the agent of a plan.

    Raises:
        ValueError: If the device cannot be used.
    """
    # A Keras model stays on the device that it was made on.
    with placed_on(plan.device):
        return AgentBuilder(plan, NetworkRecipes(layers), AGENTS).build()
