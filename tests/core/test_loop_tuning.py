"""Which hyperparameters a policy was made with, and when the optimizer is asked."""

from __future__ import annotations

from tensor_optix.core.decisions.tuning import Tuning
from tensor_optix.core.types import HyperparamSet
from tests.core.scripted_loop import EVERY_WINDOW, Setup
from tests.scripted import ScriptedOptimizer

OLD, NEW = HyperparamSet({"rate": 1}), HyperparamSet({"rate": 2})


def test_weights_were_made_with_the_hyperparameters_of_the_last_learning():
    tuning = Tuning(ScriptedOptimizer())
    assert tuning.made_with(NEW) is NEW
    tuning.note_learned(OLD)
    assert tuning.made_with(NEW) is OLD
    tuning.begin(3)
    assert tuning.made_with(NEW) is NEW


def test_what_an_experiment_made_or_makes_has_no_hyperparameters_to_keep():
    tuning = Tuning(ScriptedOptimizer())
    tuning.note_learned(None)
    assert tuning.made_with(NEW) is None
    tuning.note_learned(OLD)
    assert tuning.made_with(None) is None


def test_a_second_run_is_tuned_like_the_first(tmp_path):
    optimizer = ScriptedOptimizer()
    setup = Setup(
        tmp_path,
        lambda updates, window: float(window),
        optimizer=optimizer,
        scheduler=EVERY_WINDOW,
        max_episodes=9,
    )
    setup.run()
    first = optimizer.calls.count("suggest")
    setup.run()
    assert optimizer.calls.count("suggest") == 2 * first > 2
