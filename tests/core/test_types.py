"""What a score says about itself."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tensor_optix.core.base_evaluator import MeanReturnEvaluator
from tensor_optix.core.types import EvalMetrics


def scored(score: float, episodes: int, std: float) -> EvalMetrics:
    return EvalMetrics(score, {"score_count": episodes, "score_std": std}, 0)


def test_two_sets_of_episodes_pool_to_what_all_of_them_have():
    first, second = np.array([1.0, 2.0, 3.0]), np.array([10.0, 14.0])
    both = np.concatenate([first, second])
    one, other = (scored(x.mean(), len(x), x.std()) for x in (first, second))
    result = one.pooled(other)
    assert result.primary_score == pytest.approx(both.mean())
    assert result.metrics["score_count"] == result.score_count == 5
    assert result.metrics["score_std"] == result.score_std == pytest.approx(both.std())


def test_scores_that_tell_no_count_pool_to_their_mean():
    assert EvalMetrics(1.0, {}, 0).pooled(EvalMetrics(4.0, {}, 0)).primary_score == 2.5


def test_a_score_without_evidence_adds_nothing():
    metrics = scored(3.0, 2, 1.0)
    assert metrics.pooled(EvalMetrics(math.nan, {}, 0)) is metrics


def test_an_evaluator_that_says_nothing_of_its_score_is_understood():
    metrics = EvalMetrics(3.0, {}, 0)
    assert metrics.score_count == 0
    assert math.isnan(metrics.score_std)
    assert math.isnan(metrics.episode_length)
    assert metrics.train_score is metrics.val_score is metrics.generalization_gap is None


def test_beside_a_validation_score_the_episodes_are_those_of_the_validation():
    train = EvalMetrics(1.0, {"episode_length": 5.0}, 0).as_mean(1.0, 7, 0.5)
    val = EvalMetrics(2.0, {"episode_length": 9.0}, 0).as_mean(2.0, 3, 0.25)
    combined = MeanReturnEvaluator().combine(train, val)
    assert (combined.score_count, combined.score_std) == (3, 0.25)
    assert combined.episode_length == 9.0
    assert (combined.train_score, combined.val_score) == (1.0, 2.0)
    assert combined.generalization_gap == -1.0
