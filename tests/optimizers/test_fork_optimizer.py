"""What forks are proposed, from where a run stands."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tensor_optix.core.base_optimizer import Standing
from tensor_optix.core.types import EvalMetrics, HyperparamSet, LoopState
from tensor_optix.optimizers.fork_optimizer import (
    LOOKS,
    ORDINARY_KL,
    STUCK_AFTER,
    TRIES,
    ForkOptimizer,
)
from tests.contracts.optimizer_contract import OptimizerContract

BOUNDS = {
    "learning_rate": (1e-4, 3e-3),
    "gamma": (0.9, 0.9999),
    "clip_ratio": (0.1, 0.3),
    "entropy_coef": (0.0, 0.05),
}
DEFAULTS = {
    "learning_rate": 3e-4,
    "gamma": 0.99,
    "clip_ratio": 0.2,
    "entropy_coef": 0.01,
    "n_epochs": 10,
}


class TestForkOptimizer(OptimizerContract):
    @pytest.fixture
    def optimizer(self):
        return ForkOptimizer({"learning_rate": (0.01, 1.0)})

    @pytest.fixture
    def another(self):
        return ForkOptimizer({"learning_rate": (0.01, 1.0)})


def standing(scores, kl=0.01, state=LoopState.ACTIVE, windows=100, **params):
    history = [EvalMetrics(score, {"approx_kl": kl}, k) for k, score in enumerate(scores)]
    return Standing(HyperparamSet(DEFAULTS | params), DEFAULTS, history, state, windows)


def changes(plan):
    present = plan.candidates[0].params
    return [
        {name: value for name, value in one.params.items() if value != present[name]}
        for one in plan.candidates
    ]


def tuner() -> ForkOptimizer:
    made = ForkOptimizer()
    made.take_defaults(BOUNDS, ["learning_rate"])
    return made


FEW = [1.0, 2.0, 3.0][:LOOKS]
IDLE = [-200.0, -190.0] * (4 * STUCK_AFTER)
"""Scores that differ, and gain nothing."""
GAINED = [0.0, 0.1, 0.2] + [10.0] * 47


def test_a_run_that_makes_progress_is_left_alone():
    made = tuner()
    for count in range(2, 200):
        rising = [float(k) for k in range(count)]
        assert made.propose_forks(standing(rising)) is None
        assert made.propose_forks(standing(rising, state=LoopState.COOLING)) is None


@pytest.mark.parametrize(("kl", "factor"), [(1e-4, 10.0), (0.4, 0.1)])
def test_first_updates_of_another_size_propose_learning_rates_to_that_side(kl, factor):
    plan = tuner().propose_forks(standing(FEW, kl, learning_rate=1e-3 if kl > 0.1 else 1e-4))
    present, usual, *rates = changes(plan)
    assert present == {}
    assert usual == {"learning_rate": 3e-4}
    start = plan.candidates[0].params["learning_rate"]
    assert rates[0]["learning_rate"] == pytest.approx(
        min(max(start * factor, BOUNDS["learning_rate"][0]), BOUNDS["learning_rate"][1])
    )
    assert plan.is_ordered


def test_the_size_of_the_first_updates_is_judged_once_and_by_their_median():
    made = tuner()
    assert made.propose_forks(standing(FEW[:-1], 1e-4)) is None
    assert made.propose_forks(standing(FEW, 1e-4)) is not None
    assert made.propose_forks(standing([*FEW, 4.0], 1e-4)) is None
    one_larger = standing(FEW, 0.01)
    one_larger.history[0].metrics["approx_kl"] = 0.9
    assert tuner().propose_forks(one_larger) is None


def test_where_all_scores_are_alike_policies_move_half_as_far():
    small = 0.7 * ORDINARY_KL[0]
    assert tuner().propose_forks(standing([-200.0] * LOOKS, small)) is None
    assert tuner().propose_forks(standing(FEW, small)) is not None
    assert tuner().propose_forks(standing([-200.0] * LOOKS, 0.6 * small)) is not None
    made = tuner()
    assert made.propose_forks(standing([-200.0] * LOOKS, small)) is None
    assert made.propose_forks(standing([-200.0] * LOOKS + [-150.0], small)) is None


def test_one_update_that_goes_very_far_is_enough():
    for count in range(1, LOOKS + 1):
        made, ruined = tuner(), standing(FEW[:count], 0.0, learning_rate=0.5)
        ruined.history[0].metrics["approx_kl"] = 100.0
        assert changes(made.propose_forks(ruined))[1] == {"learning_rate": 3e-3}
        assert made.propose_forks(standing([*FEW, 4.0], 100.0)) is None


def test_without_that_figure_nothing_is_judged():
    assert tuner().propose_forks(standing(FEW, math.nan)) is None


def test_values_outside_the_bounds_are_tried_within_them_and_documented_ones_beside():
    plan = tuner().propose_forks(standing(FEW, 0.5, clip_ratio=0.9, n_epochs=1))
    assert plan.doubts_present
    assert changes(plan)[1:4] == [
        {"clip_ratio": 0.3},
        {"n_epochs": 10},
        {"clip_ratio": 0.2, "n_epochs": 10},
    ]
    assert len(plan.candidates) == 1 + TRIES


def test_where_nothing_is_gained_it_tries_again_ever_more_rarely():
    made = tuner()
    at = [
        count
        for count in range(2, 8 * STUCK_AFTER)
        if made.propose_forks(standing(IDLE[:count], state=LoopState.COOLING))
    ]
    assert at == [STUCK_AFTER, 2 * STUCK_AFTER, 4 * STUCK_AFTER]


def test_where_all_scores_are_alike_those_of_forks_would_be_too():
    made = tuner()
    for count in range(2, 8 * STUCK_AFTER):
        assert made.propose_forks(standing([-200.0] * count, state=LoopState.COOLING)) is None


def test_before_the_end_of_a_run_that_gained_nothing_exploration_is_tried():
    ending = standing([-200.0] * 60, state=LoopState.DORMANT, noise_memory=0)
    plan = tuner().propose_forks(ending)
    assert plan.reason == "nothing was gained so far"
    assert {"noise_memory": 32} in changes(plan)


def test_a_rise_within_the_first_evaluations_is_a_gain():
    rng = np.random.default_rng(0)
    scores = [-500.0, -300.0, -90.0, *rng.normal(-85.0, 5.0, STUCK_AFTER)]
    made = tuner()
    assert made.propose_forks(standing(FEW)) is None
    assert made.propose_forks(standing(scores, state=LoopState.COOLING)) is None


def test_updates_that_go_too_far_later_are_noticed_where_there_is_no_progress():
    rising = [float(k) for k in range(STUCK_AFTER)]
    made = tuner()
    assert made.propose_forks(standing(FEW)) is None
    assert made.propose_forks(standing(rising, 0.3)) is None
    plan = made.propose_forks(standing(rising, 0.3, LoopState.COOLING))
    assert plan.reason == "the updates move the policy too far (KL 0.3)"
    assert made.propose_forks(standing([*rising, 0.0], 0.3, LoopState.COOLING)) is None
    calm = tuner()
    assert calm.propose_forks(standing(FEW)) is None
    assert calm.propose_forks(standing(rising, 0.001, LoopState.COOLING)) is None


@pytest.mark.parametrize(
    ("first_kl", "judged"),
    [(0.01, [6, STUCK_AFTER, 2 * STUCK_AFTER]), (0.3, [LOOKS, STUCK_AFTER, 2 * STUCK_AFTER])],
    ids=["a quiet start", "forks at the start"],
)
def test_updates_that_go_too_far_are_noticed_at_once_and_then_ever_more_rarely(first_kl, judged):
    made, at = tuner(), []
    rising = [float(k) for k in range(3 * STUCK_AFTER)]
    for count in range(1, len(rising)):
        kl, state = (0.3, LoopState.COOLING) if count > 5 else (first_kl, LoopState.ACTIVE)
        # As a run that is resumed between any two evaluations has it.
        resumed = tuner()
        resumed.load_state_dict(made.state_dict())
        made = resumed
        if made.propose_forks(standing(rising[:count], kl, state)):
            at.append(count)
    assert at == judged


def test_exploration_that_lasts_is_tried_where_nothing_is_gained():
    params = {"noise_memory": 0}
    plan = tuner().propose_forks(
        standing(IDLE[:STUCK_AFTER], math.nan, LoopState.COOLING, **params)
    )
    # The first question is that after the first evaluations.
    assert plan is None
    made = tuner()
    for count in (LOOKS, STUCK_AFTER):
        plan = made.propose_forks(standing(IDLE[:count], 0.01, LoopState.COOLING, **params))
    assert {"noise_memory": 32} in changes(plan)


def test_before_the_end_it_tries_rates_to_both_sides_and_a_longer_horizon():
    plan = tuner().propose_forks(standing(GAINED, state=LoopState.DORMANT, windows=200))
    _, lower, longer, higher = changes(plan)
    assert lower["learning_rate"] < 3e-4 < higher["learning_rate"]
    assert longer["gamma"] == pytest.approx(1 - 0.01 / 3)
    assert plan.windows == 6


def test_what_is_tried_stays_within_the_bounds():
    plan = tuner().propose_forks(
        standing(GAINED, state=LoopState.DORMANT, learning_rate=3e-3, gamma=0.9999)
    )
    assert all(one.get("learning_rate", 1e-3) <= 3e-3 for one in changes(plan))
    assert not any(set(one) == {"gamma"} for one in changes(plan))


def test_without_bounds_nothing_is_proposed():
    assert ForkOptimizer({}).propose_forks(standing(GAINED, state=LoopState.DORMANT)) is None


def test_what_was_tried_is_remembered():
    made = tuner()
    assert made.propose_forks(standing(FEW, 1e-4)) is not None
    again = tuner()
    again.load_state_dict(made.state_dict())
    assert again.propose_forks(standing([*FEW, 4.0], 1e-4)) is None
