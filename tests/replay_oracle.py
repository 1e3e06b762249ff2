"""A replay that keeps every transition in a list, and worlds that produce transitions for it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tensor_optix.core.replay_buffer import ReplayBatch, ReplayBuffer

Row = tuple[bytes, bytes, float, bytes, bool, int]


@dataclass
class Transition:
    observation: NDArray[Any]
    action: int
    reward: float
    next_observation: NDArray[Any]
    terminated: bool = False
    truncated: bool = False
    marked: bool = False  # a flush came after it, or an observation that does not follow it

    @property
    def is_last(self) -> bool:
        return self.terminated or self.truncated or self.marked


class Oracle:
    """What can be sampled, worked out from all transitions by the definition of an n-step row."""

    def __init__(self, rows: int, n_step: int, gamma: float, num_envs: int) -> None:
        self.rows, self.n_step, self.gamma = rows, n_step, gamma
        self.past: list[list[Transition]] = [[] for _ in range(num_envs)]

    def add(self, env: int, transition: Transition) -> None:
        past = self.past[env]
        if past and past[-1].next_observation.tobytes() != transition.observation.tobytes():
            past[-1].marked = True
        past.append(transition)

    def flush(self) -> None:
        for past in self.past:
            if past:
                past[-1].marked = True

    def row(self, past: list[Transition], start: int) -> Row | None:
        rewards: list[float] = []
        for step in past[start:]:
            rewards.append(step.reward)
            if step.is_last or len(rewards) == self.n_step:
                total = sum(self.gamma**k * reward for k, reward in enumerate(rewards))
                first = past[start]
                return (
                    first.observation.tobytes(),
                    np.int64(first.action).tobytes(),
                    total,
                    step.next_observation.tobytes(),
                    step.terminated,
                    len(rewards),
                )
        return None

    def sampleable(self) -> Counter[Row]:
        found: list[Row] = []
        for past in self.past:
            rows = [self.row(past, start) for start in range(len(past))]
            ready = [row for row in rows if row is not None][-self.rows :]
            found += [row for row in ready if math.isfinite(row[2])]
        return Counter(found)


class World:
    """Environments whose observations are vectors, numbers or frame stacks of few values."""

    def __init__(self, kind: str, num_envs: int, seed: int) -> None:
        self.kind = kind
        self.rng = np.random.default_rng(seed)
        self.now = [self.reset() for _ in range(num_envs)]

    def frame(self) -> NDArray[Any]:
        return np.full((2, 3), self.rng.integers(3), np.uint8)

    def reset(self) -> NDArray[Any]:
        if self.kind == "frames":
            stack = np.stack([self.frame() for _ in range(4)])
            repeats = self.rng.integers(4)
            stack[:repeats] = stack[repeats] if self.rng.random() < 0.5 else 0
            return stack
        if self.kind == "numbers":
            return np.asarray(self.rng.integers(4))
        return self.rng.integers(0, 3, 3).astype(np.float32)

    def step(self, env: int, action: int, reward: float, jumps: bool = False) -> Transition:
        """Return a transition; one that jumps leads to a stack that shares no frames."""
        before = self.now[env]
        after = self.reset()
        if self.kind == "frames" and not jumps:
            after = np.concatenate([before[1:], self.frame()[None]])
        self.now[env] = after
        return Transition(before, action, reward, after)


def ready_indices(buffer: ReplayBuffer) -> NDArray[np.int64]:
    """Return the slots in the windows of all environments, but those dropped."""
    storage = buffer.storage
    if storage is None:
        return np.empty(0, np.int64)
    slots, found = storage.layout.slots, []
    for env, cursor in enumerate(storage._cursors):
        head, pending, window = cursor[:3]
        for back in range(pending + 1, pending + window + 1):
            slot = (head - back) % slots
            if not storage.slots[env, slot]["flags"] & 2:
                found.append(env * slots + slot)
    return np.array(found, np.int64)


def rows_of(batch: ReplayBatch) -> list[Row]:
    fields = zip(
        batch.observations,
        batch.actions,
        batch.rewards.tolist(),
        batch.next_observations,
        batch.dones.tolist(),
        batch.n_steps.tolist(),
        strict=True,
    )
    return [(o.tobytes(), a.tobytes(), r, n.tobytes(), d, k) for o, a, r, n, d, k in fields]


def sampleable(buffer: ReplayBuffer) -> Counter[Row]:
    indices = ready_indices(buffer)
    if buffer.storage is None:
        return Counter()
    batch = buffer.storage.batch(len(indices))
    batch.indices[:] = indices
    buffer.storage.gather(batch)
    return Counter(rows_of(batch))


def stored(buffer: ReplayBuffer) -> ReplayBatch:
    """Return all rows that can be sampled, in the order of the slots."""
    assert buffer.storage is not None
    indices = np.sort(ready_indices(buffer))
    batch = buffer.storage.batch(len(indices))
    batch.indices[:] = indices
    buffer.storage.gather(batch)
    return batch


def walk(buffer: ReplayBuffer, length: int, start: int = 0, ends: bool = True) -> None:
    """Push an episode that counts its steps and is paid 1 at its end."""
    for t in range(start, start + length):
        last = t + 1 == start + length
        paid = float(last and ends)
        buffer.push(
            np.array([t], np.float32), t % 3, paid, np.array([t + 1], np.float32), last and ends
        )
