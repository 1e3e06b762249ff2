"""Environments in processes of their own: functions that make them come in, a vector or an error goes out."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import pickle
import shutil
import sys
import traceback
import weakref
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from gymnasium.vector import AsyncVectorEnv
from gymnasium.vector.utils import CloudpickleWrapper

from tensor_optix.core.plain_warnings import SharedWarnings, plain_warnings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tensor_optix.pipeline.checked_env import CheckedEnv

GUARD = 'keep what starts a run under: if __name__ == "__main__":'
LOST = (EOFError, ConnectionError)
"""What is raised here when a worker is gone."""


class WorkerVectorEnv(AsyncVectorEnv):
    """A vector whose environments each run in a process; who is lost in there is named.

    Args:
        makers: Each makes an environment. The first is also called here, once, for the spaces.

    Raises:
        TypeError: If a function cannot be sent to another process.
        RuntimeError: If a worker ends before it has made its environment; its own error is the cause.
    """

    def __init__(self, makers: Sequence[Callable[[], CheckedEnv]]) -> None:
        self.processes: list[Any] = []
        if multiprocessing.get_start_method() != "fork":
            _require_sendable(makers)
        self._board = Path(mkdtemp(prefix="tensor-optix-"))
        self._clear = weakref.finalize(self, shutil.rmtree, self._board, ignore_errors=True)
        functions = [_InWorker(make, n, self._board) for n, make in enumerate(makers)]
        try:
            super().__init__(functions, copy=False)
        except LOST:
            self._end()
            failure = _failure(self._board)
            raise failure from failure.__cause__
        except RuntimeError as error:
            if "bootstrapping" in str(error):
                # This process is a worker itself, which runs the script as it was not told to. An exception
                # could be caught, and the script go on in here.
                sys.exit(f"a process that was to step environments runs the script anew: {GUARD}")
            raise

    def step_wait(self, timeout: float | None = None) -> Any:
        """Wait for the workers.

        Raises:
            RuntimeError: If one of them is gone.
        """
        try:
            return super().step_wait(timeout)
        except LOST as error:
            gone = self._gone()
            self._end()
            raise RuntimeError(
                f"the worker process of environment {gone} ended in the middle of a step: something in it "
                "ended it without an exception, or the machine ran out of memory"
            ) from error

    def close_extras(self, timeout: float | None = None, terminate: bool = False) -> None:
        """End the processes."""
        super().close_extras(timeout, terminate)
        self._clear()

    def _raise_if_errors(self, successes: Iterable[bool]) -> None:
        successes = tuple(successes)
        if all(successes):
            return
        with plain_warnings():
            super()._raise_if_errors(successes)

    def _gone(self) -> str:
        """Return the numbers of the processes that ended, and how."""
        for process in self.processes:
            process.join(0.1)
        codes = {n: process.exitcode for n, process in enumerate(self.processes)}
        return ", ".join(f"{n} (exit code {code})" for n, code in codes.items() if code is not None)

    def _end(self) -> None:
        """End all processes, whatever they do."""
        self.closed = True
        for process in self.processes:
            process.terminate()
            process.join()


class WorkerError(Exception):
    """The traceback of an error in a worker process."""

    def __str__(self) -> str:
        return f"\n\n{self.args[0]}"


class _InWorker:
    """Makes an environment; in another process it reports failures, and says no warning that was said."""

    def __init__(self, make: Callable[[], CheckedEnv], number: int, board: Path) -> None:
        self._make, self._number, self._board = make, number, board
        self._home = os.getpid()
        self._warnings = SharedWarnings(str(board))

    def __call__(self) -> CheckedEnv:
        if os.getpid() == self._home:
            return self._make()
        # What was garbage in the process that was forked is that one's to collect: objects with threads of
        # their own, such as EnvPool's, crash where these do not run.
        gc.freeze()
        self._warnings.watch()
        try:
            return self._make()
        except Exception as error:
            self._report(error)
            sys.exit(1)

    def _report(self, error: Exception) -> None:
        report = {
            "number": self._number,
            "error": f"{type(error).__name__}: {error}",
            "traceback": traceback.format_exc(),
        }
        (self._board / f"{self._number:06}.json").write_text(json.dumps(report))


def _failure(board: Path) -> RuntimeError:
    """Return what is to be raised for a worker that made no environment."""
    reports = sorted(board.glob("*.json"))
    method = multiprocessing.get_start_method()
    if not reports:
        return RuntimeError(
            f'a worker process (start method "{method}") ended before it had made its environment, and its '
            f"own message is above: {GUARD}, and let it import what it needs"
        )
    report = json.loads(reports[0].read_text())
    line = (
        f"environment {report['number']} could not be made in its worker process: {report['error']}"
    )
    if method != "fork":
        line += (
            f'; a worker (start method "{method}") begins empty: register ids and set globals in the '
            "function that makes the environment, or in a module that it imports"
        )
    failure = RuntimeError(line)
    failure.__cause__ = WorkerError(report["traceback"])
    return failure


def _require_sendable(makers: Sequence[Callable[[], CheckedEnv]]) -> None:
    for number, make in enumerate(makers):
        try:
            pickle.dumps(CloudpickleWrapper(make))
        except Exception as error:
            raise TypeError(
                f"env_fns[{number}] cannot be sent to a worker process ({type(error).__name__}: {error}): "
                "let it make what it needs itself, instead of taking it from outside"
            ) from error
