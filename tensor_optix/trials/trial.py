"""One trial: hyperparameters and a seed come in, the score of a short training goes out."""

from __future__ import annotations

import logging
import math
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensor_optix.assembly import assemble
from tensor_optix.core.argument_checks import at_least, function
from tensor_optix.core.base_evaluator import BaseEvaluator, MeanReturnEvaluator
from tensor_optix.core.base_optimizer import FixedHyperparams
from tensor_optix.core.callbacks import LoopCallback, LoopControl, WindowReport
from tensor_optix.core.checkpoints.run_keeper import RunKeeper
from tensor_optix.core.foreign_agent import as_agent
from tensor_optix.core.types import LoopState
from tensor_optix.settings import RunSettings, run_settings, setting_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tensor_optix.core.base_pipeline import BasePipeline
    from tensor_optix.core.foreign_agent import AgentLike
    from tensor_optix.core.loop_controller import LoopController
    from tensor_optix.core.types import EpisodeData, EvalMetrics

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrialSetup:
    """What all trials have in common.

    Raises:
        TypeError: If a factory cannot be called.
        ValueError: If `trial_steps` is below 1.
    """

    agent_factory: Callable[[dict[str, Any]], AgentLike]
    """`fn(params) -> agent`."""
    pipeline_factory: Callable[[], BasePipeline]
    val_pipeline_factory: Callable[[], BasePipeline] | None = None
    trial_steps: int | None = None
    """Environment steps; a trial ends with the window that reaches them. None: no such end."""
    is_minimized: bool = False
    """Whether lower scores are better."""
    settings: RunSettings = field(default_factory=RunSettings)
    """Of each trial's run, in the user's own sense of better."""
    directory: Path | None = None
    """Keeps what is under way, so that it goes on after a kill. None: a trial leaves no files."""
    learners: Path | None = None
    """Keeps what became of the agent of each complete trial, by the trial's name. None: nothing does."""

    def __post_init__(self) -> None:
        function("agent_factory", self.agent_factory)
        function("pipeline_factory", self.pipeline_factory)
        if self.trial_steps is not None:
            at_least("trial_steps", self.trial_steps, 1)


_INSTEAD = {
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
    "warm_start": "nothing: each trial starts anew",
    "max_steps": "trial_steps=",
    "checkpoint_score_fn": "checkpoint_score_fn=",
    "seed": "seed=",
    "checkpoint_dir": "nothing: each trial has a directory of its own, removed afterwards",
    "run_dir": "nothing: a trial leaves no files",
    "optimizer": "nothing: the hyperparameters of a trial stay as they were drawn",
}
"""What the user is told to give, in place of an argument that each trial gets from elsewhere."""


def trial_settings(rloptimizer_kwargs: Mapping[str, Any]) -> RunSettings:
    """Return the settings of a trial's run from arguments of `RLOptimizer`.

    Raises:
        TypeError: If `RLOptimizer` has no such argument, or a part is of the wrong kind.
        ValueError: If an argument is not the user's to give, or a number is out of range.
    """
    known = setting_names()
    for name in rloptimizer_kwargs:
        if name in _INSTEAD:
            raise ValueError(f"rloptimizer_kwargs must not hold {name!r}; give {_INSTEAD[name]}")
        if name not in known:
            raise TypeError(f"rloptimizer_kwargs holds {name!r}, which RLOptimizer has not")
    return run_settings(**rloptimizer_kwargs)


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
        setup: What it has in common with the other trials.
    """

    def __init__(self, setup: TrialSetup) -> None:
        self._setup = setup
        self._loop: LoopController | None = None
        self._stop_reason: str | None = None

    def stop(self, reason: str) -> None:
        """End the training after the window under way; also called before it has begun."""
        self._stop_reason = reason
        if self._loop is not None:
            self._loop.stop(reason)

    def run(
        self, params: dict[str, Any], seed: int, name: str, listener: LoopCallback | None = None
    ) -> TrialScore | None:
        """Train; None if the training was stopped before its end, by `stop`.

        Args:
            params: For the agent factory.
            seed: Agent and environments follow from it.
            name: By which the training is found again, where it was killed and is to go on.
            listener: Hears of the training, besides the callbacks among the settings.

        Raises:
            RuntimeError: If there is no finite score: no episode finished, for instance.
            Exception: Whatever factories, agent and environments raise.
        """
        setup, watch = self._setup, _StepWatch(self._setup.trial_steps)
        agent, pipeline = setup.agent_factory(dict(params)), setup.pipeline_factory()
        with self._place(name) as directory:
            settings = self._settings(directory / "checkpoints", seed, watch, listener)
            self._loop = assemble(agent, pipeline, settings, self._keeper(directory))
            if self._stop_reason is None:
                self._loop.run()
            if self._stop_reason is not None:
                return None
            score = self._score(agent, self._loop)
            self._keep_learner(agent, name)
        if watch.evaluations < 2:
            logger.warning(
                "a trial of %d steps had a single evaluation: nothing that was learned has been "
                "scored; raise trial_steps, or let the pipeline give smaller windows",
                watch.steps,
            )
        return TrialScore(score, watch.steps, watch.evaluations)

    def _keep_learner(self, agent: AgentLike, name: str) -> None:
        if self._setup.learners is None:
            return
        path = self._setup.learners / name
        # Of the same trial, from before it was killed.
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        as_agent(agent).save_state(path)

    @contextmanager
    def _place(self, name: str) -> Iterator[Path]:
        """Give the trial a directory, which is removed when it is over; not when the process is killed."""
        kept = self._setup.directory
        if kept is None:
            with tempfile.TemporaryDirectory(prefix="tensor-optix-trial-") as directory:
                yield Path(directory)
            return
        yield kept / name
        shutil.rmtree(kept / name, ignore_errors=True)

    def _keeper(self, directory: Path) -> RunKeeper | None:
        if self._setup.directory is None:
            return None
        seconds = self._setup.settings.output.checkpoint_seconds
        return RunKeeper(directory / "state", seconds, resume=True)

    def _settings(self, directory: Path, seed: int, *listeners: LoopCallback | None) -> RunSettings:
        """Return the settings of this one trial: a run that leaves nothing, and keeps its hyperparameters."""
        given, validation = self._setup.settings, self._setup.val_pipeline_factory
        settings = replace(
            given,
            val_pipeline=None if validation is None else validation(),
            optimizer=FixedHyperparams(),
            callbacks=[*(given.callbacks or []), *(one for one in listeners if one is not None)],
            seed=seed,
            loop=replace(given.loop, finalists=0),  # a trial is over when its steps are
            output=replace(given.output, checkpoint_dir=directory),
            evaluator=OneScale(given.evaluator or MeanReturnEvaluator()),
        )
        return turned_round(settings) if self._setup.is_minimized else settings

    def _score(self, agent: AgentLike, loop: LoopController) -> float:
        best, score_fn = loop.best_snapshot, self._setup.settings.checkpoint_score_fn
        if best is None or best.eval_metrics.never_scored:
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


def turned_round(settings: RunSettings) -> RunSettings:
    """Return settings whose scores have the other sign, as a loop keeps the highest one."""
    score_fn, target = settings.checkpoint_score_fn, settings.loop.target_score
    return replace(
        settings,
        evaluator=NegatedEvaluator(settings.evaluator or MeanReturnEvaluator()),
        checkpoint_score_fn=None if score_fn is None else lambda agent: -score_fn(agent),
        loop=replace(settings.loop, target_score=None if target is None else -target),
    )


class OneScale(BaseEvaluator):
    """Scores as another evaluator does, but never by the step: trials are compared with each other.

    Args:
        inner: Gives the scores.
    """

    def __init__(self, inner: BaseEvaluator) -> None:
        self._inner = inner

    def score(self, episode_data: EpisodeData, train_diagnostics: dict[str, Any]) -> EvalMetrics:
        """Score a window."""
        return self._inner.score(episode_data, train_diagnostics)

    def score_validation(self, episode_data: EpisodeData) -> EvalMetrics:
        """Score a window of held-out data."""
        return self._inner.score_validation(episode_data)

    def combine(self, train: EvalMetrics, val: EvalMetrics) -> EvalMetrics:
        """Join a training and a validation score."""
        return self._inner.combine(train, val)

    def compare(self, candidate: EvalMetrics, baseline: EvalMetrics) -> bool:
        """Whether `candidate` is the better one."""
        return self._inner.compare(candidate, baseline)

    def state_dict(self) -> dict[str, Any] | None:
        """Return what the inner evaluator keeps."""
        return self._inner.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Give the inner evaluator back what it kept."""
        self._inner.load_state_dict(state)


class NegatedEvaluator(BaseEvaluator):
    """Turns scores round.

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

    def state_dict(self) -> dict[str, Any] | None:
        """Return what the inner evaluator keeps."""
        return self._inner.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Give the inner evaluator back what it kept."""
        self._inner.load_state_dict(state)


def _negated(metrics: EvalMetrics) -> EvalMetrics:
    return replace(metrics, primary_score=-metrics.primary_score)


class _StepWatch(LoopCallback):
    """Counts steps and evaluations, and stops the loop with the window that reaches the limit."""

    def __init__(self, max_steps: int | None) -> None:
        self._max_steps = max_steps
        self.steps = 0
        self.evaluations = 0

    def on_attach(self, control: LoopControl) -> None:
        self._control = control

    def on_window(self, report: WindowReport) -> None:
        self.steps = report.total_steps
        self.evaluations += report.score is not None
        is_resting = report.state is LoopState.DORMANT
        if self._max_steps is None or self.steps < self._max_steps or is_resting:
            return
        self._control.stop(f"the {self._max_steps} steps of the trial are done")

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "evaluations": self.evaluations}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps, self.evaluations = int(state["steps"]), int(state["evaluations"])
