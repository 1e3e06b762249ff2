"""Reading a source in the background: reconnecting, refusing, and ending."""

from __future__ import annotations

import logging
import os
import re
import signal
import threading
from typing import Any

import numpy as np
import pytest

from tensor_optix.optimizer import RLOptimizer
from tensor_optix.pipeline import live_stream
from tensor_optix.pipeline.live_pipeline import LivePipeline
from tensor_optix.pipeline.live_stream import Disconnect, LiveRow, LiveStream, Silence
from tests.pipeline.live_source import (
    PATIENCE,
    Feed,
    Steps,
    live_threads,
    row,
    wait_until,
    windows_of,
)
from tests.scripted import CountingAgent


class Delays:
    """Remembers how long it should have waited, and says after `most` delays that it is over."""

    def __init__(self, most: int) -> None:
        self.seconds: list[float] = []
        self._most = most

    def __call__(self, seconds: float) -> bool:
        self.seconds.append(seconds)
        return len(self.seconds) >= self._most


def drained(stream: LiveStream) -> list[Any]:
    items = []
    while (item := stream.take()) is not None:
        items.append(item)
    stream.close()
    return items


def test_a_stream_that_ends_at_once_is_opened_again_after_delays_that_double():
    """In the first second: at 0, 0.1, 0.3 and 0.7."""
    delays = Delays(12)
    source = Feed()
    drained(LiveStream(source, 100, True, delays))
    assert delays.seconds[:4] == [0.1, 0.2, 0.4, 0.8]
    assert delays.seconds[-1] == 30.0
    assert source.opened == 12
    assert sum(np.cumsum(delays.seconds) < 1.0) + 1 < 10


def test_the_delay_starts_anew_once_rows_have_arrived():
    delays = Delays(5)
    drained(LiveStream(Feed([], [], [row(0)], []), 100, True, delays))
    assert delays.seconds == [0.1, 0.2, 0.1, 0.2, 0.4]


def test_there_is_a_gap_between_the_rows_of_two_streams():
    items = drained(LiveStream(Feed([row(0)], [row(1)]), 100, True, Delays(2)))
    assert [type(item) for item in items] == [LiveRow, Disconnect, LiveRow, Disconnect]


def test_closing_ends_the_delay_at_once(monkeypatch):
    monkeypatch.setattr(live_stream, "FIRST_DELAY", 1000.0)
    pipeline = LivePipeline(Feed())
    pipeline.setup()
    pipeline.teardown()
    assert not live_threads()


def test_closing_frees_a_reader_that_waits_for_room_and_closes_the_generator():
    source = Feed(row(n) for n in range(50))
    stream = LiveStream(source, 3, True)
    wait_until(lambda: source.read == 4)
    stream.close()
    assert not live_threads()
    assert source.closed == 1
    assert source.read == 4
    assert stream.take() is None


def test_what_was_read_ahead_is_not_in_the_next_setup():
    source = Feed([row(n) for n in range(50)], [row(100 + n) for n in range(50)])
    pipeline = LivePipeline(source, CountingAgent(), LivePipeline.every_n_steps(2), buffer_size=9)
    for first in (0, 100):
        pipeline.setup()
        assert next(pipeline.episodes()).observations[:, 0].tolist() == [first, first + 1]
        pipeline.teardown()
    pipeline.teardown()


def test_a_setup_without_a_teardown_leaves_no_second_reader():
    pipeline = LivePipeline(Steps())
    pipeline.setup()
    pipeline.setup()
    assert len(live_threads()) == 1
    pipeline.teardown()


class Silent:
    """Never says a second word, until it is let go."""

    def __init__(self) -> None:
        self.release = threading.Event()

    def stream(self) -> Any:
        yield row(0)
        self.release.wait(PATIENCE)


def test_a_source_that_never_answers_does_not_hang_the_teardown(caplog, monkeypatch):
    monkeypatch.setattr(live_stream, "PATIENCE", 0.02)
    source = Silent()
    stream = LiveStream(source, 5, True)
    assert isinstance(stream.take(), LiveRow)
    stream.close()
    assert "Silent is still waiting for a row" in caplog.text
    assert all(thread.daemon for thread in live_threads())
    source.release.set()
    wait_until(lambda: not live_threads())


def test_a_stream_that_can_be_closed_from_outside_is_closed(caplog, monkeypatch):
    monkeypatch.setattr(live_stream, "PATIENCE", 2.0)

    class Socket:
        def __init__(self) -> None:
            self.closed = threading.Event()

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> Any:
            self.closed.wait(PATIENCE)
            raise OSError("closed")

        def close(self) -> None:
            self.closed.set()

    class Source:
        def stream(self) -> Any:
            return Socket()

    monkeypatch.setattr(live_stream, "PATIENCE", 0.2)
    stream = LiveStream(Source(), 5, True)
    wait_until(lambda: stream._open is not None)
    stream.close()
    wait_until(lambda: not live_threads())
    assert not caplog.records


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (None, r"row 1 of .*: stream\(\) must yield \(obs, reward, .*\), got NoneType None"),
        ((1, 2.0), r"got a tuple of 2"),
        (row(float("nan")), r"obs must be finite, got nan in element \("),
        (row(1, reward=float("nan")), "reward must be a finite float32, got nan"),
        (row(1, reward=float("inf")), "reward must be a finite float32, got inf"),
        (row(1, reward=1e39), "reward must be a finite float32"),
        (row(1, reward=None), "reward must be a number, got NoneType None"),
        ((np.zeros(3), 1.0, False, False, {}), r"obs must have shape \(1,\), got \(3,\)"),
        ((np.zeros(1, "c8"), 1.0, False, False, {}), "obs must be an array of numbers"),
        (([[1], [1, 2]], 1.0, False, False, {}), "obs must be an array of numbers"),
        (({"a": 1}, 1.0, False, False, {}), "obs must be an array of numbers, got dict"),
        ((np.zeros(1), 1.0, np.zeros(2), False, {}), "terminated must be True or False"),
        ((np.zeros(1), 1.0, False, False, None), "info must be a dict, got NoneType None"),
        (row(1, end="truncated", final_obs=np.zeros(2)), r"info\['final_obs'\] must have shape"),
    ],
)
def test_what_is_no_row_fails_the_run_and_is_not_asked_for_again(tmp_path, item, message):
    source = Feed([row(0), item])
    optimizer = RLOptimizer(CountingAgent(), LivePipeline(source), checkpoint_dir=tmp_path)
    with pytest.raises(ValueError, match=message):
        optimizer.run()
    assert source.opened == 1
    assert not live_threads()


def test_a_stream_that_is_none_fails_the_run():
    class Forgot:
        def stream(self) -> None:
            pass

    pipeline = LivePipeline(Forgot(), CountingAgent())
    with pytest.raises(ValueError, match="must return an iterator of rows, got None"):
        next(pipeline.episodes())
    pipeline.teardown()


def test_observations_are_kept_in_the_dtype_of_the_first_and_never_lose_their_fractions():
    rows = [([0, 1], 1.0, False, False, {}), ([0.5, 1.5], 1.0, False, False, {})]
    with pytest.raises(ValueError, match="obs must be of dtype int64, got float64"):
        drained(LiveStream(Feed(rows), 9, False))
    rows.reverse()
    items = drained(LiveStream(Feed(rows), 9, False))
    assert [item.observation.dtype for item in items if isinstance(item, LiveRow)] == [float] * 2


def test_silence_is_reported_after_ten_seconds_and_whenever_it_has_doubled():
    silence = Silence()
    silence.begin(100.0)
    assert silence.until_report(103.0) == 7.0
    reports = [(silence.report(100.0 + n), silence.until_report(100.0 + n)) for n in (10, 20, 40)]
    assert reports == [(10.0, 10.0), (20.0, 20.0), (40.0, 40.0)]
    silence.begin(150.0)  # it has not ended
    assert silence.end(155.0) == 55.0


def test_a_silence_that_was_not_reported_is_not_told():
    silence = Silence()
    silence.begin(0.0)
    assert silence.end(9.0) is None
    silence.begin(9.0)
    silence.report(200.0)
    assert silence.end(209.0) == 200.0
    silence.begin(209.0)
    assert silence.end(210.0) is None


def test_a_source_of_one_row_a_minute_is_not_stalled():
    silence = Silence()
    for minute in range(3):
        silence.begin(60.0 * minute)
        silence.end(60.0 * minute + 60.0)
    silence.begin(180.0)
    assert silence.until_report(180.0) == 600.0


class Pausing:
    """Goes on when its silence has been reported twice."""

    def __init__(self, caplog: Any) -> None:
        self._caplog = caplog

    def stream(self) -> Any:
        yield row(0)
        yield row(1)
        wait_until(lambda: self._caplog.text.count("has 2 rows") >= 2)
        yield row(2, end="terminated")


class PausingMachine(Pausing):
    def send_action(self, action: Any) -> None:
        pass


@pytest.mark.parametrize("source_class", [Pausing, PausingMachine])
def test_a_stream_that_stalls_is_reported_with_its_length_and_so_is_its_going_on(
    source_class, caplog, monkeypatch
):
    monkeypatch.setattr(live_stream, "STALLED", 0.01)
    monkeypatch.setattr(live_stream, "UNUSUAL", 0)
    (window,) = windows_of(source_class(caplog))
    assert window.length == 3
    name = source_class.__name__
    stalls = rf"no row from {name} for \d+ s; the window under way has 2 rows"
    assert len(re.findall(stalls, caplog.text)) >= 2
    *_, after = re.split(stalls, caplog.text)
    assert re.search(rf"{name} goes on, after \d+ s without a row", after)


def test_a_lost_connection_does_not_end_a_silence(caplog, monkeypatch):
    monkeypatch.setattr(live_stream, "STALLED", 0.01)
    monkeypatch.setattr(live_stream, "UNUSUAL", 0)
    waits = iter((False, False, True))

    def wait(seconds: float) -> bool:
        count = caplog.text.count("no row from Feed")
        wait_until(lambda: caplog.text.count("no row from Feed") > count)
        return next(waits)

    drained(LiveStream(Feed([row(0)], [], [row(1)]), 9, True, wait))
    assert caplog.text.count("Feed goes on") == 1


def test_a_lost_connection_is_one_line_and_its_traceback_is_for_who_wants_it(caplog):
    caplog.set_level(logging.DEBUG)
    drained(LiveStream(Feed([row(0), OSError("the line went dead")]), 9, True, Delays(1)))
    told = [record for record in caplog.records if record.levelno >= logging.INFO]
    assert [record.getMessage() for record in told] == [
        "the stream of Feed failed: OSError: the line went dead; it is opened again in 0.1 s"
    ]
    assert told[0].exc_info is None
    (detail,) = (record for record in caplog.records if record.levelno == logging.DEBUG)
    assert "the line went dead" in str(detail.exc_info)


def test_the_failure_that_ends_it_all_is_told_with_its_traceback(caplog):
    drained(LiveStream(Feed([row(0), OSError("unplugged")]), 9, False))
    (record,) = caplog.records
    assert "OSError: unplugged; no more will come" in record.getMessage()
    assert record.exc_info


@pytest.fixture
def listens_to_ctrl_c():
    """A shell lets what it starts in the background ignore Ctrl-C, and Python keeps to that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("listens_to_ctrl_c")
def test_ctrl_c_ends_a_run_whose_source_is_silent(tmp_path, monkeypatch):
    monkeypatch.setattr(live_stream, "PATIENCE", 0.02)

    class Interrupted(Silent):
        def stream(self) -> Any:
            yield row(0)
            os.kill(os.getpid(), signal.SIGINT)
            self.release.wait(PATIENCE)

    source = Interrupted()
    pipeline = LivePipeline(source, reconnect_on_disconnect=False)
    with pytest.raises(KeyboardInterrupt):
        RLOptimizer(CountingAgent(), pipeline, checkpoint_dir=tmp_path).run()
    source.release.set()
    wait_until(lambda: not live_threads())
