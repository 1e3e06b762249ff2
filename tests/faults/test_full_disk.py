"""A disk that is full for a while: training goes on, what was stored stays, nothing is missing in the end."""

from __future__ import annotations

import json
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tensor_optix.core.callbacks import LoopCallback, WindowReport
from tensor_optix.core.checkpoint_registry import CheckpointRegistry
from tensor_optix.core.checkpoints.run_checkpoints import RunCheckpoints
from tests.faults.lasting_run import make_run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WINDOWS = 30


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system can be mounted here: {error}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


class Filler(LoopCallback):
    """Fills the disk after a window, and makes room again after another."""

    def __init__(self, disk: Path, full_after: int, room_after: int) -> None:
        self.file = disk / "filler"
        self.full_after, self.room_after = full_after, room_after

    def on_window(self, report: WindowReport) -> None:
        if report.episode_id == self.full_after:
            with self.file.open("wb", buffering=0) as file, suppress(OSError):
                while True:
                    file.write(bytes(512))
        if report.episode_id == self.room_after:
            self.file.unlink()


def test_a_disk_that_is_full_for_a_while_costs_nothing(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tensor_optix.core.checkpoints.run_keeper.COST_SHARE", 1.0)
    run = small_disk / "run"
    made = make_run(
        str(run),
        "ppo",
        "native",
        max_episodes=WINDOWS,
        checkpoint_seconds=0.0,
        max_snapshots=2,
        callbacks=[Filler(small_disk, 5, 20)],
    )
    made.run()
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["episode_id"] for row in rows] == list(range(WINDOWS))
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    told = [event["reason"] for event in events if event["kind"] == "unsaved"]
    assert told
    assert all("No space left" in reason for reason in told)
    assert next(RunCheckpoints(run / "state").sound()).manifest["windows"] == WINDOWS
    assert not list((run / "state").glob(".staging*"))
    assert CheckpointRegistry(run / "checkpoints").best is not None


def test_on_a_disk_that_stays_full_training_goes_on_and_the_old_checkpoint_stays(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tensor_optix.core.checkpoints.run_keeper.COST_SHARE", 1.0)
    run = small_disk / "run"
    settings = {"checkpoint_seconds": 0.0, "max_snapshots": 2}
    filler = Filler(small_disk, 5, WINDOWS + 1)
    made = make_run(str(run), "ppo", "native", max_episodes=WINDOWS, callbacks=[filler], **settings)
    made.run()
    newest = next(RunCheckpoints(run / "state").sound())
    assert 1 <= newest.manifest["windows"] <= 6
    filler.file.unlink()
    make_run(str(run), "ppo", "native", max_episodes=WINDOWS, **settings).run()
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["episode_id"] for row in rows] == list(range(WINDOWS))
