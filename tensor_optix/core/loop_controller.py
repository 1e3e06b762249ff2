"""The loop: validate, collect, learn, evaluate, checkpoint, transition, tune, stop.

Windows come from a pipeline; weights, decisions and events go out. Only this module knows all the parts.
"""

from __future__ import annotations

import logging
import math
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.core import callbacks as events
from tensor_optix.core.argument_checks import at_least, not_negative, whole_number
from tensor_optix.core.backoff_scheduler import Judgement
from tensor_optix.core.base_evaluator import CheckedEvaluator
from tensor_optix.core.base_optimizer import BaseOptimizer, FixedHyperparams
from tensor_optix.core.callbacks import CallbackList, Ending, LoopEvent, VerboseCallback
from tensor_optix.core.callbacks import LoopCallback as LoopCallback
from tensor_optix.core.checkpoints.run_keeper import RunCopy, RunFacts
from tensor_optix.core.checkpoints.saved_state import CheckpointError, reading
from tensor_optix.core.decisions.best_policy import STEP_SHARE as FINALS_SHARE
from tensor_optix.core.decisions.best_policy import BestPolicy, Candidate, finalists, play_finals
from tensor_optix.core.decisions.convergence import GAIN_SHARE
from tensor_optix.core.decisions.episode_ends import EpisodeEnds, EpisodesWithoutEnd, StepScoring
from tensor_optix.core.decisions.forks import (
    Contest,
    NotPutAside,
    Race,
    RaceOver,
    episodes_to_compare,
    most_plays,
    most_windows,
)
from tensor_optix.core.decisions.run_state import Budget, RunState
from tensor_optix.core.decisions.tuning import Tuning
from tensor_optix.core.decisions.validation import Collector, HeldOut
from tensor_optix.core.foreign_agent import as_agent, own_object
from tensor_optix.core.types import EpisodeData, EvalMetrics, LoopState, PolicySnapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from tensor_optix.core.backoff_scheduler import BackoffScheduler
    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.base_evaluator import BaseEvaluator
    from tensor_optix.core.base_optimizer import ForkPlan
    from tensor_optix.core.base_pipeline import BasePipeline
    from tensor_optix.core.checkpoint_registry import CheckpointRegistry
    from tensor_optix.core.checkpoints.run_keeper import RestoredRun, RunKeeper
    from tensor_optix.core.decisions.forks import RaceResult
    from tensor_optix.core.foreign_agent import AgentLike
    from tensor_optix.core.types import Array, HyperparamSet

logger = logging.getLogger(__name__)

MOST_ROLLBACKS = 3
"""A fall is rolled back no more often than this, until a better policy is found."""


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
    """Windows to collect at most, in each `run()`. None: until nothing is left to gain."""
    max_steps: int | None = None
    """Environment steps to make at most, in each `run()`: it ends before a window that could exceed them."""
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
        if self.max_steps is not None:
            whole_number("max_steps", self.max_steps)
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
        keeper: Keeps the run in checkpoints, and has the one to go on from. None: only policies are kept.

    Raises:
        ValueError: If a number is out of range.

    Examples:
        >>> from tensor_optix import BackoffScheduler, BatchPipeline, CheckpointRegistry, LoopController
        >>> from tensor_optix import MeanReturnEvaluator, make_agent
        >>> agent = make_agent("CartPole-v1", framework="native")
        >>> pipeline = BatchPipeline(env_id="CartPole-v1", window_size=128)
        >>> parts = MeanReturnEvaluator(), None, pipeline, CheckpointRegistry(), BackoffScheduler()
        >>> loop = LoopController(agent, *parts, max_episodes=2)
        >>> loop.run()
        >>> loop.state
        <LoopState.ACTIVE: 'ACTIVE'>
    """

    def __init__(
        self,
        agent: AgentLike,
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
        checkpoint_score_fn: Callable[[Any], float] | None = None,
        verbose: bool = False,
        *,
        target_score: float | None = None,
        finalists: int = 0,
        max_steps: int | None = None,
        keeper: RunKeeper | None = None,
    ) -> None:
        self._settings = LoopSettings(
            rollback_on_degradation=rollback_on_degradation,
            improvement_margin=improvement_margin,
            max_episodes=max_episodes,
            max_steps=max_steps,
            score_smoothing=score_smoothing,
            target_score=target_score,
            finalists=finalists,
        )
        self._owner = self._agent = self._next_agent = as_agent(agent)
        self._ends = EpisodeEnds()
        self._evaluator = StepScoring(CheckedEvaluator(evaluator), self._ends)
        self._collector = Collector(pipeline, val_pipeline, self._evaluator, self._ends)
        tuner = optimizer or FixedHyperparams()
        tuner.take_defaults(self._owner.default_param_bounds, self._owner.default_log_params)
        self._tuning = Tuning(tuner)
        self._best = BestPolicy(checkpoint_registry, checkpoint_score_fn)
        self._scheduler = backoff_scheduler
        self._rollbacks = 0
        self._run = RunState(score_smoothing)
        self._budget = Budget(max_episodes, None, None)
        self._windows: Iterator[EpisodeData] = iter(())
        self._plan: ForkPlan | None = None
        self._keeper = keeper
        self._target_score = math.inf if target_score is None else target_score
        self._stop_reason: str | None = None
        self._ending = Ending.FINISHED
        self._callbacks = CallbackList(control=self)
        for callback in [*(callbacks or []), *([VerboseCallback()] if verbose else [])]:
            self.add_callback(callback)

    @property
    def state(self) -> LoopState:
        """What the loop believes about the training."""
        return self._scheduler.current_state

    @property
    def agent(self) -> Any:
        """The agent given, which holds the best policy in the end."""
        return own_object(self._owner)

    @property
    def best_snapshot(self) -> PolicySnapshot | None:
        """The best policy so far; None before the first score. See `RLOptimizer.best_snapshot`."""
        return self._best.snapshot

    @property
    def registry(self) -> CheckpointRegistry:
        """Keeps the best policies."""
        return self._best.registry

    def add_callback(self, cb: LoopCallback) -> None:
        """Add a callback."""
        self._callbacks.add(cb)

    def stop(self, reason: str = "stop() was called", ending: Ending = Ending.FINISHED) -> None:
        """End the run after the window under way; before `run()`: let it return at once.

        Args:
            reason: What the log says of it.
            ending: INTERRUPTED ends it without finals.
        """
        self._stop_reason, self._ending = reason, ending

    def train(self, agent: AgentLike) -> None:
        """Train `agent` from the next window on, in place of the present one."""
        self._next_agent = as_agent(agent)

    def play(self, agents: Sequence[AgentLike], episodes: int) -> Array:
        """Play the same greedy episodes with each agent, as `LoopControl` has it."""
        return self._collector.play([as_agent(one) for one in agents], episodes, self._agent)

    def run(self) -> None:
        """Train until DORMANT, a cap, or `stop()`.

        However it ends, also by an exception, the agent given then holds the best policy found, with
        its hyperparameters, and the pipelines are torn down. Counters and schedules are those of the end. A
        second call trains on: windows and steps are counted, and the best policy is kept, from there.

        Raises:
            ValueError: If `max_steps` is less than one window, or if a hyperparameter follows a schedule and
                there is no cap.
            CheckpointError: If the run is to go on from a checkpoint, and cannot.
        """
        self._require_end()
        kept = self._resumable()
        run = self._run = RunState(self._settings.score_smoothing, self._run)
        self._rollbacks, self._plan = 0, None
        if kept is None:
            self._best.begin()
            self._scheduler.record_restart()
            self._tuning.begin()
        self._callbacks.emit("on_loop_start")
        if kept is None:
            self.record(events.Start())
        try:
            if self._stop_reason is None:
                self._train(run, kept)
                self._keep_at_end()
        except BaseException as error:
            is_interrupted = isinstance(error, KeyboardInterrupt)
            self._ending = Ending.INTERRUPTED if is_interrupted else Ending.CRASHED
            self._stop_reason = f"{type(error).__name__}: {error}"
            self.record(events.Error(reason=self._stop_reason))
            self._finish(failed=True)
            raise
        self._finish(failed=False)

    def _require_end(self) -> None:
        """Refuse schedules over a run whose end nobody knows."""
        scheduled, settings = sorted(self._agent.scheduled_params), self._settings
        if scheduled and settings.max_steps is None and settings.max_episodes is None:
            raise ValueError(
                f"{', '.join(scheduled)} follow{'s' * (len(scheduled) == 1)} a schedule over the run, so "
                "the run needs an end: give max_steps= or max_episodes="
            )

    def _train(self, run: RunState, kept: Iterator[RestoredRun] | None) -> None:
        self._collector.begin(self._agent)
        cap = self._settings.max_episodes
        budget = self._budget = Budget(
            cap, self._settings.max_steps, self._collector.rows_per_window
        )
        self._ends.begin(self._collector.time_limit, self._most_windows())
        if kept is not None:
            self._resume(kept)
            self._hand_over()
        windows = self._windows = self._collector.windows()
        while not self._is_over(run, budget):
            self._keep_if_due()
            self._agent.set_progress(budget.remaining)
            with ExitStack() as aside:
                due = self._is_due(run.next_window_id)
                candidate = self._put_aside(aside) if due and self._is_judged_apart else None
                begun = time.perf_counter()
                window = self._collect(windows)
                if window is None:
                    self._stop_reason = "the data source ended"
                    return
                run.enter(window, time.perf_counter() - begun)
                if self._look_for_ends(run, window):
                    # Judged by scores of the kind before.
                    due, candidate = due and not self._is_judged_apart, None
                self._pass(run, window, candidate or (self._put_aside(aside) if due else None))
            budget.count(window.num_steps)
            self._try_forks(run)
            if self._stop_reason is None and not budget.is_spent:
                self._hand_over()

    def _is_over(self, run: RunState, budget: Budget) -> bool:
        """Whether no other window is to follow, for a reason that is noted."""
        cap = self._settings.max_episodes
        if self._stop_reason is not None:
            return True
        if budget.is_spent:
            limit = f"the limit of {self._settings.max_steps:,} steps"
            self._cap(f"another window would exceed {limit}")
        elif cap is not None and run.windows >= cap:
            self._cap(f"the cap of {cap} windows was reached")
        return self._stop_reason is not None

    def _collect(self, windows: Iterator[EpisodeData]) -> EpisodeData | None:
        """Return the next window, None where there is no other; an environment that fails costs no more."""
        try:
            return next(windows, None)
        except Exception:
            self._keep_before_crash()
            raise

    def _keep_before_crash(self) -> None:
        if self._keeper is not None and self._run.windows:
            self._keeper.keep(self._copy)

    def _keep_if_due(self) -> None:
        """Keep the run as it is between two windows, and tell of what could not be kept."""
        if self._keeper is not None and self._run.windows and self._keeper.is_due:
            self._keeper.keep(self._copy)
        self._tell_what_is_unsaved()

    def _keep_at_end(self) -> None:
        """Keep the run as it is before the best policy takes the place of the last."""
        if self._keeper is not None and self._run.windows:
            self._keeper.wait()
            self._keeper.keep(self._copy)
            self._keeper.wait()
        self._tell_what_is_unsaved()

    def _tell_what_is_unsaved(self) -> None:
        refusal, self._best.refusal = self._best.refusal, None
        trouble = None if self._keeper is None else self._keeper.take_trouble()
        for reason in filter(None, (refusal, trouble)):
            self.record(events.Unsaved(reason=reason))

    def _copy(self) -> RunCopy:
        """Return what a checkpoint holds, between two windows."""
        run, learners = self._run, self._learners()
        now_and_next = (self._agent, self._next_agent)
        trainees = [name for one in now_and_next for name in learners if learners[name] is one]
        if len(trainees) < len(now_and_next):
            raise CheckpointError(
                "the agent that is trained is none that a callback's `agents` names: it cannot be made again"
            )
        loop = {
            "run": run.state_dict(),
            "budget": self._budget.state_dict(),
            "ends": self._ends.state_dict(),
            "tuning": self._tuning.state_dict(),
            "scheduler": self._scheduler.state_dict(),
            "evaluator": self._evaluator.state_dict(),
            "best": self._best.state_dict(),
            "rollbacks": self._rollbacks,
            "trainees": trainees,
        }
        ending = None if self._stop_reason is None else self._ending.value
        return RunCopy(
            facts=RunFacts(
                windows=run.next_window_id,
                steps=run.total_steps,
                seconds=run.seconds,
                ending=ending,
                about=self._about(),
            ),
            states={
                "loop": loop,
                "pipeline": {"state": self._collector.state_dict()},
                "callbacks": {"states": self._callbacks.states()},
            },
            agents=learners,
        )

    def _learners(self) -> dict[str, BaseAgent]:
        """Return everything that learns, by name: the agent given, and those of callbacks."""
        named = {name: as_agent(agent) for name, agent in self._callbacks.agents().items()}
        return {"": self._owner, **named}

    def _about(self) -> dict[str, Any]:
        """Return what a run must have in common with the one that it is resumed as."""
        source = self._collector.source
        return {
            "environment": "" if source.recipe is None else source.recipe.env_id,
            "agent": type(own_object(self._owner)).__name__,
            "num_envs": source.num_envs,
            "window_size": source.window_size,
        }

    def _resumable(self) -> Iterator[RestoredRun] | None:
        """Return what the run can go on from, the newest first; None: it begins.

        Raises:
            CheckpointError: If there is something, but nothing sound, or it is of another run.
        """
        if self._keeper is None or not self._keeper.resumes:
            return None
        sound = self._keeper.sound(self._about())
        return chain([next(sound)], sound)

    def _resume(self, sound: Iterator[RestoredRun]) -> None:
        """Go on from the newest checkpoint whose every part can be read.

        Raises:
            CheckpointError: If there is none.
        """
        errors = []
        for kept in sound:
            try:
                self._take_on(kept)
                return
            except CheckpointError as error:
                logger.warning("%s cannot be gone on from: %s", kept, error)
                errors.append(error)
        raise CheckpointError(f"no checkpoint could be gone on from: {errors[0]}") from errors[0]

    def _take_on(self, kept: RestoredRun) -> None:
        """Put every part where it was when a checkpoint was taken."""
        with reading("loop"):
            loop = kept.state("loop")
            self._run.load_state_dict(loop["run"])
            self._budget.load_state_dict(loop["budget"])
            self._ends.load_state_dict(loop["ends"])
            self._tuning.load_state_dict(loop["tuning"])
            self._scheduler.load_state_dict(loop["scheduler"])
            if loop["evaluator"] is not None:
                self._evaluator.load_state_dict(loop["evaluator"])
            self._rollbacks = int(loop["rollbacks"])
        with reading("callbacks"):
            self._callbacks.load_states(kept.state("callbacks")["states"])
        learners = self._learners()
        kept.restore(learners)
        with reading("pipeline"):
            self._agent, self._next_agent = (learners[name] for name in loop["trainees"])
            go_on = self._collector.go_on(self._agent, kept.state("pipeline")["state"])
        if not go_on:
            _cut_episodes(learners.values())
        with reading("loop"):
            self._best.load_state_dict(loop["best"], is_repeated=go_on and kept.ending is None)
        kept.restore_random()
        if kept.ending == Ending.FINISHED.value:
            self._scheduler.record_restart()
        run, after = self._run, kept.ending or "killed"
        self.record(
            events.Resumed(
                windows=run.next_window_id,
                seconds=run.seconds,
                after=after,
                episodes_go_on=go_on,
                state=self._scheduler.current_state.value,
            )
        )

    def _most_windows(self) -> int | None:
        """Return how many windows the run has at most, as far as that is known; None: any number."""
        steps, rows = self._settings.max_steps, self._collector.rows_per_window
        caps = [self._settings.max_episodes, steps // rows if steps and rows else None]
        return min((cap for cap in caps if cap is not None), default=None)

    def _cap(self, reason: str) -> None:
        self._stop_reason, self._ending = reason, Ending.CAPPED

    def _is_due(self, window_id: int) -> bool:
        run = self._run
        return self._scheduler.should_adapt(window_id) or not run.history or run.lacks_score

    @property
    def _is_judged_apart(self) -> bool:
        """Whether policies are judged by what they do elsewhere than in the windows.

        They do that before they collect a window, not between the window and its `learn`: an agent may
        record what it does in `act`, and learn from the record.
        """
        return self._collector.validation is not None or self._best.has_external_score

    def _put_aside(self, aside: ExitStack) -> Candidate:
        """Put the agent as it is aside, with what it reaches in held-out episodes where there are any."""
        made_with = self._tuning.made_with(self._tuning.accepted(self._agent))
        candidate = aside.enter_context(self._best.staged(self._agent, made_with))
        held_out = self._collector.assess(self._agent, self._would_be_best)
        return replace(candidate, held_out=held_out)

    def _would_be_best(self, held_out: HeldOut) -> bool:
        return self._best.would_be_best(held_out.score, held_out)

    def _look_for_ends(self, run: RunState, window: EpisodeData) -> bool:
        """Let windows be scored by the step where no episode ends, and by returns if they do after all.

        Returns:
            Whether scores are of another kind from here on.
        """
        ends = self._ends
        ends.note(window)
        if not self._evaluator.has_step_score:
            return False
        if ends.windows == 1 and not self._collector.validation and (warning := ends.warning()):
            logger.warning(warning)
        if ends.came_after_all:
            ends.are_given_up = False
            self._forget_scores(run)
            logger.warning("an episode ended after all: the score is its return from here on, anew")
        elif ends.are_late and not ends.are_given_up and self._scheduler.best_score is None:
            ends.are_given_up = True
            logger.warning(
                "no episode has ended in %d windows of %d steps in all: the score is the mean reward a step",
                ends.windows,
                run.total_steps,
            )
        else:
            return False
        self.record(events.Rescored(per_step=ends.are_given_up, windows=ends.windows))
        return True

    def _forget_scores(self, run: RunState) -> None:
        """Begin anew with scores of another kind: none is compared with those before."""
        accepted = self._tuning.accepted(self._agent)
        if accepted is not None:
            self._agent.set_hyperparams(accepted)
        self._best.begin_anew()
        self._scheduler.forget_scores()
        self._begin_anew()
        run.history = []

    def _hand_over(self) -> None:
        """Begin with the agent that `train` named, if it is another one."""
        if self._next_agent is self._agent:
            return
        self._agent = self._next_agent
        self._collector.hand_over(self._agent)
        self._scheduler.record_restart()
        self._begin_anew()
        self.record(events.Trainee())

    def _begin_anew(self) -> None:
        """Forget what was true of the policy before this one."""
        self._tuning.begin(self._run.window_id)
        self._run.forget_recent()

    def _pass(self, run: RunState, window: EpisodeData, candidate: Candidate | None) -> None:
        """Take one window through the loop; it is evaluated if there is a candidate."""
        interval = self._scheduler.current_interval
        accepted = self._tuning.accepted(self._agent)
        with run.learning():
            diagnostics = _diagnostics(self._agent.learn(window))
        self._tuning.note_learned(accepted)
        if candidate is not None:
            self._take(run, *self._assess(window, diagnostics, candidate.held_out), candidate)
        self._guard(accepted, diagnostics)
        if run.smoothed is not None and len(run.history) > 1:
            run.improved = self._transition(run, run.smoothed)
            self._tune(run)
        if run.smoothed is not None and self.state is not LoopState.DORMANT:
            self._plan = self._tuning.propose_forks(self._agent, run, self.state)
        self._tell_of_window(window, diagnostics, interval)

    def _tell_of_window(
        self, window: EpisodeData, diagnostics: dict[str, Any], interval: int
    ) -> None:
        run = self._run
        metrics = None if run.smoothed is None else run.history[-1]
        self._callbacks.emit("on_episode_end", run.window_id, metrics)
        report = run.report(window, diagnostics, self._best.score, self.state, interval)
        self._callbacks.emit("on_window", report)

    def _assess(
        self, window: EpisodeData, diagnostics: dict[str, Any], held_out: HeldOut | None
    ) -> tuple[EvalMetrics, EvalMetrics]:
        """Return the score that the decisions rest on, and that by which the policy is ranked."""
        train = self._evaluator.score(window, diagnostics)
        if held_out is None:
            return train, train
        if held_out.train_score is not None:
            train = replace(train, primary_score=held_out.train_score)
        combine = self._evaluator.combine
        return combine(train, held_out.score), combine(train, held_out.ranking)

    def _take(
        self, run: RunState, score: EvalMetrics, ranking: EvalMetrics, candidate: Candidate
    ) -> None:
        """Checkpoint. A score that is not finite is no evidence: no decision."""
        is_baseline = not run.history and self._best.snapshot is None
        run.take_score(score)
        if run.smoothed is None and not candidate.has_external_score:
            return
        self._checkpoint(ranking, candidate, is_baseline)
        if run.smoothed is not None and is_baseline:
            self._scheduler.record_improvement(run.smoothed)

    def _checkpoint(self, metrics: EvalMetrics, candidate: Candidate, is_baseline: bool) -> None:
        """Keep the weights that made the score, if they are the best so far."""
        if self._best.offer(candidate, metrics):
            self._tell_of_best(metrics, is_baseline)

    def _tell_of_best(self, metrics: EvalMetrics, is_baseline: bool = False) -> None:
        self._rollbacks = 0
        kind = events.Baseline if is_baseline else events.Best
        score, episodes = metrics.primary_score, metrics.score_count
        self.record(kind(score=score, rank=self._best.rank, episodes=episodes))
        if not is_baseline:
            self._callbacks.emit("on_improvement", self._best.snapshot)
        if self._best.rank >= self._target_score:
            self.stop(f"the target score of {self._target_score:g} was reached")

    def _guard(self, accepted: HyperparamSet | None, diagnostics: dict[str, Any]) -> None:
        """Go back to the best policy, and on with smaller steps, where learning broke down.

        The hyperparameters are those in force. With the best policy's the steps would be reduced from the
        same start each time.

        Raises:
            FloatingPointError: If the weights are not finite, and no policy was kept yet.
        """
        trouble = _breakdown(self._agent, diagnostics)
        if trouble is None:
            return
        kept = self._agent.get_hyperparams() if accepted is None else accepted
        restored = self._best.restore(self._agent)
        if restored is None and not self._agent.has_finite_weights():
            raise FloatingPointError(
                f"{trouble} before any policy was kept: lower the learning rate"
            )
        self._agent.set_hyperparams(kept)
        self._agent.reduce_step()
        logger.warning("%s: the best policy was restored, and learns in smaller steps", trouble)
        self._begin_anew()
        in_force = self._agent.get_hyperparams().params
        self.record(events.Recovered(reason=trouble, hyperparams=in_force))

    def _transition(self, run: RunState, smoothed: float) -> bool:
        """Let the scheduler judge the score, and act on the state it comes to; return if it improved."""
        settings, is_exploring = self._settings, self._agent.is_exploring
        may_degrade = self._agent.is_on_policy or settings.rollback_on_degradation
        judgement = self._scheduler.decide(
            run.history[-1].primary_score,
            smoothed,
            improvement_margin=settings.improvement_margin,
            may_rest=not is_exploring,
            may_degrade=may_degrade and not is_exploring and not self._tuning.is_probing,
        )
        if judgement is Judgement.DEGRADATION:
            self._degrade(run, smoothed)
        if self.state is LoopState.COOLING:
            self._callbacks.emit("on_plateau", run.window_id, self.state)
            self.record(self._standstill(events.Plateau))
        elif self.state is LoopState.DORMANT:
            self.record(self._standstill(events.Dormant))
            self._plan = self._tuning.propose_forks(self._agent, run, self.state)
            if self._plan is None:
                self._rest(run)
        return judgement is Judgement.IMPROVEMENT

    def _standstill(self, kind: type[events.Standstill]) -> events.Standstill:
        scheduler = self._scheduler
        return kind(
            evaluations=scheduler.total_episodes,
            non_improvements=scheduler.consecutive_non_improvements,
            interval=scheduler.current_interval,
            best=scheduler.best_score,
            noise=scheduler.noise(),
            plateau_test=scheduler.last_plateau_test,
        )

    def _degrade(self, run: RunState, smoothed: float) -> None:
        """Log a confirmed fall, and restore the best policy where that was asked for."""
        self._callbacks.emit("on_degradation", run.window_id, run.history[-1])
        self.record(events.Degradation(smoothed=smoothed, best=self._scheduler.best_score))
        if not self._settings.rollback_on_degradation or self._rollbacks == MOST_ROLLBACKS:
            return
        self._rollbacks += 1
        restored = self._best.restore(self._agent)
        self._begin_anew()
        if restored is not None:
            self.record(events.Rollback(snapshot=restored.snapshot_id))

    def _try_forks(self, run: RunState) -> None:
        """Let forks try what was proposed; stop if nothing is left to gain then."""
        plan, self._plan = self._plan, None
        if plan is None:
            return
        is_last, has_gained = self.state is LoopState.DORMANT, False
        if self._stop_reason is None and self._next_agent is self._agent:
            has_gained = self._race(plan, run, is_last)
        if is_last and not has_gained:
            self._rest(run)

    def _race(self, plan: ForkPlan, run: RunState, is_last: bool) -> bool:
        """Let forks learn and play; return whether what goes on is better than what was there.

        Args:
            plan: What they are to try.
            run: Counts their steps.
            is_last: Whether it is the best policy that they have to beat.
        """
        contest = self._contest(plan, run, is_last)
        if contest is None:
            return False
        self.record(events.Forking(reason=plan.reason, tried=_tried(plan)))
        steps = run.total_steps
        if is_last or self._agent.is_on_policy:
            # What learns from the replay as well may know more than its best policy.
            self._best.restore(self._agent)
        result = self._raced(plan, contest)
        self._begin_anew()
        if result is None:
            return False
        if result.has_gained:
            self._scheduler.record_restart()
        self.record(_forked(plan, result, run.total_steps - steps))
        if (
            is_last
            and result.has_gained
            and (metrics := self._best.succeed(self._agent, run.window_id))
        ):
            self._tell_of_best(metrics)
        return result.has_gained

    def _contest(self, plan: ForkPlan, run: RunState, is_last: bool) -> Contest | None:
        """Return what forks do and how they are compared; None where they cannot be, or there is no room."""
        length = run.history[-1].episode_length
        bounds = self._collector.play_bounds(length)
        if bounds is None:
            return None
        episodes = episodes_to_compare(run.total_steps, length, plan, bounds.num_envs)
        played = most_plays(plan, is_last) * bounds.steps(episodes)
        if not self._budget.has_room(most_windows(plan), played):
            return None
        test = self._scheduler.last_plateau_test
        return Contest(
            learn=self._learn_in_fork,
            renew=self._renew,
            play=partial(self._play_fork, longest=bounds.longest),
            play_best=partial(self._play_best, longest=bounds.longest) if is_last else None,
            least_gain=0.0 if test is None else GAIN_SHARE * test.gain,
            episodes=episodes,
        )

    def _raced(self, plan: ForkPlan, contest: Contest) -> RaceResult | None:
        """Let forks learn and play; return None where that was cut short."""
        with tempfile.TemporaryDirectory(prefix="tensor-optix-forks-") as place:
            try:
                return Race(self._agent, plan, contest, Path(place)).run()
            except NotPutAside as error:
                self.record(events.Unsaved(reason=str(error)))
                self._renew()
                return None
            except Exception:
                self._begin_anew()
                self._keep_before_crash()
                raise

    def _learn_in_fork(self) -> dict[str, Any] | None:
        """Let the agent learn from a window that nothing is decided on; return None if learning broke down.

        Raises:
            RaceOver: If no other window may follow.
        """
        run = self._run
        if self._is_over(run, self._budget):
            raise RaceOver
        self._agent.set_progress(self._budget.remaining)
        begun = time.perf_counter()
        window = next(self._windows, None)
        if window is None:
            self._stop_reason = "the data source ended"
            raise RaceOver
        run.enter(window, time.perf_counter() - begun)
        with run.learning():
            diagnostics = _diagnostics(self._agent.learn(window))
        self._budget.count(window.num_steps)
        self._tell_of_window(window, diagnostics, self._scheduler.current_interval)
        return None if _breakdown(self._agent, diagnostics) else diagnostics

    def _renew(self) -> None:
        _cut_episodes([self._agent])
        self._collector.hand_over(self._agent)

    def _play_fork(self, episodes: int, longest: int) -> Array | None:
        """Return the returns `[episodes]` of the agent's greedy policy; None if one does not end."""
        before = self._collector.steps_played
        try:
            returns = self._collector.play([self._agent], episodes, self._agent, longest)
            return np.asarray(returns[0])
        except EpisodesWithoutEnd as error:
            logger.warning("a fork is not compared: %s", error)
            return None
        finally:
            steps = self._collector.steps_played - before
            self._run.count_steps(steps)
            self._budget.count_steps(steps)

    def _play_best(self, episodes: int, longest: int) -> Array | None:
        self._best.restore(self._agent)
        return self._play_fork(episodes, longest)

    def _rest(self, run: RunState) -> None:
        """Stop, unless a callback lets the loop go on."""
        claims = self._callbacks.emit("on_dormant", run.window_id)
        self._best.refresh()
        if any(claim is True for claim in claims):
            self._scheduler.record_restart()
        elif self._stop_reason is None:
            self._stop_reason = "nothing left to gain"

    def _tune(self, run: RunState) -> None:
        """Let the tuner choose the next window's hyperparameters."""
        tuned = self._tuning.adjust(self._agent, run, self.state)
        self._callbacks.emit("on_hyperparam_update", tuned.before, tuned.effective)
        if tuned.is_change:
            self.record(tuned)

    def _finish(self, failed: bool) -> None:
        try:
            self._agent = self._next_agent = self._owner
            if self._keeper is not None:
                self._keeper.wait()
                self.registry.settle_repeated(self._run.window_id)
                if not failed:
                    self.registry.forget_discarded()
            self._close(failed)
        finally:
            reason, self._stop_reason = self._stop_reason, None
            ending, self._ending = self._ending, Ending.FINISHED
            self.record(events.Stop(reason=reason, best=self._best.score, ending=ending))
            self._callbacks.emit("on_loop_stop")

    def _close(self, failed: bool) -> None:
        """Play the finals, put the best policy into the agent, tear the pipelines down.

        Each whatever becomes of the others. After a failure there are no finals, and what fails here is
        only logged, so that it does not hide the first error.
        """
        with ExitStack() as stack:
            if self._collector.is_set_up:
                if not self._run.windows and not failed:
                    logger.warning("the pipeline gave no window: nothing was learned")
                stack.callback(_attempt, self._collector.teardown_validation, failed)
                stack.callback(_attempt, self._collector.teardown_training, failed)
            stack.callback(_attempt, partial(self._restore_best, failed), failed)
            if self._collector.is_set_up and self._ending is not Ending.INTERRUPTED and not failed:
                _attempt(self._play_finals, only_log=True)

    def _play_finals(self) -> None:
        """Let the best few policies play for which of them is the best, where nothing else ranked them."""
        contest = None if self._collector.validation else self._collector.contest()
        if contest is None or self._best.has_external_score:
            return
        registry, run = self.registry, self._run
        chosen = finalists(registry, self._settings.finalists, run.total_steps, run.window_id + 1)
        if len(chosen) > 1:
            contest.most_windows = int(FINALS_SHARE * self._ends.windows) // len(chosen)
            played = play_finals(registry, chosen, self._agent, contest.score_surely)
            self._best.refresh()
            scores = {snapshot.snapshot_id: made.primary_score for snapshot, made in played}
            episodes = min((made.score_count for _, made in played), default=0)
            self.record(events.Finals(scores=scores, episodes=episodes))

    def _restore_best(self, failed: bool) -> None:
        if self._best.restore(self._agent) is None and self._run.total_steps:
            logger.warning("no policy was ever scored; the agent keeps its latest weights")
            if not failed:
                self._best.keep_unscored(self._agent, self._run.window_id)

    def record(self, event: LoopEvent) -> None:
        """Log a decision, as `LoopControl` has it."""
        run = self._run
        known = replace(event, episode_id=run.window_id, total_steps=run.total_steps)
        self._callbacks.emit("on_event", known)


def _tried(plan: ForkPlan) -> list[dict[str, Any]]:
    """Return what each candidate has of hyperparameters that the first has not."""
    present = plan.candidates[0].params
    return [
        {name: value for name, value in one.params.items() if value != present.get(name)}
        for one in plan.candidates
    ]


def _forked(plan: ForkPlan, result: RaceResult, steps: int) -> events.Forked:
    """Return what is told of forks."""
    present = plan.candidates[0].params
    return events.Forked(
        reason=plan.reason,
        tried=_tried(plan),
        scores=[score if math.isfinite(score) else None for score in result.scores],
        windows=list(result.windows),
        winner=result.winner,
        gain=result.gain if math.isfinite(result.gain) else None,
        error=result.error if math.isfinite(result.error) else None,
        has_gained=result.has_gained,
        steps=steps,
        hyperparams=present | plan.candidates[result.winner].params,
    )


def _cut_episodes(agents: Iterable[BaseAgent]) -> None:
    """Let no row that is stored from here on go on with an episode of before."""
    for agent in agents:
        for replay in agent.replays.values():
            replay.flush_episode()


def _diagnostics(returned: Any) -> dict[str, Any]:
    """Return what an agent's `learn` said. Raises TypeError for what is neither a dict nor nothing."""
    if isinstance(returned, Mapping):
        return dict(returned)
    if returned is not None:
        got = type(returned).__name__
        raise TypeError(f"learn must return a dict of diagnostics, or None, got {got}")
    return {}


def _breakdown(agent: BaseAgent, diagnostics: dict[str, Any]) -> str | None:
    """Return what shows that learning broke down: weights or a loss that are not finite; None if nothing."""
    for name, value in diagnostics.items():
        if "loss" in name and isinstance(value, Real) and not math.isfinite(value):
            return f"{name} became {value}"
    return None if agent.has_finite_weights() else "the weights are not finite"


def _attempt(action: Callable[[], None], only_log: bool) -> None:
    try:
        action()
    except Exception:
        if not only_log:
            raise
        logger.exception("%r failed at the end of the run", action)
