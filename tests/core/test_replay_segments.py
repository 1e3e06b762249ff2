"""Replays in the files of checkpoints: whatever happened between two of them, the whole state comes back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tensor_optix.core.checkpoints.saved_state import CheckpointError
from tensor_optix.core.replay import segments
from tensor_optix.core.replay.segments import MOST_SEGMENTS, ReplayFiles, ReplayMoved
from tensor_optix.core.replay_buffer import PrioritizedReplayBuffer

if TYPE_CHECKING:
    from pathlib import Path


class Source:
    """Transitions of several environments, whose episodes end now and then."""

    def __init__(self, num_envs: int, frames: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.num_envs, self.frames = num_envs, frames
        self.seen = self._fresh()

    def _fresh(self) -> Any:
        shape = (self.num_envs, self.frames, 2) if self.frames > 1 else (self.num_envs, 3)
        return self.rng.integers(0, 255, shape).astype(np.uint8 if self.frames > 1 else np.float32)

    def step(self, buffer: PrioritizedReplayBuffer, is_cut: bool = False) -> None:
        rng, n = self.rng, self.num_envs
        if self.frames > 1:
            newest = rng.integers(0, 255, (n, 1, 2)).astype(np.uint8)
            after = np.concatenate([self.seen[:, 1:], newest], axis=1)
        else:
            after = self._fresh()
        terminated, truncated = rng.random(n) < 0.1, rng.random(n) < 0.05
        actions = rng.integers(0, 4, n)
        rewards = rng.normal(size=n).astype(np.float32)
        ids = np.sort(rng.permutation(n)[: rng.integers(1, n + 1)])
        rows = (self.seen, actions, rewards, after, terminated, truncated)
        buffer.extend(*(row[ids] for row in rows), ids)
        over = terminated | truncated | is_cut
        fresh = self._fresh()
        self.seen = self.seen.copy()
        for env in ids:
            self.seen[env] = fresh[env] if over[env] else after[env]


def buffer(num_envs: int, n_step: int, frames: int, capacity: int = 40) -> PrioritizedReplayBuffer:
    return PrioritizedReplayBuffer(
        capacity,
        alpha=0.6,
        n_step=n_step,
        num_envs=num_envs,
        frame_stack=frames if frames > 1 else None,
        seed=1,
    )


def assert_same(one: Any, other: Any) -> None:
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


ACTIONS = st.lists(
    st.sampled_from(["step"] * 8 + ["cut", "sample", "keep", "keep", "resume", "lose"]),
    min_size=5,
    max_size=120,
)


@settings(max_examples=150, deadline=None)
@given(
    actions=ACTIONS,
    num_envs=st.integers(1, 3),
    n_step=st.integers(1, 3),
    frames=st.sampled_from([1, 1, 3]),
    seed=st.integers(0, 2**16),
)
def test_a_buffer_comes_back_as_it_was_drafted(
    actions: list[str], num_envs: int, n_step: int, frames: int, seed: int, tmp_path_factory: Any
) -> None:
    directory = tmp_path_factory.mktemp("replay")
    files, source = ReplayFiles(directory), Source(num_envs, frames, seed)
    rows = buffer(num_envs, n_step, frames)
    entry, kept = None, None
    for action in [*actions, "keep"]:
        match action:
            case "step" | "cut":
                source.step(rows, action == "cut")
            case "sample" if len(rows):
                drawn = rows.sample(4)
                rows.update_priorities(drawn.indices, source.rng.normal(size=4))
            case "keep" | "lose":
                draft, state = files.draft("r", rows), rows.state_dict()
                for _ in range(source.rng.integers(0, 3)):
                    source.step(rows)
                try:
                    written = files.write(draft)
                except ReplayMoved:
                    continue
                if action == "keep":  # else it was written, but its checkpoint was not
                    entry, kept = json.loads(json.dumps(written)), state
                    files.remove_unused([entry])
            case "resume" if entry is not None:
                files = ReplayFiles(directory)
                rows = buffer(num_envs, n_step, frames)
                rows.load_state_dict(files.read("r", entry))
                assert_same(rows.state_dict(), kept)
                source.seen = source._fresh()
        if entry is not None and kept is not None:
            assert_same(ReplayFiles(directory).read("r", entry), kept)
            assert len(entry["segments"]) <= MOST_SEGMENTS


def filled(steps: int = 300, capacity: int = 200) -> tuple[PrioritizedReplayBuffer, Source]:
    rows, source = buffer(2, 1, 1, capacity), Source(2, 1, 0)
    for _ in range(steps):
        source.step(rows)
    return rows, source


def test_what_is_written_is_what_is_new(tmp_path: Path) -> None:
    rows, source = filled()
    files = ReplayFiles(tmp_path)
    first = files.write(files.draft("r", rows))
    for _ in range(5):
        source.step(rows)
    second = files.write(files.draft("r", rows))
    assert second["segments"][0] == first["segments"][0]
    assert second["segments"][1]["count"] == 5 + 1 + 2
    assert second["segments"][1]["size"] < first["segments"][0]["size"] / 10


def test_a_chain_that_is_long_begins_anew(tmp_path: Path) -> None:
    rows, source = filled()
    files, lengths = ReplayFiles(tmp_path), []
    for _ in range(MOST_SEGMENTS + 3):
        source.step(rows)
        entry = files.write(files.draft("r", rows))
        files.remove_unused([entry])
        lengths.append(len(entry["segments"]))
    assert lengths == [*range(1, MOST_SEGMENTS + 1), 1, 2, 3]
    assert_same(ReplayFiles(tmp_path).read("r", entry), rows.state_dict())
    assert len(list(tmp_path.glob("seg_*"))) == 3


def test_an_empty_buffer_and_one_begun_anew_are_kept(tmp_path: Path) -> None:
    files, empty = ReplayFiles(tmp_path), buffer(2, 1, 1)
    assert_same(files.read("r", files.write(files.draft("r", empty))), empty.state_dict())
    rows, _ = filled()
    files.write(files.draft("r", rows))
    other, _ = filled(20)
    entry = files.write(files.draft("r", other))
    assert_same(ReplayFiles(tmp_path).read("r", entry), other.state_dict())


def test_rows_that_are_written_over_meanwhile_are_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "SOON", 3)
    rows, source = filled()
    files = ReplayFiles(tmp_path)
    draft, state = files.draft("r", rows), rows.state_dict()
    for _ in range(3):
        source.step(rows)
    assert_same(ReplayFiles(tmp_path).read("r", files.write(draft)), state)
    draft = ReplayFiles(tmp_path).draft("other", rows)
    for _ in range(10):
        source.step(rows)
    other = ReplayFiles(tmp_path / "other")
    other._chains["other"] = segments._Chain()
    with pytest.raises(ReplayMoved):
        other.write(draft)
    assert list((tmp_path / "other").iterdir()) == []
    entry = other.write(other.draft("other", rows))
    assert_same(ReplayFiles(tmp_path / "other").read("other", entry), rows.state_dict())


@pytest.mark.parametrize("kind", ["altered", "torn", "gone", "link"])
def test_a_damaged_file_is_a_checkpoint_error(kind: str, tmp_path: Path) -> None:
    rows, _ = filled()
    files = ReplayFiles(tmp_path)
    entry = files.write(files.draft("r", rows))
    for path in sorted(tmp_path.iterdir()):
        content = path.read_bytes()
        match kind:
            case "altered":
                path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
            case "torn":
                path.write_bytes(content[:-1])
            case "gone":
                path.unlink()
            case _:
                path.unlink()
                path.symlink_to("/dev/zero")
        with pytest.raises(CheckpointError, match="the replay r"):
            ReplayFiles(tmp_path).read("r", entry)
        path.unlink(missing_ok=True)
        path.write_bytes(content)
    ReplayFiles(tmp_path).read("r", entry)


HOSTILE = [
    {"small": "../small_00000000"},
    {"small": 3},
    {"files": {"../../etc/passwd": {"size": 1, "sha256": ""}}},
    {"files": None},
    {"segments": [{}]},
    {"segments": None},
    *({"segments": [{"change": change}]} for change in (
        {"name": "/etc/passwd"}, {"row_bytes": 0}, {"row_bytes": 10**9}, {"slots": 0}, {"slots": 10**15},
        {"count": -1}, {"count": 10**12}, {"starts": [0] * 10**6}, {"starts": []}, {"size": 10**15},
    )),
]  # fmt: skip


@pytest.mark.parametrize("change", HOSTILE, ids=lambda change: str(change)[:60])
def test_a_hostile_entry_is_a_checkpoint_error(change: dict[str, Any], tmp_path: Path) -> None:
    rows, _ = filled()
    files = ReplayFiles(tmp_path)
    entry = files.write(files.draft("r", rows))
    segment = (change.get("segments") or [{}])[0].get("change")
    if segment is not None:
        change = {"segments": [entry["segments"][0] | segment]}
    with pytest.raises(CheckpointError, match="the replay r"):
        ReplayFiles(tmp_path).read("r", entry | change)
