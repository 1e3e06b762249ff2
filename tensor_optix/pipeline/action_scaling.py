"""From the actions that an agent chooses to those that an environment takes.

In come an agent, an action space and the user's wish; out come a function for every vector step and
the dtype in which the agent's own actions are kept. Pipelines and `play_episodes` share them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from gymnasium.spaces import Box

from tensor_optix.core.types import Array
from tensor_optix.pipeline.vector_contract import has_arrays, objects, space_dtype

if TYPE_CHECKING:
    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.observation_layout import AnySpace

ActionMap: TypeAlias = Callable[[Array], Array]
"""An agent's actions `[B]` or `[B, A]` -> the environments' actions, same shape, the space's dtype."""


class Chooser(Protocol):
    """Chooses actions for a vector step."""

    def act_batch(self, observations: Array) -> Array:
        """Return one action for each of `[N, ...]` observations."""


class OneByOne:
    """Acts where the action space has no arrays: every action is kept as the object that the agent chose.

    Args:
        agent: Is asked for one action at a time.
    """

    def __init__(self, agent: BaseAgent) -> None:
        self._agent = agent

    def act_batch(self, observations: Array) -> Array:
        """Return a copy of the action for each of `[N, ...]` observations, `[N]` objects."""
        # A copy, as the agent may go on writing into its own.
        return objects(copy.deepcopy(self._agent.act_each(observations)))


def chooser_of(agent: BaseAgent, space: AnySpace) -> Chooser:
    """Return what chooses the agent's actions of a space: the agent itself where they are arrays."""
    return agent if has_arrays(space) else OneByOne(agent)


def environment_actions(agent: BaseAgent, space: AnySpace, rescale: bool) -> ActionMap:
    """Return the function that makes the environment's actions of the agent's.

    Actions in [-1, 1] of an agent with `has_unit_actions` are stretched to the bounds of a Box,
    component by component: `low + (action + 1) / 2 * (high - low)`, clipped to the bounds, rounded
    where the space holds integers. The function raises a ValueError where such an action is not
    finite or not of the space's shape. All other actions are only cast, or returned as they are; those of
    a space without arrays are copied, as the environment may keep them or write into them.

    Args:
        agent: Says whether its actions are in [-1, 1].
        space: One environment's action space.
        rescale: Whether to stretch at all.

    Raises:
        ValueError: If the actions are to be stretched to a Box without finite bounds.
    """
    if rescale and agent.has_unit_actions and isinstance(space, Box):
        return _stretcher(space)
    if not has_arrays(space):
        return copy.deepcopy
    return _caster(space_dtype(space))


def kept_dtype(agent: BaseAgent, space: AnySpace) -> np.dtype[Any]:
    """Return the dtype in which the agent's actions are kept for learning.

    It is the action space's, but float64 for actions in [-1, 1]: near the ends of the interval
    float32 has lost what they were before the tanh.
    """
    if agent.has_unit_actions and isinstance(space, Box):
        return np.dtype(np.float64)
    return space_dtype(space)


def _caster(dtype: np.dtype[Any]) -> ActionMap:
    def cast(actions: Array) -> Array:
        return actions.astype(dtype, casting="same_kind", copy=False)

    return cast


def _stretcher(space: Box) -> ActionMap:
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    if not (np.isfinite(low) & np.isfinite(high)).all():
        raise ValueError(
            f"the agent's actions in [-1, 1] can only be stretched to finite bounds, got the action "
            f"space {space}: bound it with gymnasium.wrappers.TransformAction, or pass "
            f"rescale_actions=False to let the environment have the actions as they are"
        )
    # The formula around its middle: bounds of -1 and 1 leave every action exactly as it is.
    middle, half = high / 2 + low / 2, high / 2 - low / 2
    dtype, shape = space_dtype(space), space.shape
    holds_integers = dtype.kind in "iu"

    def stretch(actions: Array) -> Array:
        _require_sound(actions, shape)
        stretched = middle + half * actions
        np.minimum(stretched, high, out=stretched)
        np.maximum(stretched, low, out=stretched)
        if holds_integers:
            np.rint(stretched, out=stretched)
        return stretched.astype(dtype, copy=False)

    return stretch


def _require_sound(actions: Array, shape: tuple[int, ...]) -> None:
    """Refuse what the environment must never see: other shapes, which broadcast, and NaN."""
    if actions.shape[1:] != shape:
        raise ValueError(
            f"the agent must give one action of shape {shape} for each environment, got actions of "
            f"shape {actions.shape}"
        )
    is_finite = np.isfinite(actions)
    if np.count_nonzero(is_finite) == actions.size:
        return
    row = int(np.argwhere(~is_finite)[0, 0])
    raise ValueError(
        f"the agent must give finite actions, got {actions[row]} for the environment in row {row} of "
        f"{len(actions)}: look for NaN or infinity in its weights and in the observations"
    )
