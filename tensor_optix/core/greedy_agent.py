"""An agent that acts by another one's best actions: how policies are validated and played."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.core.base_agent import BaseAgent

if TYPE_CHECKING:
    from tensor_optix.core.types import Array, EpisodeData, HyperparamSet, PathLike


class GreedyAgent(BaseAgent):
    """Acts without exploration and never learns; weights and hyperparameters are the agent's own."""

    def __init__(self, agent: BaseAgent) -> None:
        self._agent = agent
        self.has_unit_actions = agent.has_unit_actions

    def check_spaces(self, observation_space: Any, action_space: Any) -> None:
        """Ask the agent."""
        self._agent.check_spaces(observation_space, action_space)

    def act(self, observation: Any) -> Any:
        """Choose the best action for one observation."""
        return self._agent.act_greedy(np.asarray(observation)[None])[0]

    def act_batch(self, observations: Array) -> Array:
        """Choose the best actions for `[N, ...]` observations."""
        return self._agent.act_greedy(observations)

    def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
        """Do nothing: what is validated on is never learned from."""
        return {}

    def get_hyperparams(self) -> HyperparamSet:
        """Return the agent's hyperparameters."""
        return self._agent.get_hyperparams()

    def set_hyperparams(self, hyperparams: HyperparamSet) -> None:
        """Set the agent's hyperparameters."""
        self._agent.set_hyperparams(hyperparams)

    def save_weights(self, path: PathLike) -> None:
        """Save the agent's weights."""
        self._agent.save_weights(path)

    def load_weights(self, path: PathLike) -> None:
        """Load the agent's weights."""
        self._agent.load_weights(path)
