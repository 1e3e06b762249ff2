"""How sure a score is."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tensor_optix.core.decisions.score_confidence import ScoreConfidence, pooled
from tensor_optix.core.types import EvalMetrics


def scored(score: float, episodes: int = 0, std: float = 0.0) -> EvalMetrics:
    return EvalMetrics(score, {"score_count": episodes, "score_std": std}, 0)


def test_the_bound_is_one_standard_error_below_the_mean():
    bound = ScoreConfidence().lower_bound(scored(100.0, 25, 10.0))
    assert bound == pytest.approx(100.0 - 10.0 / 5)


def test_a_single_episode_is_judged_by_the_variance_of_the_windows_before():
    confidence = ScoreConfidence()
    confidence.take(scored(100.0, 100, 20.0))
    assert confidence.lower_bound(scored(150.0, 1, 0.0)) < 150.0 - 10.0


def test_scores_without_counted_episodes_count_as_they_are():
    assert ScoreConfidence().lower_bound(EvalMetrics(3.0, {}, 0)) == 3.0
    assert ScoreConfidence().lower_bound(scored(3.0, 0, math.nan)) == 3.0


def test_asking_for_a_bound_changes_no_later_one():
    confidence = ScoreConfidence()
    confidence.take(scored(100.0, 10, 20.0))
    before = confidence.lower_bound(scored(150.0, 2, 0.0))
    confidence.lower_bound(scored(0.0, 1000, 500.0))
    assert confidence.lower_bound(scored(150.0, 2, 0.0)) == before


def test_two_sets_of_episodes_pool_to_what_all_of_them_have():
    first, second = np.array([1.0, 2.0, 3.0]), np.array([10.0, 14.0])
    both = np.concatenate([first, second])
    result = pooled(*(scored(x.mean(), len(x), x.std()) for x in (first, second)))
    assert result.primary_score == pytest.approx(both.mean())
    assert result.metrics["score_count"] == 5
    assert result.metrics["score_std"] == pytest.approx(both.std())


def test_scores_that_tell_no_count_pool_to_their_mean():
    assert pooled(EvalMetrics(1.0, {}, 0), EvalMetrics(4.0, {}, 0)).primary_score == 2.5
