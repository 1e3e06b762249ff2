"""Every optimizer keeps the contract, with bounds and without, and stays within its bounds."""

from __future__ import annotations

import json
import logging
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tensor_optix.core.base_optimizer import FixedHyperparams
from tensor_optix.core.types import EvalMetrics, HyperparamSet
from tensor_optix.optimizers.backoff_optimizer import BackoffOptimizer
from tensor_optix.optimizers.momentum_optimizer import MomentumOptimizer
from tensor_optix.optimizers.pbt_optimizer import PBTOptimizer
from tensor_optix.optimizers.spsa_optimizer import SPSAOptimizer
from tests.contracts.optimizer_contract import OptimizerContract
from tests.optimizers.simulated_run import SimulatedRun, noise

ALL = [SPSAOptimizer, BackoffOptimizer, PBTOptimizer, MomentumOptimizer]
EXPERIMENTING = [SPSAOptimizer, BackoffOptimizer, MomentumOptimizer]
BOUNDS = {"learning_rate": (1e-3, 1.0), "n_epochs": (1, 20)}
PARAMS = {"learning_rate": 0.1, "n_epochs": 10, "name": "adam", "nesterov": True, "gamma": 0.99}


@pytest.mark.parametrize("make", ALL)
class TestWithBounds(OptimizerContract):
    @pytest.fixture
    def optimizer(self, make):
        return make({"learning_rate": (0.01, 1.0)}, seed=0)

    @pytest.fixture
    def another(self, make):
        return make({"learning_rate": (0.01, 1.0)}, seed=1)


@pytest.mark.parametrize("make", ALL)
class TestWithAWholeNumber(OptimizerContract):
    @pytest.fixture
    def optimizer(self, make):
        return make(BOUNDS, seed=0)

    @pytest.fixture
    def another(self, make):
        return make(BOUNDS, seed=1)


@pytest.mark.parametrize("make", ALL)
class TestWithoutBounds(OptimizerContract):
    @pytest.fixture
    def optimizer(self, make):
        return make(None, seed=0)

    @pytest.fixture
    def another(self, make):
        return make(None, seed=1)


class TestFixedHyperparams(OptimizerContract):
    @pytest.fixture
    def optimizer(self):
        return FixedHyperparams()

    @pytest.fixture
    def another(self):
        return FixedHyperparams()


@pytest.mark.parametrize("make", ALL)
def test_without_bounds_nothing_is_tuned_and_it_is_said_once(make, caplog):
    caplog.set_level(logging.INFO)
    run = SimulatedRun(make(None, seed=0), dict(PARAMS), lambda params, k: float(k % 5), tells=True)
    run.go(60)
    assert run.params == PARAMS
    assert not run.optimizer.is_probing
    assert [record.levelname for record in caplog.records] == ["INFO"]


@pytest.mark.parametrize("make", ALL)
def test_bounds_that_were_not_given_are_the_agents_own(make):
    tuner = make(seed=0)
    untouched = HyperparamSet(dict(PARAMS))
    assert tuner.suggest(untouched, [EvalMetrics(1.0, {}, 0)]).params == PARAMS
    tuner.take_defaults(BOUNDS, ["learning_rate"])
    run = SimulatedRun(tuner, dict(PARAMS), lambda params, k: float(k % 3)).go(60)
    rates = {params["learning_rate"] for params in run.asked}
    assert len(rates) > 1
    assert all(1e-3 <= rate <= 1.0 for rate in rates)


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("bounds", [{}, {"gamma": (0.9, 0.999)}])
def test_bounds_that_were_given_stay(make, bounds):
    tuner = make(bounds, seed=0)
    tuner.take_defaults(BOUNDS, ["learning_rate"])
    run = SimulatedRun(tuner, dict(PARAMS), lambda params, k: float(k % 3)).go(60)
    assert {params["learning_rate"] for params in run.asked} == {0.1}


@pytest.mark.parametrize("make", ALL)
def test_only_numbers_with_bounds_change_and_integers_stay_integers(make):
    run = SimulatedRun(make(BOUNDS, seed=0), dict(PARAMS), lambda params, k: float(k % 3)).go(100)
    assert {params["n_epochs"] for params in run.asked} > {10}
    assert {type(params["n_epochs"]) for params in run.asked} == {int}
    others = {name: PARAMS[name] for name in ("name", "nesterov", "gamma")}
    assert all({name: params[name] for name in others} == others for params in run.asked)


@pytest.mark.parametrize("make", ALL)
@settings(max_examples=15, deadline=None)
@given(
    st.floats(-1e3, 1e3),
    st.integers(-50, 50),
    st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=40),
    st.booleans(),
)
def test_whatever_it_starts_from_and_hears_it_asks_for_what_is_within_the_bounds(
    make, rate, epochs, scores, tells
):
    start = {"learning_rate": rate, "n_epochs": epochs}
    params = HyperparamSet(start)
    optimizer = make(BOUNDS, seed=1)
    for k in range(len(scores)):
        history = [EvalMetrics(score / 1e200, {}, k) for score in scores[: k + 1]]
        if tells:
            optimizer.on_plateau(history)
        params = optimizer.suggest(params, history)
        if params.params == start and not np.isfinite(scores[: k + 1]).any():
            continue
        assert 1e-3 <= params.params["learning_rate"] <= 1.0
        assert 1 <= params.params["n_epochs"] <= 20
        assert isinstance(params.params["n_epochs"], int)


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize(("factor", "offset"), [(1000.0, -3e4), (1.0, 500.0), (1e-4, 0.0)])
def test_the_scale_and_the_offset_of_the_scores_change_no_suggestion(make, factor, offset):
    def asked(scale, shift):
        scatter = noise(3)

        def score(params, k):
            return scale * (scatter() - 20 * (params["learning_rate"] - 0.7) ** 2) + shift

        return SimulatedRun(make(BOUNDS, seed=0), dict(PARAMS), score, tells=True).go(120).asked

    for ours, theirs in zip(asked(1.0, 0.0), asked(factor, offset), strict=True):
        assert ours["learning_rate"] == pytest.approx(theirs["learning_rate"], rel=1e-6)
        assert ours["n_epochs"] == theirs["n_epochs"]


@pytest.mark.parametrize("make", ALL)
def test_the_seed_alone_decides(make):
    def asked():
        scatter = noise(5)
        return SimulatedRun(make(BOUNDS, seed=4), dict(PARAMS), lambda p, k: scatter()).go(40).asked

    assert asked() == asked()


@pytest.mark.parametrize("make", ALL)
def test_every_decision_can_be_logged(make):
    scatter = noise(6)
    score = lambda params, k: 10 * params["learning_rate"] + (0.0 if k < 60 else scatter())  # noqa: E731
    run = SimulatedRun(make(BOUNDS, seed=0), dict(PARAMS), score, tells=True).go(120)
    for decision in run.decisions:
        json.dumps(decision, allow_nan=False)
    assert len({str(decision.get("phase")) for decision in run.decisions}) > 1


@pytest.mark.parametrize("make", EXPERIMENTING)
def test_values_out_of_bounds_are_moved_in_first_and_become_the_base(make, caplog):
    run = SimulatedRun(
        make(BOUNDS, seed=0), {"learning_rate": 5.0, "n_epochs": 50}, lambda p, k: 0.0
    )
    run.step()
    assert run.params == {"learning_rate": 1.0, "n_epochs": 20}
    assert not run.optimizer.is_probing
    text = caplog.text
    assert "learning_rate = 5.0" in text
    assert "(0.001, 1.0)" in text
    assert "n_epochs = 50" in text
    run.go(40)
    assert len(caplog.records) == 2
    assert run.kept[-1] == {"learning_rate": 1.0, "n_epochs": 20}


@pytest.mark.parametrize("make", EXPERIMENTING)
def test_it_probes_exactly_while_others_than_the_base_are_in_force(make):
    scatter = noise(1)
    run = SimulatedRun(make(BOUNDS, seed=0), dict(PARAMS), lambda p, k: scatter())
    for _ in range(100):
        run.step()
        assert run.optimizer.is_probing == (run.params != PARAMS)
    assert any(params != PARAMS for params in run.asked)
    assert all(params == PARAMS for params in run.kept)


@pytest.mark.parametrize("make", EXPERIMENTING)
def test_a_run_that_rises_is_not_touched(make):
    scatter = noise(2)
    run = SimulatedRun(make(BOUNDS, seed=0), dict(PARAMS), lambda p, k: 2.0 * k + scatter()).go(80)
    assert all(params == PARAMS for params in run.asked)
    assert run.optimizer.describe()["phase"] == "rising"


@pytest.mark.parametrize("make", EXPERIMENTING)
def test_a_plateau_restores_the_base_first(make):
    run = SimulatedRun(make(BOUNDS, seed=0), dict(PARAMS), lambda p, k: float(k % 2))
    while not run.optimizer.is_probing:
        run.step()
    run.optimizer.on_plateau(run.history)
    assert run.step() == PARAMS
    assert not run.optimizer.is_probing


@pytest.mark.parametrize("make", EXPERIMENTING)
def test_experiments_end_though_a_plateau_is_told_of_every_time(make):
    scatter = noise(7)
    run = SimulatedRun(make(BOUNDS, seed=0), dict(PARAMS), lambda p, k: scatter())
    for _ in range(80):
        run.optimizer.on_plateau(run.history)
        run.step()
    assert run.cycles >= 4


@pytest.mark.parametrize("make", EXPERIMENTING)
def test_a_restart_voids_the_experiment_and_takes_what_comes_as_the_base(make):
    run = SimulatedRun(make(BOUNDS, seed=0), dict(PARAMS), lambda p, k: float(k % 2))
    while not run.optimizer.is_probing:
        run.step()
    run.optimizer.on_restart()
    assert not run.optimizer.is_probing
    run.params = {**PARAMS, "learning_rate": 0.3}
    assert run.step()["learning_rate"] == 0.3
    assert run.go(40).kept[-1]["learning_rate"] == 0.3


@pytest.mark.parametrize("make", EXPERIMENTING)
def test_hyperparameters_changed_by_someone_else_become_the_base(make):
    run = SimulatedRun(make(BOUNDS, seed=0), dict(PARAMS), lambda p, k: float(k % 2)).go(11)
    run.params = {**run.params, "learning_rate": 0.6, "n_epochs": 3}
    run.step()
    assert (run.params["learning_rate"], run.params["n_epochs"]) == (0.6, 3)
    kept = run.go(60).kept[-1]
    assert (kept["learning_rate"], kept["n_epochs"]) == (0.6, 3)


@pytest.mark.parametrize("make", EXPERIMENTING)
def test_an_agent_that_clips_is_taken_as_it_is(make):
    def agent(params):
        return {**params, "learning_rate": min(params["learning_rate"], 0.2)}

    scatter = noise(8, 0.01)
    score = lambda params, k: params["learning_rate"] + scatter()  # noqa: E731
    run = SimulatedRun(make(BOUNDS, seed=0), dict(PARAMS), score, tells=True, agent=agent).go(300)
    assert run.kept[-1]["learning_rate"] == pytest.approx(0.2, abs=0.02)
    assert {d.get("reason") for d in run.decisions} <= {None, "plateau"}


@pytest.mark.parametrize("make", EXPERIMENTING)
def test_a_score_that_is_not_finite_asks_for_the_same_again(make):
    run = SimulatedRun(make(BOUNDS, seed=0), dict(PARAMS), lambda p, k: float(k % 2))
    while not run.optimizer.is_probing:
        run.step()
    before = run.params
    run.score = lambda params, k: np.nan
    assert run.step() == before


def under_experiment(make):
    """Return a run whose tuner is within an experiment, away from its base, and has heard of it."""
    run = SimulatedRun(make(BOUNDS, seed=0), dict(PARAMS), lambda p, k: float(k % 2))
    while not (run.optimizer.is_probing and run.optimizer.state_dict()["heard"]):
        run.step()
    return run


@pytest.mark.parametrize("make", EXPERIMENTING)
def test_a_state_within_an_experiment_holds_what_it_began_from_and_has_heard(make):
    run = under_experiment(make)
    run.optimizer.on_improvement(run.history[-1])
    state = run.optimizer.state_dict()
    *measured, improved = state["heard"]
    assert [score for _, score, _ in measured] == state["now"]["since_base"][-len(measured) :]
    assert state["began"]["since_base"] == state["now"]["since_base"][: -len(measured)]
    assert improved == ("improved",)


@pytest.mark.parametrize("make", EXPERIMENTING)
def test_an_experiment_that_does_not_come_to_where_it_was_is_void(make, caplog):
    run, tuner = under_experiment(make), make(BOUNDS, seed=1)
    state = run.optimizer.state_dict()
    state["heard"][0] = ("measured", 1.0, PARAMS)
    tuner.load_state_dict(state)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "the experiment under way cannot be gone on with: it is void" in caplog.text
    assert tuner.describe()["reason"] == "resume"
    assert tuner.is_probing
    run.optimizer = tuner
    assert run.step() == PARAMS
    assert not tuner.is_probing
    run.go(60)
    assert len(caplog.records) == 1
    assert len({params["learning_rate"] for params in run.asked[-50:]}) > 1


@pytest.mark.parametrize("make", EXPERIMENTING)
@pytest.mark.parametrize(
    "bounds", [{"learning_rate": (0.5, 1.0)}, {"n_epochs": (20, 30), "gamma": (0.9, 0.999)}]
)
def test_within_other_bounds_the_search_begins_anew(make, bounds):
    run, tuner = under_experiment(make), make(bounds, seed=1)
    tuner.load_state_dict(run.optimizer.state_dict())
    run.optimizer = tuner
    run.go(60)
    for name, (low, high) in bounds.items():
        values = {params[name] for params in run.asked[-60:]}
        assert len(values) > 1
        assert low <= min(values) <= max(values) <= high


def test_arguments_out_of_range_are_named():
    for make, name, value in (
        (SPSAOptimizer, "perturbation_scale", 0.0),
        (SPSAOptimizer, "learning_rate", -1.0),
        (SPSAOptimizer, "gradient_clip", math.nan),
        (BackoffOptimizer, "min_delta", 0.2),
        (BackoffOptimizer, "gradient_threshold", -1.0),
        (PBTOptimizer, "history_size", 2),
        (PBTOptimizer, "top_percentile", 0.0),
        (MomentumOptimizer, "alpha", 0.0),
        (MomentumOptimizer, "beta1", 1.0),
    ):
        with pytest.raises(ValueError, match=name):
            make(BOUNDS, **{name: value})
