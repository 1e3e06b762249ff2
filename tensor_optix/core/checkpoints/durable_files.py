"""Files that are on the disk when the call returns: paths and JSON go in, hashes come out.

`OSError` passes through everywhere: the caller decides what a refused write means.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

# Windows flushes only what is open for writing, and cannot open directories.
_POSIX = os.name == "posix"
_MAY_FLUSH = "rb" if _POSIX else "rb+"


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file and flush it to the disk. NaN and infinities raise ValueError."""
    with path.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=1, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())


def seal(path: Path) -> dict[str, Any]:
    """Flush a file to the disk; return its `size` in bytes and its `sha256` in hex."""
    with path.open(_MAY_FLUSH) as file:
        os.fsync(file.fileno())
    return {"size": path.stat().st_size, "sha256": _sha256(path)}


def matches(path: Path, mark: dict[str, Any]) -> bool:
    """Whether a file has the size and SHA-256 that `seal` returned."""
    return bool(path.stat().st_size == mark["size"] and _sha256(path) == mark["sha256"])


def sync_directory(path: Path) -> None:
    """Flush the names in a directory to the disk, where the system can."""
    if not _POSIX:
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
