"""A run on MLflow, by its client: what else the process tracks there stays as it is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tensor_optix.core.callbacks import Ending, Error, LoopEvent, Stop
from tensor_optix.loggers.extras import importing
from tensor_optix.loggers.scalar_callback import STEPS, ScalarCallback

if TYPE_CHECKING:
    from collections.abc import Mapping


class MLflowCallback(ScalarCallback):
    """Sends the scalars of `loggers.scalar_callback.SCALARS`, by environment steps, and decisions as a file.

    A resumed run goes on as the same run.

    Args:
        experiment: Its name; it is made where there is none.
        name: Of the run. None: one is drawn.
        tracking_uri: Where. None: as MLflow is set up, by `MLFLOW_TRACKING_URI` for instance.
        params: What to list as its parameters, beside the scalars.

    Raises:
        ImportError: If MLflow is not installed.

    Examples:
        >>> from tensor_optix import MLflowCallback, RLOptimizer, VectorBatchPipeline, make_agent
        >>> board = MLflowCallback("cart", tracking_uri="sqlite:///mlflow.db", params={"note": "first"})
        >>> pipeline = VectorBatchPipeline(env_id="CartPole-v1", num_envs=8)
        >>> agent = make_agent("CartPole-v1", framework="native")
        >>> optimizer = RLOptimizer(agent, pipeline, callbacks=[board])
    """

    def __init__(
        self,
        experiment: str,
        name: str | None = None,
        tracking_uri: str | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        with importing("mlflow"):
            from mlflow.entities import Metric
            from mlflow.tracking import MlflowClient
        self._make_metric, self._make_client = Metric, MlflowClient
        self._experiment, self._name, self._uri = experiment, name, tracking_uri
        self._listed = dict(params or {})
        self._run_id = ""
        self._sent_until = 0.0
        self._told: list[str] = []
        self._status = "FINISHED"

    def open(self) -> None:
        """Begin the run, or go on with it."""
        self._client = self._make_client(self._uri)
        if self._run_id:
            self._client.update_run(self._run_id, status="RUNNING")
            sent = self._client.get_run(self._run_id).data.metrics
            self._sent_until = sent.get(STEPS, 0.0)
            return
        found = self._client.get_experiment_by_name(self._experiment)
        number = found.experiment_id if found else self._client.create_experiment(self._experiment)
        self._run_id = self._client.create_run(number, run_name=self._name).info.run_id
        for name, value in self._listed.items():
            self._client.log_param(self._run_id, name, value)

    def write(self, row: Mapping[str, float], steps: int) -> None:
        """Send the scalars, but for windows that a killed run sent after its last checkpoint."""
        if steps <= self._sent_until:
            return
        now = int(1e3 * time.time())
        metrics = [self._make_metric(name, value, now, steps) for name, value in row.items()]
        self._client.log_batch(self._run_id, metrics=metrics)

    def tell(self, kind: str, text: str, steps: int) -> None:
        """Keep a line of the file."""
        self._told.append(f"{steps:>12,}  {kind:<12}  {text}")

    def on_event(self, event: LoopEvent) -> None:
        """Write a line, and see how the run ends."""
        super().on_event(event)
        if isinstance(event, Error):
            self._status = "FAILED"
        elif isinstance(event, Stop) and event.ending is Ending.INTERRUPTED:
            self._status = "KILLED"

    def close(self) -> None:
        """Send the decisions, and end the run."""
        self._client.log_text(self._run_id, "\n".join(self._told) + "\n", "events.txt")
        self._client.set_terminated(self._run_id, self._status)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run goes on with."""
        return super().state_dict() | {"run_id": self._run_id, "told": list(self._told)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take on what `state_dict` returned."""
        super().load_state_dict(state)
        self._run_id, self._told = str(state["run_id"]), list(state["told"])
