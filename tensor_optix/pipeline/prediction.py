"""One observation, or a batch, as an environment gives it, comes in; what its `step` takes goes out.

In between, whoever acts sees rows as pipelines show them: parts side by side, masks of actions behind them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from gymnasium.spaces import Discrete

from tensor_optix.core.discrete_spaces import DiscreteSpace, choice_counts
from tensor_optix.core.observation_layout import ACTION_MASK, FlatSpace, MaskedSpace
from tensor_optix.core.observation_values import ObservationDoor, as_array, described
from tensor_optix.core.types import Array
from tensor_optix.pipeline.action_scaling import environment_actions
from tensor_optix.pipeline.vector_contract import has_arrays, objects

if TYPE_CHECKING:
    from tensor_optix.core.observation_layout import AnySpace
    from tensor_optix.pipeline.action_scaling import ActionForm

Choose: TypeAlias = Callable[[Array], Array]
"""Observations `[N, ...]` -> one action for each, as an agent's `act_greedy` and `act_batch` give them."""
WHO = "the environment"


class Predictor:
    """Lets somebody act who knows nothing of the forms of an environment.

    Args:
        form: Says in which form the actions are.
        observation_space: Of one environment, as whoever acts sees it: with a `MaskedSpace`, masks are
            behind the observations where there are any.
        action_space: Of one environment.
        rescale_actions: Whether actions in [-1, 1] are stretched to the bounds of a Box.
    """

    def __init__(
        self,
        form: ActionForm,
        observation_space: AnySpace,
        action_space: AnySpace,
        rescale_actions: bool = True,
    ) -> None:
        self._masked = observation_space if isinstance(observation_space, MaskedSpace) else None
        self._space = observation_space if self._masked is None else self._masked.plain
        self._door = ObservationDoor(self._space) if has_arrays(self._space) else None
        self._is_number = isinstance(action_space, Discrete)
        self._to_env = environment_actions(form, action_space, rescale_actions)
        self._firsts, self._counts = np.zeros(1, np.int64), np.ones(1, np.int64)
        if isinstance(action_space, DiscreteSpace):
            self._counts = np.array(choice_counts(action_space))
            self._firsts = np.cumsum(self._counts) - self._counts

    def __call__(self, choose: Choose, observation: Any, action_masks: Any = None) -> Any:
        """Return an action that `step` takes, or a batch of them `[N, ...]`, for one or N observations.

        Args:
            choose: Acts.
            observation: An element of the space, or a batch: with arrays `[N, ...]` in the place of elements.
            action_masks: `[A]` or `[N, A]`. None: those in the observation, if there are any.

        Raises:
            TypeError: If an observation is not made of numbers, or of floats where its space has integers.
            ValueError: If an observation is of another shape, not finite, or not in its space, a mask does
                not fit, or an action is not finite.
        """
        count = self._count(observation)
        rows = self._rows(observation, count)
        if action_masks is None and isinstance(observation, Mapping) and self._masked is not None:
            action_masks = observation.get(ACTION_MASK)
        if action_masks is not None:
            rows = self._with_masks(rows, action_masks, count)
        actions = self._to_env(np.asarray(choose(rows)))
        if count is not None:
            return actions
        return int(actions[0]) if self._is_number else actions[0]

    def _count(self, observation: Any) -> int | None:
        """Return of how many observations a batch is; None of a single one, which its shape tells."""
        value, space = observation, self._space
        if isinstance(space, FlatSpace):
            value, space = space.first_part(observation, WHO), space.layout.fields[0].space
        if self._door is None:
            return None
        given, shape = as_array(value), tuple(space.shape or ())
        if given is not None and given.shape == shape:
            return None
        if given is not None and given.shape[1:] == shape and given.ndim == len(shape) + 1:
            return len(given)
        batch = str((*("N", *shape),)).replace("'", "")
        raise ValueError(
            f"observation must be of the shape {shape}, or a batch of the shape {batch}, got "
            f"{described(value)}"
        )

    def _rows(self, observation: Any, count: int | None) -> Array:
        """Return the observations `[N, ...]` as they are to be seen."""
        if self._door is None:
            return objects([observation])
        if isinstance(self._space, FlatSpace):
            rows = (
                self._space.flattened(observation, WHO)[None]
                if count is None
                else self._space.flattened_batch(observation, WHO, count)
            )
        else:
            rows = self._door(observation, WHO, count)
            rows = rows[None] if count is None else rows
        if rows.dtype.kind == "f" and not np.isfinite(rows).all():
            place = np.argwhere(~np.isfinite(rows))[0].tolist()
            where = ", ".join(map(str, place[count is None :]))
            raise ValueError(
                f"observation must be finite, got {rows[tuple(place)]} in element {where}: look into the "
                "environment's observation"
            )
        return rows

    def _with_masks(self, rows: Array, given: Any, count: int | None) -> Array:
        """Return the rows with masks behind them; of a choice of which nothing is allowed nothing is said."""
        if self._masked is None:
            raise ValueError(
                "action_masks are given, but the policy takes none: it was made where nothing tells which "
                "discrete actions are allowed"
            )
        masks = np.asarray(given)
        size = self._masked.mask_size
        are_bits = masks.dtype.kind in "biuf" and bool(((masks == 0) | (masks == 1)).all())
        if masks.size != size * len(rows) or not are_bits or (count and len(masks) != count):
            batch = f"({size},)" if count is None else f"({count}, {size})"
            raise ValueError(
                "action_masks must hold 1 for each action that is allowed and 0 for the others, in the "
                f"shape {batch}, got {described(given)}"
            )
        masks = masks.reshape(len(rows), size) != 0
        is_silent = ~np.logical_or.reduceat(masks, self._firsts, axis=1)
        return self._masked.joined(rows, masks | np.repeat(is_silent, self._counts, axis=1))
