"""Environments in processes of their own: functions that make them come in, a vector or an error goes out."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import pickle
import shutil
import signal
import sys
import time
import traceback
import weakref
from contextlib import contextmanager, suppress
from multiprocessing import connection
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from gymnasium.vector import AsyncVectorEnv
from gymnasium.vector.utils import CloudpickleWrapper

from tensor_optix.core.plain_warnings import SharedWarnings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from tensor_optix.pipeline.checked_env import CheckedEnv

GUARD = 'keep what starts a run under: if __name__ == "__main__":'
LOST = (EOFError, ConnectionError)
"""What is raised here when a worker is gone."""
MOST_SECONDS_TO_CLOSE = 3.0
"""Which environments may take to close, before their processes are told to end."""
MOST_SECONDS_TO_END = 1.0
"""Which a process may take, before it is killed."""
MOST_SECONDS_TO_TELL = 1.0
"""Which an exception may take from a process that has said that there is one."""


class Timeouts(NamedTuple):
    """How many seconds environments in processes of their own may take; None: as long as they like.

    A step has no limit unless one is given: robots and simulators take minutes, and only their owner knows.
    """

    step: float | None = None
    reset: float | None = 60.0
    """Also for a reset that follows by itself on an episode's end."""

    def checked(self) -> Timeouts:
        """Return them, if they are numbers above 0."""
        for name, limit in zip(("step_timeout", "reset_timeout"), self, strict=True):
            if limit is not None and not limit > 0:
                raise ValueError(
                    f"{name} must be above 0 seconds, or None for no limit, got {limit}"
                )
        return self


class WorkerVectorEnv(AsyncVectorEnv):
    """A vector whose environments each run in a process; who is lost, silent or fails in there is named.

    Any of these ends all of the processes, within seconds.

    Args:
        makers: Each makes an environment. The first is also called here, once, for the spaces.
        timeouts: How long they may take.

    Raises:
        TypeError: If a function cannot be sent to another process.
        RuntimeError: If a worker ends before it has made its environment; its own error is the cause.
    """

    def __init__(
        self, makers: Sequence[Callable[[], CheckedEnv]], timeouts: Timeouts | None = None
    ) -> None:
        self.processes: list[Any] = []
        self.timeouts = timeouts or Timeouts()
        self._lost = ""
        self._is_over = np.zeros(len(makers), bool)
        self._steps = np.zeros(len(makers), np.int64)
        if multiprocessing.get_start_method() != "fork":
            _require_sendable(makers)
        self._board = Path(mkdtemp(prefix="tensor-optix-"))
        self._clear = weakref.finalize(self, shutil.rmtree, self._board, ignore_errors=True)
        functions = [_InWorker(make, n, self._board) for n, make in enumerate(makers)]
        try:
            super().__init__(functions, copy=False)
        except LOST:
            failure = _failure(self._board, self.processes)
            self.close()
            raise failure from failure.__cause__
        except RuntimeError as error:
            if "bootstrapping" in str(error):
                # This process is a worker itself, which runs the script as it was not told to. An exception
                # could be caught, and the script go on in here.
                sys.exit(f"a process that was to step environments runs the script anew: {GUARD}")
            raise

    def reset_async(self, *args: Any, **kwargs: Any) -> None:
        """Ask all for an episode; RuntimeError names a process that is gone."""
        with self._named_if_lost("before a reset"):
            super().reset_async(*args, **kwargs)

    def reset_wait(self, timeout: float | None = None) -> Any:
        """Wait for the first observations.

        Raises:
            RuntimeError: If a process is gone, or takes longer than it may. What an environment raises, too.
        """
        with self._named_if_lost("in the middle of a reset"):
            self._require_answers("reset", [self.timeouts.reset] * self.num_envs)
            result = super().reset_wait(timeout)
        self._is_over[:] = False
        return result

    def step_async(self, actions: Any) -> None:
        """Hand out the actions; RuntimeError names a process that is gone."""
        with self._named_if_lost("before a step"):
            super().step_async(actions)

    def step_wait(self, timeout: float | None = None) -> Any:
        """Wait for the workers.

        Raises:
            RuntimeError: If a process is gone, or takes longer than it may. What an environment raises, too.
        """
        with self._named_if_lost("in the middle of a step"):
            if self.timeouts.step is not None or np.count_nonzero(self._is_over):
                step, reset = self.timeouts
                limits = [reset if is_over else step for is_over in self._is_over.tolist()]
                self._require_answers("step", limits)
            result = super().step_wait(timeout)
        self._steps += ~self._is_over
        self._is_over = result[2] | result[3]
        return result

    def call_async(self, name: str, /, *args: Any, **kwargs: Any) -> None:
        """Ask all for something else; RuntimeError names a process that is gone."""
        with self._named_if_lost("between two steps"):
            super().call_async(name, *args, **kwargs)

    def call_wait(self, timeout: float | None = None) -> Any:
        """Wait for the answers; RuntimeError names a process that is gone."""
        with self._named_if_lost("between two steps"):
            return super().call_wait(timeout)

    def set_attr(self, name: str, values: Any) -> None:
        """Set an attribute of each; RuntimeError names a process that is gone."""
        with self._named_if_lost("between two steps"):
            super().set_attr(name, values)

    def close_extras(self, timeout: float | None = None, terminate: bool = False) -> None:
        """End the processes, whatever they do: they are asked, then told, then killed."""
        if not terminate:
            self._ask_to_close()
            _join(self.processes, MOST_SECONDS_TO_CLOSE)
        for end in ("terminate", "kill"):
            left = [process for process in self.processes if process.is_alive()]
            for process in left:
                getattr(process, end)()
            _join(left, MOST_SECONDS_TO_END)
        for pipe in getattr(self, "parent_pipes", ()):
            pipe.close()
        self._clear()

    def _ask_to_close(self) -> None:
        """Ask for the end, and read what is still said, so that nobody waits to be heard."""
        open_pipes = list(getattr(self, "parent_pipes", ()))
        for pipe in open_pipes:
            with suppress(OSError):
                pipe.send(("close", None))
        end = time.monotonic() + MOST_SECONDS_TO_CLOSE
        while open_pipes and (left := end - time.monotonic()) > 0:
            for pipe in connection.wait(open_pipes, left):
                try:
                    pipe.recv_bytes()  # type: ignore[union-attr]
                except (EOFError, OSError):
                    open_pipes.remove(pipe)

    @contextmanager
    def _named_if_lost(self, when: str) -> Iterator[None]:
        """Name the processes that are gone, where that is found out."""
        try:
            yield
        except _Failed as failed:
            raise failed.error from failed.cause
        except LOST as error:
            gone = self._gone()
            self.close()
            self._lost = (
                f"the worker process of environment {gone}, ended {when}: something in it ended it without "
                "an exception, or the machine ran out of memory"
            )
            raise RuntimeError(self._lost) from error

    def _require_answers(self, call: str, limits: Sequence[float | None]) -> None:
        """Wait for each environment as long as it may take.

        Raises:
            RuntimeError: If one takes longer.
        """
        begun = time.monotonic()
        for n, limit in enumerate(limits):
            if limit is None or self.parent_pipes[n].poll(
                max(0.0, begun + limit - time.monotonic())
            ):
                continue
            process, made = self.processes[n], int(self._steps[n])
            what = "reset" if call == "step" and self._is_over[n] else call
            process.kill()
            self.close()
            self._lost = (
                f"environment {n} has not come back from its {what} within {limit:g} seconds, after {made} "
                f"steps (pid {process.pid}, now ended): look for what it waits for, or give it longer by "
                f"{what}_timeout"
            )
            raise RuntimeError(self._lost)

    def _assert_is_running(self) -> None:
        if self._lost:
            raise RuntimeError(self._lost)
        super()._assert_is_running()

    def _raise_if_errors(self, successes: Iterable[bool]) -> None:
        failed = [n for n, is_good in enumerate(successes) if not is_good]
        if not failed:
            return
        errors, number = self._told_errors(len(failed)), failed[0]
        report = _reports(self._board).get(number, {"error": "an error", "traceback": ""})
        self.close()
        untold = RuntimeError(
            f"environment {number} failed in its worker process, by an exception that cannot be sent from "
            f"there: {report['error']}"
        )
        raise _Failed(errors.get(number, untold), WorkerError(report["traceback"]))

    def _told_errors(self, count: int) -> dict[int, BaseException]:
        """Return what environments raised, as far as it can travel."""
        errors: dict[int, BaseException] = {}
        for _ in range(count):
            # Of any kind where it is unpacked: that is the code of whoever wrote the exception.
            with suppress(Exception):
                number, _, error, _ = self.error_queue.get(timeout=MOST_SECONDS_TO_TELL)
                errors[number] = error
        return errors

    def _gone(self) -> str:
        """Return the numbers of the processes that ended, how, and after how many steps."""
        _join(self.processes, 0.1 * len(self.processes), is_enough=any)
        gone = {n: each for n, each in enumerate(self.processes) if each.exitcode is not None}
        ends = ", ".join(f"{n} ({_how(each.exitcode)})" for n, each in gone.items())
        pids = ", ".join(str(each.pid) for each in gone.values())
        steps = ", ".join(str(self._steps[n]) for n in gone)
        return f"{ends}, pid {pids}, after {steps} steps"


class _Failed(Exception):
    """Carries what an environment raised past those who look for processes that are gone."""

    def __init__(self, error: BaseException, cause: WorkerError) -> None:
        super().__init__()
        self.error, self.cause = error, cause


def _join(
    processes: Sequence[Any], seconds: float, is_enough: Callable[[list[bool]], bool] = all
) -> None:
    """Wait until all processes have ended, or some, for so many seconds at most."""
    end = time.monotonic() + seconds
    while not is_enough([not process.is_alive() for process in processes]):
        left = end - time.monotonic()
        if left <= 0:
            return
        connection.wait([process.sentinel for process in processes if process.is_alive()], left)


def _how(exit_code: int) -> str:
    """Return how a process ended: by an exit, or by a signal."""
    if exit_code >= 0:
        return f"exit code {exit_code}"
    try:
        return f"signal {-exit_code}, {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"signal {-exit_code}"


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
        # Ctrl-C is the main process's to heed; a handler of its for the other need not end a process.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            env = self._make()
        except Exception as error:
            self._report(error)
            sys.exit(1)
        env.on_error = self._report
        return env

    def _report(self, error: Exception) -> None:
        report = {
            "number": self._number,
            "error": f"{type(error).__name__}: {error}",
            "traceback": traceback.format_exc(),
        }
        (self._board / f"{self._number:06}.json").write_text(json.dumps(report))


def _reports(board: Path) -> dict[int, dict[str, Any]]:
    """Return what workers wrote of their errors, by their numbers."""
    reports = [json.loads(path.read_text()) for path in sorted(board.glob("*.json"))]
    return {report["number"]: report for report in reports}


def _failure(board: Path, processes: Sequence[Any]) -> RuntimeError:
    """Return what is to be raised for a worker that made no environment."""
    # It writes first, then it ends.
    _join(processes, MOST_SECONDS_TO_END, is_enough=any)
    reports = list(_reports(board).values())
    method = multiprocessing.get_start_method()
    if not reports:
        return RuntimeError(
            f'a worker process (start method "{method}") ended before it had made its environment, and its '
            f"own message is above: {GUARD}, and let it import what it needs"
        )
    report = reports[0]
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
