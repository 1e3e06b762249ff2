"""Which policy is crowned."""

from __future__ import annotations

import math

import pytest

from tensor_optix.core.checkpoint_registry import CheckpointRegistry
from tensor_optix.core.decisions.best_policy import BestPolicy
from tensor_optix.core.types import EvalMetrics
from tests.scripted import CountingAgent


def scored(score: float, episodes: int = 0, std: float = 0.0) -> EvalMetrics:
    return EvalMetrics(score, {"score_count": episodes, "score_std": std}, 0)


def offered(best: BestPolicy, metrics: EvalMetrics) -> bool:
    agent = CountingAgent()
    return best.offer(best.stage(agent, agent.get_hyperparams()), metrics)


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
    assert not best.offer(best.stage(worse, worse.get_hyperparams()), scored(99.0))
    assert not [path for path in tmp_path.iterdir() if "stag" in path.name and any(path.iterdir())]


def test_what_would_be_crowned_can_be_asked_without_a_trace(tmp_path):
    best = BestPolicy(CheckpointRegistry(tmp_path))
    offered(best, scored(100.0, 25, 10.0))
    assert not best.would_crown(scored(99.0, 25, 10.0))
    for _ in range(10):
        assert best.would_crown(scored(101.0, 25, 10.0))
    assert best.rank == pytest.approx(98.0)


def test_a_policy_without_accepted_hyperparameters_is_never_the_best(tmp_path):
    best = BestPolicy(CheckpointRegistry(tmp_path))
    assert not best.offer(best.stage(CountingAgent(), None), scored(1e9))
    assert best.snapshot is None


def test_a_policy_whose_score_cannot_be_made_leaves_no_files(tmp_path):
    best = BestPolicy(CheckpointRegistry(tmp_path))
    agent = CountingAgent()
    with pytest.raises(RuntimeError), best.staged(agent, agent.get_hyperparams()):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_the_best_is_read_anew_when_others_have_changed_the_ranks(tmp_path):
    best = BestPolicy(CheckpointRegistry(tmp_path))
    offered(best, scored(1.0))
    offered(best, scored(2.0))
    second, first = best.registry.snapshots
    best.registry.reorder([(first, 5.0), (second, 4.0)])
    best.refresh()
    assert best.snapshot.snapshot_id == first.snapshot_id
    assert best.snapshot.eval_metrics.metrics["confirmed_score"] == 5.0
    assert best.rank == 2.0


def test_an_external_score_that_is_no_number_is_said_once(tmp_path, caplog):
    best = BestPolicy(CheckpointRegistry(tmp_path), lambda agent: math.nan)
    for _ in range(3):
        assert not offered(best, scored(1.0))
    assert caplog.text.count("checkpoint_score_fn returned nan") == 1
