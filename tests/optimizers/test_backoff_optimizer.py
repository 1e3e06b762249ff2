"""Backoff: one at a time, the other side after a side that gained nothing, and away from bounds."""

from __future__ import annotations

import pytest

from tensor_optix.core.types import EvalMetrics
from tensor_optix.optimizers.backoff_optimizer import BackoffOptimizer
from tests.optimizers.simulated_run import SimulatedRun, noise

UNIT = {"a": (0.0, 1.0), "b": (0.0, 1.0)}


def run_of(score, params, bounds=None, **arguments):
    return SimulatedRun(BackoffOptimizer(bounds or UNIT, **arguments), params, score)


def sides(run, name, base):
    """Return the values tried, in the order of their first window."""
    return list(dict.fromkeys(params[name] for params in run.asked if params[name] != base))


def test_a_gain_is_kept_and_the_step_taken_again():
    run = run_of(lambda p, k: -abs(p["a"] - 0.5), {"a": 0.4}, {"a": (0.0, 1.0)}).go(30)
    assert run.kept[-1]["a"] == pytest.approx(0.5)


@pytest.mark.parametrize("slope", [-1.0, 0.0])
def test_a_loss_and_no_gradient_at_all_reverse_to_the_real_other_side(slope):
    run = run_of(lambda p, k: slope * p["a"], {"a": 0.5}, {"a": (0.0, 1.0)}).go(22)
    up, down = sides(run, "a", 0.5)[:2]
    assert up == pytest.approx(0.55)
    assert down == pytest.approx(0.45)


def test_at_the_upper_bound_it_probes_downward_and_says_so():
    run = run_of(lambda p, k: -p["a"], {"a": 1.0}, {"a": (0.0, 1.0)})
    while run.step()["a"] == 1.0:
        assert len(run.history) < 20
    assert run.params["a"] == pytest.approx(0.95)
    assert run.optimizer.is_probing
    run.go(60)
    assert run.kept[-1]["a"] < 0.6


def test_at_the_upper_bound_the_best_place_is_not_left():
    run = run_of(lambda p, k: p["a"], {"a": 1.0}, {"a": (0.0, 1.0)}).go(60)
    assert {params["a"] for params in run.kept} == {1.0}


def test_one_hyperparameter_is_changed_at_a_time_in_turns():
    run = run_of(lambda p, k: 0.0, {"a": 0.5, "b": 0.5}).go(60)
    changed = [(p["a"] != 0.5, p["b"] != 0.5) for p in run.asked]
    assert (True, True) not in changed
    assert changed.index((True, False)) < changed.index((False, True))


def test_where_nothing_matters_nothing_moves():
    for seed in range(20):
        scatter = noise(seed)
        run = run_of(lambda p, k, scatter=scatter: scatter(), {"a": 0.5, "b": 0.5})
        run.until_cycles(30, at_most=300)
        assert run.kept[-1] == {"a": 0.5, "b": 0.5}


def test_a_bad_start_is_repaired_where_the_noise_is_small():
    """Noise of 0.2 % of the score's span, off by 0.37 and 0.55; 18 of 20 seeds within 300 windows."""
    arrived = 0
    for seed in range(20):
        scatter = noise(seed, 0.002)
        run = run_of(
            lambda p, k, scatter=scatter: (
                1 - (p["a"] - 0.75) ** 2 - (p["b"] - 0.3) ** 2 + scatter()
            ),
            {"a": 0.38, "b": 0.85},
        )
        run.tells = True
        run.go(300)
        arrived += abs(run.kept[-1]["a"] - 0.75) <= 0.1 and abs(run.kept[-1]["b"] - 0.3) <= 0.1
    assert arrived >= 18


def test_delta_shrinks_on_improvement_and_grows_on_plateau():
    optimizer = BackoffOptimizer(UNIT)
    metrics = EvalMetrics(0.0, {}, 0)
    optimizer.on_improvement(metrics)
    assert optimizer.describe()["reach"] == pytest.approx(0.04)
    optimizer.on_plateau([metrics])
    assert optimizer.describe()["reach"] == pytest.approx(0.08)
