"""What random play shows of an environment: a player comes in, figures of its rows go out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from gymnasium.spaces import Box

from tensor_optix.pipeline.observation_report import first_outside

if TYPE_CHECKING:
    from tensor_optix.core.types import Array
    from tensor_optix.pipeline.examination.findings import Deadline
    from tensor_optix.pipeline.examination.player import Player

MOST_STEPS = 10_000
"""Of the random play."""
BLOCK_BYTES = 2**22
"""As many observations are summed up at once."""


class Episode(NamedTuple):
    """One that ended."""

    length: int
    """In steps."""
    total: float
    """The undiscounted sum of its rewards."""
    terminated: bool
    truncated: bool


class Transition(NamedTuple):
    """What a replay would keep of one step."""

    observation: Any
    action: Any
    next_observation: Any


@dataclass(frozen=True)
class ObservationFigures:
    """The numbers of observations in a Box, element by element, row-major: `[D]` float64."""

    space: Box
    rows: int
    low: Array
    high: Array
    mean: Array
    std: Array
    has_non_finite: bool
    outside: str | None
    """The first number outside the bounds of the space, in words."""


@dataclass(frozen=True)
class MaskFigures:
    """What masks of actions told."""

    told: int
    """In how many steps."""
    empty: int
    """In how many of them nothing was allowed."""
    full: int
    """In how many everything was."""
    size: int
    """A, the length of a mask; 0 where none is told."""


@dataclass(frozen=True)
class Trace:
    """A stretch of random play."""

    seconds: float
    rewards: Array
    """`[T]` float64."""
    episodes: tuple[Episode, ...]
    """Those that ended."""
    unfinished: int
    """Steps of the last one, which did not."""
    observations: ObservationFigures | None
    """None where they are no Box."""
    masks: MaskFigures
    transition: Transition

    @property
    def steps(self) -> int:
        """T."""
        return len(self.rewards)


class _Observations:
    """Sums up observations of a Box, a block at a time."""

    def __init__(self, space: Box) -> None:
        self._space = space
        size = int(np.prod(space.shape, dtype=np.int64))
        self._most = max(1, min(256, BLOCK_BYTES // (8 * size)))
        self._block: list[Array] = []
        self._rows = 0
        self._low, self._high = np.full(size, np.inf), np.full(size, -np.inf)
        self._sum, self._squares = np.zeros(size), np.zeros(size)
        self._first: Array | None = None
        self._has_non_finite = False
        self._outside: str | None = None

    def add(self, observation: Array) -> None:
        self._block.append(np.ravel(observation))
        if len(self._block) == self._most:
            self._sum_up()

    def figures(self) -> ObservationFigures:
        if self._block:
            self._sum_up()
        assert self._first is not None
        mean = self._sum / self._rows
        variance = np.maximum(self._squares / self._rows - mean**2, 0.0)
        return ObservationFigures(
            space=self._space,
            rows=self._rows,
            low=self._low,
            high=self._high,
            mean=mean + self._first,
            std=np.sqrt(variance),
            has_non_finite=self._has_non_finite,
            outside=self._outside,
        )

    def _sum_up(self) -> None:
        given = np.stack(self._block)
        self._block = []
        if self._outside is None:
            self._outside = first_outside(given, self._space)
        rows = given.astype(np.float64)
        is_finite = np.isfinite(rows)
        if not is_finite.all():
            self._has_non_finite = True
            rows = np.where(is_finite, rows, 0.0)
        if self._first is None:
            # Sums of differences from one of them lose no digits to a large mean.
            self._first = rows[0]
        np.minimum(self._low, rows.min(axis=0), out=self._low)
        np.maximum(self._high, rows.max(axis=0), out=self._high)
        rows -= self._first
        self._rows += len(rows)
        self._sum += rows.sum(axis=0)
        self._squares += np.square(rows).sum(axis=0)


class _Masks:
    """Counts what masks tell."""

    def __init__(self) -> None:
        self._told = self._empty = self._full = self._size = 0

    def add(self, mask: Array | None) -> None:
        if mask is None:
            return
        self._told += 1
        self._size = len(mask)
        self._empty += not mask.any()
        self._full += bool(mask.all())

    def figures(self) -> MaskFigures:
        return MaskFigures(self._told, self._empty, self._full, self._size)


def trace_of(player: Player, deadline: Deadline) -> Trace:
    """Play on with random actions from the player's first reset until time is up: 1 to `MOST_STEPS` steps.

    What the environment raises passes through.
    """
    space, begun = player.env.observation_space, time.perf_counter()
    seen = _Observations(space) if isinstance(space, Box) and 0 not in space.shape else None
    masks, rewards = _Masks(), list[float]()
    episodes, length, total = list[Episode](), 0, 0.0
    observation = player.first.observation
    if seen is not None:
        seen.add(observation)
    while True:
        masks.add(player.mask)
        action = player.choose()
        row = player.step(action)
        rewards.append(row.reward)
        length, total = length + 1, total + row.reward
        if seen is not None:
            seen.add(row.observation)
        if len(rewards) == 1:
            transition = Transition(observation, action, row.observation)
        if row.is_end:
            episodes.append(Episode(length, total, row.terminated, row.truncated))
            length, total = 0, 0.0
        if deadline.is_over or len(rewards) == MOST_STEPS:
            break
    return Trace(
        seconds=time.perf_counter() - begun,
        rewards=np.array(rewards),
        episodes=tuple(episodes),
        unfinished=length,
        observations=None if seen is None else seen.figures(),
        masks=masks.figures(),
        transition=transition,
    )
