"""Unfinished work on the disk: a directory goes in, a name in it that only this process uses comes out.

The name says whose it is, so that what a dead process left can be told from what a live one is writing.
"""

from __future__ import annotations

import logging
import os
import platform
import re
import shutil
import uuid
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger(__name__)

_NAME = re.compile(r"\.staging_([0-9a-f]{8})_([0-9]+)_([0-9a-f]{8})_[0-9a-f]{8}")
_HOST = f"{zlib.crc32(platform.node().encode()):08x}"
# Tells this process from an earlier one that had the same process id.
_PROCESS = uuid.uuid4().hex[:8]


def private_path(directory: Path) -> Path:
    """Return an unused path `.staging_HOST_PID_PROCESS_NUMBER` in a directory; nothing is made."""
    owner = f"{_HOST}_{os.getpid()}_{_PROCESS}"
    return directory / f".staging_{owner}_{uuid.uuid4().hex[:8]}"


def remove_leftovers(directory: Path) -> None:
    """Delete what dead processes of this host left unfinished. Nothing else is touched.

    What cannot be deleted is only logged. The directory need not exist.
    """
    if not directory.is_dir():
        return
    for path in directory.iterdir():
        match = _NAME.fullmatch(path.name)
        if match is None or _may_be_alive(match[1], int(match[2]), match[3]):
            continue
        logger.info("removing %s, left by a process that has ended", path)
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except OSError:
            logger.warning("could not remove %s", path, exc_info=True)


def remove_at_once(path: Path) -> None:
    """Delete a directory so that nobody ever sees a part of it.

    Raises:
        FileNotFoundError: If it is gone already.
        OSError: If it cannot be deleted.
    """
    hidden = private_path(path.parent)
    os.rename(path, hidden)
    shutil.rmtree(hidden)


def _may_be_alive(host: str, pid: int, process: str) -> bool:
    if host != _HOST or os.name != "posix":
        return True
    if pid == os.getpid():
        return process == _PROCESS
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
