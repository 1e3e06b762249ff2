"""What a replay costs in memory, where it lies, and what does not fit."""

from __future__ import annotations

import logging
import sys
from typing import Any

import numpy as np
import pytest

from tensor_optix.core.replay import storage
from tensor_optix.core.replay_buffer import ReplayBuffer
from tests.replay_oracle import rows_of, walk


def atari(buffer: ReplayBuffer, steps: int, num_envs: int = 1) -> None:
    rng = np.random.default_rng(0)
    stack = np.zeros((num_envs, 4, 84, 84), np.uint8)
    flags = np.zeros(num_envs, bool)
    for _ in range(steps):
        frame = rng.integers(0, 255, (num_envs, 1, 84, 84), np.uint8)
        follow = np.concatenate([stack[:, 1:], frame], axis=1)
        buffer.extend(stack, np.zeros(num_envs, np.int64), np.zeros(num_envs), follow, flags, flags)
        stack = follow


def test_a_stack_of_four_frames_costs_one_frame_a_row() -> None:
    buffer = ReplayBuffer(300, seed=0)
    atari(buffer, 400)
    assert buffer.storage is not None
    assert buffer.storage.layout.frames == 4
    assert buffer.storage.layout.slot.itemsize == 84 * 84 + 48  # 7104; unstacked it is 28 kB
    assert buffer.nbytes / 300 < 7_400
    batch = buffer.sample(20)
    assert (batch.observations[:, 1:] == batch.next_observations[:, :-1]).all()


def test_frames_that_repeat_at_a_reset_are_stored_once() -> None:
    buffer = ReplayBuffer(50, frame_stack=4)
    frame = np.ones((4, 8, 8), np.uint8)
    for t in range(5):
        buffer.push(frame * t, 0, 0.0, frame * t, True)
    assert buffer.storage is not None
    in_use = (buffer.storage.state()["side_entries"][1] >= 0).sum()
    assert in_use == 5  # the final observations' newest frames


@pytest.mark.parametrize("shape", [(3, 8, 8), (9, 8, 8), (4, 8), (1, 8, 8)])
def test_images_that_are_no_stack_are_stored_whole(shape: tuple[int, ...]) -> None:
    buffer = ReplayBuffer(10)
    rng = np.random.default_rng(1)
    images = rng.integers(0, 255, (2, *shape), np.uint8)
    buffer.push(images[0], 0, 0.0, images[1], False)
    assert buffer.storage is not None
    assert buffer.storage.layout.frames == 1


def test_the_size_is_logged_before_it_is_allocated(caplog: pytest.LogCaptureFixture) -> None:
    buffer = ReplayBuffer(1000)
    with caplog.at_level(logging.INFO):
        walk(buffer, 1)
    assert caplog.messages == ["replay: 1,000 rows, 24.0 kB"]
    assert buffer.storage is not None
    assert buffer.nbytes >= 24 * 1001


def test_what_does_not_fit_into_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "available_memory", lambda: 1_500_000)
    buffer = ReplayBuffer(1_000_000)
    said = "needs 24.0 MB of memory, 1.5 MB are available: .* memory_map"
    with pytest.raises(MemoryError, match=said):
        walk(buffer, 1)
    assert len(buffer) == 0


def test_available_memory_is_that_of_this_machine() -> None:
    available = storage.available_memory()
    assert available is None or 1e8 < available < 1e14


def test_rows_can_lie_in_a_file(tmp_path: Any) -> None:
    path = tmp_path / "rows"
    mapped, plain = ReplayBuffer(50, memory_map=path, seed=0), ReplayBuffer(50, seed=0)
    for buffer in (mapped, plain):
        walk(buffer, 80)
    assert rows_of(mapped.sample(30)) == rows_of(plain.sample(30))
    assert path.stat().st_size == 51 * 24
    with pytest.raises(FileExistsError, match="memory_map must be a new file"):
        walk(ReplayBuffer(50, memory_map=path), 1)


def test_a_file_that_does_not_fit_the_disk_is_refused(tmp_path: Any) -> None:
    buffer = ReplayBuffer(2**30, memory_map=tmp_path / "rows")
    image = np.zeros((1, 1000, 1000, 3))
    with pytest.raises(OSError, match="choose a smaller capacity or another disk"):
        buffer.extend(image, [0], [0.0], image, [False], [False])
    assert not (tmp_path / "rows").exists()


def test_a_frame_that_repeats_in_a_stack_that_is_cut_is_kept_once() -> None:
    buffer = ReplayBuffer(50, frame_stack=4)
    stack = np.ones((4, 8, 8), np.uint8)
    buffer.push(stack, 0, 0.0, stack * 7, False)
    buffer.push(stack * 9, 0, 0.0, stack * 9, False)
    assert buffer.storage is not None
    assert (buffer.storage.state()["side_entries"][1] >= 0).sum() == 1


@pytest.mark.skipif(sys.platform != "linux", reason="no other system reserves room for a file")
def test_the_room_of_a_file_is_reserved(tmp_path: Any) -> None:
    """A file with holes would end the process when others have filled the disk."""
    walk(ReplayBuffer(100_000, memory_map=tmp_path / "rows"), 1)
    found = (tmp_path / "rows").stat()
    assert found.st_blocks * 512 >= found.st_size


def test_a_file_without_room_is_removed_again(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(storage.os, "posix_fallocate", full)
    with pytest.raises(OSError, match="no space left on device; choose a smaller capacity"):
        walk(ReplayBuffer(50, memory_map=tmp_path / "rows"), 1)
    assert not (tmp_path / "rows").exists()


def test_the_side_table_stays_in_proportion_to_the_rows() -> None:
    """Episodes of one step put an observation aside in every row, and free it again."""
    buffer = ReplayBuffer(100, n_step=3, num_envs=10)
    ends, goes_on = np.ones(10, bool), np.zeros(10, bool)
    for t in range(3000):
        now = np.full((10, 4), float(t))
        buffer.extend(now, np.zeros(10, np.int64), np.ones(10, np.float32), now + 1, ends, goes_on)
    assert buffer.storage is not None
    assert buffer.nbytes < 3 * buffer.storage.layout.ring_bytes
