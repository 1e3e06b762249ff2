"""Reading a source in the background: reconnecting, refusing, and ending."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from tensor_optix.optimizer import RLOptimizer
from tensor_optix.pipeline import live_stream
from tensor_optix.pipeline.live_pipeline import LivePipeline
from tensor_optix.pipeline.live_stream import Disconnect, LiveRow, LiveStream
from tests.pipeline.live_source import PATIENCE, Feed, Steps, live_threads, row, wait_until
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
