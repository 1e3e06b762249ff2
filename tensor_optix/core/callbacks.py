"""The contract of a callback: when it is called and with what, and what it may ask of the loop."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TextIO

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.checkpoint_registry import CheckpointRegistry
    from tensor_optix.core.types import Array, EvalMetrics, LoopState, PolicySnapshot

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WindowReport:
    """What one pass of the loop did: the row that progress displays and logs show."""

    episode_id: int
    """The window's number, from 0."""
    num_steps: int
    """Environment steps of this window."""
    total_steps: int
    """Environment steps of the run so far, this window included."""
    seconds: float
    """Since the run began."""
    collect_seconds: float
    learn_seconds: float
    score: float | None
    """The raw score; None when the window was not evaluated or held no finished episode."""
    smoothed: float | None
    best: float | None
    """The best score so far."""
    state: LoopState
    interval: int
    """Windows between two evaluations, as it was before this one was evaluated."""
    improved: bool = False
    """Whether this evaluation counts as an improvement."""
    diagnostics: dict[str, Any] = field(default_factory=dict)
    """What `learn` returned."""


@dataclass(frozen=True)
class LoopEvent:
    """A decision of the loop, with the numbers that it was taken on. A class for each kind is in `events`."""

    episode_id: int = 0
    """The window in which it was taken; like `total_steps`, filled in by the loop."""
    total_steps: int = 0
    """Environment steps of the run so far."""
    kind: ClassVar[str]
    """What it is called in `events.jsonl`."""

    @property
    def numbers(self) -> dict[str, Any]:
        """The fields of its kind by name, in order, all of them plain values."""
        return {name: value for name, value in asdict(self).items() if name not in _EVERY_KIND}


_EVERY_KIND = ("episode_id", "total_steps")


class LoopControl(Protocol):
    """What a callback may ask of the loop."""

    @property
    def registry(self) -> CheckpointRegistry:
        """Keeps the best policies of the run."""

    @property
    def best_snapshot(self) -> PolicySnapshot | None:
        """The best policy so far."""

    def stop(self, reason: str = ...) -> None:
        """End the run after the window under way."""

    def record(self, event: LoopEvent) -> None:
        """Log a decision, with the window in which it was taken: `on_event` of every callback."""

    def train(self, agent: BaseAgent) -> None:
        """Train `agent` from the next window on, in place of the present one."""

    def play(self, agents: Sequence[BaseAgent], episodes: int) -> Array:
        """Play the same greedy episodes with each agent; return `[len(agents), episodes]` returns.

        Called between two windows only, such as from `on_dormant`. Held-out episodes where there is a
        validation pipeline, else fresh ones of the training pipeline, which then restarts.

        Raises:
            RuntimeError: If the data are live and cannot be replayed.
        """


class LoopCallback:
    """Override what you want to know of. An exception here is logged and does not stop the training."""

    def on_attach(self, control: LoopControl) -> None:
        """Called when the callback is added to a loop."""

    def on_loop_start(self) -> None:
        """Called when the run begins."""

    def on_loop_stop(self) -> None:
        """Called when the run is over, also after an error. The agent holds the best policy."""

    def on_episode_end(self, episode_id: int, eval_metrics: EvalMetrics | None) -> None:
        """Called after every window; None when it was not evaluated."""

    def on_improvement(self, snapshot: PolicySnapshot) -> None:
        """Called when a new best policy was saved, but for the first."""

    def on_plateau(self, episode_id: int, state: LoopState) -> None:
        """Called after every evaluation that left the loop COOLING."""

    def on_dormant(self, episode_id: int) -> bool | None:
        """Called when nothing is left to gain. Return True to let the loop go on."""

    def on_degradation(self, episode_id: int, eval_metrics: EvalMetrics) -> None:
        """Called when the score fell away from the best, and the next evaluation confirmed it."""

    def on_hyperparam_update(self, old_params: dict[str, Any], new_params: dict[str, Any]) -> None:
        """Called with the hyperparameters after every evaluation, changed or not."""

    def on_window(self, report: WindowReport) -> None:
        """Called with the figures of every window, when it has ended."""

    def on_event(self, event: LoopEvent) -> None:
        """Called with every decision of the loop; a class for each kind is in `events`."""


class CallbackList:
    """Calls every callback, in order; what one of them raises is logged.

    Args:
        control: What they may ask of the loop.
    """

    def __init__(self, control: LoopControl) -> None:
        self._callbacks: list[LoopCallback] = []
        self._control = control

    def add(self, callback: LoopCallback) -> None:
        """Add a callback.

        Raises:
            TypeError: If it is no `LoopCallback`.
        """
        if not isinstance(callback, LoopCallback):
            raise TypeError(f"a callback must be a LoopCallback, got {type(callback).__name__}")
        self._callbacks.append(callback)
        callback.on_attach(self._control)

    def emit(self, hook: str, *args: Any) -> list[Any]:
        """Call one hook of every callback; return what they answer."""
        answers = []
        for callback in list(self._callbacks):
            try:
                answers.append(getattr(callback, hook)(*args))
            except Exception:
                logger.exception("%s.%s raised; training goes on", type(callback).__name__, hook)
        return answers


class VerboseCallback(LoopCallback):
    """Write one line per evaluation to a stream."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def on_window(self, report: WindowReport) -> None:
        """Write the line of an evaluated window."""
        if report.score is None or report.smoothed is None:
            return
        suffix = "  ← improvement detected, reset" if report.improved else ""
        print(
            f"  [loop] ep={report.episode_id:4d}  raw={report.score:7.1f}  "
            f"smoothed={report.smoothed:7.1f}  state={report.state.name}  "
            f"interval={report.interval}{suffix}",
            file=self._stream,
            flush=True,
        )
