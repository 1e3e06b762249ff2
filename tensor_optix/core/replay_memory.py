"""Where the rows of a replay lie: a size comes in, memory or a mapped file goes out.

What does not fit is refused before anything is allocated, not when the system runs out of it.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tensor_optix.core.types import Array

_MEMINFO = Path("/proc/meminfo")


def zeros(rows: int, row_bytes: int, path: str | os.PathLike[str] | None) -> Array:
    """Return zeros `[rows, row_bytes]` uint8, in memory or in a new file.

    Args:
        rows: How many.
        row_bytes: The bytes of each.
        path: Of the file; None for memory.

    Raises:
        FileExistsError: The file is there already.
        MemoryError: The machine has not that much memory available.
        OSError: The disk has not that much space left, or the file cannot be written.
    """
    if path is not None:
        return _mapped(Path(path), rows, row_bytes)
    available = available_memory()
    if available is not None and rows * row_bytes > available:
        raise MemoryError(
            f"the replay needs {size_text(rows * row_bytes)} of memory, {size_text(available)} are "
            "available: choose a smaller capacity, or keep it in a file with memory_map=PATH"
        )
    return np.zeros((rows, row_bytes), np.uint8)


def available_memory() -> int | None:
    """Return the bytes that can be allocated without swapping, or None where nobody knows."""
    if _MEMINFO.exists():
        for line in _MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def size_text(size: int) -> str:
    """Return a number of bytes as people write it, such as `7.1 GB`."""
    for unit, bytes_of_one in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= bytes_of_one:
            return f"{size / bytes_of_one:.1f} {unit}"
    return f"{size} B"


def _mapped(path: Path, rows: int, row_bytes: int) -> Array:
    size = rows * row_bytes
    try:
        file = path.open("xb")
    except FileExistsError:
        raise FileExistsError(f"memory_map must be a new file, but {path} exists") from None
    try:
        with file:
            _reserve(file, size)
    except OSError as error:
        path.unlink()
        raise OSError(
            f"the replay needs {size_text(size)} on the disk of {path}: {error}; choose a smaller "
            "capacity or another disk"
        ) from error
    return np.asarray(np.memmap(path, np.uint8, "r+", shape=(rows, row_bytes)))


def _reserve(file: IO[bytes], size: int) -> None:
    """Give a file its size, and room on the disk where the system can reserve it.

    A file with holes would end the process when others have filled the disk.
    """
    left = shutil.disk_usage(Path(file.name).parent).free
    if size > left:
        raise OSError(f"{size_text(left)} are left")
    if sys.platform == "linux":
        os.posix_fallocate(file.fileno(), 0, size)
    else:
        file.truncate(size)
