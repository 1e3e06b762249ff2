"""Runs that earlier versions left go on, and their policies are loaded: one of each format is kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import tensor_optix
from tensor_optix.core.checkpoints.run_checkpoints import FORMAT
from tests.faults.lasting_run import make_run

KEPT = Path(__file__).parent
WINDOWS = 4


RUNS = [
    run
    for number in range(1, FORMAT + 1)
    for run in sorted((KEPT / f"runs_of_format_{number}").iterdir())
]


@pytest.mark.parametrize("kept", RUNS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_a_run_of_any_format_goes_on(kept: Path, tmp_path: Path) -> None:
    run = shutil.copytree(kept, tmp_path / "run")
    action = tensor_optix.load(run).predict(np.zeros(4, np.float32))
    assert action in (0, 1)
    resumed = make_run(str(run), kept.name, "native", max_episodes=WINDOWS + 2)
    resumed.run()
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["episode_id"] for row in rows] == list(range(WINDOWS + 2))
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    (event,) = (one for one in events if one["kind"] == "resumed")
    assert (event["windows"], event["after"]) == (WINDOWS, "capped")
