"""Runs killed at random moments: what they leave can be read, and no more than an interval is lost."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tensor_optix.core.checkpoint_registry import CheckpointRegistry
from tensor_optix.core.checkpoints.run_checkpoints import RunCheckpoints
from tests.faults.lasting_run import CHECKPOINT_SECONDS
from tests.frameworks import require

ALGORITHMS = ("ppo", "dqn", "sac", "td3", "ensemble", "trials")
KILLS = {"native": 20, "torch": 8, "tensorflow": 6}
"""Of each algorithm: 204 in all."""
DEADLINE_SECONDS = 120.0
SLACK_SECONDS = 6.0
"""What a checkpoint may come later than it is due: a window, and an interval that is longer as checkpoints
take more than their share on a busy machine."""


class LastingRun:
    """A run in a process of its own, which is begun anew after each kill."""

    def __init__(self, directory: Path, algorithm: str, framework: str) -> None:
        self.directory = directory
        self._command = [sys.executable, "-m", "tests.faults.lasting_run"]
        self._command += [str(directory), algorithm, framework]
        self._output = directory.with_suffix(".out")

    def until_killed(self, seconds: float) -> None:
        """Let it run until it has done something, and so many seconds longer; then kill it."""
        before = self.last_seconds()
        with self._output.open("w") as output:
            process = subprocess.Popen(
                self._command,
                stdout=output,
                stderr=output,
                cwd=Path(__file__).parents[2],
                env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
            )
            deadline = time.monotonic() + DEADLINE_SECONDS
            while self.last_seconds() == before:
                assert process.poll() is None, self._output.read_text()
                assert time.monotonic() < deadline, self._output.read_text()
                time.sleep(0.02)
            time.sleep(seconds)
            assert process.poll() is None, self._output.read_text()
            process.send_signal(signal.SIGKILL)
            process.wait()

    def rows(self) -> list[dict[str, float]]:
        """Return the windows in the log; a line that was torn is none."""
        path = self.directory / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def last_seconds(self) -> float:
        rows = self.rows()
        return rows[-1]["seconds"] if rows else -1.0


def check(run: LastingRun) -> None:
    """Check what a kill has left."""
    rows = run.rows()
    assert [row["episode_id"] for row in rows] == list(range(len(rows)))
    newest = next(RunCheckpoints(run.directory / "state").sound(), None)
    kept = 0.0 if newest is None else newest.manifest["seconds"]
    lost = rows[-1]["seconds"] - kept if rows else 0.0
    assert lost <= CHECKPOINT_SECONDS + SLACK_SECONDS
    registry = CheckpointRegistry(run.directory / "checkpoints")
    for record in registry._store.records():
        registry._store.verify(record)
    assert not (registry.snapshots and registry.best is None)


def kill_again_and_again(run: LastingRun, kills: int, seed: int) -> None:
    moments = random.Random(seed)
    for _ in range(kills):
        run.until_killed(moments.uniform(0.0, 1.5))
        check(run)
    state = run.directory / "state"
    assert len([path for path in state.iterdir() if path.name.startswith(".staging")]) <= 2


@pytest.mark.parametrize("algorithm", ["ppo", "sac"])
def test_a_run_that_is_killed_now_and_then_goes_on(algorithm: str, tmp_path: Path) -> None:
    kill_again_and_again(LastingRun(tmp_path / "run", algorithm, "native"), 2, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("framework", sorted(KILLS))
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_run_that_is_killed_at_any_moment_goes_on(
    algorithm: str, framework: str, tmp_path: Path
) -> None:
    require(framework)
    run = LastingRun(tmp_path / "run", algorithm, framework)
    kill_again_and_again(run, KILLS[framework], seed=ALGORITHMS.index(algorithm))
