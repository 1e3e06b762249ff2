"""PBT: explores by uniform perturbations, exploits the best of its past."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tensor_optix.core.types import EvalMetrics, HyperparamSet
from tensor_optix.optimizers.pbt_optimizer import PBTOptimizer

BOUNDS = {"learning_rate": (1e-5, 1e-1), "gamma": (0.9, 1.0)}


def suggest(optimizer, params, score):
    return optimizer.suggest(HyperparamSet(dict(params)), [EvalMetrics(score, {}, 0)]).params


def explored(name, params, count=2000):
    optimizer = PBTOptimizer(BOUNDS, seed=0)
    return np.array([suggest(optimizer, params, float(k))[name] for k in range(count)])


def test_exploring_adds_a_uniform_share_of_the_range():
    moved = explored("gamma", {"gamma": 0.95}) - 0.95
    assert np.abs(moved).max() <= 0.1 * 0.1 + 1e-12
    assert moved.std() == pytest.approx(0.01 / math.sqrt(3.0), rel=0.05)
    assert abs(moved.mean()) < 0.001


def test_exploring_a_rate_multiplies_by_a_log_uniform_factor():
    moved = np.log(explored("learning_rate", {"learning_rate": 1e-3}) / 1e-3)
    largest = 0.1 * math.log(1e4)
    assert np.abs(moved).max() <= largest + 1e-9
    assert moved.std() == pytest.approx(largest / math.sqrt(3.0), rel=0.05)


def test_a_score_among_the_lowest_copies_the_best_and_perturbs_it_a_little():
    optimizer = PBTOptimizer(BOUNDS, seed=0)
    for score, rate in ((5.0, 1e-4), (9.0, 1e-2), (6.0, 1e-4)):
        suggest(optimizer, {"learning_rate": rate}, score)
    copied = suggest(optimizer, {"learning_rate": 1e-5}, 1.0)["learning_rate"]
    assert abs(math.log(copied / 1e-2)) <= 0.05 * math.log(1e4)
    assert optimizer.describe()["phase"] == "exploit"


def test_each_score_belongs_to_the_hyperparameters_that_made_it():
    """What the agent made of a suggestion counts, not the suggestion."""
    optimizer = PBTOptimizer(BOUNDS, explore_scale=1.0, exploit_scale=1e-9, seed=0)
    for score, rate in ((5.0, 3e-4), (9.0, 7e-3), (6.0, 2e-4)):
        suggest(optimizer, {"learning_rate": rate}, score)
    assert suggest(optimizer, {"learning_rate": 1e-5}, 1.0)["learning_rate"] == pytest.approx(7e-3)


def test_with_fewer_than_three_scores_and_with_equal_ones_it_explores():
    optimizer = PBTOptimizer(BOUNDS, seed=0)
    for score in (9.0, 1.0):
        suggest(optimizer, {"gamma": 0.95}, score)
        assert optimizer.describe()["phase"] == "explore"
    equal = PBTOptimizer(BOUNDS, seed=0)
    for _ in range(5):
        suggest(equal, {"gamma": 0.95}, 3.0)
        assert equal.describe()["phase"] == "explore"


def test_a_plateau_clears_the_history_when_it_begins():
    optimizer = PBTOptimizer(BOUNDS, seed=0)
    phases = []
    for k, score in enumerate((9.0, 8.0, 7.0, 1.0, 0.5, 0.2, 0.1)):
        if k >= 3:
            optimizer.on_plateau([])
        suggest(optimizer, {"gamma": 0.95}, score)
        phases.append(optimizer.describe()["phase"])
    assert phases == ["explore"] * 2 + ["exploit"] + ["explore"] * 2 + ["exploit"] * 2


def test_the_oldest_are_forgotten():
    optimizer = PBTOptimizer(BOUNDS, history_size=3, exploit_scale=1e-9, seed=0)
    for score, gamma in ((99.0, 0.91), (5.0, 0.99), (4.0, 0.93), (3.0, 0.94)):
        params = suggest(optimizer, {"gamma": gamma}, score)
    assert params["gamma"] == pytest.approx(0.99)


def test_a_rate_that_may_be_zero_is_perturbed_by_differences():
    optimizer = PBTOptimizer({"weight_decay": (0.0, 0.1)}, seed=0)
    assert 0.0 <= suggest(optimizer, {"weight_decay": 0.0}, 1.0)["weight_decay"] <= 0.01


def test_a_nan_score_is_no_evidence():
    optimizer = PBTOptimizer(BOUNDS, seed=0)
    assert suggest(optimizer, {"gamma": 0.95}, math.nan) == {"gamma": 0.95}


def test_values_out_of_bounds_are_moved_into_them_with_one_warning(caplog):
    optimizer = PBTOptimizer({"learning_rate": (1e-4, 1e-2)}, seed=0)
    params = HyperparamSet({"learning_rate": 0.5})
    for length in range(1, 5):
        suggestion = optimizer.suggest(params, [EvalMetrics(1.0, {}, i) for i in range(length)])
        assert 1e-4 <= suggestion.params["learning_rate"] <= 1e-2
    assert caplog.text.count("learning_rate") == 1
