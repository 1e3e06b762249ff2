"""One run at a time in a directory: a run's directory goes in; its lock, or who holds it, comes out.

The lock is on the file `lock`, and it is the system's: it ends with the process, however that ends. Forked
workers do not hold it. The file stays. Whatever opens it and closes it again in the process that holds the
lock gives the lock away, which is how POSIX has it, so nothing here or elsewhere may.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import stat
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from tensor_optix.core.checkpoints.saved_state import CheckpointError, reading
from tensor_optix.runs.run_directory import RunDirectoryError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger(__name__)

LOCK_FILE = "lock"
_MOST_BYTES = 4096
# Where Windows locks nobody may read, so that is behind what the file says.
_LOCKED_BYTE = 2**30
# A link is not followed, and a pipe not waited for.
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)

_HELD: dict[tuple[int, int], int] = {}
"""Processes by the device and inode of what they hold: to the system, a second lock of one is the first.

A forked process has the table of the one before it, but not its locks."""
_CHANGES = threading.Lock()


class RunLock:
    """Keeps other runs out of a directory, from `acquire` to `release`, or as a context.

    Args:
        directory: Of the run; made if it is missing.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory.expanduser() / LOCK_FILE
        self._descriptor: int | None = None
        self._owner = 0
        self._key = (0, 0)

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the lock.

        Where the file system has no locks, a warning says so, and there is none.

        Raises:
            RunDirectoryError: If another run holds it: who, and since when. Or if the file cannot be written.
        """
        with _CHANGES:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._refuse_own()
                descriptor = os.open(self.path, _FLAGS, 0o644)
            except OSError as error:
                raise self._refusal(error.strerror or str(error)) from error
            try:
                self._lock(descriptor)
            except BaseException:
                os.close(descriptor)
                raise
            self._descriptor, self._owner = descriptor, os.getpid()
            _HELD[self._key] = self._owner

    def release(self) -> None:
        """Give the lock back. Does nothing where it is not held, as in a forked process."""
        with _CHANGES:
            if self._descriptor is None or self._owner != os.getpid():
                return
            _HELD.pop(self._key, None)
            with suppress(OSError):
                os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def _refuse_own(self) -> None:
        """Refuse a second run of this process, before the file is opened."""
        with suppress(FileNotFoundError):
            found = self.path.stat()
            if _HELD.get((found.st_dev, found.st_ino)) == os.getpid():
                raise self._refusal("another run of this process is at it")

    def _lock(self, descriptor: int) -> None:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise self._refusal(f"{self.path} is no regular file")
        self._key = (found.st_dev, found.st_ino)
        try:
            _lock_exclusively(descriptor)
        except (BlockingIOError, PermissionError) as error:
            raise self._refusal(f"{_holder(descriptor)} is at it") from error
        except OSError as error:
            logger.warning("no other run can be kept out of %s: %s", self.path.parent, error)
        with suppress(OSError):  # a full disk must not keep a run from going on
            _write_holder(descriptor)

    def _refusal(self, reason: str) -> RunDirectoryError:
        return RunDirectoryError(
            f"cannot keep a run in {self.path.parent}: {reason}; wait until it ends, or stop it, or choose "
            "another --run-dir"
        )


def _lock_exclusively(descriptor: int) -> None:
    """Lock a file for this process, at once or with an OSError."""
    if sys.platform == "win32":
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        # Not flock, which forked processes would hold on to.
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _write_holder(descriptor: int) -> None:
    """Say in the file who holds it; nothing but messages depends on that."""
    content = {
        "pid": os.getpid(),
        "host": platform.node(),
        "started": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, json.dumps(content).encode())


def _holder(descriptor: int) -> str:
    """Return who says in the file to hold it, in words."""
    try:
        with reading(LOCK_FILE):
            os.lseek(descriptor, 0, os.SEEK_SET)
            content: dict[str, Any] = json.loads(os.read(descriptor, _MOST_BYTES))
            pid, host = int(content["pid"]), str(content["host"])[:100]
            return f"process {pid} on {host}, since {str(content['started'])[:40]},"
    except CheckpointError:
        return "another process"
