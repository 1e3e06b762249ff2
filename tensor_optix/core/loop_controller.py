"""The loop: collect, assess, learn, evaluate, checkpoint, transition, tune, stop.

Windows come from a pipeline; weights, decisions and events go out. Only this module knows all the parts.
"""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from itertools import islice
from typing import TYPE_CHECKING, Any

from tensor_optix.core.best_policy import BestPolicy, Candidate
from tensor_optix.core.callbacks import CallbackList, LoopEvent, VerboseCallback
from tensor_optix.core.callbacks import LoopCallback as LoopCallback
from tensor_optix.core.run_state import Outcome, RunState
from tensor_optix.core.types import EpisodeData, EvalMetrics, LoopState, PolicySnapshot
from tensor_optix.core.validation import Validation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tensor_optix.core.backoff_scheduler import BackoffScheduler
    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.base_evaluator import BaseEvaluator
    from tensor_optix.core.base_optimizer import BaseOptimizer
    from tensor_optix.core.base_pipeline import BasePipeline
    from tensor_optix.core.checkpoint_registry import CheckpointRegistry

logger = logging.getLogger(__name__)


class LoopController:
    """Trains an agent until nothing is left to gain, and leaves it with the best policy found.

    The arguments are those of `RLOptimizer`, which documents them, with the parts already made: the
    registry keeps the best policies, the scheduler decides when to evaluate and what the scores mean.

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
        if val_pipeline is pipeline:
            raise ValueError("val_pipeline must be another pipeline than the one trained on")
        if not improvement_margin >= 0.0:
            raise ValueError(f"improvement_margin must not be negative, got {improvement_margin}")
        self._agent = agent
        self._evaluator = evaluator
        self._optimizer = optimizer
        self._pipeline = pipeline
        self._best = BestPolicy(checkpoint_registry, checkpoint_score_fn)
        self._scheduler = backoff_scheduler
        self._rollback = rollback_on_degradation
        self._margin = improvement_margin
        self._max_episodes = max_episodes
        self._callbacks = CallbackList(callbacks or [])
        self._validation = None
        if val_pipeline is not None:
            self._validation = Validation(val_pipeline, evaluator, agent)
        self._score_smoothing = score_smoothing
        self._stop_reason: str | None = None
        self._is_set_up = False
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
        self._scheduler.record_restart()
        run = self._run = RunState(self._score_smoothing)
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

    def _train(self, run: RunState) -> None:
        self._is_set_up = True
        self._pipeline.set_agent(self._agent)
        self._pipeline.setup()
        begun = time.perf_counter()
        for episode_id, episode in enumerate(islice(self._pipeline.episodes(), self._max_episodes)):
            run.enter(episode, episode_id)
            self._pass(run, episode, time.perf_counter() - begun)
            if self._stop_reason is not None:
                return
            begun = time.perf_counter()
        is_capped = run.episode_id + 1 == self._max_episodes
        capped = f"the cap of {self._max_episodes} windows was reached"
        self._stop_reason = capped if is_capped else "the data source ended"

    def _pass(self, run: RunState, episode: EpisodeData, collect_seconds: float) -> None:
        """Take one window through the loop."""
        interval = self._scheduler.current_interval
        due = not run.history or self._scheduler.should_adapt(run.episode_id)
        candidate = self._best.stage(self._agent) if due else None
        try:
            validation = self._validation.score() if due and self._validation else None
            begun = time.perf_counter()
            diagnostics = self._agent.learn(episode)
            learn_seconds = time.perf_counter() - begun
            metrics = self._evaluate(episode, diagnostics, validation) if due else None
        except BaseException:
            if candidate is not None:
                self._best.discard(candidate)
            raise
        outcome = None
        if candidate is not None and metrics is not None:
            outcome = self._decide(run, metrics, candidate)
        self._callbacks.emit("on_episode_end", run.episode_id, metrics if outcome else None)
        clock, loop = (collect_seconds, learn_seconds), (self._best.score, self.state, interval)
        self._callbacks.emit("on_window", run.report(episode, outcome, clock, loop, diagnostics))

    def _evaluate(
        self, episode: EpisodeData, diagnostics: dict[str, Any], validation: EvalMetrics | None
    ) -> EvalMetrics:
        metrics = self._evaluator.score(episode, diagnostics)
        return metrics if validation is None else self._evaluator.combine(metrics, validation)

    def _decide(self, run: RunState, metrics: EvalMetrics, candidate: Candidate) -> Outcome | None:
        """Checkpoint, transition, tune. A score that is not finite is no evidence: no decision."""
        is_baseline = not run.history
        outcome = run.take_score(metrics)
        if outcome is None:
            if candidate.has_external_score:
                self._checkpoint(metrics, candidate, is_baseline)
            else:
                self._best.discard(candidate)
            return None
        self._checkpoint(metrics, candidate, is_baseline)
        if is_baseline:
            self._scheduler.record_baseline(outcome.smoothed)
        else:
            self._transition(run, metrics, outcome)
            self._tune(run, metrics, outcome)
        return outcome

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

    def _transition(self, run: RunState, metrics: EvalMetrics, outcome: Outcome) -> None:
        """Tell the scheduler what the score means, and act on the state it comes to."""
        scheduler = self._scheduler
        scheduler.record_score(outcome.score)
        if scheduler.is_improvement(outcome.smoothed, self._margin):
            outcome.improved = True
            scheduler.record_improvement(outcome.smoothed)
        elif not self._looks_degraded(outcome.smoothed):
            scheduler.record_non_improvement(may_rest=not self._agent.is_exploring)
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

    def _degrade(self, run: RunState, metrics: EvalMetrics, outcome: Outcome) -> None:
        """Record a confirmed fall, and restore the best policy where that was asked for."""
        self._scheduler.record_degradation()
        self._callbacks.emit("on_degradation", metrics.episode_id, metrics)
        self._event("degradation", smoothed=outcome.smoothed, best=self._scheduler.best_score)
        if not self._rollback:
            return
        restored = self._best.restore(self._agent)
        run.forget_recent()
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

    def _tune(self, run: RunState, metrics: EvalMetrics, outcome: Outcome) -> None:
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
        """Restore the best policy, tear down, say goodbye; each of them whatever the others do.

        After a failure their own errors are logged, so that they do not hide the first one.
        """
        with ExitStack() as stack:
            stack.callback(self._say_goodbye)
            if self._is_set_up:
                self._is_set_up = False
                if self._validation is not None:
                    stack.callback(_attempt, self._validation.teardown, failed)
                stack.callback(_attempt, self._pipeline.teardown, failed)
            _attempt(self._restore_best, failed)

    def _restore_best(self) -> None:
        if self._best.restore(self._agent) is None and self._run.total_steps:
            logger.warning("no policy was ever evaluated; the agent keeps its latest weights")

    def _say_goodbye(self) -> None:
        reason, self._stop_reason = self._stop_reason, None
        self._event("stop", reason=reason, best=self._best.score)
        self._callbacks.emit("on_loop_stop")

    def _event(self, kind: str, **numbers: Any) -> None:
        run = self._run
        self._callbacks.emit("on_event", LoopEvent(kind, run.episode_id, run.total_steps, numbers))


def _attempt(action: Callable[[], None], only_log: bool) -> None:
    try:
        action()
    except Exception:
        if not only_log:
            raise
        logger.exception("%r failed after the run had failed", action)
