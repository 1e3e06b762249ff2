from typing import ClassVar

import numpy as np
import pytest

from tensor_optix.core.checkpoint_registry import CheckpointRegistry
from tensor_optix.core.evolution.variants import adaptive_noise_scale, spawn_noise
from tensor_optix.core.policy_manager import PolicyManager
from tensor_optix.core.types import EvalMetrics
from tests.core.array_agent import ArrayAgent, save


class Bounded(ArrayAgent):
    default_param_bounds: ClassVar = {
        "learning_rate": (1e-4, 1e-2),
        "gamma": (0.9, 0.999),
        "n_epochs": (1, 20),
    }
    default_log_params = ("learning_rate",)
    PARAMS: ClassVar = {
        "learning_rate": 1e-3,
        "gamma": 0.99,
        "n_epochs": 10,
        "use_gae": True,
        "replay_capacity": 100_000,
        "temperature": 0.5,
    }

    def perturb_weights(self, noise_scale):
        self.weights += noise_scale


def history(scores, gaps=None):
    return [
        EvalMetrics(
            float(score),
            {} if gaps is None else {"train_score": score + gap, "val_score": score},
            i,
        )
        for i, (score, gap) in enumerate(zip(scores, gaps or [0.0] * len(scores), strict=True))
    ]


def spawned(tmp_path, times=1, noise=0.5):
    registry = CheckpointRegistry(tmp_path)
    save(registry, 5.0, params=Bounded.PARAMS)
    manager = PolicyManager(registry)
    return [
        manager.spawn_variant(Bounded(params=Bounded.PARAMS), noise).get_hyperparams().params
        for _ in range(times)
    ]


def test_variants_stay_within_the_bounds_and_leave_alone_what_has_none(tmp_path):
    variants = spawned(tmp_path, times=200)
    for params in variants:
        for name, (low, high) in Bounded.default_param_bounds.items():
            assert low <= params[name] <= high
        assert type(params["n_epochs"]) is int
        for name in ("use_gae", "replay_capacity", "temperature"):
            assert params[name] is Bounded.PARAMS[name] or params[name] == Bounded.PARAMS[name]
        assert params["use_gae"] is True
    for name in Bounded.default_param_bounds:
        assert len({params[name] for params in variants}) > 5


def test_a_logarithmic_hyperparameter_varies_by_factors(tmp_path):
    rates = np.array([one["learning_rate"] for one in spawned(tmp_path, times=200)])
    assert abs(np.median(np.log(rates / 1e-3))) < 0.15
    assert abs(np.std(np.log(rates / 1e-3)) - 0.5) < 0.1


def test_a_variant_has_the_best_policy_with_noise_and_counts(tmp_path):
    registry = CheckpointRegistry(tmp_path)
    save(registry, 5.0, params={"learning_rate": 0.1})
    manager = PolicyManager(registry, max_spawns=2)
    mutated = []
    shell = Bounded(params={"learning_rate": 0.1})
    assert manager.spawn_variant(shell, 0.25, mutation_fn=mutated.append) is shell
    assert shell.weights[0] == 5.25
    assert mutated == [shell]
    assert (manager.spawns_remaining, manager.budget_exhausted) == (1, False)
    manager.spawn_variant(Bounded(), 0.25)
    assert (manager.spawns_remaining, manager.budget_exhausted) == (0, True)


def test_without_a_policy_there_is_no_variant(tmp_path):
    manager = PolicyManager(CheckpointRegistry(tmp_path), max_spawns=1)
    shell = manager.spawn_variant(Bounded(1.0, Bounded.PARAMS))
    assert shell.weights[0] == 1.0
    assert manager.spawns_remaining == 1


PARAMS_WITHOUT_BOUNDS = {"rate": 1e-3, "epochs": 4, "depth": 0, "flag": True, "name": "adam"}


def test_without_any_bounds_every_number_varies_by_a_factor(tmp_path):
    registry = CheckpointRegistry(tmp_path)
    save(registry, 5.0, params=PARAMS_WITHOUT_BOUNDS)
    manager = PolicyManager(registry)
    variants = [
        manager.spawn_variant(ArrayAgent(), 0.5).get_hyperparams().params for _ in range(200)
    ]
    rates = np.array([one["rate"] for one in variants]) / 1e-3 - 1.0
    assert abs(rates.mean()) < 0.1
    assert abs(rates.std() - 0.5) < 0.1
    epochs = {one["epochs"] for one in variants}
    assert min(epochs) == 1
    assert len(epochs) > 5
    assert {type(one) for one in epochs} == {int}
    for name in ("depth", "flag", "name"):
        assert {one[name] for one in variants} == {PARAMS_WITHOUT_BOUNDS[name]}


def test_hyperparameters_that_an_agent_without_bounds_refuses_stay_as_they_were(tmp_path, caplog):
    class Strict(ArrayAgent):
        def set_hyperparams(self, hyperparams):
            if hyperparams.params["gamma"] > 1.0:
                raise ValueError("gamma must be in [0, 1]")
            super().set_hyperparams(hyperparams)

    registry = CheckpointRegistry(tmp_path)
    save(registry, 5.0, params={"gamma": 1.0})
    manager = PolicyManager(registry)
    gammas = [
        manager.spawn_variant(Strict(), 0.1).get_hyperparams().params["gamma"] for _ in range(20)
    ]
    assert max(gammas) == 1.0
    assert min(gammas) < 1.0
    assert "keeps the hyperparameters of its policy: gamma must be in" in caplog.text


def test_a_repeated_run_spawns_the_same_variants(tmp_path):
    assert spawned(tmp_path / "a", times=3) == spawned(tmp_path / "b", times=3)
    first, second, _ = spawned(tmp_path / "c", times=3)
    assert first != second


def test_noise_falls_with_progress_and_rises_with_overfitting(tmp_path):
    noise = PolicyManager(CheckpointRegistry(tmp_path)).adaptive_noise_scale
    steep, flat = np.linspace(10.0, 20.0, 10), [10.0] * 10
    assert noise(history(steep)) == pytest.approx(0.001)
    assert noise(history(flat)) == 0.1
    assert noise(history(steep[:2])) == noise([]) == 0.1
    assert noise(history(steep, [0.0] * 10)) == pytest.approx(0.001)
    assert noise(history(steep, [15.0] * 10)) == pytest.approx(0.1 - 0.5 * 0.099)


def test_noise_rises_where_training_and_validation_part():
    scores = np.linspace(10.0, 20.0, 10)
    opposite = [2 * (15.0 - score) for score in scores]
    noise = adaptive_noise_scale(history(scores, opposite))
    assert noise == pytest.approx(0.1 - 0.5 * 0.099)


def test_spawn_noise_without_validation_scores_follows_the_improvement():
    assert spawn_noise(history([10.0, 10.0]), 0) == pytest.approx(0.01)
    assert spawn_noise(history([10.0, 15.0]), 0) == pytest.approx(0.01 / 1.5)
    assert spawn_noise(history([10.0, 90.0]), 0) == 0.005
    assert [spawn_noise([], count) for count in (0, 1, 2, 50)] == [0.01, 0.02, 0.04, 0.1]
