"""One trial: hyperparameters and a seed come in, the score of a short training goes out."""

from __future__ import annotations

import inspect
import logging
import math
import tempfile
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tensor_optix.core.base_evaluator import BaseEvaluator, MeanReturnEvaluator
from tensor_optix.core.base_optimizer import FixedHyperparams
from tensor_optix.core.callbacks import LoopCallback, WindowReport
from tensor_optix.core.types import LoopState
from tensor_optix.optimizer import RLOptimizer
from tensor_optix.optimizers.diagnostic_controller import DIAGNOSTIC_ARGUMENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.base_pipeline import BasePipeline
    from tensor_optix.core.types import EpisodeData, EvalMetrics

logger = logging.getLogger(__name__)

_OWNED = {
    "agent": "agent_factory=",
    "pipeline": "pipeline_factory=",
    "val_pipeline": "val_pipeline_factory=",
    "agent_factory": "agent_factory=",
    "trial_agent_factory": "agent_factory=",
    "pipeline_factory": "pipeline_factory=",
    "val_pipeline_factory": "val_pipeline_factory=",
    "param_space": "param_space=",
    "n_trials": "n_trials=",
    "trial_steps_fraction": "trial_steps=",
    "checkpoint_score_fn": "checkpoint_score_fn=",
    "seed": "seed=",
    "checkpoint_dir": "nothing: each trial has a directory of its own, removed afterwards",
    "run_dir": "nothing: a trial leaves no files",
    "optimizer": "nothing: the hyperparameters of a trial stay as they were drawn",
}
"""Arguments of `RLOptimizer` that each trial gets from elsewhere, and what to give instead."""


@dataclass(frozen=True)
class TrialSetup:
    """What all trials have in common. The fields are the arguments of `TrialOrchestrator`."""

    agent_factory: Callable[[dict[str, Any]], BaseAgent]
    pipeline_factory: Callable[[], BasePipeline]
    val_pipeline_factory: Callable[[], BasePipeline] | None = None
    checkpoint_score_fn: Callable[[BaseAgent], float] | None = None
    trial_steps: int | None = None
    """Environment steps; a trial ends with the window that reaches them. None: no such end."""
    is_minimized: bool = False
    """Whether lower scores are better."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of `RLOptimizer`."""

    def check(self) -> None:
        """Refuse what no trial could run with.

        Raises:
            TypeError: If a factory cannot be called, or `RLOptimizer` has no such option.
            ValueError: If `trial_steps` is below 1, or an option is not the user's to give.
        """
        for name in ("agent_factory", "pipeline_factory"):
            if not callable(getattr(self, name)):
                raise TypeError(f"{name} must be a function, got {getattr(self, name)!r}")
        if self.trial_steps is not None and self.trial_steps < 1:
            raise ValueError(f"trial_steps must be at least 1, got {self.trial_steps}")
        parameters = inspect.signature(RLOptimizer).parameters.values()
        known = {one.name for one in parameters if one.kind is not one.VAR_KEYWORD}
        known.update(DIAGNOSTIC_ARGUMENTS)
        for name in self.options:
            if name in _OWNED:
                raise ValueError(f"rloptimizer_kwargs must not hold {name!r}; give {_OWNED[name]}")
            if name not in known:
                raise TypeError(f"rloptimizer_kwargs holds {name!r}, which RLOptimizer has not")


@dataclass(frozen=True)
class TrialScore:
    """What came of a trial."""

    score: float
    """Of the best policy, in the user's own sense."""
    steps: int
    """Environment steps that were trained on."""
    evaluations: int


class TrialRun:
    """Trains one agent for a limited number of steps.

    Args:
        setup: Was checked.
    """

    def __init__(self, setup: TrialSetup) -> None:
        self._setup = setup
        self._optimizer: RLOptimizer | None = None
        self._stop_reason: str | None = None

    def stop(self, reason: str) -> None:
        """End the training after the window under way; also called before it has begun."""
        self._stop_reason = reason
        if self._optimizer is not None:
            self._optimizer.stop(reason)

    def run(
        self, params: dict[str, Any], seed: int, listener: LoopCallback | None = None
    ) -> TrialScore | None:
        """Train; None if the training was stopped before its end, by `stop`.

        Args:
            params: For the agent factory.
            seed: Agent and environments follow from it.
            listener: Hears of the training, besides the callbacks among the options.

        Raises:
            RuntimeError: If there is no finite score: no episode finished, for instance.
            Exception: Whatever factories, agent and environments raise.
        """
        setup, watch = self._setup, _StepWatch(self._setup.trial_steps)
        agent = setup.agent_factory(dict(params))
        validation = setup.val_pipeline_factory
        with tempfile.TemporaryDirectory(prefix="tensor-optix-trial-") as directory:
            self._optimizer = watch.optimizer = RLOptimizer(
                agent,
                setup.pipeline_factory(),
                val_pipeline=None if validation is None else validation(),
                checkpoint_dir=directory,
                seed=seed,
                **self._options([watch] if listener is None else [watch, listener]),
            )
            if self._stop_reason is None:
                self._optimizer.run()
            if self._stop_reason is not None:
                return None
            score = self._score(agent, self._optimizer)
        if watch.evaluations < 2:
            logger.warning(
                "a trial of %d steps had a single evaluation: nothing that was learned has been "
                "scored; raise trial_steps, or let the pipeline give smaller windows",
                watch.steps,
            )
        return TrialScore(score, watch.steps, watch.evaluations)

    def _options(self, listeners: list[LoopCallback]) -> dict[str, Any]:
        options = dict(self._setup.options)
        options["callbacks"] = [*(options.get("callbacks") or []), *listeners]
        options["optimizer"] = FixedHyperparams()
        options["finalists"] = 0  # a trial is over when its steps are
        score_fn = self._setup.checkpoint_score_fn
        options["checkpoint_score_fn"] = score_fn
        if self._setup.is_minimized:
            options["evaluator"] = NegatedEvaluator(
                options.get("evaluator") or MeanReturnEvaluator()
            )
            if score_fn is not None:
                options["checkpoint_score_fn"] = lambda agent: -score_fn(agent)
            if options.get("target_score") is not None:
                options["target_score"] = -options["target_score"]
        return options

    def _score(self, agent: BaseAgent, optimizer: RLOptimizer) -> float:
        best, score_fn = optimizer.best_snapshot, self._setup.checkpoint_score_fn
        if best is None:
            raise RuntimeError(
                "the trial has no finite score: no episode finished, or the score is NaN; raise "
                "trial_steps, or give an evaluator with a primary_score_fn in rloptimizer_kwargs"
            )
        if score_fn is None:
            score = best.eval_metrics.primary_score
            return -score if self._setup.is_minimized else score
        score = float(score_fn(agent))
        if not math.isfinite(score):
            raise RuntimeError(f"checkpoint_score_fn must return a finite number, got {score}")
        return score


class NegatedEvaluator(BaseEvaluator):
    """Turns scores round, for who wants the lowest one: the loop keeps the highest.

    Args:
        inner: Gives the scores.
    """

    def __init__(self, inner: BaseEvaluator) -> None:
        self._inner = inner

    def score(self, episode_data: EpisodeData, train_diagnostics: dict[str, Any]) -> EvalMetrics:
        """Score a window, with the sign turned."""
        return _negated(self._inner.score(episode_data, train_diagnostics))

    def score_validation(self, episode_data: EpisodeData) -> EvalMetrics:
        """Score a window of held-out data, with the sign turned."""
        return _negated(self._inner.score_validation(episode_data))

    def combine(self, train: EvalMetrics, val: EvalMetrics) -> EvalMetrics:
        """Join two scores whose signs are turned already."""
        return _negated(self._inner.combine(_negated(train), _negated(val)))


def _negated(metrics: EvalMetrics) -> EvalMetrics:
    return replace(metrics, primary_score=-metrics.primary_score)


class _StepWatch(LoopCallback):
    """Counts steps and evaluations, and stops the loop with the window that reaches the limit."""

    def __init__(self, max_steps: int | None) -> None:
        self._max_steps = max_steps
        self.optimizer: RLOptimizer | None = None
        self.steps = 0
        self.evaluations = 0

    def on_window(self, report: WindowReport) -> None:
        self.steps = report.total_steps
        self.evaluations += report.score is not None
        is_resting = report.state is LoopState.DORMANT
        if self._max_steps is None or self.steps < self._max_steps or is_resting:
            return
        assert self.optimizer is not None
        self.optimizer.stop(f"the {self._max_steps} steps of the trial are done")
