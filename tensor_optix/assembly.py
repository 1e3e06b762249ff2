"""A run from the arguments of `RLOptimizer`: parts and settings come in, a loop that has them goes out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from tensor_optix.core.backoff_scheduler import AutoScheduler
from tensor_optix.core.base_agent import BaseAgent
from tensor_optix.core.base_evaluator import BaseEvaluator, MeanReturnEvaluator
from tensor_optix.core.base_optimizer import BaseOptimizer, FixedHyperparams
from tensor_optix.core.base_pipeline import BasePipeline
from tensor_optix.core.callbacks import LoopCallback, VerboseCallback
from tensor_optix.core.checkpoint_registry import CheckpointRegistry
from tensor_optix.core.loop_controller import LoopController
from tensor_optix.core.run_log import RunLog

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tensor_optix.core.types import PathLike

_SCHEDULER_ARGUMENTS = (
    "base_interval",
    "backoff_factor",
    "max_interval_episodes",
    "plateau_threshold",
    "dormant_threshold",
    "degradation_threshold",
    "min_degradation_drop",
    "min_episodes_before_dormant",
    "min_episodes_before_degradation",
    "noise_k",
    "score_window",
    "trend_window",
)
_LOOP_ARGUMENTS = (
    "rollback_on_degradation",
    "improvement_margin",
    "max_episodes",
    "val_pipeline",
    "score_smoothing",
    "checkpoint_score_fn",
    "target_score",
    "finalists",
)


def assemble(given: Mapping[str, Any]) -> LoopController:
    """Return the loop that the arguments ask for.

    Args:
        given: Every argument of `RLOptimizer` by name, `diagnostics` those that begin with `diag_`.

    Raises:
        TypeError: If a part is missing or of the wrong kind.
        ValueError: If a number is out of range, or `run_dir` holds another run.
    """
    _check_parts(given)
    agent, seed = given["agent"], given["seed"]
    controller = LoopController(
        agent,
        given["evaluator"] or MeanReturnEvaluator(),
        _optimizer(given),
        given["pipeline"],
        CheckpointRegistry(_checkpoint_dir(given), given["max_snapshots"]),
        _scheduler(given),
        callbacks=_listeners(given),
        verbose=given["verbose"] and given["verbose_log_file"] is None,
        **{name: given[name] for name in _LOOP_ARGUMENTS},
    )
    if seed is not None:
        _seed(seed, agent, given["pipeline"], given["val_pipeline"])
    return controller


def _check_parts(given: Mapping[str, Any]) -> None:
    _require(given["agent"], BaseAgent, "agent")
    _require(given["pipeline"], BasePipeline, "pipeline")
    for kind, name in (
        (BasePipeline, "val_pipeline"),
        (BaseEvaluator, "evaluator"),
        (BaseOptimizer, "optimizer"),
    ):
        if given[name] is not None:
            _require(given[name], kind, name)


def _optimizer(given: Mapping[str, Any]) -> BaseOptimizer:
    agent = given["agent"]
    bounds = dict(agent.default_param_bounds)
    optimizer: BaseOptimizer = given["optimizer"] or FixedHyperparams()
    if given["optimizer"] is None and bounds:
        from tensor_optix.optimizers.spsa_optimizer import SPSAOptimizer

        log_params = list(agent.default_log_params)
        optimizer = SPSAOptimizer(bounds, log_params=log_params, seed=given["seed"])
    if given["diagnostics"]:
        from tensor_optix.optimizers.diagnostic_controller import DiagnosticController

        return DiagnosticController.from_arguments(optimizer, bounds, given["diagnostics"])
    return optimizer


def _scheduler(given: Mapping[str, Any]) -> AutoScheduler:
    settings = {name: given[name] for name in _SCHEDULER_ARGUMENTS}
    if settings["min_episodes_before_dormant"] is None:
        least = given["agent"].default_min_episodes_before_dormant
        settings["min_episodes_before_dormant"] = least
    return AutoScheduler(**settings)


def _listeners(given: Mapping[str, Any]) -> list[LoopCallback]:
    callbacks = given["callbacks"]
    if isinstance(callbacks, LoopCallback):
        raise TypeError(f"callbacks must be a list, got one {type(callbacks).__name__}")
    listeners = list(callbacks or [])
    if given["run_dir"] is not None:
        listeners.append(RunLog(given["run_dir"]))
    if given["verbose_log_file"] is not None:
        listeners.append(_VerboseFile(given["verbose_log_file"]))
    return listeners


def _checkpoint_dir(given: Mapping[str, Any]) -> PathLike:
    chosen: PathLike | None = given["checkpoint_dir"]
    if chosen is not None:
        return chosen
    return "./checkpoints" if given["run_dir"] is None else Path(given["run_dir"]) / "checkpoints"


class _VerboseFile(VerboseCallback):
    """The verbose lines, in a file that is open while the loop runs."""

    def __init__(self, path: PathLike) -> None:
        super().__init__()
        self._path = Path(path)
        self._file: TextIO | None = None

    def on_loop_start(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = self._path.open("a", encoding="utf-8")

    def on_loop_stop(self) -> None:
        if self._stream is not None:
            self._stream.close()


def _seed(seed: int, agent: BaseAgent, *pipelines: BasePipeline | None) -> None:
    children = np.random.SeedSequence(seed).generate_state(1 + len(pipelines))
    agent.seed(int(children[0]))
    for child, pipeline in zip(children[1:], pipelines, strict=True):
        if pipeline is not None:
            pipeline.seed(int(child) % 2**31)


def _require(value: Any, kind: type, name: str) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, got {type(value).__name__}")
