"""Which policy is crowned."""

from __future__ import annotations

import math

import pytest

from tensor_optix.core.best_policy import BestPolicy, ScoreConfidence
from tensor_optix.core.checkpoint_registry import CheckpointRegistry
from tensor_optix.core.types import EvalMetrics
from tests.scripted import CountingAgent


def scored(score: float, episodes: int = 0, std: float = 0.0) -> EvalMetrics:
    return EvalMetrics(score, {"score_count": episodes, "score_std": std}, 0)


def offered(best: BestPolicy, metrics: EvalMetrics) -> bool:
    return best.offer(best.stage(CountingAgent()), metrics)


def test_the_bound_is_one_standard_error_below_the_mean():
    bound = ScoreConfidence().lower_bound(scored(100.0, 25, 10.0))
    assert bound == pytest.approx(100.0 - 10.0 / 5)


def test_a_single_episode_is_judged_by_the_variance_of_the_windows_before():
    confidence = ScoreConfidence()
    confidence.lower_bound(scored(100.0, 100, 20.0))
    assert confidence.lower_bound(scored(150.0, 1, 0.0)) < 150.0 - 10.0


def test_scores_without_counted_episodes_count_as_they_are():
    assert ScoreConfidence().lower_bound(EvalMetrics(3.0, {}, 0)) == 3.0
    assert ScoreConfidence().lower_bound(scored(3.0, 0, math.nan)) == 3.0


def test_the_better_policy_is_crowned_and_an_equal_one_is_not(tmp_path):
    best = BestPolicy(CheckpointRegistry(tmp_path))
    assert offered(best, scored(1.0))
    assert not offered(best, scored(1.0))
    assert offered(best, scored(1.0001))
    assert best.score == 1.0001


def test_an_ever_surer_score_at_the_maximum_is_not_checkpointed_for_ever(tmp_path):
    best = BestPolicy(CheckpointRegistry(tmp_path))
    offered(best, scored(400.0, 5, 100.0))
    crowned = [offered(best, scored(500.0, 4, 0.0)) for _ in range(60)]
    assert crowned[0]
    assert not any(crowned[20:])


def test_an_external_score_ranks_instead(tmp_path):
    best = BestPolicy(CheckpointRegistry(tmp_path), lambda agent: -float(agent.updates))
    assert offered(best, scored(1.0))
    worse = CountingAgent()
    worse.updates = 1
    assert not best.offer(best.stage(worse), scored(99.0))
    assert not [path for path in tmp_path.iterdir() if "stag" in path.name and any(path.iterdir())]
