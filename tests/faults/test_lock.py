"""Of two runs in one directory the second is refused, and a dead one keeps nobody out. With real processes.

This file is also the process that holds the lock; it imports little, so as to start quickly.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tensor_optix.runs import run_lock
from tensor_optix.runs.run_directory import RunDirectoryError
from tensor_optix.runs.run_lock import LOCK_FILE, RunLock

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kills and forks processes")


def hold(directory: Path, forks: bool) -> None:
    """Hold the lock until standard input ends; with a forked child that lives on after this process."""
    RunLock(directory).acquire()
    child = os.fork() if forks else -1
    if child == 0:
        sys.stdin.read()
        os._exit(0)
    print(child, flush=True)
    signal.pause()


@contextmanager
def holder(directory: Path, forks: bool = False) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Another process that holds the lock, and the process that it forked."""
    command = [sys.executable, __file__, str(directory), str(int(forks))]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


def test_a_second_process_is_refused_and_told_who_holds_the_lock(tmp_path: Path) -> None:
    with holder(tmp_path / "run") as (process, _):
        with pytest.raises(
            RunDirectoryError, match=rf"process {process.pid} on .*, since 20.*wait"
        ):
            RunLock(tmp_path / "run").acquire()
        # The refused one has opened and closed the file; the lock of the other is not its to lose.
        with pytest.raises(RunDirectoryError, match=rf"process {process.pid}"):
            RunLock(tmp_path / "run").acquire()


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    with holder(tmp_path) as (process, _):
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == process.pid
        with RunLock(tmp_path):
            assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == os.getpid()


def test_a_forked_child_that_lives_on_does_not_hold_it(tmp_path: Path) -> None:
    with holder(tmp_path, forks=True) as (process, child):
        process.send_signal(signal.SIGKILL)
        process.wait()
        os.kill(child, 0)
        with RunLock(tmp_path):
            os.kill(child, 0)


def test_a_forked_child_can_neither_take_nor_release_the_lock(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys\n"
        "from tensor_optix.runs.run_lock import RunLock\n"
        "directory = pathlib.Path(sys.argv[1])\n"
        "lock = RunLock(directory)\n"
        "lock.acquire()\n"
        "if os.fork() == 0:\n"
        "    lock.release()\n"
        "    try: RunLock(directory).acquire()\n"
        "    except ValueError: os._exit(7)\n"
        "    os._exit(0)\n"
        "print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "7\n"
        with pytest.raises(RunDirectoryError, match=rf"process {process.pid}"):
            RunLock(tmp_path).acquire()
        process.communicate()
    with RunLock(tmp_path):
        pass


def test_a_second_run_of_the_process_is_refused_and_the_first_keeps_the_lock(
    tmp_path: Path,
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "run")
    with RunLock(tmp_path / "run"):
        for name in ("run", "link"):
            with pytest.raises(RunDirectoryError, match="another run of this process is at it"):
                RunLock(tmp_path / name).acquire()
        assert is_held_for_others(tmp_path / "run")
        with RunLock(tmp_path / "another"):
            pass
    with RunLock(tmp_path / "link"):
        assert is_held_for_others(tmp_path / "run")


def test_releasing_twice_or_what_was_refused_does_nothing(tmp_path: Path) -> None:
    lock, other = RunLock(tmp_path), RunLock(tmp_path)
    lock.release()
    lock.acquire()
    with pytest.raises(RunDirectoryError):
        other.acquire()
    other.release()
    assert is_held_for_others(tmp_path)
    lock.release()
    lock.release()
    other.acquire()
    other.release()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[" * 4000, b"[]", b'{"pid": "x"}', b"\xff" * 9000]
)
def test_what_the_file_says_matters_for_the_message_only(tmp_path: Path, content: bytes) -> None:
    (tmp_path / LOCK_FILE).write_bytes(content)
    with RunLock(tmp_path):
        pass
    with holder(tmp_path):
        (tmp_path / LOCK_FILE).write_bytes(content)
        with pytest.raises(RunDirectoryError, match="another process is at it"):
            RunLock(tmp_path).acquire()


def test_what_is_no_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("keep")
    for name in ("link", "pipe", "folder"):
        (tmp_path / name).mkdir()
    (tmp_path / "link" / LOCK_FILE).symlink_to(outside)
    os.mkfifo(tmp_path / "pipe" / LOCK_FILE)
    (tmp_path / "folder" / LOCK_FILE).mkdir()
    for name in ("link", "pipe", "folder"):
        with pytest.raises(RunDirectoryError, match="cannot keep a run in"):
            RunLock(tmp_path / name).acquire()
    assert outside.read_text() == "keep"


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(RunDirectoryError, match="Permission denied"):
            RunLock(tmp_path).acquire()
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_read_only_file_system_is_refused(
    tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "open", failing_with(code))
    with pytest.raises(RunDirectoryError, match=os.strerror(code)):
        RunLock(tmp_path).acquire()


def test_where_there_are_no_locks_a_run_goes_on_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(run_lock.fcntl, "lockf", failing_with(errno.ENOLCK))
    with caplog.at_level(logging.WARNING), RunLock(tmp_path):
        assert "no other run can be kept out of" in caplog.text


def failing_with(code: int) -> object:
    def fail(*_args: object, **_kwargs: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


def is_held_for_others(directory: Path) -> bool:
    """Whether another process is refused."""
    code = (
        "import fcntl, os, sys\n"
        "file = os.open(sys.argv[1], os.O_RDWR)\n"
        "try: fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "except OSError: sys.exit(3)\n"
    )
    command = [sys.executable, "-c", code, str(directory / LOCK_FILE)]
    return subprocess.run(command, check=False).returncode == 3


if __name__ == "__main__":
    hold(Path(sys.argv[1]), bool(int(sys.argv[2])))
