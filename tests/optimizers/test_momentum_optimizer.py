"""Momentum: Adam on finite differences, at bounds too."""

from __future__ import annotations

import pytest

from tensor_optix.optimizers.momentum_optimizer import MomentumOptimizer
from tests.optimizers.simulated_run import SimulatedRun, noise

UNIT = {"a": (0.0, 1.0), "b": (0.0, 1.0)}


def bowl(params):
    return -((params["a"] - 0.75) ** 2) - (params["b"] - 0.3) ** 2


def test_a_bad_start_is_repaired():
    run = SimulatedRun(MomentumOptimizer(UNIT), {"a": 0.4, "b": 0.8}, lambda p, k: bowl(p)).go(200)
    assert run.kept[-1]["a"] == pytest.approx(0.75, abs=0.1)
    assert run.kept[-1]["b"] == pytest.approx(0.3, abs=0.1)


def test_the_first_step_is_alpha_along_every_slope():
    run = SimulatedRun(
        MomentumOptimizer(UNIT, alpha=0.03), {"a": 0.4, "b": 0.8}, lambda p, k: bowl(p)
    )
    while run.optimizer.describe()["phase"] != "testing":
        run.step()
    assert run.params["a"] == pytest.approx(0.43, abs=1e-6)
    assert run.params["b"] == pytest.approx(0.77, abs=1e-6)


def test_at_a_bound_it_probes_inward_says_so_and_leaves_it():
    run = SimulatedRun(MomentumOptimizer(UNIT), {"a": 1.0, "b": 0.0}, lambda p, k: bowl(p))
    inward = False
    for _ in range(30):
        run.step()
        inward |= run.params["a"] < 1.0
        assert run.optimizer.is_probing or run.params in run.kept
    assert inward
    run.go(150)
    assert run.kept[-1]["a"] < 0.95
    assert run.kept[-1]["b"] > 0.05


def test_where_nothing_matters_nothing_moves():
    for seed in range(20):
        scatter = noise(seed)
        start = {"a": 0.5, "b": 0.5}
        run = SimulatedRun(MomentumOptimizer(UNIT), start, lambda p, k, scatter=scatter: scatter())
        assert run.until_cycles(30, at_most=300).kept[-1] == start
