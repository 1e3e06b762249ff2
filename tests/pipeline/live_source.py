"""A live source whose every row is known beforehand, and what a test needs to wait for it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.core.trajectory_buffer import episode_advantages
from tensor_optix.pipeline.live_pipeline import LivePipeline
from tests.scripted import CountingAgent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PATIENCE = 10.0
"""Seconds after which a test that waits for a thread gives up."""


def row(number: float, reward: float = 1.0, end: str = "", **info: Any) -> tuple[Any, ...]:
    """A row that observes `[number]`; `end` is "", "terminated" or "truncated"."""
    flags = end == "terminated", end == "truncated"
    return np.array([number], np.float32), reward, *flags, info


class Feed:
    """Plays one list of rows per stream; an exception among them is raised. The last list ends it all."""

    def __init__(self, *streams: Iterable[Any]) -> None:
        self._streams = [list(stream) for stream in streams]
        self.opened = 0
        self.read = 0
        self.closed = 0

    def stream(self) -> Iterator[Any]:
        rows = self._streams[self.opened] if self.opened < len(self._streams) else []
        self.opened += 1
        try:
            for each in rows:
                if isinstance(each, Exception):
                    raise each
                self.read += 1
                yield each
        finally:
            self.closed += 1


class Steps:
    """Follows the steps of an environment that goes on by itself: an end after every `length` rows.

    One row at a time: the observation is written into the same array, as devices do.
    """

    def __init__(self, length: int = 5) -> None:
        self._length = length
        self.sent: list[Any] = []

    def stream(self) -> Iterator[Any]:
        observation = np.zeros(1, np.float32)
        number = 0
        while True:
            observation[0] = number
            number += 1
            yield observation, 1.0, number % self._length == 0, False, {}

    def send_action(self, action: Any) -> None:
        self.sent.append(action)


def live_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "live-stream"]


def wait_until(condition: Any) -> None:
    """Wait for what another thread is about to do."""
    pause = threading.Event()
    for _ in range(int(PATIENCE / 0.002)):
        if condition():
            return
        pause.wait(0.002)
    raise AssertionError("it did not happen in time")


def windows_of(source: Any, agent: Any = None, **options: Any) -> list[Any]:
    """All windows of a source that ends."""
    options.setdefault("reconnect_on_disconnect", False)
    pipeline = LivePipeline(source, agent or CountingAgent(), **options)
    try:
        return list(pipeline.episodes())
    finally:
        pipeline.teardown()


def advantages_of(window: Any) -> tuple[np.ndarray, np.ndarray]:
    """Those of a critic that values an observation `[x]` at x, and which rows are learned from."""
    final = np.zeros((1, 1)) if window.final_obs is None else window.final_obs[None]
    advantages, _, usable = episode_advantages(
        window,
        np.asarray(window.rewards, np.float32),
        window.observations[:, 0].copy(),
        np.asarray(window.end_observations, np.float32)[:, 0].copy(),
        np.asarray(final, np.float32)[:, 0].copy(),
        (1.0, 0.0),
    )
    return advantages, usable
