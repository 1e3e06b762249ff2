"""What a run is made of: arguments of `RLOptimizer` come in by name, checked settings go out."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensor_optix.core.argument_checks import at_least, instance_of, not_negative
from tensor_optix.core.backoff_scheduler import SchedulerSettings
from tensor_optix.core.base_evaluator import BaseEvaluator
from tensor_optix.core.base_optimizer import BaseOptimizer
from tensor_optix.core.base_pipeline import BasePipeline
from tensor_optix.core.callbacks import LoopCallback
from tensor_optix.core.loop_controller import LoopSettings
from tensor_optix.optimizers.diagnostic_controller import DiagnosticSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tensor_optix.core.types import PathLike


@dataclass(frozen=True, kw_only=True)
class OutputSettings:
    """What a run writes and prints.

    Raises:
        ValueError: If a number is out of range.
    """

    checkpoint_dir: PathLike | None = None
    """None: in `run_dir`, or "./checkpoints" without one."""
    max_snapshots: int = 10
    """How many of the best policies are kept."""
    run_dir: PathLike | None = None
    """Where the logs of windows and events are kept. None: there are none."""
    verbose: bool = False
    """Print one line per evaluation."""
    verbose_log_file: PathLike | None = None
    """Takes these lines instead, if given."""
    progress: bool = False
    """Show a panel that is redrawn in place, in a terminal or a notebook; nothing elsewhere."""
    resume: bool = False
    """Go on with the run in `run_dir`, if there is one."""
    checkpoint_seconds: float = 60.0
    """Time between two checkpoints of the whole run in `run_dir`."""

    def __post_init__(self) -> None:
        at_least("max_snapshots", self.max_snapshots, 1)
        not_negative("checkpoint_seconds", self.checkpoint_seconds)
        if self.resume and self.run_dir is None:
            raise ValueError("resume needs the run_dir of the run to go on with, got None")

    @property
    def checkpoints(self) -> Path:
        """Where the best policies are kept."""
        if self.checkpoint_dir is not None:
            return Path(self.checkpoint_dir).expanduser()
        return Path("." if self.run_dir is None else self.run_dir, "checkpoints").expanduser()


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What a run has besides its agent and its pipeline. `RLOptimizer` documents the single settings.

    Raises:
        TypeError: If a part is of the wrong kind.
        ValueError: If a number is out of range.
    """

    val_pipeline: BasePipeline | None = None
    evaluator: BaseEvaluator | None = None
    optimizer: BaseOptimizer | None = None
    callbacks: Sequence[LoopCallback] | None = None
    checkpoint_score_fn: Callable[[Any], float] | None = None
    seed: int | None = None
    loop: LoopSettings = field(default_factory=LoopSettings)
    scheduler: Mapping[str, float] = field(default_factory=dict)
    """Those fields of `SchedulerSettings` that were chosen; the others are picked by `AutoScheduler`."""
    output: OutputSettings = field(default_factory=OutputSettings)
    diagnostics: DiagnosticSettings | None = None
    """None: diagnostics correct nothing."""

    def __post_init__(self) -> None:
        if self.val_pipeline is not None:
            require_pipeline("val_pipeline", self.val_pipeline)
        for name, part, kind in (
            ("evaluator", self.evaluator, BaseEvaluator),
            ("optimizer", self.optimizer, BaseOptimizer),
        ):
            if part is not None:
                instance_of(name, part, kind)
        if isinstance(self.callbacks, LoopCallback | type):
            one = self.callbacks
            got = (
                f"the class {one.__name__}"
                if isinstance(one, type)
                else f"one {type(one).__name__}"
            )
            raise TypeError(f"callbacks must be a list, got {got}")
        for callback in self.callbacks or ():
            instance_of("a callback", callback, LoopCallback)
        SchedulerSettings(**self.scheduler)  # type: ignore[arg-type]


_GROUPS: dict[str, tuple[str, type[Any]]] = {
    "loop": ("", LoopSettings),
    "scheduler": ("", SchedulerSettings),
    "output": ("", OutputSettings),
    "diagnostics": ("diag_", DiagnosticSettings),
}
"""The fields of `RunSettings` that hold other settings, and what precedes the names of these."""


def require_pipeline(name: str, value: Any) -> BasePipeline:
    """Return a pipeline. Raises TypeError for others; for an environment it says how to wrap it."""
    steps = all(callable(getattr(value, method, None)) for method in ("reset", "step"))
    if steps and not isinstance(value, BasePipeline):
        is_class = isinstance(value, type)
        kind = f"class {value.__name__}" if is_class else type(value).__name__
        raise TypeError(
            f"{name} must be a BasePipeline, got the environment {kind}: wrap it, as BatchPipeline(env=...), "
            "or as VectorBatchPipeline(env=...) where it is a vector of them"
        )
    pipeline: BasePipeline = instance_of(name, value, BasePipeline)
    return pipeline


def setting_names() -> list[str]:
    """Return the names of all settings of a run, as arguments of `RLOptimizer`."""
    own = [one.name for one in fields(RunSettings) if one.name not in _GROUPS]
    return own + [prefix + one.name for prefix, kind in _GROUPS.values() for one in fields(kind)]


def _chosen(scheduler: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of the scheduler that are a choice.

    Documentation writes the defaults out: giving one says no more than leaving it out.
    """
    given = {name: value for name, value in scheduler.items() if value is not None}
    checked, documented = SchedulerSettings(**given), SchedulerSettings()
    return {
        name: value
        for name, value in given.items()
        if getattr(checked, name) != getattr(documented, name)
    }


def run_settings(**arguments: Any) -> RunSettings:
    """Return the settings of a run from arguments of `RLOptimizer`; what is left out has its default.

    Raises:
        TypeError: On an unknown name, or if a part is of the wrong kind.
        ValueError: If a number is out of range.
    """
    loop, scheduler, output, diagnostics = (
        {
            one.name: arguments.pop(prefix + one.name)
            for one in fields(kind)
            if prefix + one.name in arguments
        }
        for prefix, kind in _GROUPS.values()
    )
    return RunSettings(
        loop=LoopSettings(**loop),
        scheduler=_chosen(scheduler),
        output=OutputSettings(**output),
        diagnostics=DiagnosticSettings(**diagnostics) if diagnostics else None,
        **arguments,
    )
