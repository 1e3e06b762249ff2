"""What the rules of diagnostics take, as arguments and as hyperparameters, and what they refuse."""

from __future__ import annotations

import math

import pytest

from tensor_optix.core.base_optimizer import FixedHyperparams
from tensor_optix.core.types import EvalMetrics, HyperparamSet
from tensor_optix.optimizers.diagnostic_controller import DiagnosticController

PPO = {"learning_rate": 3e-4, "entropy_coef": 0.01}
BOUNDS = {"learning_rate": (1e-4, 3e-3), "entropy_coef": (0.001, 0.05)}


def test_the_arguments_reach_the_rules():
    controller = DiagnosticController(
        FixedHyperparams(), bounds=BOUNDS, target_kl=0.1, min_episodes=1
    )
    history = [EvalMetrics(0.0, {"approx_kl": 0.15}, 0)]
    assert controller.suggest(HyperparamSet(PPO), history).params == PPO
    history.append(EvalMetrics(0.0, {"approx_kl": 0.25}, 1))
    assert controller.suggest(HyperparamSet(PPO), history).params["learning_rate"] == 1.5e-4


def test_an_unknown_rule_is_refused():
    with pytest.raises(TypeError, match="'target_k'"):
        DiagnosticController(FixedHyperparams(), target_k=0.1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("loss_spike_factor", 1.0),
        ("loss_spike_factor", math.nan),
        ("entropy_floor", math.inf),
        ("target_kl", 0.0),
        ("epsilon_patience", 0),
        ("epsilon_patience", 2.5),
        ("epsilon_reset_value", 1.5),
        ("epsilon_score_threshold", math.nan),
        ("min_episodes", 0),
        ("bounds", {"learning_rate": (1.0, 0.0)}),
    ],
)
def test_a_number_out_of_range_is_named(name, value):
    with pytest.raises(ValueError, match=name):
        DiagnosticController(FixedHyperparams(), **{name: value})


def test_only_an_optimizer_can_be_corrected():
    with pytest.raises(TypeError, match="inner must be a BaseOptimizer, got dict"):
        DiagnosticController({})


@pytest.mark.parametrize("value", [None, True, 0.0, math.nan, "auto"])
def test_a_hyperparameter_that_cannot_be_multiplied_is_left_alone(value):
    controller = DiagnosticController(FixedHyperparams(), min_episodes=1)
    history = []
    for window in range(9):
        history.append(EvalMetrics(0.0, {"approx_kl": 1.0}, window))
        suggestion = controller.suggest(HyperparamSet({"learning_rate": value}), history)
        assert suggestion.params["learning_rate"] is value


def test_two_alarms_at_once_are_one_correction():
    controller = DiagnosticController(FixedHyperparams())
    quiet = [EvalMetrics(0.0, {"loss": 0.01, "approx_kl": 0.01}, window) for window in range(9)]
    for count in range(1, 10):
        assert controller.suggest(HyperparamSet(PPO), quiet[:count]).params == PPO
    alarming = EvalMetrics(0.0, {"loss": 9.0, "approx_kl": 0.5}, 9)
    corrected = controller.suggest(HyperparamSet(PPO), [*quiet, alarming])
    assert corrected.params == PPO | {"learning_rate": 1.5e-4}
