"""A run on Weights & Biases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tensor_optix.loggers.extras import importing
from tensor_optix.loggers.scalar_callback import STEPS, ScalarCallback

if TYPE_CHECKING:
    from collections.abc import Mapping


class WandbCallback(ScalarCallback):
    """Sends the scalars of `loggers.scalar_callback.SCALARS`, by environment steps, and a table of decisions.

    A resumed run goes on as the same run; what a killed one sent after its last checkpoint is sent again.

    Args:
        project: Where it is listed.
        name: Of the run. None: one is drawn.
        config: What to list as its configuration, beside the scalars.
        **options: Further arguments of `wandb.init`, such as `entity`, `group`, `tags`, `dir` or `mode`.

    Raises:
        ImportError: If wandb is not installed.

    Examples:
        >>> from tensor_optix import RLOptimizer, VectorBatchPipeline, WandbCallback, make_agent
        >>> board = WandbCallback("cart", mode="offline", tags=["first"])
        >>> pipeline = VectorBatchPipeline(env_id="CartPole-v1", num_envs=8)
        >>> agent = make_agent("CartPole-v1", framework="native")
        >>> optimizer = RLOptimizer(agent, pipeline, callbacks=[board])
    """

    def __init__(
        self,
        project: str,
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        with importing("wandb"):
            import wandb
        self._wandb = wandb
        self._options = {
            "project": project,
            "name": name,
            "config": dict(config or {}),
            "resume": "allow",
            **options,
        }
        self._told: list[list[Any]] = []

    def open(self) -> None:
        """Begin the run, or go on with it."""
        self._run = self._wandb.init(**self._options)
        self._options["id"] = self._run.id
        self._run.define_metric(STEPS)
        self._run.define_metric("*", step_metric=STEPS)

    def write(self, row: Mapping[str, float], steps: int) -> None:
        """Send the scalars."""
        self._run.log(dict(row))

    def tell(self, kind: str, text: str, steps: int) -> None:
        """Keep a line of the table."""
        self._told.append([steps, kind, text])

    def close(self) -> None:
        """Send the table, and end the run."""
        table = self._wandb.Table(columns=["steps", "kind", "numbers"], data=self._told)
        self._run.log({"events": table})
        self._run.finish()

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run goes on with."""
        return super().state_dict() | {"id": self._options.get("id"), "told": list(self._told)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take on what `state_dict` returned."""
        super().load_state_dict(state)
        self._options["id"], self._told = state["id"], [list(one) for one in state["told"]]
