"""What every evaluator must do. Inherit `EvaluatorContract` and give it the fixture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tensor_optix.core.types import EpisodeData, EvalMetrics

if TYPE_CHECKING:
    from tensor_optix.core.base_evaluator import BaseEvaluator


class EvaluatorContract:
    """A subclass provides `evaluator`."""

    @pytest.fixture
    def evaluator(self) -> BaseEvaluator:
        raise NotImplementedError

    @pytest.fixture
    def episode(self) -> EpisodeData:
        return EpisodeData(
            observations=np.zeros((3, 2), np.float32),
            actions=np.zeros(3, np.int64),
            rewards=[1.0, 2.0, 3.0],
            terminated=[False, False, True],
            truncated=[False] * 3,
            infos=[{}] * 3,
            episode_id=4,
        )

    def test_a_score_belongs_to_its_window(self, evaluator, episode):
        metrics = evaluator.score(episode, {"loss": 1.0})
        assert isinstance(metrics.primary_score, float)
        assert metrics.episode_id == 4

    def test_scoring_changes_neither_window_nor_diagnostics(self, evaluator, episode):
        diagnostics = {"loss": 1.0}
        first = evaluator.score(episode, diagnostics)
        assert evaluator.score(episode, diagnostics).primary_score == first.primary_score
        assert diagnostics == {"loss": 1.0}
        assert episode.rewards == [1.0, 2.0, 3.0]

    def test_a_held_out_window_needs_no_diagnostics(self, evaluator, episode):
        assert isinstance(evaluator.score_validation(episode), EvalMetrics)

    def test_the_validation_score_is_the_one_that_counts(self, evaluator):
        combined = evaluator.combine(EvalMetrics(9.0, {}, 1), EvalMetrics(5.0, {}, 0))
        assert combined.primary_score == 5.0
        assert combined.generalization_gap == 4.0

    def test_compare_prefers_the_strictly_greater_score(self, evaluator):
        low, high = EvalMetrics(1.0, {}, 0), EvalMetrics(2.0, {}, 0)
        assert evaluator.compare(high, low)
        assert not evaluator.compare(low, high)
        assert not evaluator.compare(low, low)

    def test_a_score_by_the_step_has_a_sign_of_it_and_changes_nothing_else(
        self, evaluator, episode
    ):
        metrics = evaluator.score(episode, {})
        by_step = evaluator.per_step(metrics)
        assert by_step.is_per_step is evaluator.has_step_score
        assert by_step.episode_id == metrics.episode_id
        assert not metrics.is_per_step
        if not evaluator.has_step_score:
            assert by_step.primary_score == metrics.primary_score
