"""The loop: collect, assess, learn, evaluate, checkpoint, transition, tune, stop.

Windows come from a pipeline; weights, decisions and events go out. Only this module knows all the parts.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from tensor_optix.core.best_policy import BestPolicy, Candidate
from tensor_optix.core.callbacks import CallbackList, LoopEvent, VerboseCallback, WindowReport
from tensor_optix.core.callbacks import LoopCallback as LoopCallback
from tensor_optix.core.greedy_agent import GreedyAgent
from tensor_optix.core.types import EpisodeData, EvalMetrics, LoopState, PolicySnapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tensor_optix.core.backoff_scheduler import BackoffScheduler
    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.base_evaluator import BaseEvaluator
    from tensor_optix.core.base_optimizer import BaseOptimizer
    from tensor_optix.core.base_pipeline import BasePipeline
    from tensor_optix.core.checkpoint_registry import CheckpointRegistry

logger = logging.getLogger(__name__)

WINDOWS_WITHOUT_EVIDENCE = 50
"""After so many evaluations without a finished episode the user is told, once."""


@dataclass
class _Outcome:
    """What an evaluation of a window led to."""

    score: float
    smoothed: float
    improved: bool = False


@dataclass
class _Run:
    """The state of one `run()`."""

    started: float = field(default_factory=time.perf_counter)
    episode_id: int = 0
    total_steps: int = 0
    windows_without_evidence: int = 0
    recent_scores: deque[float] = field(default_factory=deque)
    history: list[EvalMetrics] = field(default_factory=list)


class LoopController:
    """Trains an agent until nothing is left to gain, and leaves it with the best policy found.

    Args:
        agent: Acts and learns.
        evaluator: Scores windows.
        optimizer: Proposes hyperparameters after each evaluation. None: they stay as they are.
        pipeline: Gives the windows.
        checkpoint_registry: Keeps the best policies.
        backoff_scheduler: Decides when to evaluate, and what the scores mean.
        rollback_on_degradation: Restore the best policy when the score has fallen (on-policy agents).
        improvement_margin: The least gain that counts as an improvement.
        max_episodes: Collect at most so many windows. None: until DORMANT.
        callbacks: Listeners.
        val_pipeline: Held-out windows; the agent acts greedily there, never learns, and their score is
            the one that counts.
        score_smoothing: Evaluated scores whose mean is compared with the best.
        checkpoint_score_fn: `fn(agent) -> float`, decides which checkpoint is the best, and nothing else.
        verbose: Print one line per evaluation.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        agent: BaseAgent,
        evaluator: BaseEvaluator,
        optimizer: BaseOptimizer | None,
        pipeline: BasePipeline,
        checkpoint_registry: CheckpointRegistry,
        backoff_scheduler: BackoffScheduler,
        rollback_on_degradation: bool = False,
        improvement_margin: float = 0.0,
        max_episodes: int | None = None,
        callbacks: Sequence[LoopCallback] | None = None,
        val_pipeline: BasePipeline | None = None,
        score_smoothing: int = 2,
        checkpoint_score_fn: Callable[[BaseAgent], float] | None = None,
        verbose: bool = False,
    ) -> None:
        if score_smoothing < 1:
            raise ValueError(f"score_smoothing must be at least 1, got {score_smoothing}")
        if max_episodes is not None and max_episodes < 1:
            raise ValueError(f"max_episodes must be at least 1 or None, got {max_episodes}")
        if not improvement_margin >= 0.0:
            raise ValueError(f"improvement_margin must not be negative, got {improvement_margin}")
        self._agent = agent
        self._evaluator = evaluator
        self._optimizer = optimizer
        self._pipeline = pipeline
        self._best = BestPolicy(checkpoint_registry, checkpoint_score_fn)
        self._scheduler = backoff_scheduler
        self._can_degrade = agent.is_on_policy
        self._rollback = rollback_on_degradation
        self._margin = improvement_margin
        self._max_episodes = max_episodes
        self._callbacks = CallbackList(callbacks or [])
        self._val_pipeline = val_pipeline
        self._score_smoothing = score_smoothing
        self._stop_reason: str | None = None
        if verbose:
            self._callbacks.add(VerboseCallback())

    @property
    def state(self) -> LoopState:
        """What the loop believes about the training."""
        return self._scheduler.current_state

    @property
    def best_snapshot(self) -> PolicySnapshot | None:
        """The best policy so far; None before the first evaluation."""
        return self._best.snapshot

    def add_callback(self, callback: LoopCallback) -> None:
        """Add a listener."""
        self._callbacks.add(callback)

    def stop(self, reason: str = "stop() was called") -> None:
        """End the run after the window under way; before `run()`: let it return at once."""
        self._stop_reason = reason

    def run(self) -> None:
        """Train until DORMANT, the cap, or `stop()`.

        However it ends, also by an exception, the agent then holds the best policy found, with its
        hyperparameters, and the pipelines are torn down.
        """
        self._best.begin()
        run = self._run = _Run(recent_scores=deque(maxlen=self._score_smoothing))
        self._callbacks.emit("on_loop_start")
        self._event("start")
        try:
            if self._stop_reason is None:
                self._train(run)
        except BaseException as error:
            self._stop_reason = f"{type(error).__name__}: {error}"
            self._event("error", reason=self._stop_reason)
            self._finish(failed=True)
            raise
        self._finish(failed=False)

    def _train(self, run: _Run) -> None:
        self._pipeline.set_agent(self._agent)
        if self._val_pipeline is not None:
            self._val_pipeline.set_agent(GreedyAgent(self._agent))
        self._pipeline.setup()
        windows = islice(self._pipeline.episodes(), self._max_episodes)
        begun = time.perf_counter()
        for episode_id, episode in enumerate(windows):
            collected = time.perf_counter()
            self._pass(run, episode_id, episode, collected - begun)
            if self._stop_reason is not None:
                return
            begun = time.perf_counter()
        self._stop_reason = (
            f"the cap of {self._max_episodes} windows was reached"
            if self._max_episodes is not None
            else "the data source ended"
        )

    def _pass(
        self, run: _Run, episode_id: int, episode: EpisodeData, collect_seconds: float
    ) -> None:
        """Take one window through the loop."""
        run.episode_id = episode_id
        run.total_steps += episode.num_steps
        interval = self._scheduler.current_interval
        due = not run.history or self._scheduler.should_adapt(episode_id)
        candidate = self._best.stage(self._agent) if due else None
        validation = self._validate() if due else None
        begun = time.perf_counter()
        diagnostics = self._agent.learn(episode)
        learn_seconds = time.perf_counter() - begun
        outcome = metrics = None
        if candidate is not None:
            metrics = self._evaluator.score(episode, diagnostics)
            if validation is not None:
                metrics = self._evaluator.combine(metrics, validation)
            outcome = self._decide(run, metrics, candidate)
        self._callbacks.emit("on_episode_end", episode_id, metrics if outcome else None)
        report = WindowReport(
            episode_id=episode_id,
            num_steps=episode.num_steps,
            total_steps=run.total_steps,
            seconds=time.perf_counter() - run.started,
            collect_seconds=collect_seconds,
            learn_seconds=learn_seconds,
            score=outcome.score if outcome else None,
            smoothed=outcome.smoothed if outcome else None,
            best=self._best.score,
            state=self.state,
            interval=interval,
            improved=outcome.improved if outcome else False,
            diagnostics=diagnostics,
        )
        self._callbacks.emit("on_window", report)

    def _validate(self) -> EvalMetrics | None:
        """Score the weights that collected the window on held-out data."""
        if self._val_pipeline is None:
            return None
        self._val_pipeline.setup()
        return self._evaluator.score_validation(next(iter(self._val_pipeline.episodes())))

    def _decide(self, run: _Run, metrics: EvalMetrics, candidate: Candidate) -> _Outcome | None:
        """Checkpoint, transition, tune. A score that is not finite is no evidence: no decision."""
        score = metrics.primary_score
        if not math.isfinite(score):
            self._best.discard(candidate)
            self._note_missing_evidence(run)
            return None
        is_baseline = not run.history
        run.history.append(metrics)
        run.recent_scores.append(score)
        outcome = _Outcome(score, sum(run.recent_scores) / len(run.recent_scores))
        self._checkpoint(metrics, candidate, is_baseline)
        if is_baseline:
            self._scheduler.record_baseline(outcome.smoothed)
            return outcome
        self._transition(run, metrics, outcome)
        self._tune(run, metrics, outcome)
        return outcome

    def _note_missing_evidence(self, run: _Run) -> None:
        run.windows_without_evidence += 1
        if run.windows_without_evidence == WINDOWS_WITHOUT_EVIDENCE:
            logger.warning(
                "no finite score in %d evaluations: no episode finishes, or the score is NaN. For a task "
                "without episodes give the evaluator a primary_score_fn",
                WINDOWS_WITHOUT_EVIDENCE,
            )

    def _checkpoint(self, metrics: EvalMetrics, candidate: Candidate, is_baseline: bool) -> None:
        """Keep the weights that made the score, if they are the best so far."""
        if self._is_probing:
            self._best.discard(candidate)
            return
        if not self._best.offer(candidate, metrics):
            return
        kind = "baseline" if is_baseline else "best"
        self._event(kind, score=metrics.primary_score, rank=self._best.rank)
        if not is_baseline:
            self._callbacks.emit("on_improvement", self._best.snapshot)

    def _transition(self, run: _Run, metrics: EvalMetrics, outcome: _Outcome) -> None:
        """Tell the scheduler what the score means, and act on the state it comes to."""
        scheduler = self._scheduler
        scheduler.record_score(outcome.score)
        if scheduler.is_improvement(outcome.smoothed, self._margin):
            outcome.improved = True
            scheduler.record_improvement(outcome.smoothed)
        elif not self._looks_degraded(outcome.smoothed):
            scheduler.record_non_improvement()
        elif self.state is LoopState.WATCHDOG:
            self._degrade(run, metrics, outcome)
        else:
            scheduler.record_suspicion()
        if self.state is LoopState.COOLING:
            self._callbacks.emit("on_plateau", metrics.episode_id, self.state)
            self._event("plateau", **scheduler.describe())
        elif self.state is LoopState.DORMANT:
            self._rest(metrics)

    @property
    def _is_probing(self) -> bool:
        return self._optimizer is not None and self._optimizer.is_probing

    def _looks_degraded(self, score: float) -> bool:
        return (
            self._agent.is_on_policy
            and not self._is_probing
            and self._scheduler.looks_degraded(score)
        )

    def _degrade(self, run: _Run, metrics: EvalMetrics, outcome: _Outcome) -> None:
        """Record a confirmed fall, and restore the best policy where that was asked for."""
        self._scheduler.record_degradation()
        self._callbacks.emit("on_degradation", metrics.episode_id, metrics)
        self._event("degradation", smoothed=outcome.smoothed, best=self._scheduler.best_score)
        if not self._rollback:
            return
        restored = self._best.restore(self._agent)
        run.recent_scores.clear()
        if restored is not None:
            self._event("rollback", snapshot=restored.snapshot_id)

    def _rest(self, metrics: EvalMetrics) -> None:
        """Stop, unless a callback claims the event."""
        self._event("dormant", **self._scheduler.describe())
        claims = self._callbacks.emit("on_dormant", metrics.episode_id)
        if any(claim is True for claim in claims):
            self._scheduler.record_restart()
        elif self._stop_reason is None:
            self._stop_reason = "nothing left to gain"

    def _tune(self, run: _Run, metrics: EvalMetrics, outcome: _Outcome) -> None:
        """Let the optimizer choose the next window's hyperparameters."""
        before = self._agent.get_hyperparams()
        if self._optimizer is not None:
            if outcome.improved:
                self._optimizer.on_improvement(metrics)
            elif self.state is LoopState.COOLING:
                self._optimizer.on_plateau(run.history)
            asked = self._optimizer.suggest(before.copy(), run.history)
            self._agent.set_hyperparams(asked)
        after = self._agent.get_hyperparams()
        self._callbacks.emit("on_hyperparam_update", before.params, after.params)
        if after.params != before.params:
            self._event("tuned", before=before.params, effective=after.params)

    def _finish(self, failed: bool) -> None:
        """Restore the best policy, tear down, say goodbye; each of them whatever the others do."""
        try:
            self._restore_best(failed)
        finally:
            try:
                self._pipeline.teardown()
                if self._val_pipeline is not None:
                    self._val_pipeline.teardown()
            finally:
                reason, self._stop_reason = self._stop_reason, None
                self._event("stop", reason=reason, best=self._best.score)
                self._callbacks.emit("on_loop_stop")

    def _restore_best(self, failed: bool) -> None:
        try:
            restored = self._best.restore(self._agent)
        except Exception:
            if not failed:
                raise
            logger.exception("the best policy could not be restored")
            return
        if restored is None and self._run.total_steps:
            logger.warning("no policy was ever evaluated; the agent keeps its latest weights")

    def _event(self, kind: str, **numbers: Any) -> None:
        run = self._run
        self._callbacks.emit("on_event", LoopEvent(kind, run.episode_id, run.total_steps, numbers))
