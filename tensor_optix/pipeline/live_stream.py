"""A live data source, read in the background: a source comes in, its rows go out, one by one.

The thread that reads waits while the buffer is full, so that a slow consumer loses nothing. A source that
takes actions is read one row at a time, each when the one before has been answered.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterable
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from tensor_optix.core.types import Array

logger = logging.getLogger(__name__)

NUMERIC = "biuf"
FINAL_OBS = "final_obs"
"""Where the info of a row that ends an episode may hold the observation that it led to."""
FIRST_DELAY = 0.1
LONGEST_DELAY = 30.0
"""Seconds before a stream is opened again; doubled each time until rows arrive."""
PATIENCE = 1.0
"""Seconds that `LiveStream.close` waits for a source that does not return."""
STALLED = 10.0
"""Seconds without a row that are reported, and those that `send_action` may take before it is."""
UNUSUAL = 10
"""How many times as long as usual a silence must be, to be reported."""


@runtime_checkable
class DataSource(Protocol):
    """A running system that is observed. It may also have one of the methods of the two below."""

    def stream(self) -> Iterable[tuple[Any, float, bool, bool, dict[str, Any]]]:
        """Yield `(obs, reward, terminated, truncated, info)`; called anew after a disconnect."""


@runtime_checkable
class ActionReceiver(Protocol):
    """A source that carries out what the agent chooses."""

    def send_action(self, action: Any) -> None:
        """Take the action for the last row, in the environment's own terms.

        The next row is asked for when this has returned, so that it must not wait for `stream()` to go on.
        """


@runtime_checkable
class ActionListener(Protocol):
    """The same under another name."""

    def on_action(self, action: Any) -> None:
        """Take the action for the last row; see `ActionReceiver`."""


class LiveRow(NamedTuple):
    """One row of a stream."""

    observation: Array
    """`[...]`, of the shape and dtype of the first row."""
    reward: float
    terminated: bool
    truncated: bool
    info: dict[str, Any]
    final_obs: Array | None = None
    """`[...]`, the observation that an end led to, where the info holds it."""

    @property
    def done(self) -> bool:
        """Whether an episode ended."""
        return self.terminated or self.truncated


class MalformedRow(ValueError):
    """A source yielded what is no row. Opening it again would not help."""


class Disconnect:
    """Between two rows that do not follow each other: the stream ended and was opened again."""


class LiveStream:
    """Reads a source from now on, until `close`.

    A stream that ends or raises is opened again, after delays that double until rows arrive. A source that
    takes actions gives a row only when `take` waits for one; others are read ahead.

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
        self._reader = RowReader()
        self._source = source
        self._send = sender_of(source)
        self._sending_since: float | None = None
        self._silence = Silence()
        self._reconnect = reconnect
        self._buffer = _Buffer(buffer_size)
        self._stopping = threading.Event()
        self._wait = wait or self._stopping.wait
        self._delay = FIRST_DELAY
        self._open: Any = None
        # A daemon: a source that never returns must not keep the process alive.
        self._thread = threading.Thread(target=self._run, name="live-stream", daemon=True)
        self._thread.start()

    @property
    def takes_actions(self) -> bool:
        """Whether the source has `send_action` or `on_action`."""
        return self._send is not None

    def send(self, action: Any) -> None:
        """Let a source that takes actions have one."""
        assert self._send is not None
        self._sending_since = monotonic()
        try:
            self._send(action)
        finally:
            self._sending_since = None

    def take(self, rows: int = 0) -> LiveRow | Disconnect | None:
        """Wait for the next row and return it; None when the source has ended for good.

        Args:
            rows: Those of the window under way, to be told where the source is silent for long.

        Raises:
            MalformedRow: If the source yielded what is no row.
        """
        self._silence.begin(monotonic())
        arrived, item = self._next(rows)
        if isinstance(item, MalformedRow):
            raise item
        if isinstance(item, LiveRow):
            self._end_silence(arrived)
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

    def _next(self, rows: int) -> tuple[float, Item | None]:
        while True:
            try:
                return self._buffer.get(self._silence.until_report(monotonic()))
            except TimeoutError:
                logger.warning(
                    "no row from %s for %.0f s; the window under way has %d rows",
                    self._name,
                    self._silence.report(monotonic()),
                    rows,
                )

    def _end_silence(self, arrived: float) -> None:
        silent = self._silence.end(arrived)
        if silent is not None:
            logger.warning("%s goes on, after %.0f s without a row", self._name, silent)
        if not self.takes_actions:
            self._silence.begin(arrived)

    def _run(self) -> None:
        try:
            while self._read_to_end() and not self._stopping.is_set():
                self._buffer.put(Disconnect(), monotonic())
                if self._wait(self._delay):
                    return
                self._delay = min(2 * self._delay, LONGEST_DELAY)
        except MalformedRow as error:
            self._buffer.put(error, monotonic())
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
        rows = iter(stream)
        while self._may_ask():
            item = next(rows, _END)
            if item is _END or not self._buffer.put(self._reader.read(item), monotonic()):
                return
            self._delay = FIRST_DELAY

    def _may_ask(self) -> bool:
        """Wait until the last row is answered, if the source takes actions; return whether to read on."""
        if not self.takes_actions:
            return True
        while not self._buffer.wait_for_demand(PATIENCE):
            since = self._sending_since
            if since is not None and monotonic() - since > STALLED:
                self._sending_since = None  # so that it is one row, however long it takes
                logger.warning(
                    "sending an action to %s takes more than %g s; one row is read meanwhile, in case it "
                    "waits for stream(): let it return without waiting",
                    self._name,
                    STALLED,
                )
                break
        return not self._stopping.is_set()

    def _report(self, failure: Exception | None) -> None:
        how = "ended" if failure is None else f"failed: {type(failure).__name__}: {failure}"
        plan = (
            f"it is opened again in {self._delay:g} s" if self._reconnect else "no more will come"
        )
        level = logging.INFO if failure is None and not self._reconnect else logging.WARNING
        is_last = None if self._reconnect else failure
        logger.log(level, "the stream of %s %s; %s", self._name, how, plan, exc_info=is_last)
        if failure is not None and self._reconnect:
            logger.debug("how the stream of %s failed", self._name, exc_info=failure)


class RowReader:
    """Checks rows. The first one says what observations look like."""

    def __init__(self) -> None:
        self._count = 0
        self._shape: tuple[int, ...] = ()
        self._dtype: np.dtype[Any] | None = None

    def read(self, item: Any) -> LiveRow:
        """Return what a stream yielded as a row of its own.

        Raises:
            MalformedRow: Naming the row, what was expected and what came.
        """
        if not isinstance(item, tuple | list) or len(item) != 5:
            raise self._malformed(
                "stream() must yield (obs, reward, terminated, truncated, info)", _described(item)
            )
        observation, reward, terminated, truncated, info = item
        if not isinstance(info, dict):
            raise self._malformed("info must be a dict", _described(info))
        row = LiveRow(
            self._observation("obs", observation),
            self._reward(reward),
            self._flag("terminated", terminated),
            self._flag("truncated", truncated),
            dict(info),
        )
        if row.done and info.get(FINAL_OBS) is not None:
            final_obs = self._observation(f"info[{FINAL_OBS!r}]", info[FINAL_OBS])
            row = row._replace(final_obs=final_obs)
        self._count += 1
        return row

    def _observation(self, name: str, value: Any) -> Array:
        array = self._array(name, value)
        if self._dtype is None:
            self._shape, self._dtype = array.shape, array.dtype
        if array.shape != self._shape:
            raise self._malformed(f"{name} must have shape {self._shape}", f"{array.shape}")
        if not np.can_cast(array.dtype, self._dtype, "same_kind"):
            raise self._malformed(f"{name} must be of dtype {self._dtype}", f"{array.dtype}")
        if not np.isfinite(array).all():
            element = tuple(np.argwhere(~np.isfinite(array))[0].tolist())
            raise self._malformed(
                f"{name} must be finite", f"{array[element]} in element {element}"
            )
        return array.astype(self._dtype, copy=False)

    def _array(self, name: str, value: Any) -> Array:
        try:
            array: Array = np.array(value)
        except ValueError as error:
            raise self._malformed(f"{name} must be an array of numbers", str(error)) from error
        if array.dtype.kind not in NUMERIC:
            raise self._malformed(f"{name} must be an array of numbers", _described(value))
        return array

    def _reward(self, value: Any) -> float:
        try:
            reward = float(value)
        except (TypeError, ValueError) as error:
            raise self._malformed("reward must be a number", _described(value)) from error
        # Learners keep rewards as float32. A comparison with NaN is False.
        if not abs(reward) <= float(np.finfo(np.float32).max):
            raise self._malformed("reward must be a finite float32", f"{reward}")
        return reward

    def _flag(self, name: str, value: Any) -> bool:
        try:
            return bool(value)
        except (TypeError, ValueError) as error:
            raise self._malformed(f"{name} must be True or False", _described(value)) from error

    def _malformed(self, expected: str, got: str) -> MalformedRow:
        return MalformedRow(f"row {self._count} of the data source: {expected}, got {got}")


Item: TypeAlias = LiveRow | Disconnect | MalformedRow
_END = object()


class Silence:
    """How long a source has given no row, and when that is worth a report.

    It is after `STALLED` seconds, or `UNUSUAL` times the mean silence, whichever is longer (one row a minute
    may be all that a source has to say), and again whenever the silence has doubled.

    Times are seconds of any one clock.
    """

    def __init__(self) -> None:
        self._total, self._count = 0.0, 0
        self._since: float | None = None
        self._due = STALLED
        self._is_reported = False

    def begin(self, now: float) -> None:
        """Let a silence begin, unless one has begun and not ended yet."""
        if self._since is None:
            self._since = now
            self._due = max(STALLED, UNUSUAL * self._total / max(self._count, 1))
            self._is_reported = False

    def until_report(self, now: float) -> float:
        """Return after how many seconds a report is due, 0 if it is overdue."""
        return max(self._due - self._seconds(now), 0.0)

    def report(self, now: float) -> float:
        """Return how many seconds the silence lasts, and let the next report wait twice as long."""
        seconds = self._seconds(now)
        self._due, self._is_reported = 2 * seconds, True
        return seconds

    def end(self, arrived: float) -> float | None:
        """End the silence with a row; return how many seconds it lasted, if it was reported."""
        seconds = self._seconds(arrived)
        self._total, self._count, self._since = self._total + seconds, self._count + 1, None
        return seconds if self._is_reported else None

    def _seconds(self, now: float) -> float:
        return 0.0 if self._since is None else now - self._since


class _Buffer:
    """A bounded queue of items and the times at which they arrived, that either side may end."""

    def __init__(self, capacity: int) -> None:
        self._items: deque[tuple[float, Item]] = deque()
        self._capacity = capacity
        self._is_open = True
        self._is_wanted = False
        self._changed = threading.Condition()

    def put(self, item: Item, arrived: float) -> bool:
        """Add an item as soon as there is room; return False if nobody wants it any more."""
        with self._changed:
            while self._is_open and len(self._items) >= self._capacity:
                self._changed.wait()
            if self._is_open:
                self._items.append((arrived, item))
                self._changed.notify_all()
            return self._is_open

    def wait_for_demand(self, seconds: float) -> bool:
        """Return whether within that time `get` waits for an item, or nobody wants any more."""
        with self._changed:
            return self._changed.wait_for(
                lambda: not self._is_open or (self._is_wanted and not self._items), seconds
            )

    def get(self, seconds: float) -> tuple[float, Item | None]:
        """Wait for an item and take it out; None when there are none left and none will come.

        Raises:
            TimeoutError: After `seconds`; the item is still wanted.
        """
        with self._changed:
            self._is_wanted = True
            self._changed.notify_all()
            while self._is_open and not self._items:
                if not self._changed.wait(seconds):
                    raise TimeoutError
            self._is_wanted = False
            return self._items.popleft() if self._items else (monotonic(), None)

    def end(self, keep: bool) -> None:
        """Take no more items; those inside can still be taken out, if they are kept."""
        with self._changed:
            self._is_open = False
            if not keep:
                self._items.clear()
            self._changed.notify_all()


def sender_of(source: DataSource) -> Callable[[Any], None] | None:
    """Return what takes the actions for a source, None if it takes none."""
    if isinstance(source, ActionReceiver):
        return source.send_action
    return source.on_action if isinstance(source, ActionListener) else None


@runtime_checkable
class _Closable(Protocol):
    def close(self) -> Any:
        """Let go."""


def _close(stream: Any) -> None:
    """Close a stream where it can be closed; what that raises is not worth failing for."""
    if not isinstance(stream, _Closable):
        return
    try:
        stream.close()
    except Exception as error:
        logger.debug("closing a stream failed: %s: %s", type(error).__name__, error)


def _described(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
