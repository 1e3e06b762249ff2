"""A run on MLflow, in a directory, read back by its client."""

from __future__ import annotations

from pathlib import Path

import pytest

from tensor_optix.core.callbacks import Ending
from tensor_optix.loggers.mlflow_callback import MLflowCallback
from tests.loggers.reports import begin, finish, resume, windows

pytest.importorskip("mlflow")
from mlflow.tracking import MlflowClient


@pytest.mark.parametrize(
    ("ending", "status"), [(Ending.FINISHED, "FINISHED"), (Ending.INTERRUPTED, "KILLED")]
)
def test_rows_are_sent_and_a_resumed_run_is_the_same_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: Ending, status: str
) -> None:
    # Otherwise it asks for a database, and with that for all of MLflow.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    place = tmp_path.as_uri()
    made = MLflowCallback("cart", "first", place, {"seed": 1})
    begin(made)
    windows(made, 0, 2)
    state = made.state_dict()
    # What a killed run sent after its last checkpoint comes again.
    windows(made, 2, 3)
    made.on_loop_stop()
    again = MLflowCallback("cart", "first", place)
    resume(again, state, 2)
    windows(again, 2, 4)
    finish(again, ending)

    client = MlflowClient(place)
    experiment = client.get_experiment_by_name("cart")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == status
    assert run.info.run_name == "first"
    assert run.data.params == {"seed": "1"}
    history = client.get_metric_history(run.info.run_id, "rollout/ep_rew_mean")
    assert [(one.step, one.value) for one in history] == [
        *((100, 10.0), (200, 11.0), (300, 12.0), (400, 13.0))
    ]
    (told,) = client.list_artifacts(run.info.run_id)
    assert told.path == "events.txt"
    text = Path(client.download_artifacts(run.info.run_id, "events.txt")).read_text()
    assert "resumed" in text
    assert '"reason": "done"' in text
