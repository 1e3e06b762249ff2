"""Scores of windows."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tensor_optix.core.base_evaluator import (
    CheckedEvaluator,
    MeanReturnEvaluator,
    finished_episodes,
)
from tensor_optix.core.decisions.episode_ends import EpisodeEnds, StepScoring
from tensor_optix.core.types import EpisodeData, EvalMetrics
from tensor_optix.trials.trial import NegatedEvaluator, OneScale
from tests.contracts.evaluator_contract import EvaluatorContract


class TestMeanReturnEvaluatorContract(EvaluatorContract):
    @pytest.fixture
    def evaluator(self):
        return MeanReturnEvaluator()


def window(rewards, terminated, truncated=None, **fields) -> EpisodeData:
    rows = len(rewards)
    return EpisodeData(
        observations=np.zeros((rows, 1), np.float32),
        actions=np.zeros(rows, np.int64),
        rewards=rewards,
        terminated=terminated,
        truncated=truncated or [False] * rows,
        infos=[],
        episode_id=3,
        **fields,
    )


def test_the_score_is_the_mean_return_of_the_episodes_that_finished():
    episode = window([1.0, 2.0, 3.0, 4.0], [False, True, False, False], [False] * 2 + [True, False])
    metrics = MeanReturnEvaluator().score(episode, {"policy_loss": 0.5, "note": "text"})
    assert metrics.primary_score == 3.0
    assert metrics.episode_id == 3
    assert metrics.metrics["policy_loss"] == 0.5
    assert "note" not in metrics.metrics


def test_tracked_returns_count_from_the_episodes_own_first_step():
    episode = window(
        [1.0, 1.0],
        [False, True],
        finished_returns=np.array([500.0]),
        finished_lengths=np.array([500]),
    )
    assert MeanReturnEvaluator().score(episode, {}).primary_score == 500.0


def test_a_window_without_a_finished_episode_has_no_score():
    assert math.isnan(MeanReturnEvaluator().score(window([1.0], [False]), {}).primary_score)


def test_several_environments_are_never_mixed_and_invalid_rows_never_counted():
    # Two environments, interleaved rows: the first pays 1 a step and ends at its third row.
    episode = window(
        [1.0, 10.0, 1.0, 10.0, 1.0, 10.0],
        [False, False, False, True, True, False],
        num_envs=2,
        valid=np.array([True, True, False, True, True, True]),
    )
    returns, lengths = finished_episodes(episode)
    assert returns.tolist() == [2.0, 20.0]
    assert lengths.tolist() == [2, 2]


def test_a_custom_score_replaces_the_mean_return():
    evaluator = MeanReturnEvaluator(lambda episode, diagnostics: diagnostics["x"] * 2)
    assert evaluator.score(window([1.0], [True]), {"x": 4.0}).primary_score == 8.0


def test_combine_takes_the_validation_score_and_tells_the_gap():
    combined = MeanReturnEvaluator().combine(
        EvalMetrics(10.0, {"loss": 1.0}, 4), EvalMetrics(7.0, {"loss": 2.0}, 0)
    )
    assert combined.primary_score == 7.0
    assert combined.episode_id == 4
    assert combined.generalization_gap == 3.0
    assert combined.metrics["train_loss"] == 1.0
    assert combined.metrics["val_loss"] == 2.0
    assert combined.metrics["generalization_gap"] == 3.0


@pytest.mark.parametrize(("margin", "beats"), [(0.0, True), (1.0, False), (0.5, True)])
def test_beating_means_strictly_greater_than_the_other_plus_the_margin(margin, beats):
    assert EvalMetrics(2.0, {}, 0).beats(EvalMetrics(1.0, {}, 0), margin) is beats
    assert not EvalMetrics(1.0, {}, 0).beats(EvalMetrics(1.0, {}, 0))


class Counting(MeanReturnEvaluator):
    """Remembers how many windows it has scored."""

    def __init__(self) -> None:
        super().__init__()
        self.scored = 0

    def state_dict(self) -> dict[str, int]:
        return {"scored": self.scored}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.scored = state["scored"]


@pytest.mark.parametrize(
    "wrap",
    [
        CheckedEvaluator,
        OneScale,
        NegatedEvaluator,
        lambda inner: StepScoring(NegatedEvaluator(inner), EpisodeEnds()),
    ],
)
def test_what_an_evaluator_keeps_goes_through_every_wrapper(wrap):
    first, second = Counting(), Counting()
    first.scored = 7
    wrap(second).load_state_dict(wrap(first).state_dict())
    assert second.scored == 7
    assert wrap(MeanReturnEvaluator()).state_dict() is None
