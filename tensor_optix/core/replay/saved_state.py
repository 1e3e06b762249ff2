"""A replay's saved state: arrays by name come in, a layout or an error goes out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tensor_optix.core.replay.layout import ReplayLayout, RowFormat

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from tensor_optix.core.replay.layout import ReplaySettings
    from tensor_optix.core.types import Array


def write_state(path: str | os.PathLike[str], state: Mapping[str, Array]) -> None:
    """Write arrays to a new directory.

    Raises:
        FileExistsError: If the directory is there already.
    """
    directory = Path(path)
    directory.mkdir(parents=True)
    for name, array in state.items():
        np.save(directory / f"{name}.npy", array, allow_pickle=False)


def read_state(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Return the arrays that `write_state` wrote, as read-only maps of their files.

    Raises:
        FileNotFoundError: If there is no such directory.
        ValueError: If a file is no array, is cut short, or holds Python objects.
    """
    directory = Path(path)
    if not directory.is_dir():
        raise FileNotFoundError(f"path must be a directory that a replay was saved to, got {path}")
    return {file.stem: _read(file) for file in sorted(directory.glob("*.npy"))}


def _read(file: Path) -> Array:
    try:
        return np.asarray(np.lib.format.open_memmap(file, mode="r"))
    except (ValueError, OverflowError, TypeError) as error:
        raise ValueError(f"{file} must be an array that a replay saved: {error}") from error


_WORDS = 8
_HEAD, _PENDING, _WINDOW, _ANNOUNCED = range(4)
_USED = 6
_READY, _SIDE_FREE = 0, 2
_DROPPED_FLAG = 2


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


def generator_of(state: Mapping[str, Array]) -> Array:
    """Return a copy of the generator of a state; ValueError if there is none."""
    array = np.array(array_of(state, "generator"))
    if array.shape != (1,) or array.dtype != np.uint64:
        raise ValueError(f"'generator' must be uint64 (1,), got {array.dtype} {array.shape}")
    return array


def checked_layout(state: Mapping[str, Array], settings: ReplaySettings) -> ReplayLayout | None:
    """Return the layout of a state, or None if it is that of a buffer without rows.

    Nothing is allocated before sizes are known to fit the settings.

    Raises:
        ValueError: If the state is damaged, or does not fit the settings.
    """
    if {"layout", "ring", "cursors", "counters"}.isdisjoint(state):
        return None
    layout = saved_layout(state)
    settings.check(layout)
    check_state(state, layout)
    return layout


def ready_rows(state: Mapping[str, Array], layout: ReplayLayout) -> Array:
    """Return which slots hold a row that can be sampled, `[num_slots]` bool.

    Args:
        state: Of a storage of this layout.
        layout: Of the storage.

    Raises:
        ValueError: If there should be rows in slots that were never written.
    """
    head, pending, window = state["cursors"].T[: _WINDOW + 1, :, np.newaxis]
    back = (head - 1 - np.arange(layout.slots)) % layout.slots + 1
    in_window = (back > pending) & (back <= pending + window)
    used = state["ring"].shape[1]
    if in_window[:, used:].any():
        raise ValueError(f"'ring' must hold all rows of its cursors, got {used} slots of each")
    flags = state["ring"].view(layout.slot)["flags"][..., 0]
    in_window[:, :used] &= flags & _DROPPED_FLAG == 0
    ready: Array = in_window.reshape(-1)
    return ready


def saved_layout(state: Mapping[str, Array]) -> ReplayLayout:
    """Return the layout that a state was saved with; ValueError if it says none."""
    numbers = np.asarray(array_of(state, "layout"))
    if numbers.shape != (9,) or numbers.dtype != np.int64 or (numbers[:5] < 1).any():
        raise ValueError(f"'layout' must be nine int64 numbers, sizes >= 1, got {numbers}")
    envs, _, rows, n_step, frames = numbers[:5].tolist()
    observation = RowFormat.of(np.asarray(array_of(state, "observation_format")))
    action = RowFormat.of(np.asarray(array_of(state, "action_format")))
    if observation.dtype.hasobject or action.dtype.hasobject:
        raise ValueError("observations and actions must be numbers, got Python objects")
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
    _check_cursors(state, layout)
    _check_side_entries(state, layout)


def _check_cursors(state: Mapping[str, Array], layout: ReplayLayout) -> None:
    cursors = state["cursors"].T
    bounds = {
        _HEAD: layout.slots,
        _PENDING: layout.n_step,
        _WINDOW: layout.rows + 1,
        _ANNOUNCED: 2,
        _USED: layout.slots + 1,
    }
    sound = np.ones(layout.num_envs, bool)
    for column, bound in bounds.items():
        sound &= (cursors[column] >= 0) & (cursors[column] < bound)
    has_rows = cursors[_PENDING] + cursors[_WINDOW] > 0
    sound &= np.where(cursors[_ANNOUNCED] == 0, cursors[_PENDING] == 0, has_rows)
    if not sound.all():
        raise ValueError(f"'cursors' must be of this buffer, got {cursors[:, ~sound][:, 0]}")
    ready, counted = np.count_nonzero(ready_rows(state, layout)), state["counters"][_READY]
    if ready != counted or (state["counters"] < 0).any():
        raise ValueError(f"'counters' must count {ready} rows, got {state['counters']}")


def _check_side_entries(state: Mapping[str, Array], layout: ReplayLayout) -> None:
    unused, owners = state["side_entries"]
    unused = np.sort(unused[: state["counters"][_SIDE_FREE]])
    sound = (
        len(unused) == state["counters"][_SIDE_FREE]
        and np.array_equal(unused, np.flatnonzero(owners == -1))
        and owners.max(initial=0) < layout.num_slots
    )
    if not sound:
        raise ValueError("'side_entries' must list the side frames that are free, got others")
