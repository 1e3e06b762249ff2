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


class Interruption:
    """Listens for the signals while it is entered as a context."""

    def __init__(self) -> None:
        self.stop: Callable[[str], None] | None = None
        """Asks the work to end soon, and tells why, on the first signal; within a signal handler, so
        it should only set flags. While it is None, and on a second signal, KeyboardInterrupt is
        raised."""
        self.acknowledge: Callable[[str], None] | None = None
        """Is told at once what becomes of a first signal: the window under way may last."""
        self._owner = os.getpid()
        self._before: dict[signal.Signals, Any] = {}
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
            self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

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
