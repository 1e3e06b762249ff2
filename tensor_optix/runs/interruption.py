"""Ctrl-C and SIGTERM: the first lets the window under way end, the second ends at once."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_DEFAULTS = (signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler)
GRACE_SECONDS = 5.0
"""After a second signal the process may take so long to end by itself: Python hears of it only when what was
called (a step of an environment, say) returns."""


class Interruption:
    """Listens for the signals while it is entered as a context; leaves those that somebody else handles."""

    def __init__(self) -> None:
        self.stop: Callable[[str], None] | None = None
        """Asks the work to end soon, and tells why, on the first signal; within a signal handler, so
        it should only set flags. While it is None, and on a second signal, KeyboardInterrupt is
        raised."""
        self.acknowledge: Callable[[str], None] | None = None
        """Is told at once what becomes of a first signal: the window under way may last."""
        self._owner = os.getpid()
        self._before: dict[signal.Signals, Any] = {}
        self._insistence: _Insistence | None = None
        self.signal: signal.Signals | None = None
        """The first signal that came."""

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as shells have it; 0 where none came."""
        return 0 if self.signal is None else 128 + self.signal

    @property
    def name(self) -> str:
        """What people call the first signal; empty where none came."""
        if self.signal is None:
            return ""
        return "Ctrl-C" if self.signal is signal.SIGINT else self.signal.name

    def __enter__(self) -> Self:
        # Python lets only the main thread set handlers.
        if threading.current_thread() is threading.main_thread():
            free = [number for number in _SIGNALS if signal.getsignal(number) in _DEFAULTS]
            self._before = {number: signal.signal(number, self._handle) for number in free}
            self._insistence = _Insistence() if free else None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._insistence is not None:
            self._insistence.end()

    def end_process(self) -> None:
        """Raise what ends a program as the signal would have, if one came."""
        if self.signal is signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal is not None:
            raise SystemExit(self.exit_code)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:
            self._handle_in_worker(number)
            return
        is_first, self.signal = self.signal is None, self.signal or signal.Signals(number)
        if self.stop is None or not is_first:
            raise KeyboardInterrupt
        self.stop(f"{self.signal.name} was received")
        if self.acknowledge is not None:
            # Python refuses to write while it is writing; the end of the run tells it then.
            with suppress(RuntimeError):
                self.acknowledge(
                    f"{self.name}: the window under way is ended, then the best is kept; "
                    "once more ends at once"
                )

    def _handle_in_worker(self, number: int) -> None:
        """A forked environment process: a terminal sends it Ctrl-C too, but the window goes on."""
        if number == signal.SIGTERM:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)


class _Insistence:
    """A thread that hears of signals while the main one is held up, and ends the process after the second."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._listen, name="signals", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Stop listening: the process goes on."""
        self._ended.set()
        signal.set_wakeup_fd(self._before)
        os.close(self._writer)
        self._thread.join()
        os.close(self._reader)

    def _listen(self) -> None:
        heard = 0
        while number := os.read(self._reader, 1):
            heard += number[0] in _SIGNALS
            if heard > 2 or (heard == 2 and not self._ended.wait(GRACE_SECONDS)):
                os._exit(128 + number[0])


def _leave_signals_alone() -> None:
    """A forked process would write what it hears where its parent listens."""
    signal.set_wakeup_fd(-1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_signals_alone)
