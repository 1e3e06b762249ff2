"""Files that are on the disk when the call returns: paths and JSON go in, hashes come out.

`OSError` passes through everywhere: the caller decides what a refused write means.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensor_optix.core.checkpoints.staging import private_path
from tensor_optix.core.json_values import require_shallow

if TYPE_CHECKING:
    from collections.abc import Iterator

# Windows flushes only what is open for writing, and cannot open directories.
_POSIX = os.name == "posix"
_MAY_FLUSH = "rb" if _POSIX else "rb+"


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file and flush it to the disk.

    Raises:
        ValueError: On NaN, infinities, and what is nested too deeply to be read.
        OSError: If the disk refuses.
    """
    require_shallow(content)
    with path.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=1, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())


def replace_json(path: Path, content: Any) -> None:
    """Write a JSON file in one step: a process that dies at any moment leaves the old one or the new one.

    The content is on the disk then; the name is, once the directory is flushed.
    """
    draft = private_path(path.parent)
    try:
        write_json(draft, content)
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def create_json(path: Path, content: Any) -> None:
    """Write a JSON file that must not be there yet, in one step, as `replace_json` does.

    Raises:
        FileExistsError: If it is there, also where another process was faster.
    """
    draft = private_path(path.parent)
    try:
        write_json(draft, content)
        try:
            os.link(draft, path)
        except FileExistsError:
            raise
        except OSError:  # where there are no hard links, a kill right here leaves an empty file
            path.open("x").close()
            os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def regular_file(directory: Path, name: str) -> Path:
    """Return the path of a file that something read from the disk names; nothing is opened.

    Args:
        directory: Where the file must be, in it or in a folder of it.
        name: Relative, with `/` between its parts.

    Raises:
        ValueError: If the name leads elsewhere or over a link, or to anything but a regular file.
        OSError: If there is no such file.
    """
    path = directory / name
    wanted = f"{name!r} must name a regular file in {directory}"
    if not path.is_relative_to(directory):
        raise ValueError(f"{wanted}, got a path that leads elsewhere")
    inner = path.relative_to(directory)
    if inner.as_posix() != name or ".." in inner.parts:
        raise ValueError(f"{wanted}, got a path that leads elsewhere")
    for folder in [directory / one for one in inner.parents if one.parts]:
        if not stat.S_ISDIR(folder.lstat().st_mode):
            raise ValueError(f"{wanted}, got a link or a file on the way: {folder}")
    if not stat.S_ISREG(path.lstat().st_mode):
        raise ValueError(f"{wanted}, got a link, a folder or a device")
    return path


def files_below(directory: Path) -> Iterator[str]:
    """Yield the names, with `/` between their parts, of all that is in a directory but its directories."""
    for place, folders, files in os.walk(directory, onerror=_raise):
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        for name in [*files, *links]:
            yield (Path(place) / name).relative_to(directory).as_posix()


def seal_below(directory: Path) -> dict[str, dict[str, Any]]:
    """Flush all files below a directory to the disk; return the mark of each, as `seal` has it, by name.

    Raises:
        ValueError: If something else is there: a link, a device.
    """
    return {name: seal(regular_file(directory, name)) for name in sorted(files_below(directory))}


def seal(path: Path) -> dict[str, Any]:
    """Flush a file to the disk; return its `size` in bytes and its `sha256` in hex."""
    with path.open(_MAY_FLUSH) as file:
        os.fsync(file.fileno())
    return {"size": path.stat().st_size, "sha256": _sha256(path)}


def unaltered_file(directory: Path, name: str, mark: dict[str, Any]) -> Path:
    """Return the path of a file that is what it was when `seal` returned a mark.

    Raises:
        ValueError: If its size or SHA-256 differ, or the name leads elsewhere, as `regular_file` has it.
        OSError: If there is no such file.
    """
    path = regular_file(directory, name)
    if path.stat().st_size != mark["size"] or _sha256(path) != mark["sha256"]:
        raise ValueError(f"{name} is not what was saved (size or SHA-256 differ)")
    return path


def digest(content: Any) -> str:
    """Return the SHA-256, in hex, of what a JSON file says, however it is written there."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def sync_tree(directory: Path) -> None:
    """Flush the names in a directory and in all those below it, the inner ones first."""
    for place, _, _ in os.walk(directory, topdown=False):
        sync_directory(Path(place))


def sync_directory(path: Path) -> None:
    """Flush the names in a directory to the disk, where the system can."""
    if not _POSIX:
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _raise(error: OSError) -> None:
    raise error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
