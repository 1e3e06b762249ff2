"""The run's diary."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from tensor_optix.core.callbacks import LoopEvent, WindowReport
from tensor_optix.core.run_log import RunLog
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
    log.on_window(report(diagnostics={"loss": math.inf, "n": np.int64(3)}))
    log.on_event(LoopEvent("best", 2, 16, {"score": np.float64(2.0), "params": {"lr": 0.1}}))
    row = json.loads((tmp_path / "run/metrics.jsonl").read_text())
    assert row["score"] is None
    assert row["best"] == 1.5
    assert row["state"] == "ACTIVE"
    assert row["diagnostics"] == {"loss": None, "n": 3}
    event = json.loads((tmp_path / "run/events.jsonl").read_text())
    assert event["kind"] == "best"
    assert event["score"] == 2.0
    log.on_loop_stop()


def test_a_directory_that_holds_another_run_is_refused_before_anything_is_written(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(ValueError, match="holds another run"):
        RunLog(tmp_path)
    RunLog(tmp_path / "new")
    assert not (tmp_path / "new").exists()
