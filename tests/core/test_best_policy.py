"""Which policy is the best."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tensor_optix.core.checkpoint_registry import CheckpointRegistry
from tensor_optix.core.decisions.best_policy import BestPolicy, lower_bound, variance_of_returns
from tensor_optix.core.decisions.validation import HeldOut
from tensor_optix.core.types import EvalMetrics
from tests.scripted import CountingAgent


def scored(score: float, episodes: int = 0, std: float = 0.0) -> EvalMetrics:
    return EvalMetrics(score, {"score_count": episodes, "score_std": std}, 0)


def agent_of(updates: int) -> CountingAgent:
    agent = CountingAgent()
    agent.updates = updates
    return agent


def offered(best: BestPolicy, metrics: EvalMetrics) -> bool:
    agent = CountingAgent()
    return best.offer(best.stage(agent, agent.get_hyperparams()), metrics)


def test_the_bound_is_one_standard_error_below_the_mean():
    metrics = scored(100.0, 25, 10.0)
    assert lower_bound(metrics, variance_of_returns(metrics, None)) == pytest.approx(100.0 - 2.0)


def test_a_single_episode_is_judged_by_the_variance_of_the_windows_before():
    earlier = variance_of_returns(scored(100.0, 100, 20.0), None)
    metrics = scored(150.0, 1, 0.0)
    assert lower_bound(metrics, variance_of_returns(metrics, earlier)) < 150.0 - 10.0


@pytest.mark.parametrize("metrics", [EvalMetrics(3.0, {}, 0), scored(3.0, 0, math.nan)])
def test_scores_without_counted_episodes_count_as_they_are(metrics):
    for earlier in (None, 100.0):
        assert variance_of_returns(metrics, earlier) is None
    assert lower_bound(metrics, None) == 3.0


def test_asking_what_would_be_the_best_changes_no_later_rank(tmp_path):
    asked, other = (BestPolicy(CheckpointRegistry(tmp_path / name)) for name in "ab")
    for best in (asked, other):
        offered(best, scored(100.0, 10, 20.0))
    asked.would_be_best(scored(0.0, 1000, 500.0))
    for best in (asked, other):
        offered(best, scored(150.0, 2, 0.0))
    assert asked.rank == other.rank


def test_the_better_policy_is_kept_and_an_equal_one_is_not(tmp_path):
    best = BestPolicy(CheckpointRegistry(tmp_path))
    assert offered(best, scored(1.0))
    assert not offered(best, scored(1.0))
    assert offered(best, scored(1.0001))
    assert best.score == 1.0001


def test_an_ever_surer_score_at_the_maximum_is_not_checkpointed_for_ever(tmp_path):
    best = BestPolicy(CheckpointRegistry(tmp_path))
    offered(best, scored(400.0, 5, 100.0))
    kept = [offered(best, scored(500.0, 4, 0.0)) for _ in range(60)]
    assert kept[0]
    assert not any(kept[20:])


def test_an_external_score_ranks_instead(tmp_path):
    best = BestPolicy(CheckpointRegistry(tmp_path), lambda agent: -float(agent.updates))
    assert offered(best, scored(1.0))
    worse = CountingAgent()
    worse.updates = 1
    assert not best.offer(best.stage(worse, worse.get_hyperparams()), scored(99.0))
    assert not [path for path in tmp_path.iterdir() if "stag" in path.name and any(path.iterdir())]


def test_what_would_be_the_best_can_be_asked_without_a_trace(tmp_path):
    best = BestPolicy(CheckpointRegistry(tmp_path))
    offered(best, scored(100.0, 25, 10.0))
    assert not best.would_be_best(scored(99.0, 25, 10.0))
    for _ in range(10):
        assert best.would_be_best(scored(101.0, 25, 10.0))
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


def test_who_beat_the_best_for_sure_takes_its_place_and_no_more_is_said_of_it(tmp_path):
    best = BestPolicy(CheckpointRegistry(tmp_path))
    assert best.succeed(agent_of(1), 3) is None
    offered(best, scored(10.0, 25, 5.0))
    rank = best.rank
    metrics = best.succeed(agent_of(2), 7)
    assert (metrics.primary_score, metrics.episode_id) == (10.0, 7)
    assert best.snapshot.eval_metrics == metrics
    assert rank < best.rank < rank + 1e-9
    agent = agent_of(3)
    best.restore(agent)
    assert agent.updates == 2
    assert offered(best, scored(10.5, 25, 5.0))


def test_where_others_than_scores_of_training_rank_the_policies_these_decide(tmp_path):
    by_function = BestPolicy(CheckpointRegistry(tmp_path / "function"), lambda agent: 1.0)
    offered(by_function, scored(10.0))
    held_out = BestPolicy(CheckpointRegistry(tmp_path / "held out"))
    agent = agent_of(1)
    candidate = held_out.stage(agent, agent.get_hyperparams())
    held_out.offer(replace(candidate, held_out=HeldOut(scored(10.0))), scored(10.0))
    for best in (by_function, held_out):
        kept = best.snapshot
        assert best.succeed(agent_of(2), 7) is None
        assert best.snapshot is kept
