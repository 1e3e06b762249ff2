"""The comparison of the best trials: scores with fresh seeds come in, the one with the best mean goes out.

The scores are kept with the study, so that other processes and later runs find them.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from optuna.study import Study
    from optuna.trial import FrozenTrial


class Finalists:
    """Compares trials on the same seeds.

    Args:
        study: Keeps the scores.
        seeds: Those that every finalist is trained with.
        is_minimized: Whether the lowest mean wins.
    """

    def __init__(self, study: Study, seeds: Sequence[int], is_minimized: bool) -> None:
        self._study = study
        self._seeds = seeds
        self._is_minimized = is_minimized

    def missing(self, trials: Sequence[FrozenTrial]) -> Iterator[tuple[FrozenTrial, int]]:
        """Yield what is still to be trained; what another process did meanwhile is passed over."""
        for seed in self._seeds:
            for trial in trials:
                if _key(trial, seed) not in self._study.user_attrs:
                    yield trial, seed

    def keep(self, trial: FrozenTrial, seed: int, score: float | None) -> None:
        """Keep a score; None where the training failed, which puts the finalist out."""
        self._study.set_user_attr(_key(trial, seed), {"score": score})

    def winner(self, trials: Sequence[FrozenTrial]) -> tuple[FrozenTrial, float] | None:
        """Return the best trial and its mean score.

        None while a score is missing, for then the comparison would not be a fair one, and if all
        finalists failed.
        """
        if next(self.missing(trials), None) is not None:
            return None
        kept = self._study.user_attrs
        means: list[tuple[FrozenTrial, float]] = []
        for trial in trials:
            scores = [kept[_key(trial, seed)]["score"] for seed in self._seeds]
            if None not in scores:
                means.append((trial, statistics.fmean(scores)))
        if not means:
            return None
        return (min if self._is_minimized else max)(means, key=lambda pair: pair[1])


def _key(trial: FrozenTrial, seed: int) -> str:
    return f"trial {trial.number} with seed {seed}"
