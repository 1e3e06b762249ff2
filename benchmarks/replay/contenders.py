"""What a contender is, and tensor_optix's own buffers as two of them.

A `Contender` is filled with a stream, then hands out prepared calls: what is timed is the call of
the buffer's own method alone, its arguments already in the form that this method likes best.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.replay.stream import NUM_ENVS, Array, Step, Stream
from tensor_optix.core.replay_buffer import PrioritizedReplayBuffer, ReplayBuffer

if TYPE_CHECKING:
    from collections.abc import Callable

    Call = Callable[[], object]

ALPHA, BETA = 0.6, 0.4
BATCH_SIZE = 256


class Rows(NamedTuple):
    """What a contender's sample says, in common terms. `weights`, `indices`: None where uniform."""

    observations: Array
    actions: Array
    rewards: Array
    next_observations: Array
    dones: Array
    weights: Array | None
    indices: Array | None


class Contender(ABC):
    """One buffer, its capacity the length of the stream, filled to the brim."""

    name: str
    adds = True
    """Whether 64 rows can be added in one call."""
    buffer: Any

    def __init__(self, stream: Stream, prioritized: bool):
        self.stream = stream
        self.prioritized = prioritized
        self.steps = 0
        self.buffer = self.make_buffer()
        self.fill()

    @abstractmethod
    def make_buffer(self) -> Any:
        """Return the empty buffer."""

    def __len__(self) -> int:
        return len(self.buffer)

    def sample(self, size: int) -> Any:
        """Return what the buffer's own call returns."""
        return self.buffer.sample(size)

    @abstractmethod
    def rows(self, sampled: Any) -> Rows:
        """Return the same rows in common terms."""

    def fill(self) -> None:
        """Add the whole stream, step by step."""
        for _ in range(self.stream.length):
            self.prepare_add(self.next_step())()

    def next_step(self) -> Step:
        """Return the next step of the stream."""
        self.steps += 1
        return self.stream.step(self.steps - 1)

    def prepare_add(self, step: Step) -> Call:
        """Return the call that adds 64 rows."""
        raise NotImplementedError(f"{self.name} has no call that adds 64 rows")

    def prepare_adds(self, count: int) -> list[Call]:
        """Return `count` calls that each add the stream's next 64 rows."""
        return [self.prepare_add(self.next_step()) for _ in range(count)]

    def prepare_samples(self, count: int) -> list[Call]:
        """Return `count` calls that each sample 256 rows."""
        return [partial(self.buffer.sample, BATCH_SIZE)] * count

    def prepare_update(self, indices: Array, td_errors: Array) -> Call:
        """Return the call that sets the priorities (float32, positive) of sampled rows."""
        return partial(self.buffer.update_priorities, indices, td_errors)


class Ours(Contender):
    """tensor_optix."""

    name = "tensor_optix"

    def make_buffer(self) -> Any:
        if self.prioritized:
            return PrioritizedReplayBuffer(
                self.stream.num_rows, alpha=ALPHA, beta=BETA, num_envs=NUM_ENVS
            )
        return ReplayBuffer(self.stream.num_rows, num_envs=NUM_ENVS)

    def prepare_add(self, step: Step) -> Call:
        return partial(self.buffer.extend, *step)

    def rows(self, sampled: Any) -> Rows:
        if not (sampled.n_steps == 1).all():
            raise AssertionError(f"expected n_steps of 1, got {sampled.n_steps}")
        weights, indices = (sampled.weights, sampled.indices) if self.prioritized else (None, None)
        return Rows(*sampled[:5], weights, indices)


class OursReused(Ours):
    """tensor_optix, the arrays of a former batch written over."""

    name = "tensor_optix, out="

    def prepare_samples(self, count: int) -> list[Call]:
        batch = self.buffer.sample(BATCH_SIZE)
        return [partial(self.buffer.sample, BATCH_SIZE, out=batch)] * count
