"""Policies on the disk, for tests: an agent and its spaces go in, files and its actions come out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium
import numpy as np

from tensor_optix.algorithms.agent_factory import make_agent
from tensor_optix.core.checkpoint_registry import CheckpointRegistry
from tensor_optix.core.observation_layout import FlatSpace, MaskedSpace, seen_space
from tensor_optix.core.types import EvalMetrics, HyperparamSet
from tensor_optix.pipeline.action_scaling import environment_actions

if TYPE_CHECKING:
    from pathlib import Path

    from tensor_optix.core.types import Array, PolicySnapshot

WHO = "the test"


class Spaces(NamedTuple):
    """What an agent is made for."""

    observation_space: Any
    action_space: Any


def ready_made(spaces: Spaces, algorithm: str, framework: str, **settings: Any) -> Any:
    """Return an agent that a pipeline has told its spaces, and that has seen some observations."""
    small = {} if algorithm == "ppo" else {"batch_size": 8, "learning_starts": 8}
    agent = make_agent(
        spaces,
        algorithm,
        framework,
        **{"hidden_sizes": (8,), "seed": 0, "device": "cpu", "hyperparams": HyperparamSet(small)}
        | settings,
    )
    agent.check_spaces(seen_space(spaces.observation_space), spaces.action_space)
    agent.perturb_weights(0.3)
    return agent


def store(agent: Any, directory: Path, score: float = 1.0) -> PolicySnapshot:
    """Save an agent as the policy of a run."""
    registry = CheckpointRegistry(directory)
    return registry.save(agent, EvalMetrics(score, {}, 0), agent.get_hyperparams())


def samples(space: Any, count: int = 7) -> list[Any]:
    """Return elements of a space."""
    space.seed(0)
    return [space.sample() for _ in range(count)]


def batched(space: Any, elements: list[Any]) -> Any:
    """Return elements as a vector environment gives them."""
    empty = gymnasium.vector.utils.create_empty_array(space, len(elements))
    return gymnasium.vector.utils.concatenate(space, elements, empty)


def rows_of(space: Any, elements: list[Any]) -> Array:
    """Return elements as an agent sees them."""
    seen = seen_space(space)
    if isinstance(seen, MaskedSpace):
        flat = [seen.plain.flattened(one, WHO) for one in elements]  # type: ignore[attr-defined]
        return seen.joined(np.stack(flat), np.stack([one["action_mask"] for one in elements]))
    if isinstance(seen, FlatSpace):
        return np.stack([seen.flattened(one, WHO) for one in elements])
    return np.stack([np.asarray(one, seen.dtype) for one in elements])


def pipelines_actions(agent: Any, spaces: Spaces, elements: list[Any]) -> Array:
    """Return what a pipeline sends for the agent's best actions."""
    to_env = environment_actions(agent, spaces.action_space, True)
    return to_env(np.asarray(agent.act_greedy(rows_of(spaces.observation_space, elements))))
