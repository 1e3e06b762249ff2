"""A live data source, read in the background: a source comes in, its rows go out, one by one.

The thread that reads waits while the buffer is full, so that a slow consumer loses nothing.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from tensor_optix.pipeline.live_rows import LiveRow, MalformedRow, RowReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from tensor_optix.pipeline.live_rows import DataSource

logger = logging.getLogger(__name__)

FIRST_DELAY = 0.1
LONGEST_DELAY = 30.0
"""Seconds before a stream is opened again; doubled each time until rows arrive."""
PATIENCE = 1.0
"""Seconds that `LiveStream.close` waits for a source that does not return."""


class Gap:
    """Between two rows that do not follow each other: the stream was lost and opened again."""


Item: TypeAlias = LiveRow | Gap | MalformedRow


@runtime_checkable
class _Closable(Protocol):
    def close(self) -> Any:
        """Let go."""


class _Buffer:
    """A bounded queue of items, that either side may end."""

    def __init__(self, capacity: int) -> None:
        self._items: deque[Item] = deque()
        self._capacity = capacity
        self._is_open = True
        self._changed = threading.Condition()

    def put(self, item: Item) -> bool:
        """Add an item as soon as there is room; return False if nobody wants it any more."""
        with self._changed:
            while self._is_open and len(self._items) >= self._capacity:
                self._changed.wait()
            if self._is_open:
                self._items.append(item)
                self._changed.notify_all()
            return self._is_open

    def get(self) -> Item | None:
        """Wait for an item and take it out; None when there are none left and none will come."""
        with self._changed:
            while self._is_open and not self._items:
                self._changed.wait()
            if not self._items:
                return None
            self._changed.notify_all()
            return self._items.popleft()

    def end(self, keep: bool) -> None:
        """Take no more items; those inside can still be taken out, if they are kept."""
        with self._changed:
            self._is_open = False
            if not keep:
                self._items.clear()
            self._changed.notify_all()


class LiveStream:
    """Reads a source from now on, until `close`.

    A stream that ends or raises is opened again, after delays that double until rows arrive.

    Args:
        source: Gives the stream.
        buffer_size: Rows that are read ahead at most.
        reconnect: Whether to open the stream again.
        wait: `wait(seconds) -> whether to stop`. None: wait until `close`, so long at most.
    """

    def __init__(
        self,
        source: DataSource,
        buffer_size: int,
        reconnect: bool,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        self.reader = RowReader()
        self._source = source
        self._reconnect = reconnect
        self._buffer = _Buffer(buffer_size)
        self._stopping = threading.Event()
        self._wait = wait or self._stopping.wait
        self._delay = FIRST_DELAY
        self._open: Any = None
        # A daemon: a source that never returns must not keep the process alive.
        self._thread = threading.Thread(target=self._run, name="live-stream", daemon=True)
        self._thread.start()

    def take(self) -> LiveRow | Gap | None:
        """Wait for the next row and return it; None when the source has ended for good.

        Raises:
            MalformedRow: If the source yielded what is no row.
        """
        item = self._buffer.get()
        if isinstance(item, MalformedRow):
            raise item
        return item

    def close(self) -> None:
        """Stop reading and throw away what was not taken. Waits for the thread, but not for ever."""
        self._stopping.set()
        self._buffer.end(keep=False)
        self._thread.join(PATIENCE / 2)
        if self._thread.is_alive():
            # Closing a socket or a file ends the read; a generator can only be closed by its thread.
            _close(self._open)
            self._thread.join(PATIENCE / 2)
        if self._thread.is_alive():
            logger.warning(
                "%s is still waiting for a row; its thread ends with the next one", self._name
            )

    @property
    def _name(self) -> str:
        return type(self._source).__name__

    def _run(self) -> None:
        try:
            while self._read_to_end() and not self._stopping.is_set():
                self._buffer.put(Gap())
                if self._wait(self._delay):
                    return
                self._delay = min(2 * self._delay, LONGEST_DELAY)
        except MalformedRow as error:
            self._buffer.put(error)
        finally:
            self._buffer.end(keep=True)

    def _read_to_end(self) -> bool:
        """Read one stream; return whether to open another."""
        failure: Exception | None = None
        try:
            self._open = self._source.stream()
            self._read(self._open)
        except MalformedRow:
            raise
        except Exception as error:
            failure = error
        finally:
            _close(self._open)
            self._open = None
        if not self._stopping.is_set():
            self._report(failure)
        return self._reconnect

    def _read(self, stream: Any) -> None:
        if not isinstance(stream, Iterable):
            raise MalformedRow(f"stream() must return an iterator of rows, got {stream!r}")
        for item in stream:
            if not self._buffer.put(self.reader.read(item)):
                return
            self._delay = FIRST_DELAY

    def _report(self, failure: Exception | None) -> None:
        how = "ended" if failure is None else f"failed: {type(failure).__name__}: {failure}"
        plan = (
            f"it is opened again in {self._delay:g} s" if self._reconnect else "no more will come"
        )
        level = logging.INFO if failure is None and not self._reconnect else logging.WARNING
        logger.log(level, "the stream of %s %s; %s", self._name, how, plan, exc_info=failure)


def _close(stream: Any) -> None:
    """Close a stream where it can be closed; what that raises is not worth failing for."""
    if not isinstance(stream, _Closable):
        return
    try:
        stream.close()
    except Exception as error:
        logger.debug("closing a stream failed: %s: %s", type(error).__name__, error)
