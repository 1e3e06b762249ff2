"""A replay's saved state: arrays by name come in, a layout or an error goes out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tensor_optix.core.replay_layout import ReplayLayout, RowFormat

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tensor_optix.core.types import Array

_WORDS = 8
_USED = 6


def array_of(state: Mapping[str, Array], name: str) -> Array:
    """Return an array of a state; ValueError if it is not there."""
    if name not in state:
        raise ValueError(f"state must hold {name!r}, got {sorted(state)}")
    return state[name]


def float_of(state: Mapping[str, Array], name: str) -> float:
    """Return a number of a state; ValueError if it is not there."""
    array = np.asarray(array_of(state, name))
    if array.shape != (1,):
        raise ValueError(f"{name!r} must have shape (1,), got {array.shape}")
    return float(array[0])


def saved_layout(state: Mapping[str, Array]) -> ReplayLayout:
    """Return the layout that a state was saved with; ValueError if it says none."""
    numbers = np.asarray(array_of(state, "layout"))
    if numbers.shape != (9,) or numbers.dtype != np.int64 or (numbers[:5] < 1).any():
        raise ValueError(f"'layout' must be nine int64 numbers, sizes >= 1, got {numbers}")
    envs, _, rows, n_step, frames = numbers[:5].tolist()
    observation = RowFormat.of(np.asarray(array_of(state, "observation_format")))
    action = RowFormat.of(np.asarray(array_of(state, "action_format")))
    layout = ReplayLayout(envs, rows, n_step, frames, observation, action)
    if not np.array_equal(numbers, layout.numbers):
        raise ValueError(f"'layout' must be {layout.numbers.tolist()}, got {numbers.tolist()}")
    return layout


def check_state(state: Mapping[str, Array], layout: ReplayLayout) -> None:
    """Raise ValueError unless arrays are the state of a storage of this layout."""
    entries = len(array_of(state, "side"))
    slots = array_of(state, "ring").shape[1:2]
    expected = {
        "ring": (np.uint8, (layout.num_envs, *slots, layout.slot.itemsize)),
        "side": (np.uint8, (entries, layout.frame_bytes)),
        "side_entries": (np.int32, (2, entries)),
        "cursors": (np.int64, (layout.num_envs, _WORDS)),
        "counters": (np.int64, (_WORDS,)),
    }
    for name, (dtype, shape) in expected.items():
        array = array_of(state, name)
        if array.dtype != dtype or array.shape != shape:
            raise ValueError(
                f"{name!r} must be {np.dtype(dtype)} {shape}, got {array.dtype} {array.shape}"
            )
    used = int(state["cursors"][:, _USED].max())
    if slots != (used,) or used > layout.slots:
        raise ValueError(f"'ring' must hold the {used} slots of its cursors, got {slots}")
