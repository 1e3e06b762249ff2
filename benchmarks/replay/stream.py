"""The transitions that every contender stores: one stream of 64 environments, made once.

Nothing comes in but a length and a seed; out go time-major arrays `[T, N, ...]`, single steps of N
rows, and, from the observations of sampled rows, what must have been sampled with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

NUM_ENVS = 64
OBSERVATION_SIZE = 17
ACTION_SIZE = 6
EPISODE_LENGTH = 1000


class Step(NamedTuple):
    """One row of each environment, or any other run of rows."""

    observations: Array
    actions: Array
    rewards: Array
    next_observations: Array
    terminated: Array
    truncated: Array


@dataclass(frozen=True)
class Stream:
    """T steps of N environments; the row after the last one is the first one again.

    The first number of an observation is the number of its row, `t * N + n`, exact in float32, so
    that a sampled row can be looked up.
    """

    rows: Step

    @property
    def length(self) -> int:
        """T."""
        return len(self.rows.rewards)

    @property
    def num_rows(self) -> int:
        """T * N."""
        return int(self.rows.rewards.size)

    def step(self, t: int) -> Step:
        """Return step `t % T` in arrays of its own, as an environment hands them over."""
        return Step(*(field[t % self.length].copy() for field in self.rows))

    def flat(self) -> Step:
        """Return all rows, `[T * N, ...]`, without a copy."""
        return Step(*(field.reshape(-1, *field.shape[2:]) for field in self.rows))

    def segments(self) -> list[Step]:
        """Return one environment's rows after the other's, cut where episodes end."""
        pieces = []
        for env in range(NUM_ENVS):
            column = Step(*(field[:, env] for field in self.rows))
            ends = np.flatnonzero(column.terminated | column.truncated) + 1
            edges = [0, *ends.tolist(), self.length]
            for start, stop in pairwise(edges):
                if start < stop:
                    pieces.append(Step(*(field[start:stop] for field in column)))
        return pieces

    def look_up(self, observations: Array) -> Step:
        """Return the rows that hold these observations `[B, 17]`."""
        return Step(*(field[observations[:, 0].astype(np.int64)] for field in self.flat()))


def make_stream(length: int, seed: int = 0) -> Stream:
    """Return `length` steps: episodes of 1000, every other one terminated, the rest truncated."""
    generator = np.random.default_rng(seed)
    shape = (length, NUM_ENVS)
    observations = generator.standard_normal((*shape, OBSERVATION_SIZE), dtype=np.float32)
    observations[..., 0] = np.arange(length * NUM_ENVS).reshape(shape)
    # The environments' episodes end one after the other, not all in one step.
    age = np.arange(length)[:, None] + np.arange(NUM_ENVS) * (EPISODE_LENGTH // NUM_ENVS)
    ended = age % EPISODE_LENGTH == EPISODE_LENGTH - 1
    odd = age // EPISODE_LENGTH % 2 == 1
    next_observations = np.roll(observations, -1, axis=0)
    next_observations[ended] = generator.standard_normal(
        (int(ended.sum()), OBSERVATION_SIZE), dtype=np.float32
    )
    rows = Step(
        observations,
        generator.uniform(-1, 1, (*shape, ACTION_SIZE)).astype(np.float32),
        generator.standard_normal(shape, dtype=np.float32),
        next_observations,
        ended & ~odd,
        ended & odd,
    )
    return Stream(rows)
