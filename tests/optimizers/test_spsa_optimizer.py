"""SPSA: no move without evidence, the right move with it, and the printed formula where there is no noise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tensor_optix.core.search_space import SearchSpace
from tensor_optix.core.types import EvalMetrics, HyperparamSet
from tensor_optix.optimizers.spsa_optimizer import SPSAOptimizer
from tests.optimizers.simulated_run import SimulatedRun, noise

AGENT_BOUNDS = {"learning_rate": (1e-4, 3e-3), "entropy_coef": (0.001, 0.05)}
BOUNDS = {"learning_rate": (1e-5, 1e-1), "gamma": (0.9, 0.999)}
LOG = ["learning_rate"]
SPACE = SearchSpace(BOUNDS, LOG)
OPTIMUM = np.array([0.75, 0.3])
SEEDS = range(20)


@pytest.mark.parametrize(("trend", "tells"), [(0.0, False), (0.0, True), (0.05, True), (1.0, True)])
def test_where_nothing_matters_no_parameter_moves_by_more_than_half(trend, tells):
    """30 whole cycles, or as many as fit into 400 windows where the rise forbids them; 20 seeds."""
    for seed in SEEDS:
        scatter = noise(seed)
        run = SimulatedRun(
            SPSAOptimizer(AGENT_BOUNDS, log_params=LOG, seed=seed),
            {"learning_rate": 5e-4, "entropy_coef": 0.01},
            lambda params, k, scatter=scatter: 100.0 + trend * k + scatter(),
            tells=tells,
        ).until_cycles(30, at_most=400)
        assert run.cycles == 30 or trend
        for name in AGENT_BOUNDS:
            visited = [params[name] for params in run.kept]
            assert max(visited) <= 1.5 * run.kept[0][name]
            assert min(visited) >= run.kept[0][name] / 1.5


def quadratic(params):
    """1 at the optimum, 0 at the corner farthest from it."""
    away = SPACE.to_unit(params) - OPTIMUM
    return 1.0 - float(away @ away) / (0.75**2 + 0.7**2)


@pytest.mark.parametrize(("size", "windows"), [(0.0, 120), (0.01, 300), (0.02, 400)])
def test_a_bad_start_is_repaired(size, windows):
    """Learning rate 30 times too low; noise of 0, 1 and 2 % of the score's span; 18 of 20 seeds."""
    far = OPTIMUM + np.array([-math.log(30.0) / math.log(1e4), 0.55])
    start = SPACE.from_unit(far, {"learning_rate": 1.0, "gamma": 1.0})
    arrived = 0
    for seed in SEEDS:
        scatter = noise(seed, size)
        run = SimulatedRun(
            SPSAOptimizer(BOUNDS, log_params=LOG, seed=seed),
            start,
            lambda params, k, scatter=scatter: quadratic(params) + scatter(),
            tells=True,
        ).go(windows)
        off = np.abs(SPACE.to_unit(run.kept[-1]) - OPTIMUM).max()
        arrived += bool(off <= 0.1 and quadratic(run.kept[-1]) >= 0.9)
    assert arrived >= 18


def test_where_hyperparameters_set_the_rate_of_learning_it_moves_the_right_way():
    """The run stalls at the start, gains above it and loses below it; noise of 1 a window."""
    right = 0
    for seed in SEEDS:
        scatter, level = noise(seed), [0.0]

        def score(params, k, scatter=scatter, level=level):
            level[0] += 60.0 * (SPACE.to_unit(params)[0] - 0.4)
            return level[0] + scatter()

        start = SPACE.from_unit(np.array([0.4]), {"learning_rate": 1.0})
        optimizer = SPSAOptimizer({"learning_rate": (1e-5, 1e-1)}, log_params=LOG, seed=seed)
        run = SimulatedRun(optimizer, start, score).go(80)
        assert run.kept[-1]["learning_rate"] >= start["learning_rate"]
        right += run.kept[-1]["learning_rate"] > start["learning_rate"]
    assert right >= 18


@pytest.mark.parametrize("slope", [0.7, -0.4, 5.0])
def test_without_noise_and_with_scores_that_span_1_a_step_is_that_of_the_formula(slope):
    """x' = clip(x + alpha g), g = (f+ - f-) / (2 c delta), within +-1."""

    run = SimulatedRun(
        SPSAOptimizer({"x": (0.0, 2.0)}, seed=0),
        {"x": 1.0},
        lambda params, k: 0.5 + slope * (params["x"] / 2.0 - 0.5),
        history=[EvalMetrics(score, {}, 0) for score in [1.0, 0.0] + [0.5] * 14],
    )
    while run.optimizer.describe()["phase"] != "testing":
        run.step()
    probes = {round(params["x"] / 2.0, 9) for params in run.asked[:-1]}
    assert probes == {0.45, 0.5, 0.55}
    assert run.params["x"] / 2.0 == pytest.approx(0.5 + 0.1 * np.clip(slope, -1.0, 1.0))


def test_a_step_that_does_not_stand_the_test_is_undone_exactly():
    """The probes promise a gain on one side, and every step beyond them falls off a cliff."""

    def score(params, k):
        away = params["x"] - 0.123456789
        return away if abs(away) < 0.06 else away - 5.0

    run = SimulatedRun(
        SPSAOptimizer({"x": (0.0, 1.0)}, learning_rate=0.9, seed=0), {"x": 0.123456789}, score
    )
    run.go(60)
    assert "undone" in {decision.get("verdict") for decision in run.decisions}
    assert {params["x"] for params in run.kept} == {0.123456789}


def test_an_improvement_narrows_the_probes_and_a_plateau_widens_them_once():
    optimizer = SPSAOptimizer(BOUNDS, min_perturbation=0.03, seed=0)
    metrics = EvalMetrics(1.0, {}, 0)
    reach = [optimizer.describe()["reach"]]
    for _ in range(3):
        optimizer.on_improvement(metrics)
        reach.append(optimizer.describe()["reach"])
    for _ in range(2):
        optimizer.on_plateau([metrics])
        reach.append(optimizer.describe()["reach"])
    assert reach == pytest.approx([0.05, 0.04, 0.032, 0.03, 0.06, 0.06])


def test_an_integer_of_few_values_is_probed_by_one():
    run = SimulatedRun(
        SPSAOptimizer({"layers": (1, 4)}, seed=0), {"layers": 2}, lambda p, k: float(p["layers"])
    ).go(60)
    assert {params["layers"] for params in run.asked[:13]} == {1, 2, 3}
    assert run.kept[-1]["layers"] == 4


def test_bounds_of_hyperparameters_that_the_agent_does_not_have_are_said_once(caplog):
    optimizer = SPSAOptimizer({"lr": (1e-4, 1e-2)}, seed=0)
    params = HyperparamSet({"learning_rate": 1e-3})
    for length in range(1, 5):
        history = [EvalMetrics(1.0, {}, i) for i in range(length)]
        assert optimizer.suggest(params, history).params == params.params
    assert caplog.text.count("there are bounds for lr, but numbers for learning_rate") == 1


def test_a_single_name_is_no_list_of_names():
    with pytest.raises(TypeError, match="log_params must be a list of names, got 'learning_rate'"):
        SPSAOptimizer({"learning_rate": (1e-4, 1e-2)}, log_params="learning_rate")
