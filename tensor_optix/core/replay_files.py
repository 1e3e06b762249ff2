"""A replay's state on disk: arrays go to a directory, one `.npy` file each, and come back.

No pickle. Files are mapped when they are read: the ring is in memory once, and a file that claims
to be longer than it is costs none.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

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
