"""The loop: collect, assess, learn, evaluate, checkpoint, transition, tune, stop.

Windows come from a pipeline; weights, decisions and events go out. Only this module knows all the parts.
"""

from __future__ import annotations

import logging
import math
import time
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from tensor_optix.core.argument_checks import at_least, not_negative
from tensor_optix.core.backoff_scheduler import Judgement, judge
from tensor_optix.core.base_optimizer import BaseOptimizer, FixedHyperparams
from tensor_optix.core.callbacks import CallbackList, LoopEvent, VerboseCallback
from tensor_optix.core.callbacks import LoopCallback as LoopCallback
from tensor_optix.core.decisions.best_policy import (
    BestPolicy,
    Candidate,
    Rollbacks,
    breakdown,
    finalists,
    play_finals,
    recover,
)
from tensor_optix.core.decisions.run_state import Outcome, RunState
from tensor_optix.core.decisions.tuning import Tuning
from tensor_optix.core.decisions.validation import Assessment, Assessor, Collector
from tensor_optix.core.types import EpisodeData, EvalMetrics, LoopState, PolicySnapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tensor_optix.core.backoff_scheduler import BackoffScheduler
    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.base_evaluator import BaseEvaluator
    from tensor_optix.core.base_pipeline import BasePipeline
    from tensor_optix.core.checkpoint_registry import CheckpointRegistry
    from tensor_optix.core.types import Array, HyperparamSet

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """How long a run lasts, and how its scores are compared.

    Raises:
        ValueError: If a number is out of range.
    """

    rollback_on_degradation: bool = False
    """Restore the best policy when the score has fallen."""
    improvement_margin: float = 0.0
    """The least gain that counts as an improvement."""
    max_episodes: int | None = None
    """Windows to collect at most. None: until nothing is left to gain."""
    score_smoothing: int = 2
    """Evaluated scores whose mean is compared with the best."""
    target_score: float | None = None
    """Stop once the best policy's rank reaches this."""
    finalists: int = 5
    """How many of the best policies are played again at the end."""

    def __post_init__(self) -> None:
        at_least("score_smoothing", self.score_smoothing, 1)
        if self.max_episodes is not None and self.max_episodes < 1:
            raise ValueError(f"max_episodes must be at least 1 or None, got {self.max_episodes}")
        not_negative("improvement_margin", self.improvement_margin)
        if self.target_score is not None and not math.isfinite(self.target_score):
            raise ValueError(
                f"target_score must be a finite number or None, got {self.target_score}"
            )
        not_negative("finalists", self.finalists)


class LoopController:
    """Trains an agent until nothing is left to gain, and leaves it with the best policy found.

    The arguments are those of `RLOptimizer`, which documents them, with the parts already made: the
    registry keeps the best policies, the scheduler decides when to evaluate and what the scores mean.

    Args:
        finalists: How many of the best policies are played again at the end, to choose the one to return;
            not with a validation pipeline, nor with a score of the user's.

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
        *,
        target_score: float | None = None,
        finalists: int = 0,
    ) -> None:
        self._settings = LoopSettings(
            rollback_on_degradation=rollback_on_degradation,
            improvement_margin=improvement_margin,
            max_episodes=max_episodes,
            score_smoothing=score_smoothing,
            target_score=target_score,
            finalists=finalists,
        )
        self._owner = self._agent = self._next_agent = agent
        self._collector = Collector(pipeline, val_pipeline, evaluator)
        self._assessor = Assessor(evaluator, self._collector.validation)
        self._tuning = Tuning(optimizer or FixedHyperparams())
        self._best = BestPolicy(checkpoint_registry, checkpoint_score_fn)
        self._scheduler = backoff_scheduler
        self._rollbacks = Rollbacks(rollback_on_degradation)
        self._run = RunState(score_smoothing)
        self._target_score = math.inf if target_score is None else target_score
        self._ending = Ending(self._collector, self._best, agent, finalists)
        self._stop_reason: str | None = None
        self._callbacks = CallbackList(control=self)
        for callback in [*(callbacks or []), *([VerboseCallback()] if verbose else [])]:
            self.add_callback(callback)

    @property
    def state(self) -> LoopState:
        """What the loop believes about the training."""
        return self._scheduler.current_state

    @property
    def agent(self) -> BaseAgent:
        """The agent given, which holds the best policy in the end."""
        return self._owner

    @property
    def best_snapshot(self) -> PolicySnapshot | None:
        """The best policy so far; None before the first evaluation."""
        return self._best.snapshot

    @property
    def registry(self) -> CheckpointRegistry:
        """Keeps the best policies."""
        return self._best.registry

    def add_callback(self, callback: LoopCallback) -> None:
        """Add a listener."""
        self._callbacks.add(callback)

    def stop(self, reason: str = "stop() was called") -> None:
        """End the run after the window under way; before `run()`: let it return at once."""
        self._stop_reason = reason

    def train(self, agent: BaseAgent) -> None:
        """Train `agent` from the next window on, in place of the present one."""
        self._next_agent = agent

    def play(self, agents: Sequence[BaseAgent], episodes: int) -> Array:
        """Play the same greedy episodes with each agent, as `LoopControl` has it."""
        return self._collector.play(agents, episodes, self._agent)

    def run(self) -> None:
        """Train until DORMANT, the cap, or `stop()`.

        However it ends, also by an exception, the agent given then holds the best policy found, with
        its hyperparameters, and the pipelines are torn down.
        """
        self._best.begin()
        self._scheduler.record_restart()
        run = self._run = RunState(self._settings.score_smoothing)
        self._tuning.begin()
        self._rollbacks.renew()
        self._callbacks.emit("on_loop_start")
        self.tell("start")
        try:
            if self._stop_reason is None:
                self._train(run)
        except BaseException as error:
            self._stop_reason = f"{type(error).__name__}: {error}"
            self.tell("error", reason=self._stop_reason)
            self._finish(failed=True)
            raise
        self._finish(failed=False)

    def _train(self, run: RunState) -> None:
        self._collector.begin(self._agent)
        cap, begun = self._settings.max_episodes, time.perf_counter()
        for episode_id, episode in enumerate(islice(self._collector.windows(), cap)):
            run.enter(episode, episode_id, time.perf_counter() - begun)
            self._pass(run, episode)
            if self._stop_reason is not None:
                return
            self._hand_over()
            begun = time.perf_counter()
        is_capped = run.episode_id + 1 == cap
        capped = f"the cap of {cap} windows was reached"
        self._stop_reason = capped if is_capped else "the data source ended"

    def _hand_over(self) -> None:
        """Begin with the agent that `train` named, if it is another one."""
        if self._next_agent is self._agent:
            return
        self._agent = self._next_agent
        self._collector.hand_over(self._agent)
        self._scheduler.record_restart()
        self._begin_anew()
        self.tell("trainee")

    def _begin_anew(self) -> None:
        """Forget what was true of the policy before this one."""
        self._tuning.begin(self._run.episode_id)
        self._run.forget_recent()

    def _pass(self, run: RunState, episode: EpisodeData) -> None:
        """Take one window through the loop."""
        interval = self._scheduler.current_interval
        due = self._scheduler.should_adapt(run.episode_id) or not run.history or run.lacks_score
        accepted = self._tuning.accepted(self._agent)
        outcome = None
        made_with = self._tuning.made_with(accepted)
        with self._best.staged(self._agent, made_with) if due else nullcontext() as candidate:
            held_out = self._assessor.validate(self._agent, self._best) if due else None
            with run.learning():
                diagnostics = self._agent.learn(episode)
            self._tuning.note_learned(accepted)
            if candidate is not None:
                scores = self._assessor.assess(episode, diagnostics, held_out)
                outcome = self._take(run, scores, candidate)
        self._guard(accepted, diagnostics)
        if outcome is not None and len(run.history) > 1:
            self._transition(run, outcome)
            self._tune(run, outcome)
        self._callbacks.emit("on_episode_end", run.episode_id, run.history[-1] if outcome else None)
        loop = (self._best.score, self.state, interval)
        self._callbacks.emit("on_window", run.report(episode, outcome, loop, diagnostics))

    def _take(self, run: RunState, scores: Assessment, candidate: Candidate) -> Outcome | None:
        """Checkpoint. A score that is not finite is no evidence: no decision."""
        is_baseline = not run.history
        outcome = run.take_score(scores.score)
        if outcome is None and not candidate.has_external_score:
            self._best.discard(candidate)
            return None
        self._checkpoint(scores.ranking, candidate, is_baseline)
        if outcome is not None and is_baseline:
            self._scheduler.record_baseline(outcome.smoothed)
        return outcome

    def _checkpoint(self, metrics: EvalMetrics, candidate: Candidate, is_baseline: bool) -> None:
        """Keep the weights that made the score, if they are the best so far."""
        if not self._best.offer(candidate, metrics):
            return
        self._rollbacks.renew()
        kind = "baseline" if is_baseline else "best"
        self.tell(kind, score=metrics.primary_score, rank=self._best.rank)
        if not is_baseline:
            self._callbacks.emit("on_improvement", self._best.snapshot)
        if self._best.rank >= self._target_score:
            self.stop(f"the target score of {self._target_score:g} was reached")

    def _guard(self, accepted: HyperparamSet | None, diagnostics: dict[str, Any]) -> None:
        """Go back to the best policy, and on with smaller steps, where learning broke down."""
        trouble = breakdown(self._agent, diagnostics)
        if trouble is None:
            return
        recover(self._agent, self._best, accepted, trouble)
        self._begin_anew()
        kept = self._agent.get_hyperparams().params
        self.tell("recovered", reason=trouble, hyperparams=kept)

    def _transition(self, run: RunState, outcome: Outcome) -> None:
        """Tell the scheduler what the score means, and act on the state it comes to."""
        scheduler, is_exploring = self._scheduler, self._agent.is_exploring
        may_degrade = (self._agent.is_on_policy or self._rollbacks.are_wanted) and not is_exploring
        judgement = judge(
            scheduler,
            outcome.score,
            outcome.smoothed,
            improvement_margin=self._settings.improvement_margin,
            may_rest=not is_exploring,
            may_degrade=may_degrade and not self._tuning.is_probing,
        )
        outcome.improved = judgement is Judgement.IMPROVEMENT
        if judgement is Judgement.DEGRADATION:
            self._degrade(run, outcome)
        if self.state is LoopState.COOLING:
            self._callbacks.emit("on_plateau", run.episode_id, self.state)
            self.tell("plateau", **scheduler.describe())
        elif self.state is LoopState.DORMANT:
            self._rest(run)

    def _degrade(self, run: RunState, outcome: Outcome) -> None:
        """Tell of a confirmed fall, and restore the best policy where that was asked for."""
        self._callbacks.emit("on_degradation", run.episode_id, run.history[-1])
        self.tell("degradation", smoothed=outcome.smoothed, best=self._scheduler.best_score)
        if not self._rollbacks.spend():
            return
        restored = self._best.restore(self._agent)
        self._begin_anew()
        if restored is not None:
            self.tell("rollback", snapshot=restored.snapshot_id)

    def _rest(self, run: RunState) -> None:
        """Stop, unless a callback claims the event."""
        self.tell("dormant", **self._scheduler.describe())
        claims = self._callbacks.emit("on_dormant", run.episode_id)
        self._best.refresh()
        if any(claim is True for claim in claims):
            self._scheduler.record_restart()
        elif self._stop_reason is None:
            self._stop_reason = "nothing left to gain"

    def _tune(self, run: RunState, outcome: Outcome) -> None:
        """Let the optimizer choose the next window's hyperparameters."""
        change = self._tuning.adjust(self._agent, run, outcome.improved, self.state)
        self._callbacks.emit("on_hyperparam_update", change.before, change.effective)
        if change.is_change:
            self.tell("tuned", **asdict(change), tuner=self._tuning.numbers())

    def _finish(self, failed: bool) -> None:
        try:
            self._agent = self._next_agent = self._owner
            self._ending.close(self._run, self.tell, failed)
        finally:
            reason, self._stop_reason = self._stop_reason, None
            self.tell("stop", reason=reason, best=self._best.score)
            self._callbacks.emit("on_loop_stop")

    def tell(self, kind: str, **numbers: Any) -> None:
        """Log a decision with its numbers, as an event."""
        run = self._run
        self._callbacks.emit("on_event", LoopEvent(kind, run.episode_id, run.total_steps, numbers))


class Tell(Protocol):
    """Logs a decision with its numbers."""

    def __call__(self, kind: str, **numbers: Any) -> None:
        """Log it."""


class Ending:
    """Chooses the best policy once more, puts it into the agent and tears the pipelines down.

    Args:
        collector: Has the pipelines.
        best: Has the policies.
        agent: Holds the best of them in the end.
        most_finalists: How many policies may play for which is the best.
    """

    def __init__(
        self, collector: Collector, best: BestPolicy, agent: BaseAgent, most_finalists: int
    ) -> None:
        self._collector = collector
        self._best = best
        self._agent = agent
        self._most_finalists = most_finalists

    def close(self, run: RunState, tell: Tell, failed: bool) -> None:
        """Do all of it, each thing whatever becomes of the others.

        Args:
            run: What it did.
            tell: Told what came out of the finals.
            failed: After a failure there are no finals, and what fails here is only logged, so that it
                does not hide the first error.
        """
        with ExitStack() as stack:
            if self._collector.is_set_up:
                if not run.total_steps and not failed:
                    logger.warning("the pipeline gave no window: nothing was learned")
                stack.callback(_attempt, self._collector.teardown_validation, failed)
                stack.callback(_attempt, self._collector.teardown_training, failed)
            stack.callback(_attempt, lambda: self._restore_best(run.total_steps), failed)
            if self._collector.is_set_up and not failed:
                _attempt(lambda: self._play_finals(run, tell), only_log=True)

    def _play_finals(self, run: RunState, tell: Tell) -> None:
        contest = None if self._collector.validation else self._collector.contest()
        if contest is None or self._best.has_external_score:
            return
        registry = self._best.registry
        chosen = finalists(registry, self._most_finalists, run.total_steps, run.episode_id + 1)
        if len(chosen) > 1:
            played = play_finals(registry, chosen, self._agent, contest.score_surely)
            self._best.refresh()
            tell("finals", scores={one.snapshot_id: score for one, score in played})

    def _restore_best(self, steps: int) -> None:
        if self._best.restore(self._agent) is None and steps:
            logger.warning("no policy was ever evaluated; the agent keeps its latest weights")


def _attempt(action: Callable[[], None], only_log: bool) -> None:
    try:
        action()
    except Exception:
        if not only_log:
            raise
        logger.exception("%r failed at the end of the run", action)
