"""Whether a variant is better than what it was cloned from: scores of both come in, a p-value goes out."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tensor_optix.core.types import EvalMetrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.checkpoint_registry import CheckpointRegistry
    from tensor_optix.core.types import Array, PolicySnapshot

EPISODES = 20
"""Greedy episodes that each side plays."""
SIGNIFICANCE = 0.05
"""A variant stays if it would be as good by chance with less than this probability."""


@dataclass(frozen=True)
class Trial:
    """A variant under training, and what it has to beat."""

    variant: BaseAgent
    champion: BaseAgent
    """Holds the best policy before the variant, and is not trained while the variant is."""
    snapshot: PolicySnapshot | None
    """That policy."""
    rank: float
    """What the snapshot was ranked by."""
    champion_scores: list[float]
    """The scores of the windows before the variant began, oldest first."""
    earlier: frozenset[str]
    """The ids of the snapshots that there were before it."""
    scores: list[float] = field(default_factory=list)
    """The scores of its windows, oldest first."""

    def own_snapshots(self, registry: CheckpointRegistry) -> list[PolicySnapshot]:
        """Return the snapshots that came since, best first."""
        return [one for one in registry.snapshots if one.snapshot_id not in self.earlier]

    def crown(self, registry: CheckpointRegistry, verdict: Verdict) -> None:
        """Rank the winner first, if none of its windows scored enough for that."""
        if self.own_snapshots(registry):
            return
        hyperparams = self.variant.get_hyperparams()
        above = math.nextafter(self.rank, math.inf)
        staged = registry.stage(self.variant)
        registry.commit(staged, verdict.as_metrics(), hyperparams, score=above)

    def reinstate(self, registry: CheckpointRegistry, champion_is_intact: bool = True) -> None:
        """Forget a loser's lucky scores; the champion's snapshot, if they displaced it, is written again.

        Args:
            registry: Has the snapshots.
            champion_is_intact: Whether the champion was not trained since. If it was, and its snapshot is
                gone, those that came since are all there is, and stay.
        """
        best = self.snapshot
        kept = {one.snapshot_id for one in registry.snapshots}
        is_gone = best is None or best.snapshot_id not in kept
        if is_gone and not champion_is_intact:
            return
        for snapshot in self.own_snapshots(registry):
            registry.discard_snapshot(snapshot)
        if best is not None and is_gone:
            staged = registry.stage(self.champion)
            registry.commit(staged, best.eval_metrics, best.hyperparams, score=self.rank)


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
    variant: Sequence[float], champion: Sequence[float], window: int = 10
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
