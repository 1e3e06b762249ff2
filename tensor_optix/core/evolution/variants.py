"""Variants of the best policy: how far they stray from it, and whether they are better than it was."""

from __future__ import annotations

import logging
import math
from collections import deque
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.core.base_agent import BaseAgent
from tensor_optix.core.decisions.statistics import finite, line_fit
from tensor_optix.core.search_space import SearchSpace, is_integer, is_number
from tensor_optix.core.types import EvalMetrics, HyperparamSet, PolicySnapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tensor_optix.core.checkpoint_registry import CheckpointRegistry
    from tensor_optix.core.types import Array

logger = logging.getLogger(__name__)

STEADY_RISE = 0.05
"""A score that rises by this share of its mean per evaluation needs no variety at all."""
BASE_NOISE = 0.01
LEAST_NOISE, MOST_NOISE = 0.005, 0.1
"""Bounds of the noise where there are no validation scores."""
RECENT = 10
"""Scores of an agent that count."""
LEAST_POINTS = 3
EPISODES = 20
"""Greedy episodes that each side plays."""
SIGNIFICANCE = 0.05
"""A variant stays if it would be as good by chance with less than this probability."""


def scores_of(history: Sequence[EvalMetrics]) -> Array:
    """Return the finite scores `[n]` of a history."""
    return finite([metrics.primary_score for metrics in history])


def train_and_val(history: Sequence[EvalMetrics]) -> tuple[Array, Array]:
    """Return the training and validation scores, `[n]` each, of the evaluations that have both."""
    pairs = [
        (metrics.train_score, metrics.val_score)
        for metrics in history
        if metrics.train_score is not None and metrics.val_score is not None
    ]
    both = np.array(pairs, np.float64).reshape(-1, 2)
    both = both[np.isfinite(both).all(axis=1)]
    return both[:, 0], both[:, 1]


def correlation(first: Array, second: Array) -> float | None:
    """Return Pearson's correlation of `[n]` and `[n]`; None with fewer than 3 points or without spread."""
    if len(first) < LEAST_POINTS or np.ptp(first) == 0.0 or np.ptp(second) == 0.0:
        return None
    return float(np.corrcoef(first, second)[0, 1])


def adaptive_noise_scale(
    metrics_history: Sequence[EvalMetrics],
    min_scale: float = 0.001,
    max_scale: float = 0.1,
    window: int = 10,
) -> float:
    """Return little noise while training goes well, and much when it does not.

    `max - t (1 - gap / 2) (1 - corr / 2) (max - min)`, with `t` the slope of the score by its mean and by
    0.05, `gap` the mean of training minus validation score by the mean validation score, and `corr` one
    minus their correlation, each clipped into [0, 1]. Without validation scores `gap` and `corr` are 0.

    Args:
        metrics_history: Evaluations, oldest first; the last `window` count.
        min_scale: The least noise.
        max_scale: The most, also with fewer than 3 scores or a mean of 0.
        window: How many evaluations count.
    """
    recent = metrics_history[-window:]
    scores = scores_of(recent)
    mean = float(scores.mean()) if len(scores) else 0.0
    if len(scores) < LEAST_POINTS or mean == 0.0:
        return max_scale
    progress = _clip(line_fit(scores)[0] / abs(mean) / STEADY_RISE)
    train, val = train_and_val(recent)
    gap = divergence = 0.0
    if len(val):
        gap = _clip(float((train - val).mean()) / max(abs(float(val.mean())), 1e-8))
        agreement = correlation(train, val)
        divergence = 0.0 if agreement is None else _clip(1.0 - agreement)
    effect = progress * (1.0 - 0.5 * gap) * (1.0 - 0.5 * divergence)
    return max_scale - effect * (max_scale - min_scale)


def spawn_noise(history: Sequence[EvalMetrics], spawn_count: int) -> float:
    """Return the noise of the next variant.

    With validation scores `adaptive_noise_scale`. Without them `0.01 / (1 + r)`, with `r` the improvement
    over the last 10 scores, `(best - first) / |first|`, and with fewer than 2 scores `0.01 * 2^spawn_count`,
    which widens the search from variant to variant; both are clipped into [0.005, 0.1].
    """
    if len(train_and_val(history)[1]):
        return adaptive_noise_scale(history)
    scores = scores_of(history)[-RECENT:]
    if len(scores) < 2:
        return min(MOST_NOISE, BASE_NOISE * 2.0 ** min(spawn_count, 10))
    gain = float(scores.max() - scores[0]) / max(abs(float(scores[0])), 1e-8)
    return min(max(BASE_NOISE / (1.0 + gain), LEAST_NOISE), MOST_NOISE)


def can_vary(agent: BaseAgent) -> bool:
    """Whether `vary` changes anything of an agent."""
    # A hook of an object that is no `BaseAgent` stands on the agent itself, not on its class.
    perturbs = getattr(agent.perturb_weights, "__func__", None) is not BaseAgent.perturb_weights
    return perturbs or bool(_varied_names(agent, agent.get_hyperparams().params))


def vary(agent: BaseAgent, noise_scale: float, origin: tuple[float, int]) -> None:
    """Put noise on an agent's weights and hyperparameters.

    Weights are multiplied by `1 + noise_scale * N(0, 1)` where the agent can do that, and so are the
    hyperparameters that the agent names bounds for: on a logarithmic scale by `exp(noise_scale * N(0, 1))`,
    clipped into their bounds, whole numbers staying whole. Everything else stays as it is: flags,
    capacities, and numbers of which nobody says what they may be. Only where the agent names no bounds at
    all, every number varies, whole ones that are 1 at least staying so; if it refuses the result, none does.
    What follows a schedule keeps to it.

    Args:
        agent: Is changed.
        noise_scale: Relative standard deviation of the noise.
        origin: The score of the policy that the agent holds, and the number of the variant. All random
            choices follow from them, so that a run can be repeated.
    """
    score, number = origin
    bits = int(np.float64(score).view(np.uint64))
    seed, noise_seed = np.random.SeedSequence([bits, number]).generate_state(2)
    agent.seed(int(seed))
    agent.perturb_weights(noise_scale)
    hyperparams = agent.get_hyperparams()
    rng = np.random.default_rng(int(noise_seed))
    space = SearchSpace(agent.default_param_bounds, agent.default_log_params)
    varied = dict(hyperparams.params)
    least = -math.inf if space.bounds else 1
    for name in _varied_names(agent, varied):
        step = noise_scale * float(rng.standard_normal())
        value = varied[name] * (math.exp(step) if name in space.log_params else 1.0 + step)
        varied[name] = max(least, round(value)) if is_integer(varied[name]) else value
    try:
        agent.set_hyperparams(replace(hyperparams, params=space.clip(varied)))
    except ValueError as error:
        if space.bounds:
            raise
        logger.warning("a variant keeps the hyperparameters of its policy: %s", error)
        agent.set_hyperparams(hyperparams)


def _varied_names(agent: BaseAgent, params: Mapping[str, Any]) -> Sequence[str]:
    """Return the names of the hyperparameters that vary: those with bounds, where there are any."""
    bounds = agent.default_param_bounds
    free = {name: params[name] for name in params if name not in agent.scheduled_params}
    if bounds:
        return SearchSpace(bounds).names_in(free)
    return [
        name
        for name, value in free.items()
        if is_number(value) and not (is_integer(value) and value < 1)
    ]


def _clip(value: float) -> float:
    return min(max(value, 0.0), 1.0)


def recent_scores(scores: Iterable[float] = ()) -> deque[float]:
    """Return a record of scores, oldest first, that keeps as many of the latest as count."""
    return deque(scores, maxlen=RECENT)


@dataclass(frozen=True)
class VariantTrial:
    """A variant under training, and what it has to beat."""

    registry: CheckpointRegistry
    variant: BaseAgent
    best: PolicySnapshot | None
    """The best policy before the variant."""
    rank: float
    """What that was ranked by."""
    earlier: frozenset[str]
    """The ids of the snapshots that there were before it."""
    rival_scores: deque[float]
    """The latest scores of the windows before the variant began, oldest first."""
    scores: deque[float] = field(default_factory=recent_scores)
    """The latest scores of its windows, oldest first."""

    @classmethod
    def begin(
        cls, registry: CheckpointRegistry, variant: BaseAgent, rival_scores: deque[float]
    ) -> VariantTrial:
        """Note what there is before the variant is trained."""
        best = registry.best
        rank = -math.inf if best is None else registry.score_of(best)
        earlier = frozenset(one.snapshot_id for one in registry.snapshots)
        return cls(registry, variant, best, rank, earlier, rival_scores)

    def state_dict(self) -> dict[str, Any]:
        """Return it as plain values, without the variant and the scores that it has to beat."""
        return {
            "best": None if self.best is None else asdict(self.best),
            "rank": self.rank,
            "earlier": sorted(self.earlier),
            "scores": list(self.scores),
        }

    @classmethod
    def of_state(
        cls,
        state: Mapping[str, Any],
        registry: CheckpointRegistry,
        variant: BaseAgent,
        rival_scores: deque[float],
    ) -> VariantTrial:
        """Return what `state_dict` was made of."""
        best = None if state["best"] is None else _snapshot(state["best"])
        earlier, scores = frozenset(state["earlier"]), recent_scores(state["scores"])
        return cls(registry, variant, best, float(state["rank"]), earlier, rival_scores, scores)

    def own_snapshots(self) -> list[PolicySnapshot]:
        """Return the snapshots that came since, best first."""
        return [one for one in self.registry.snapshots if one.snapshot_id not in self.earlier]

    def rank_first(self, verdict: Verdict) -> None:
        """Rank a variant that is better first, if none of its windows scored enough for that."""
        if self.own_snapshots():
            return
        staged, hyperparams = self.registry.stage(self.variant), self.variant.get_hyperparams()
        above = math.nextafter(self.rank, math.inf)
        self.registry.commit(staged, verdict.as_metrics(), hyperparams, score=above)

    def undo(self, champion: BaseAgent | None) -> None:
        """Forget the lucky scores of a variant that is no better.

        Args:
            champion: Still holds the best policy before the variant, and writes it again if such scores
                displaced it. None: nobody does. If it is gone then, those that came since are all there is.
        """
        kept = {one.snapshot_id for one in self.registry.snapshots}
        is_gone = self.best is None or self.best.snapshot_id not in kept
        if is_gone and champion is None:
            return
        for snapshot in self.own_snapshots():
            self.registry.discard_snapshot(snapshot)
        if self.best is not None and is_gone and champion is not None:
            staged = self.registry.stage(champion)
            metrics, hyperparams = self.best.eval_metrics, self.best.hyperparams
            self.registry.commit(staged, metrics, hyperparams, score=self.rank)


def _snapshot(state: Mapping[str, Any]) -> PolicySnapshot:
    """Return the snapshot that `asdict` was given."""
    metrics, hyperparams = (
        EvalMetrics(**state["eval_metrics"]),
        HyperparamSet(**state["hyperparams"]),
    )
    return PolicySnapshot(**{**state, "eval_metrics": metrics, "hyperparams": hyperparams})


@dataclass(frozen=True)
class Verdict:
    """How a trial ended."""

    p_value: float
    """The probability of such scores if the variant is no better."""
    variant_mean: float
    champion_mean: float
    count: int
    """How many scores of the variant count."""
    test: str

    @property
    def is_won(self) -> bool:
        """Whether the variant is better."""
        return self.p_value < SIGNIFICANCE

    def as_metrics(self) -> EvalMetrics:
        """Return what the variant reached."""
        return EvalMetrics(self.variant_mean, {}, episode_id=0)

    def __str__(self) -> str:
        return (
            f"mean {self.variant_mean:.4g} against {self.champion_mean:.4g} "
            f"({self.test}, {self.count} scores, p = {self.p_value:.3g})"
        )


def compare_pairs(variant: Array, champion: Array) -> Verdict:
    """Compare returns `[n]` and `[n]` of the same n episodes: Wilcoxon's signed-rank test, one-sided.

    (Wilcoxon, "Individual comparisons by ranking methods", 1945.) Episodes without a difference are left out.
    """
    differences = np.asarray(variant, np.float64) - np.asarray(champion, np.float64)
    differences = differences[differences != 0.0]
    p_value = 1.0
    if len(differences):
        # SciPy takes longer to import than the whole package may.
        from scipy.stats import wilcoxon

        p_value = float(wilcoxon(differences, alternative="greater").pvalue)
    return Verdict(
        p_value, float(np.mean(variant)), float(np.mean(champion)), len(variant), "wilcoxon"
    )


def compare_records(
    variant: Iterable[float], champion: Iterable[float], window: int = RECENT
) -> Verdict:
    """Compare the last `window` scores of both: the Mann-Whitney U test, one-sided.

    (Mann and Whitney, "On a test of whether one of two random variables is stochastically larger than the
    other", 1947.) Without scores of either, nothing is shown.
    """
    late, before = list(variant)[-window:], list(champion)[-window:]
    if not late or not before:
        return Verdict(1.0, np.nan, np.nan, len(late), "none")
    from scipy.stats import mannwhitneyu

    p_value = float(mannwhitneyu(late, before, alternative="greater").pvalue)
    return Verdict(p_value, float(np.mean(late)), float(np.mean(before)), len(late), "mann-whitney")
