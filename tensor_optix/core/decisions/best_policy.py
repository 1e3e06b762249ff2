"""Which policy of a run is the best: weights and the score they made come in, the registry keeps the best.

The score of a window belongs to the weights that collected it, so these are put aside before they learn
from it. A candidate is ranked by a lower confidence bound, so that one lucky episode makes no best policy.
Candidates that played held-out episodes are compared in those that both of them played.
"""

from __future__ import annotations

import logging
import math
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tensor_optix.core.checkpoints.snapshot_store import SnapshotError
from tensor_optix.core.decisions.validation import HeldOut
from tensor_optix.core.foreign_agent import own_object
from tensor_optix.core.types import EvalMetrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.checkpoint_registry import CheckpointRegistry
    from tensor_optix.core.checkpoints.snapshot_store import StagedSnapshot
    from tensor_optix.core.types import HyperparamSet, PolicySnapshot

logger = logging.getLogger(__name__)

NEGLIGIBLE_GAIN = 1e-3
"""A bound that is higher by less than this share, for no higher a score, is not worth a checkpoint."""
PRIOR_EPISODES = 4
"""How many episodes the variance of earlier windows counts for."""
EPISODES = 20
"""Fresh episodes of each finalist."""
STEP_SHARE = 0.3
"""The finals may take at most this share of the environment steps of the run."""
WINDOWS = 2
"""What finishing the last episodes takes besides, in windows."""


def variance_of_returns(metrics: EvalMetrics, earlier: float | None) -> float | None:
    """Return the variance of an episode's return; None where the score does not say what it is the mean of.

    It is shrunk towards that of earlier windows, where there is one: a window may hold a single episode.
    """
    count, std = metrics.score_count, metrics.score_std
    if count < 1 or not math.isfinite(std):
        return None
    if earlier is None:
        return std**2
    return (PRIOR_EPISODES * earlier + count * std**2) / (PRIOR_EPISODES + count)


def lower_bound(metrics: EvalMetrics, variance: float | None) -> float:
    """Return `score - sqrt(variance / K)`, one standard error down; without a variance the plain score."""
    if variance is None:
        return metrics.primary_score
    return metrics.primary_score - math.sqrt(variance / metrics.score_count)


@dataclass(frozen=True)
class Candidate:
    """The weights that collect a window, before they learn from it."""

    staged: StagedSnapshot | None
    """None: the disk did not take them, so that they can be judged, but not be kept."""
    hyperparams: HyperparamSet | None
    """Those to keep with them; None: they are an experiment, and never the best."""
    external_score: float | None
    held_out: HeldOut | None = None
    """What they reached in held-out episodes; None: they played none."""

    @property
    def has_external_score(self) -> bool:
        """Whether an external score ranks it, one that is a number."""
        return self.external_score is not None and math.isfinite(self.external_score)


class BestPolicy:
    """Puts candidates aside, keeps the best of them, and gives it back.

    Args:
        registry: Keeps the files.
        score_fn: `fn(agent) -> float` that ranks instead of the score. None: the score's lower bound.
    """

    def __init__(
        self, registry: CheckpointRegistry, score_fn: Callable[[Any], float] | None = None
    ) -> None:
        self.registry = registry
        """Keeps the files."""
        self._score_fn = score_fn
        self._variance: float | None = None
        self._has_begun = self._has_warned = False
        self._rank = -math.inf
        self._held_out: dict[str, HeldOut] = {}
        self.snapshot: PolicySnapshot | None = None
        """The best policy so far."""
        self.refusal: str | None = None
        """Why the disk did not take a policy that was to be stored; whoever tells it sets it to None."""

    @property
    def score(self) -> float | None:
        """The best policy's score; None before there is one."""
        if self.snapshot is None or self.snapshot.eval_metrics.never_scored:
            return None
        return self.snapshot.eval_metrics.primary_score

    @property
    def rank(self) -> float:
        """What the best policy was ranked by."""
        return self._rank

    @property
    def has_external_score(self) -> bool:
        """Whether a function of the user's ranks the policies."""
        return self._score_fn is not None

    def begin(self) -> None:
        """Begin a run in the registry, the first time."""
        if not self._has_begun:
            self.registry.begin_run()
            self._has_begun = True

    def state_dict(self) -> dict[str, Any]:
        """Return what is known of the best policy, and which policies of the run are stored: they stay so."""
        return {
            "run_id": self.registry.run_id,
            "stored": self.registry.pin(),
            "best": None if self.snapshot is None else self.snapshot.snapshot_id,
            "rank": self._rank,
            "variance": self._variance,
            "held_out": {name: one.state_dict() for name, one in self._held_out.items()},
        }

    def load_state_dict(self, state: dict[str, Any], is_repeated: bool) -> None:
        """Go on from what `state_dict` returned.

        Args:
            state: That.
            is_repeated: Whether what came afterwards will come again to the bit. Policies that were stored
                since then are set aside until they are found again; otherwise they are kept.
        """
        self.registry.begin_run(state["run_id"])
        self._has_begun = True
        self._variance = state["variance"]
        self._held_out = {name: HeldOut.of_state(one) for name, one in state["held_out"].items()}
        self.registry.go_back_to(state["stored"], is_repeated)
        self.refresh()
        if self.snapshot is not None and self.snapshot.snapshot_id == state["best"]:
            self._rank = float(state["rank"])

    def begin_anew(self) -> None:
        """Leave aside what was ranked by scores of another kind; a function of the user's has but one."""
        if self._score_fn is None:
            self.registry.begin_run()
            self.snapshot, self._rank, self._variance = None, -math.inf, None
            self._held_out = {}

    def keep_unscored(self, agent: BaseAgent, window_id: int) -> None:
        """Keep the agent as it is, where no policy was ever scored."""
        if self.snapshot is not None:  # those that an earlier run kept
            self.registry.discard_snapshot(self.snapshot)
        metrics = EvalMetrics.unscored(window_id)
        try:
            self.snapshot = self.registry.save(agent, metrics, agent.get_hyperparams())
        except OSError as error:
            self._note_refusal(error)

    def stage(self, agent: BaseAgent, hyperparams: HyperparamSet | None) -> Candidate:
        """Put the agent's present state aside.

        Args:
            agent: Whose state.
            hyperparams: Those to keep with it; None if they are an experiment.
        """
        external = None if self._score_fn is None else float(self._score_fn(own_object(agent)))
        if external is not None and not math.isfinite(external) and not self._has_warned:
            self._has_warned = True
            logger.warning(
                "checkpoint_score_fn returned %s: such a policy is never the best", external
            )
        try:
            staged = self.registry.stage(agent)
        except OSError as error:
            self._note_refusal(error)
            staged = None
        return Candidate(staged, hyperparams, external)

    @contextmanager
    def staged(self, agent: BaseAgent, hyperparams: HyperparamSet | None) -> Iterator[Candidate]:
        """Put the agent's present state aside; in the end forget it, unless it was kept."""
        candidate = self.stage(agent, hyperparams)
        try:
            yield candidate
        finally:
            self.discard(candidate)

    def discard(self, candidate: Candidate) -> None:
        """Forget a candidate; nothing happens to one that was kept."""
        if candidate.staged is not None:
            self.registry.discard(candidate.staged)

    def would_be_best(self, metrics: EvalMetrics, held_out: HeldOut | None = None) -> bool:
        """Whether a policy of this score would be the best. Changes nothing.

        Args:
            metrics: The score.
            held_out: The held-out episodes that it comes from, if it does.
        """
        if self._score_fn is not None:
            return False
        rank = lower_bound(metrics, variance_of_returns(metrics, self._variance))
        gain = self._gain(held_out)
        return rank > self._rank if gain is None else gain > 0.0

    def offer(self, candidate: Candidate, metrics: EvalMetrics) -> bool:
        """Keep the candidate if it is better than the best; return whether it was."""
        rank, gain = candidate.external_score, None
        if rank is None:
            variance = variance_of_returns(metrics, self._variance)
            rank = lower_bound(metrics, variance)
            self._variance = self._variance if variance is None else variance
            gain = self._gain(candidate.held_out)
        is_better = rank > self._rank + self._least_gain(candidate, metrics)
        if gain is not None:
            # What bounds the score of the best from below bounds that of a policy which beats it, too.
            is_better, rank = gain > 0.0, max(rank, math.nextafter(self._rank, math.inf))
        if candidate.hyperparams is None or candidate.staged is None or not is_better:
            self.discard(candidate)
            return False
        return self._keep(candidate, candidate.staged, metrics, candidate.hyperparams, rank)

    def succeed(self, agent: BaseAgent, window_id: int) -> EvalMetrics | None:
        """Keep an agent that beat the best policy for sure, in episodes that both played, in its place.

        What bounds the score of the best from below is said of it, too. Where others than scores of training
        rank the policies, these decide, when it is scored next.

        Args:
            agent: Whose state.
            window_id: Of the window before.

        Returns:
            What it counts as; None if it was not kept.
        """
        best = self.snapshot
        if best is None or self._score_fn is not None or best.snapshot_id in self._held_out:
            return None
        candidate = self.stage(agent, agent.get_hyperparams())
        if candidate.staged is None or candidate.hyperparams is None:
            return None
        metrics = replace(best.eval_metrics, episode_id=window_id)
        rank = math.nextafter(self._rank, math.inf)
        is_kept = self._keep(candidate, candidate.staged, metrics, candidate.hyperparams, rank)
        return metrics if is_kept else None

    def _keep(
        self,
        candidate: Candidate,
        staged: StagedSnapshot,
        metrics: EvalMetrics,
        hyperparams: HyperparamSet,
        rank: float,
    ) -> bool:
        """Store the candidate; return whether the disk took it."""
        try:
            self.snapshot = self.registry.commit(staged, metrics, hyperparams, score=rank)
        except OSError as error:
            self.discard(candidate)
            self._note_refusal(error)
            return False
        except BaseException:
            self.discard(candidate)
            raise
        self._rank = rank
        if candidate.held_out is not None:
            self._held_out[self.snapshot.snapshot_id] = candidate.held_out
        return True

    def _note_refusal(self, error: OSError) -> None:
        self.refusal = f"the policy of this window was not stored: {error}"

    def _gain(self, held_out: HeldOut | None) -> float | None:
        """Return the sure gain over the best in the episodes of both; None: these are not known."""
        best = None if self.snapshot is None else self._held_out.get(self.snapshot.snapshot_id)
        return None if held_out is None or best is None else held_out.gain_over(best)

    def _least_gain(self, candidate: Candidate, metrics: EvalMetrics) -> float:
        is_own_score = candidate.external_score is None
        if self.score is None or not is_own_score or metrics.primary_score > self.score:
            return 0.0
        return NEGLIGIBLE_GAIN * abs(self._rank)

    def refresh(self) -> None:
        """Read anew which stored policy is the best: the ranks of others, or their files, have changed."""
        self.snapshot = self.registry.best
        self._rank = -math.inf if self.snapshot is None else self.registry.score_of(self.snapshot)

    def restore(self, agent: BaseAgent) -> PolicySnapshot | None:
        """Put the best policy into the agent, with its hyperparameters; None if none was scored.

        Counters and schedules (exploration, for instance) stay where the training has brought them.
        """
        if self.registry.best is None:
            return None
        with agent.keeping_progress():
            return self.registry.load_best(agent)


def finalists(
    registry: CheckpointRegistry, most: int, steps: int, windows: int
) -> list[PolicySnapshot]:
    """Return the stored policies that are worth playing again, the best first.

    Args:
        registry: Holds them.
        most: How many at most.
        steps: Environment steps of the run; a long one may spend more on its finals.
        windows: How many windows these were.
    """
    ranked = [one for one in registry.snapshots if math.isfinite(registry.score_of(one))][:most]
    lengths = [one.eval_metrics.episode_length for one in ranked]
    chosen: list[PolicySnapshot] = []
    cost = 0.0
    for snapshot, length in zip(ranked, lengths, strict=True):
        cost += EPISODES * (length if math.isfinite(length) else 0.0)
        cost += WINDOWS * steps / max(windows, 1)
        if cost > STEP_SHARE * steps:
            break
        chosen.append(snapshot)
    return chosen


def play_finals(
    registry: CheckpointRegistry,
    snapshots: list[PolicySnapshot],
    agent: BaseAgent,
    score: Callable[[BaseAgent, int], EvalMetrics],
) -> list[tuple[PolicySnapshot, EvalMetrics]]:
    """Play each stored policy, and let the registry rank them by what they reached, the best first.

    Args:
        registry: Holds the policies.
        snapshots: Of them, best first; of equal scores the one that was ranked higher wins.
        agent: Takes on one policy after the other.
        score: `fn(agent, episodes)` scores the agent by at least so many fresh greedy episodes.

    Returns:
        The policies that could be played, with these scores; minus infinity where there is none.
    """
    played: list[tuple[PolicySnapshot, EvalMetrics]] = []
    for snapshot in snapshots:
        try:
            registry.load(snapshot, agent)
        except SnapshotError as error:
            logger.warning("skipping a damaged checkpoint: %s", error)
            continue
        result = score(agent, EPISODES)
        is_known = math.isfinite(result.primary_score)
        played.append((snapshot, result if is_known else replace(result, primary_score=-math.inf)))
    played.sort(key=lambda one: -one[1].primary_score)
    registry.reorder([(snapshot, result.primary_score) for snapshot, result in played])
    return played
