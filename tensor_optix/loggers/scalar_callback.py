"""The figures of a run under the names that boards have for them: reports come in, rows of scalars go out.

What every logger shares; one that writes to a board of another kind is a subclass.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from numbers import Real
from typing import TYPE_CHECKING, Any

from tensor_optix.core.callbacks import Best, LoopCallback, LoopEvent, Resumed, Start, WindowReport
from tensor_optix.core.json_values import to_readable_json

if TYPE_CHECKING:
    from collections.abc import Mapping

SCALARS = {
    "rollout/ep_rew_mean": "the score: the mean return of the episodes that a window is judged by",
    "rollout/best": "the best score so far",
    "rollout/exploration_rate": "`epsilon`",
    "time/total_timesteps": "environment steps",
    "time/iterations": "windows",
    "time/time_elapsed": "seconds",
    "time/fps": "environment steps a second, since the window before",
    "train/loss": "`loss`",
    "train/policy_gradient_loss": "`policy_loss`",
    "train/value_loss": "`value_loss`",
    "train/entropy_loss": "`entropy`, times -1",
    "train/approx_kl": "`approx_kl`",
    "train/explained_variance": "`explained_variance`",
    "train/actor_loss": "`actor_loss`",
    "train/critic_loss": "`critic_loss`",
    "train/ent_coef": "`alpha`, the weight of the entropy",
    "train/n_updates": "updates so far",
    "train/learning_rate": "the learning rate in force",
}
"""The scalars of a row, as far as there are any, and what each is, or which diagnostic of the window. The
names are those of Stable-Baselines3's boards. Other numbers that `learn` returned are `train/NAME`, and the
hyperparameters in force `hyperparams/NAME`."""
STEPS = "time/total_timesteps"
"""The scalar that the others stand at."""
_RENAMED = {
    "epsilon": "rollout/exploration_rate",
    "policy_loss": "train/policy_gradient_loss",
    "alpha": "train/ent_coef",
}
_LEFT_OUT = ("explained_var", "entropy", "n_updates")
"""Diagnostics that are in a row by another name, or in another form."""


class ScalarCallback(LoopCallback, ABC):
    """Writes a row of scalars for each window, by environment steps, and a line for each decision.

    What is written to is opened with the first of them, so that a run that is resumed goes on in it.
    """

    def __init__(self) -> None:
        self._is_open = False
        self._resumed_at: int | None = None
        self._seconds = 0.0
        self._updates = 0
        self._params: dict[str, Any] = {}

    @abstractmethod
    def open(self) -> None:
        """Make or find what is written to. Called once in a run, before anything is written."""

    @abstractmethod
    def write(self, row: Mapping[str, float], steps: int) -> None:
        """Write the scalars of a window; none of them is NaN or infinite.

        Args:
            row: By the names of `SCALARS`.
            steps: Environment steps so far.
        """

    @abstractmethod
    def tell(self, kind: str, text: str, steps: int) -> None:
        """Write a decision: its kind, and its numbers as JSON."""

    @abstractmethod
    def close(self) -> None:
        """End what is written to. Called once, if it was opened."""

    @property
    def resumed_at(self) -> int | None:
        """Environment steps that a resumed run goes on from; what was written of later ones comes again."""
        return self._resumed_at

    def on_loop_start(self) -> None:
        """Begin anew, or go on: steps, seconds and updates of a second run are those of both."""
        self._is_open, self._resumed_at = False, None

    def on_hyperparam_update(self, old_params: dict[str, Any], new_params: dict[str, Any]) -> None:
        """Keep what is in force."""
        self._params = new_params

    def on_window(self, report: WindowReport) -> None:
        """Write a row."""
        self._require_open()
        self._updates += int(report.diagnostics.get("n_updates", 0))
        elapsed, self._seconds = report.seconds - self._seconds, report.seconds
        row = scalars(report, elapsed, self._updates, self._params)
        self.write(row, report.total_steps)

    def on_event(self, event: LoopEvent) -> None:
        """Write a line; new bests are in the rows."""
        if isinstance(event, Resumed):
            self._resumed_at, self._seconds = event.total_steps, event.seconds
        if not isinstance(event, Start | Best):
            self._require_open()
            numbers = json.dumps(to_readable_json(event.numbers), allow_nan=False)
            self.tell(event.kind, numbers, event.total_steps)

    def on_loop_stop(self) -> None:
        """Close what was opened."""
        if self._is_open:
            self._is_open = False
            self.close()

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run goes on with."""
        return {"updates": self._updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take on what `state_dict` returned."""
        self._updates = int(state["updates"])

    def _require_open(self) -> None:
        if not self._is_open:
            self.open()
            self._is_open = True


def scalars(
    report: WindowReport, elapsed: float, updates: int, params: Mapping[str, Any]
) -> dict[str, float]:
    """Return the row of a window, by the names of `SCALARS`; what is NaN or infinite is left out.

    Args:
        report: Of the window.
        elapsed: Seconds since the window before ended.
        updates: Of the run so far.
        params: Hyperparameters in force.
    """
    learned = report.diagnostics
    row: dict[str, Any] = {
        "rollout/ep_rew_mean": report.score,
        "rollout/best": report.best,
        STEPS: report.total_steps,
        "time/iterations": report.episode_id + 1,
        "time/time_elapsed": report.seconds,
        "time/fps": report.num_steps / elapsed if elapsed > 0.0 else None,
    }
    for name, value in learned.items():
        if name not in _LEFT_OUT:
            row[_RENAMED.get(name, f"train/{name}")] = value
    if "entropy" in learned:
        row["train/entropy_loss"] = -learned["entropy"]
    if "n_updates" in learned:
        row["train/n_updates"] = updates
    if "learning_rate" in params:
        row["train/learning_rate"] = params["learning_rate"]
    row |= {f"hyperparams/{name}": value for name, value in params.items()}
    return {name: float(value) for name, value in row.items() if _is_finite(value)}


def _is_finite(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
