"""Trying networks before the first step: what does not fit an environment is refused by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from tensor_optix.core.types import Array

BATCH = 2
"""Observations that a network is tried on: more than one, so that a lost batch axis shows."""


def try_network(name: str, network: Callable[[Array], Array], observation_space: Any) -> Array:
    """Return what a network makes of observations of zeros, `[BATCH, ...]`.

    Raises:
        ValueError: If it cannot take them.
    """
    shape, dtype = observation_space.shape, observation_space.dtype
    try:
        return network(np.zeros((BATCH, *shape), dtype))
    except Exception as error:
        raise ValueError(
            f"the {name} cannot take observations of shape {shape} and dtype {dtype}: {error}"
        ) from error


def require_count(name: str, value: Any) -> None:
    """Refuse what is no whole number of at least 1.

    Raises:
        ValueError: If it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")


def require_values(values: Array) -> None:
    """Refuse a critic's flattened output if it is not one value per observation.

    Raises:
        ValueError: If it is not.
    """
    if values.shape != (BATCH,):
        raise ValueError(
            f"the critic must return one value per observation, [B, 1] or [B], got {values.size} "
            f"values for {BATCH} observations"
        )


def try_critics(
    critics: Callable[[Array, Array], Array], observation_space: Any, action_dim: int
) -> None:
    """Try two critics, of one stacked output `[2, B]`, on observations and actions of zeros.

    Raises:
        ValueError: If they cannot take them, or return anything but one value per row.
    """
    shape = observation_space.shape
    takes = f"[B, {shape[0] + action_dim}]" if len(shape) == 1 else "observation and action"
    observations = np.zeros((BATCH, *shape), observation_space.dtype)
    try:
        values = critics(observations, np.zeros((BATCH, action_dim), np.float32))
    except Exception as error:
        raise ValueError(
            f"the critics cannot take {takes} of observations of shape {shape} and {action_dim} "
            f"action components: {error}"
        ) from error
    if values.shape != (2, BATCH):
        raise ValueError(
            f"each critic must return one value per row, [B, 1] or [B], got {list(values.shape)} for "
            f"two critics and B = {BATCH}"
        )
