import json
import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensor_optix.core.checkpoint_registry import CheckpointRegistry
from tensor_optix.core.evolution.members import stand_out, weights_of_scores
from tensor_optix.core.policy_manager import PolicyManager, training_report_text
from tensor_optix.core.types import EvalMetrics
from tests.core.array_agent import ArrayAgent, save


class Fixed(ArrayAgent):
    def __init__(self, action):
        super().__init__()
        self.action = action

    def act(self, observation):
        return self.action


def manager_of(tmp_path, *agents, **options):
    manager = PolicyManager(CheckpointRegistry(tmp_path), **options)
    for agent in agents:
        manager.add_agent(agent)
    return manager


lists = st.lists(st.integers(-100, 100), min_size=1, max_size=8)


@given(lists, st.floats(1e-3, 1e3))
def test_weights_do_not_depend_on_the_scale_of_the_scores(scores, scale):
    values = np.array(scores, np.float64)
    np.testing.assert_allclose(weights_of_scores(values * scale), weights_of_scores(values))


@given(st.lists(st.floats(0.1, 1e6), min_size=1, max_size=8))
def test_positive_scores_are_their_own_proportions(scores):
    weights = weights_of_scores(scores)
    np.testing.assert_allclose(weights / weights[0], np.array(scores) / scores[0])


@pytest.mark.parametrize("scores", [(100.0, 99.9), (-99.9, -100.0)])
def test_a_small_difference_makes_a_small_difference(scores):
    first, second = weights_of_scores(scores)
    assert second < first < 1.001 * second + 1e-3


@given(lists)
def test_weights_are_positive_average_to_one_and_follow_the_scores(scores):
    weights = weights_of_scores(scores)
    assert (weights > 0.0).all()
    assert weights.mean() == pytest.approx(1.0)
    for i, j in np.ndindex(len(scores), len(scores)):
        assert (weights[i] > weights[j]) == (scores[i] > scores[j])


def test_the_middle_one_of_three_bad_scores_keeps_a_word(tmp_path):
    manager = manager_of(tmp_path, *(ArrayAgent() for _ in range(3)))
    manager.update_weights({0: -100.0, 1: -101.0, 2: -150.0})
    first, second, third = manager.weights
    assert first > second > third > 0.1


def test_a_partial_update_leaves_the_others_and_stays_on_their_scale(tmp_path):
    manager = manager_of(tmp_path, *(ArrayAgent() for _ in range(3)))
    manager.update_weights({0: 500.0, 1: 49.0})
    assert manager.weights[2] == 1.0
    assert manager.weights[1] < 1.0 < manager.weights[0] < 2.0
    manager.update_weights({2: 1e6})
    assert manager.weights[2] == 1.0


def test_scores_that_are_not_finite_are_no_evidence(tmp_path):
    manager = manager_of(tmp_path, ArrayAgent(), ArrayAgent(), ArrayAgent())
    manager.update_weights({0: 1.0, 1: float("nan"), 2: 0.0})
    manager.record_agent_score(1, float("inf"))
    assert manager.weights[1] == 1.0
    assert manager.status()["agents"][1]["recent_scores"] == []


def test_recorded_scores_weigh_by_their_rolling_mean(tmp_path):
    manager = manager_of(tmp_path, ArrayAgent(), ArrayAgent(), ArrayAgent(), score_window=2)
    manager.auto_update_weights()
    assert manager.weights == [1.0, 1.0, 1.0]
    for score in (900.0, 1.0, 3.0):
        manager.record_agent_score(0, score)
    manager.record_agent_score(1, 10.0)
    manager.auto_update_weights()
    assert manager.status()["agents"][0]["mean_score"] == 2.0
    assert manager.weights[1] > manager.weights[0]
    assert manager.weights[2] == 1.0


def weights_after(tmp_path, *records):
    manager = manager_of(tmp_path, *(ArrayAgent() for _ in records))
    for index, record in enumerate(records):
        for score in record:
            manager.record_agent_score(agent_idx=index, score=score)
    manager.auto_update_weights()
    return manager.weights


def test_recorded_scores_within_the_noise_weigh_alike(tmp_path):
    assert weights_after(tmp_path, [90.0, 110.0, 100.0], [91.0, 112.0, 104.0]) == [1.0, 1.0]
    assert weights_after(tmp_path, [-10.0, -30.0], [-12.0, -35.0]) == [1.0, 1.0]


def test_recorded_scores_beyond_the_noise_weigh_by_their_size(tmp_path):
    first, second = weights_after(tmp_path, [99.0, 101.0, 100.0], [299.0, 301.0, 300.0])
    assert second / first == pytest.approx(3.0)
    first, second = weights_after(tmp_path, [100.0] * 3, [150.0] * 3)
    assert second / first == pytest.approx(1.5)


def test_single_scores_tell_nothing_of_the_noise_and_count_as_they_are(tmp_path):
    first, second = weights_after(tmp_path, [1.0], [2.0])
    assert second / first == pytest.approx(2.0)


def test_noise_alone_seldom_makes_a_difference():
    rng = np.random.default_rng(0)
    groups = rng.normal(size=(400, 3, 10))
    assert 0.02 < np.mean([stand_out(list(one)) for one in groups]) < 0.09
    shifted = groups + np.array([0.0, 0.0, 3.0])[:, None]
    assert np.mean([stand_out(list(one)) for one in shifted]) > 0.9


def test_an_unknown_index_is_refused(tmp_path):
    manager = manager_of(tmp_path, ArrayAgent())
    with pytest.raises(ValueError, match="there are 1, got index 1"):
        manager.update_weights({1: 0.0})
    with pytest.raises(ValueError, match="got index -1"):
        manager.record_agent_score(-1, 0.0)


def test_pruning_removes_the_lowest_weights_with_their_scores(tmp_path):
    agents = [ArrayAgent() for _ in range(3)]
    manager = manager_of(tmp_path, *agents)
    for index, score in enumerate((2.0, 1.0, 3.0)):
        manager.record_agent_score(index, score)
    manager.auto_update_weights()
    assert manager.prune() == [agents[1]]
    assert [one["recent_scores"] for one in manager.status()["agents"]] == [[2.0], [3.0]]
    assert manager.prune(2) == []
    assert manager.status()["prune_count"] == 1


def test_of_equal_weights_the_newest_is_pruned(tmp_path):
    agents = [ArrayAgent() for _ in range(3)]
    assert manager_of(tmp_path, *agents).prune() == [agents[2]]


def test_an_agent_too_many_displaces_the_lowest_weight_but_not_itself(tmp_path):
    manager = manager_of(tmp_path, max_ensemble_size=2)
    agents = [ArrayAgent() for _ in range(6)]
    for agent, weight in zip(agents, (1.0, 0.5, 0.1, 2.0, 3.0, 0.2), strict=True):
        manager.add_agent(agent, weight)
        assert manager.ensemble_size <= 2
    assert manager.agents == [agents[4], agents[5]]


def test_boost_multiplies_one_weight_and_warns_of_a_stranger(tmp_path, caplog):
    agents = [ArrayAgent(), ArrayAgent()]
    manager = manager_of(tmp_path, *agents)
    manager.boost(agents[1], factor=3.0)
    assert manager.weights == [1.0, 3.0]
    with caplog.at_level(logging.WARNING):
        manager.boost(ArrayAgent())
    assert "no member" in caplog.text


def test_continuous_actions_are_averaged_by_weight(tmp_path):
    manager = manager_of(tmp_path)
    manager.add_agent(Fixed(np.array([1.0, 0.0])), 3.0)
    manager.add_agent(Fixed(np.array([0.0, 1.0])), 1.0)
    np.testing.assert_allclose(manager.ensemble_action(np.zeros(2)), [0.75, 0.25])


def test_where_all_weights_are_0_every_agent_counts_alike(tmp_path):
    manager = manager_of(tmp_path)
    for action in (1.0, 3.0):
        manager.add_agent(Fixed(np.array([action])), 0.0)
    np.testing.assert_allclose(manager.ensemble_action(np.zeros(2)), [2.0])


def test_discrete_actions_are_voted_on(tmp_path):
    """0 and 2 are not averaged to 1."""
    manager = manager_of(tmp_path, Fixed(0), Fixed(2), Fixed(2))
    action = manager.ensemble_action(np.zeros(2))
    assert isinstance(action, int)
    assert action == 2


def test_a_single_agent_acts_by_itself_and_none_cannot(tmp_path):
    action = object()
    assert manager_of(tmp_path, Fixed(action)).ensemble_action(None) is action
    with pytest.raises(RuntimeError, match="no agents"):
        manager_of(tmp_path).ensemble_action(None)


def test_status_is_json_and_rounded(tmp_path):
    manager = manager_of(tmp_path, ArrayAgent(), max_spawns=5, max_ensemble_size=4)
    manager.add_agent(ArrayAgent(), 1 / 3)
    manager.record_agent_score(1, np.float32(1 / 3))
    manager.set_regime("trending")
    assert json.loads(json.dumps(manager.status())) == {
        "ensemble_size": 2,
        "agents": [
            {"index": 0, "weight": 1.0, "mean_score": None, "recent_scores": []},
            {"index": 1, "weight": 0.333333, "mean_score": 0.3333, "recent_scores": [0.3333]},
        ],
        "regime": "trending",
        "spawn_count": 0,
        "prune_count": 0,
        "max_spawns": 5,
        "max_ensemble_size": 4,
        "spawns_remaining": 5,
        "budget_exhausted": False,
    }


def test_the_report_reads_as_documented(tmp_path):
    registry = CheckpointRegistry(tmp_path)
    agent = ArrayAgent()
    metrics = EvalMetrics(12.5, {"train_score": 13.0, "val_score": 12.5}, 0)
    registry.save(agent, metrics, agent.get_hyperparams())
    manager = PolicyManager(registry, max_spawns=3)
    manager.add_agent(agent, 0.5)
    manager.add_agent(ArrayAgent())
    manager.record_agent_score(0, 12.0)
    manager.set_regime("ranging")
    rule = "━" * 54
    assert training_report_text(manager.training_report(), "Spawn budget exhausted") == "\n".join(
        [
            rule,
            "  Training Complete",
            "  Reason           : Spawn budget exhausted",
            rule,
            "  Best score       : 12.5000",
            "  Val score        : 12.5000",
            "  Generalization   : 0.5000  (train − val)",  # noqa: RUF001
            "  Spawns used      : 0 / 3",
            "  Pruned agents    : 0",
            "  Ensemble size    : 2",
            "  Regime           : ranging",
            "  Agents           :",
            "    [0] weight=0.5000  mean_score=12.0000",
            "    [1] weight=1.0000",
            rule,
        ]
    )


def test_a_report_leaves_out_what_there_is_no_data_for(tmp_path):
    report = manager_of(tmp_path).training_report()
    json.dumps(report)
    text = training_report_text(report, "Plateau — model converged")
    for label in ("Best score", "Val score", "Generalization", "Regime", "Agents  ", " / "):
        assert label not in text


def test_evolve_loads_the_best_policy_only_into_a_worse_agent(tmp_path):
    registry = CheckpointRegistry(tmp_path)
    manager, agent = PolicyManager(registry), ArrayAgent(1.0)
    assert manager.evolve(agent, -1.0) is False
    save(registry, 5.0)
    assert manager.evolve(agent, 5.0) is False
    assert agent.weights[0] == 1.0
    assert manager.evolve(agent, 4.0) is True
    assert agent.weights[0] == 5.0
    assert [one.eval_metrics.primary_score for one in manager.ranked_snapshots] == [5.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score_window": 0}, "score_window must be at least 1, got 0"),
        ({"max_spawns": -1}, "max_spawns must be at least 0 or None, got -1"),
        ({"max_ensemble_size": 0}, "max_ensemble_size must be at least 1, got 0"),
    ],
)
def test_numbers_out_of_range_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        manager_of(tmp_path, **options)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_weight_must_be_a_number_from_0(tmp_path, weight):
    with pytest.raises(ValueError, match="weight must be"):
        manager_of(tmp_path).add_agent(ArrayAgent(), weight)
