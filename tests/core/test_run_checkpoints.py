"""Checkpoints of a run as files: whole or not at all, and only what was written is read."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tensor_optix.core.checkpoints.run_checkpoints import RunCheckpoints, learner_path
from tensor_optix.core.checkpoints.saved_state import CheckpointError, write_state

if TYPE_CHECKING:
    from pathlib import Path


def publish(checkpoints: RunCheckpoints, windows: int, **manifest: Any) -> None:
    staged = checkpoints.stage()
    write_state(staged / "loop", {"windows": windows})
    folder = learner_path(staged, 0)
    folder.mkdir()
    (folder / "weights").write_bytes(bytes(100))
    checkpoints.publish(staged, windows, {"replays": {}, **manifest})


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A directory with the checkpoints of the windows 3 and 5."""
    checkpoints = RunCheckpoints(tmp_path / "state")
    for windows in (1, 3, 5):
        publish(checkpoints, windows)
    return tmp_path / "state"


def sound(directory: Path) -> list[int]:
    return [one.manifest["windows"] for one in RunCheckpoints(directory).sound()]


def test_the_newest_come_first_and_only_the_last_stay(state: Path) -> None:
    assert sound(state) == [5, 3]
    first = next(RunCheckpoints(state).sound())
    assert first.state("loop") == {"windows": 5}
    assert (first.learner(0) / "weights").read_bytes() == bytes(100)


def test_one_of_the_same_number_is_replaced(state: Path) -> None:
    publish(RunCheckpoints(state), 5, extra=True)
    newest = next(RunCheckpoints(state).sound())
    assert newest.manifest["extra"] is True
    assert sound(state) == [5, 3]


def test_what_dead_processes_left_is_removed(state: Path) -> None:
    left = state / ".staging_00000000_1_00000000_00000000"
    checkpoints = RunCheckpoints(state)
    staged = checkpoints.stage()
    dead = staged.with_name(staged.name.replace(f"_{os.getpid()}_", "_4194399_"))
    left.mkdir()  # of another host, which may be alive
    os.rename(staged, dead)
    publish(RunCheckpoints(state), 7)
    assert not dead.exists()
    assert left.exists()


def seal(path: Path, manifest: dict[str, Any]) -> None:
    """Write a manifest whose hash is right, as somebody hostile would."""
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    sealed = {"sha256": hashlib.sha256(text.encode()).hexdigest(), "manifest": manifest}
    (path / "manifest.json").write_text(json.dumps(sealed))


HOSTILE = (
    "../ckpt_00000003/loop.json",
    "/etc/passwd",
    "link.json",
    "agents",
    "fifo",
    "",
    ".",
    "agents/../loop.json",
)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_manifest_cannot_lead_elsewhere(
    state: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = state / "ckpt_00000005"
    (path / "link.json").symlink_to(path / "loop.json")
    os.mkfifo(path / "fifo")
    manifest = json.loads((path / "manifest.json").read_text())["manifest"]
    manifest["files"][name] = manifest["files"]["loop.json"]
    seal(path, manifest)
    assert sound(state) == [3]
    assert "ckpt_00000005 is damaged" in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        {"files": None},
        {"files": {"loop.json": 3}},
        {"files": {"loop.json": {"size": "x", "sha256": 3}}},
        {"format": "new"},
        {"format": None},
    ],
)
def test_a_manifest_that_makes_no_sense_is_damage(state: Path, change: dict[str, Any]) -> None:
    path = state / "ckpt_00000005"
    manifest = json.loads((path / "manifest.json").read_text())["manifest"]
    seal(path, manifest | change)
    assert sound(state) == [3]


def test_one_of_a_later_version_is_told_of(state: Path) -> None:
    path = state / "ckpt_00000005"
    manifest = json.loads((path / "manifest.json").read_text())["manifest"]
    seal(path, manifest | {"format": 99})
    with pytest.raises(CheckpointError, match="has format 99"):
        sound(state)


def test_a_manifest_nested_deeply_or_endless_is_damage(state: Path) -> None:
    (state / "ckpt_00000005" / "manifest.json").write_text("[" * 200_000)
    assert sound(state) == [3]
    (state / "ckpt_00000005" / "manifest.json").unlink()
    (state / "ckpt_00000005" / "manifest.json").symlink_to("/dev/zero")
    assert sound(state) == [3]


def corrupt(path: Path, rng: random.Random) -> None:
    """Do something to a file that a disk or a person might do."""
    content = bytearray(path.read_bytes())
    match rng.choice(["flip", "cut", "gone", "other", "empty", "link"]):
        case "flip" if content:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
            path.write_bytes(content)
        case "cut":
            path.write_bytes(content[: rng.randrange(len(content) + 1)])
        case "other":
            path.write_bytes(rng.randbytes(rng.randrange(300)))
        case "empty":
            path.write_bytes(b"")
        case "link":
            path.unlink()
            path.symlink_to("/dev/zero")
        case _:
            path.unlink()


def test_any_damage_is_seen(state: Path, tmp_path: Path) -> None:
    rng = random.Random(0)
    for number in range(300):
        copied = tmp_path / f"copy{number}"
        shutil.copytree(state, copied)
        files = [path for path in sorted(copied.rglob("*")) if path.is_file()]
        before = {path: path.read_bytes() for path in files}
        corrupt(rng.choice(files), rng)
        for path in files:
            is_same = path.is_file() and not path.is_symlink() and path.read_bytes() == before[path]
            if not is_same:
                damaged = int(path.relative_to(copied).parts[0].removeprefix("ckpt_"))
                assert sound(copied) == [one for one in (5, 3) if one != damaged]
        shutil.rmtree(copied)
