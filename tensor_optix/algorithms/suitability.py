"""Whether an algorithm fits an environment: both come in, its networks, its replay or its refusal go out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.algorithms.agent_factory import make_agent
from tensor_optix.algorithms.network_agent import NetworkAgent
from tensor_optix.algorithms.off_policy import OffPolicyAgent, ReplayHyperparams
from tensor_optix.core.replay.layout import ReplaySettings
from tensor_optix.pipeline.action_scaling import kept_shape
from tensor_optix.pipeline.agent_view import seen_by
from tensor_optix.pipeline.vector_contract import space_dtype, space_shape

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tensor_optix.algorithms.catalogue import Algorithm
    from tensor_optix.core.observation_layout import AnySpace
    from tensor_optix.core.types import Array
    from tensor_optix.pipeline.vector_contract import VectorEnv

SEED = 0


@dataclass(frozen=True)
class Fit:
    """What an algorithm would be in an environment."""

    algorithm: str
    refusal: str = ""
    """Why it does not act there, and what does; empty where it fits."""
    weights: Mapping[str, int] = field(default_factory=dict)
    """How many numbers of each network are learned."""
    replay_rows: int = 0
    """The steps that its replay keeps, 0 without one."""
    replay_bytes: int = 0
    """The memory that these take."""
    updates_by: str = ""
    """What would make its updates, and why, in words."""


def fit_of(
    algorithm: Algorithm, framework: str, env: VectorEnv, shown: tuple[Any, Any] = (None, None)
) -> Fit:
    """Make an agent as `make_agent` does by default, and look at it.

    Args:
        algorithm: Which.
        framework: The name of one that is installed.
        env: Was reset.
        shown: Two observations that followed each other, from which a replay finds out whether they are
            stacks of frames.
    """
    try:
        agent = make_agent(env, algorithm.name, framework, seed=SEED, device="cpu")
        seen = seen_by(agent, env).observation_space
        agent.check_spaces(seen, env.action_space)
    except (ValueError, TypeError) as error:
        return Fit(algorithm.name, " ".join(str(error).split()))
    assert isinstance(agent, NetworkAgent)
    rows, size = 0, 0
    if isinstance(agent, OffPolicyAgent):
        params = algorithm.hyperparams_type.from_params(agent.get_hyperparams().params)
        assert isinstance(params, ReplayHyperparams)
        action = np.zeros((1, *kept_shape(agent, env.action_space)), agent.action_dtype)
        first, second = (_as_row(one, seen) for one in shown)
        settings = ReplaySettings(params.replay_capacity, params.n_step, None, None)
        layout = settings.layout((first, action, np.zeros(1, np.float32), second), None)
        rows, size = params.replay_capacity, layout.ring_bytes
    return Fit(algorithm.name, "", agent.num_weights, rows, size, agent.updates_by)


def _as_row(observation: Any, space: AnySpace) -> Array:
    """Return an observation `[1, ...]`; a row of zeros where it has not the form in which it is kept."""
    shape, dtype = space_shape(space), space_dtype(space)
    if isinstance(observation, np.ndarray) and observation.shape == shape:
        return np.asarray(observation, dtype)[None]
    return np.zeros((1, *shape), dtype)
