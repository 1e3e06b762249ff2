"""The replay ring: whatever is written, exactly the right rows can be sampled, byte for byte."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tensor_optix.core.replay import storage
from tensor_optix.core.replay_buffer import ReplayBuffer
from tests.replay_oracle import Oracle, World, ready_indices, rows_of, sampleable

if TYPE_CHECKING:
    from numpy.typing import NDArray

EVENTS = ["step"] * 6 + [
    "terminate",
    "truncate",
    "both",
    "other observation",
    "some",
    "jump",
    "flush",
    "nan",
    "infinity",
]
NUMBERS = st.integers(0, 2**32 - 1)
SIZES = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["vectors", "numbers", "frames"]),
        "num_envs": st.integers(1, 4),
        "rows": st.integers(1, 10),
        "n_step": st.integers(1, 5),
    }
)


class Play:
    """A buffer, its oracle and a world, driven by events."""

    def __init__(self, kind: str, num_envs: int, rows: int, n_step: int, seed: int) -> None:
        self.world = World(kind, num_envs, seed)
        self.rng = np.random.default_rng(seed)
        self.oracle = Oracle(rows, n_step, 0.5, num_envs)
        capacity = rows * num_envs + self.rng.integers(num_envs)
        stack = 4 if kind == "frames" else 1
        self.buffer = ReplayBuffer(
            int(capacity), n_step, 0.5, num_envs=num_envs, frame_stack=stack, seed=seed
        )

    def do(self, event: str) -> None:
        if event == "flush":
            self.buffer.flush_episode()
            return self.oracle.flush()
        envs = self.rng.permutation(self.buffer.num_envs)
        if event != "step":
            envs = envs[: self.rng.integers(1, len(envs) + 1)]
        return self.extend(envs, event)

    def extend(self, envs: NDArray[np.int64], event: str) -> None:
        chosen = self.rng.choice(envs) if event in ("terminate", "truncate", "both") else None
        rows = []
        for env in envs.tolist():
            if event == "other observation":
                self.world.now[env] = self.world.reset()
            reward = {"nan": np.nan, "infinity": -np.inf}.get(event, float(self.rng.integers(8)))
            row = self.world.step(env, int(self.rng.integers(5)), reward, event == "jump")
            row.terminated = env == chosen and event != "truncate"
            row.truncated = env == chosen and event != "terminate"
            if row.terminated or row.truncated:
                self.world.now[env] = self.world.reset()
            self.oracle.add(env, row)
            rows.append(row)
        self.buffer.extend(
            np.stack([row.observation for row in rows]),
            np.array([row.action for row in rows]),
            np.array([row.reward for row in rows]),
            np.stack([row.next_observation for row in rows]),
            np.array([row.terminated for row in rows]),
            np.array([row.truncated for row in rows]),
            envs,
        )

    def check(self) -> None:
        expected = self.oracle.sampleable()
        assert sampleable(self.buffer) == expected
        assert len(self.buffer) == expected.total()
        if expected:
            assert set(rows_of(self.buffer.sample(20))) <= set(expected)


def backend(kernels: Any) -> Any:
    return mock.patch.object(storage, "kernels", kernels)


@settings(max_examples=150, deadline=None)
@given(SIZES, NUMBERS, st.lists(st.sampled_from(EVENTS), max_size=40))
def test_what_can_be_sampled_follows_the_definition(
    kernels: Any, sizes: dict[str, Any], seed: int, events: list[str]
) -> None:
    """After every call: n-step rows of every environment, true final observations, exact bytes."""
    with backend(kernels):
        play = Play(**sizes, seed=seed)
        for event in events:
            play.do(event)
            play.check()


@pytest.mark.parametrize("kind", ["vectors", "frames"])
@pytest.mark.parametrize("n_step", [1, 3])
def test_both_backends_write_and_draw_the_same_bytes(
    native_and_numba: tuple[Any, Any], kind: str, n_step: int
) -> None:
    results = []
    for kernels in native_and_numba:
        with backend(kernels):
            play = Play(kind, 3, 7, n_step, seed=5)
            for event in np.random.default_rng(1).choice(EVENTS, 300):
                play.do(event)
            batch = play.buffer.sample(100)
            results.append([*batch, *play.buffer.state_dict().values()])
    for ours, theirs in zip(*results, strict=True):
        assert ours.tobytes() == theirs.tobytes()


@pytest.mark.parametrize("kind", ["vectors", "frames"])
def test_side_frames_are_freed_when_their_slot_is_written_again(kernels: Any, kind: str) -> None:
    """Thousands of episodes later, no more are in use than the slots can hold."""
    with backend(kernels):
        play = Play(kind, 2, 8, 3, seed=0)
        for event in np.random.default_rng(2).choice(EVENTS, 1500):
            play.do(event)
        play.check()
        storage = play.buffer.storage
        assert storage is not None
        in_use = len(storage._side) - storage._counters[2]
        owners = storage._entries[1]
        assert in_use == (owners >= 0).sum()
        layout = storage.layout
        assert in_use <= layout.num_slots * (2 * layout.frames - 1)
        free = storage._entries[0, : storage._counters[2]]
        assert sorted([*free, *np.flatnonzero(owners >= 0)]) == list(range(len(storage._side)))


@pytest.mark.parametrize("lengths", [(8, 8, 8), (2, 8, 5), (0, 8, 1)])
def test_every_ready_row_is_equally_likely(kernels: Any, lengths: tuple[int, ...]) -> None:
    """However many rows the environments have, and around rows that are dropped."""
    with backend(kernels):
        buffer = ReplayBuffer(24, num_envs=3, seed=3)
        for env, length in enumerate(lengths):
            for t in range(length):
                reward = np.nan if (env, t) == (1, 3) else 0.0
                buffer.extend([[t]], [0], [reward], [[t + 1]], [False], [False], [env])
        drawn = buffer.sample(20_000).indices
    counts = [np.count_nonzero(drawn == index) for index in ready_indices(buffer)]
    assert sum(counts) == 20_000
    assert len(counts) == sum(lengths) - 1
    assert stats.chisquare(counts).pvalue > 1e-3
