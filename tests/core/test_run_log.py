"""The log of a run."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from tensor_optix.core.callbacks import Best, Dormant, Recovered, RunLog, WindowReport
from tensor_optix.core.decisions.convergence import plateau_test
from tensor_optix.core.types import LoopState


def report(**fields) -> WindowReport:
    known = {
        "episode_id": 0,
        "num_steps": 8,
        "total_steps": 8,
        "seconds": 1.0,
        "collect_seconds": 0.5,
        "learn_seconds": 0.5,
        "score": math.nan,
        "smoothed": None,
        "best": np.float32(1.5),
        "state": LoopState.ACTIVE,
        "interval": 1,
    }
    return WindowReport(**known | fields)


def test_every_window_and_event_is_a_line_of_strict_json_at_once(tmp_path):
    log = RunLog(tmp_path / "run")
    log.on_loop_start()
    figures = {"loss": math.inf, "n": np.int64(3), "sizes": (np.ones(2), 2), 4: Path("a")}
    log.on_window(report(diagnostics=figures))
    log.on_event(Best(2, 16, score=np.float64(2.0), rank=math.inf))
    row = json.loads((tmp_path / "run/metrics.jsonl").read_text())
    assert row["score"] is None
    assert row["best"] == 1.5
    assert row["state"] == "ACTIVE"
    assert row["diagnostics"] == {"loss": None, "n": 3, "sizes": [[1.0, 1.0], 2], "4": "a"}
    event = json.loads((tmp_path / "run/events.jsonl").read_text())
    assert list(event) == ["kind", "episode_id", "total_steps", "time", "score", "rank"]
    assert (event["kind"], event["episode_id"], event["total_steps"]) == ("best", 2, 16)
    assert (event["score"], event["rank"]) == (2.0, None)
    log.on_loop_stop()


STANDSTILL = {"evaluations": 3, "non_improvements": 2, "interval": 1, "best": 1.0, "noise": 0.5}


@pytest.mark.parametrize("has_test", [True, False])
def test_a_standstill_is_written_with_its_test_where_there_is_one(tmp_path, has_test):
    log = RunLog(tmp_path)
    log.on_loop_start()
    test = plateau_test([1.0, 2.0]) if has_test else None
    log.on_event(Dormant(**STANDSTILL, plateau_test=test))
    log.on_event(Recovered(reason="why", hyperparams={"lr": 0.1, "sizes": (1, 2)}))
    dormant, recovered = map(json.loads, (tmp_path / "events.jsonl").read_text().splitlines())
    head = ["kind", "episode_id", "total_steps", "time"]
    assert list(dormant) == [*head, *STANDSTILL, *["plateau_test"] * has_test]
    assert recovered["hyperparams"] == {"lr": 0.1, "sizes": [1, 2]}
    if has_test:
        assert dormant["plateau_test"]["improvements"] == [None, None]
    log.on_loop_stop()


def test_a_directory_that_holds_another_run_is_refused_before_anything_is_written(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(ValueError, match="holds another run"):
        RunLog(tmp_path)
    RunLog(tmp_path / "new")
    assert not (tmp_path / "new").exists()
