"""Measure what a replay row of stacked images costs: 50,000 rows of EnvPool's Pong-v5.

    python -m benchmarks.replay.memory

Rows of 84x84 uint8 frames in stacks of 4, episodes of at most 500 steps, 8 environments, random
actions. Prints the growth of the resident memory (Linux) and the buffer's own count, both as bytes a
row and scaled to 1 M rows. Sampled rows are compared with those put in, so that no count is of a
buffer that forgot something.
"""

from __future__ import annotations

import os
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import envpool
import numpy as np

from tensor_optix.core.replay_buffer import ReplayBuffer

if TYPE_CHECKING:
    from benchmarks.replay.stream import Array

ROWS = 50_000
TARGET_ROWS = 1_000_000
LIMIT = 8e9
"""Bytes that 1 M rows may take."""
NUM_ENVS = 8
EPISODE_LENGTH = 500
WARM_UP_STEPS = 600
STACK_BYTES = 4 * 84 * 84
SB3_SCALARS = 8 + 4 + 4 + 4
"""Bytes of an action (int64), a reward, a done and a timeout (float32 each)."""


def resident_bytes() -> int:
    """Return this process's resident memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def fingerprints(observations: Array, next_observations: Array) -> Array:
    """Return one uint64 a row."""
    pairs = zip(observations, next_observations, strict=True)
    values = [zlib.crc32(before.tobytes()) << 32 | zlib.crc32(after) for before, after in pairs]
    return np.array(values, np.uint64)


class Player:
    """Random play in Pong: `step` gives the transitions of one vector step, reset rows left out."""

    def __init__(self) -> None:
        self.envs: Any = envpool.make_gymnasium(
            "Pong-v5", num_envs=NUM_ENVS, max_episode_steps=EPISODE_LENGTH, seed=0
        )
        self.generator = np.random.default_rng(0)
        self.observations, _ = self.envs.reset()
        self.ended = np.zeros(NUM_ENVS, bool)
        self.episodes = 0

    def step(self) -> tuple[tuple[Array, ...], Array]:
        """Return the arguments of `extend` without the ids, and the ids `[B]`."""
        actions = self.generator.integers(0, 6, NUM_ENVS)
        arrived, rewards, terminated, truncated, _ = self.envs.step(actions)
        # After an end, EnvPool's next step is the reset itself: no transition.
        ids = np.flatnonzero(~self.ended)
        fields = (self.observations, actions, rewards, arrived, terminated, truncated)
        self.observations, self.ended = arrived, terminated | truncated
        self.episodes += int(self.ended.sum())
        return tuple(field[ids] for field in fields), ids


def fill(buffer: ReplayBuffer, player: Player) -> tuple[Array, int]:
    """Play until the buffer is full; return the rows' fingerprints and the steps taken."""
    seen = np.zeros(2 * ROWS, np.uint64)
    count = 0
    while len(buffer) < buffer.capacity:
        fields, ids = player.step()
        if len(ids) == 0:
            continue
        buffer.extend(*fields, env_ids=ids)
        seen[count : count + len(ids)] = fingerprints(fields[0], fields[3])
        count += len(ids)
    return seen[:count], count


def check_rows(buffer: ReplayBuffer, seen: Array) -> None:
    """Assert that sampled pairs of stacks are pairs that were put in."""
    rows = buffer.sample(5000)
    known = np.isin(fingerprints(rows.observations, rows.next_observations), seen)
    if not known.all():
        raise AssertionError(f"{int((~known).sum())} of {len(known)} sampled rows were never added")


def report(name: str, bytes_per_row: float) -> str:
    """Return one line of the table."""
    total = bytes_per_row * TARGET_ROWS
    within = "yes" if total <= LIMIT else "no"
    return f"| {name} | {bytes_per_row:,.0f} | {total / 1e9:.2f} | {within} |\n"


def main() -> None:
    """Measure and print."""
    player = Player()
    # EnvPool's own memory is at its size once every environment has been through a reset.
    for _ in range(WARM_UP_STEPS):
        player.step()
    player.episodes = 0
    before = resident_bytes()
    buffer = ReplayBuffer(ROWS, num_envs=NUM_ENVS, frame_stack=4)
    seen, count = fill(buffer, player)
    after = resident_bytes()
    check_rows(buffer, seen)
    measured = (after - before) / len(buffer)
    sys.stdout.write(
        f"{count:,} rows and {player.episodes} episodes of Pong-v5 stored, {len(buffer):,} kept; "
        f"resident memory {before / 1e6:.0f} MB before, {after / 1e6:.0f} MB after\n\n"
        "| | bytes a row | 1 M rows, GB | within 8 GB |\n|---|---|---|---|\n"
        + report("tensor_optix, resident memory", measured)
        + report("tensor_optix, `nbytes`", buffer.nbytes / len(buffer))
        + report("Stable-Baselines3, by its arrays", 2 * STACK_BYTES + SB3_SCALARS)
        + report("the same, `optimize_memory_usage`", STACK_BYTES + SB3_SCALARS)
    )


if __name__ == "__main__":
    main()
