"""From the actions that an agent chooses to those that an environment takes.

In come an agent, an action space and the user's wish; out come a function for every vector step and
the form in which the agent's own actions are kept. Pipelines and `play_episodes` share them.
"""

from __future__ import annotations

import copy
import functools
import logging
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from gymnasium.spaces import Box, Discrete

from tensor_optix.core.discrete_spaces import DiscreteSpace, first_choices
from tensor_optix.core.types import Array
from tensor_optix.pipeline.vector_contract import has_arrays, objects, space_dtype, space_shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.observation_layout import AnySpace

logger = logging.getLogger(__name__)

UNIT_WIDTH = 2.0
"""Of the interval that a component without bounds is given, that of the agent's own actions."""

ActionMap: TypeAlias = Callable[[Array], Array]
"""An agent's actions, as they are kept, -> the environments' actions `[B, ...]` in the space's dtype."""


class ActionForm(Protocol):
    """States in which form actions are; `BaseAgent` says what it means."""

    @property
    def has_unit_actions(self) -> bool:
        """Whether continuous actions are in [-1, 1]."""

    @property
    def counts_from_zero(self) -> bool:
        """Whether actions are numbers or rows, and discrete ones counted from 0."""


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


def environment_actions(agent: ActionForm, space: AnySpace, rescale: bool) -> ActionMap:
    """Return the function that makes the environment's actions of the agent's.

    Actions in [-1, 1] of an agent with `has_unit_actions` are stretched to the bounds of a Box,
    component by component: `low + (action + 1) / 2 * (high - low)`, clipped to the bounds, rounded
    where the space holds integers. Where a component has one bound only, the other is taken to be 2 away;
    where it has none, the action stays as it is: that is said once. The function raises a ValueError where
    such an action is not finite or not of the shape that is kept.

    To discrete actions of an agent that `counts_from_zero`, what the space starts at is added; its rows get
    the space's shape. All other actions are only cast, or returned as they are; those of
    a space without arrays are copied, as the environment may keep them or write into them.

    Args:
        agent: Says what its actions are.
        space: One environment's action space.
        rescale: Whether to stretch at all.
    """
    if not has_arrays(space):
        return copy.deepcopy
    if isinstance(space, Box):
        is_stretched = rescale and agent.has_unit_actions
        shape = kept_shape(agent, space)
        to_env = _stretcher(space, shape) if is_stretched else _caster(space_dtype(space))
        return to_env if shape == space.shape else _shaper(to_env, space.shape)
    if agent.counts_from_zero and isinstance(space, DiscreteSpace):
        return _counter(space)
    return _caster(space_dtype(space))


def kept_dtype(agent: BaseAgent, space: AnySpace) -> np.dtype[Any]:
    """Return the dtype in which the agent's actions are kept for learning.

    It is the action space's, but float64 for actions in [-1, 1]: near the ends of the interval
    float32 has lost what they were before the tanh; and int64 for choices that are counted from 0.
    """
    if agent.has_unit_actions and isinstance(space, Box):
        return np.dtype(np.float64)
    if agent.counts_from_zero and isinstance(space, DiscreteSpace):
        return np.dtype(np.int64)
    return space_dtype(space)


def kept_shape(agent: ActionForm, space: AnySpace) -> tuple[int, ...]:
    """Return the shape in which one of the agent's actions is kept for learning.

    It is the action space's, but one row, `[A]` or `[K]`, where actions come as rows.
    """
    shape = space_shape(space)
    if not has_arrays(space) or not agent.counts_from_zero or isinstance(space, Discrete):
        return shape
    is_row = agent.has_unit_actions or not isinstance(space, Box)
    return (math.prod(shape),) if is_row else shape


def _caster(dtype: np.dtype[Any]) -> ActionMap:
    def cast(actions: Array) -> Array:
        return actions.astype(dtype, casting="same_kind", copy=False)

    return cast


def _shaper(to_env: ActionMap, shape: tuple[int, ...]) -> ActionMap:
    def shape_rows(actions: Array) -> Array:
        rows: Array = to_env(actions)
        return rows.reshape(len(rows), *shape)

    return shape_rows


def _counter(space: DiscreteSpace) -> ActionMap:
    """Return what makes elements of a space of choices that are counted from 0."""
    dtype, shape = space_dtype(space), space_shape(space)
    first = first_choices(space).reshape(shape)
    if not first.any() and dtype == np.int64 and len(shape) < 2:
        return _caster(dtype)

    def count(actions: Array) -> Array:
        # The dtype holds every element of the space, and one without a sign is of another kind.
        return (actions.reshape(len(actions), *shape) + first).astype(dtype)

    return count


def _stretcher(space: Box, shape: tuple[int, ...]) -> ActionMap:
    """Return what stretches actions `[B, *shape]` to the bounds of a Box of as many components."""
    low, high = (bound.reshape(shape) for bound in finite_bounds(space))
    # The formula around its middle: bounds of -1 and 1 leave every action exactly as it is.
    middle, half = high / 2 + low / 2, high / 2 - low / 2
    dtype = space_dtype(space)
    holds_integers = dtype.kind in "iu"

    def stretch(actions: Array) -> Array:
        _require_sound(actions, shape)
        # Without `out`, which costs as much again for the few numbers of one action.
        stretched = np.maximum(np.minimum(middle + half * actions, high), low)
        if holds_integers:
            np.rint(stretched, out=stretched)
        return stretched.astype(dtype, copy=False)

    return stretch


def few_numbers_stretcher(space: Box) -> Callable[[Sequence[float]], Array]:
    """Return what makes the environment's action of one action in [-1, 1], row-major, as numbers of Python.

    It comes to what `environment_actions` makes of it; for a few components in a fraction of the time, as
    each call of NumPy costs as much as ten of Python's products. NaN stays NaN.
    """
    low, high = (bound.reshape(-1) for bound in finite_bounds(space))
    middle, half = high / 2 + low / 2, high / 2 - low / 2
    bounds = list(zip(*(one.tolist() for one in (middle, half, low, high)), strict=True))
    dtype, shape = space_dtype(space), space.shape
    round_off = round if dtype.kind in "iu" else float

    def stretch(action: Sequence[float]) -> Array:
        stretched = [
            round_off(max(min(center + reach * number, most), least))
            for number, (center, reach, least, most) in zip(action, bounds, strict=True)
        ]
        return np.array(stretched, dtype).reshape(shape)

    return stretch


def finite_bounds(space: Box) -> tuple[Array, Array]:
    """Return the bounds of a Box in float64; a component that lacks some gets them as near as can be."""
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    dtype = space_dtype(space)
    if dtype.kind in "iu":
        # The greatest number of 64 bits is none in double precision: it is rounded to one beyond it.
        beyond = 2.0 ** (8 * dtype.itemsize - (dtype.kind == "i"))
        high = np.minimum(high, np.nextafter(beyond, 0.0))
    has_low, has_high = space.bounded_below, space.bounded_above
    if not (has_low & has_high).all():
        _say_unbounded(str(space), _names(space, ~(has_low & has_high)))
    free = np.where(has_high, high - UNIT_WIDTH, -UNIT_WIDTH / 2)
    low = np.where(has_low, low, free)
    return low, np.where(has_high, high, low + UNIT_WIDTH)


def _names(space: Box, chosen: Array) -> str:
    """Return the indices of the components that are chosen, in words."""
    if chosen.all():
        return "no component has both bounds"
    named = [str(list(map(int, index))).strip("[]") for index in np.argwhere(chosen)]
    return f"without both bounds: {'; '.join(named)} of shape {space.shape}"


@functools.cache
def _say_unbounded(space: str, components: str) -> None:
    """Say of a space which of its components are not stretched; of each space once."""
    logger.warning(
        "actions in [-1, 1] are not stretched where the action space has no two bounds to stretch them to: "
        "there they go to the environment as they are, or reach 2 from the one bound; %s, %s. To bound them: "
        "gymnasium.wrappers.TransformAction(env, lambda action: 10 * action, Box(-1, 1, shape)), say",
        components,
        space,
    )


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
