"""What a run is made of: arguments become checked settings, and every argument has its setting."""

from __future__ import annotations

import inspect
from dataclasses import FrozenInstanceError, fields, replace
from typing import TYPE_CHECKING, Any

import pytest

from tensor_optix import FixedHyperparams, RLOptimizer, optimizer
from tensor_optix.core.backoff_scheduler import SchedulerSettings
from tensor_optix.core.base_evaluator import MeanReturnEvaluator
from tensor_optix.settings import OutputSettings, RunSettings, run_settings, setting_names
from tensor_optix.trials.factory_run import Factories
from tests.scripted import CountingAgent, Diary, ScriptedPipeline

if TYPE_CHECKING:
    from pathlib import Path

ARGUMENTS = {
    "agent": None,
    "pipeline": None,
    "evaluator": None,
    "optimizer": None,
    "checkpoint_dir": None,
    "max_snapshots": 10,
    "rollback_on_degradation": False,
    "improvement_margin": 0.0,
    "max_episodes": None,
    "base_interval": None,
    "backoff_factor": None,
    "max_interval_episodes": None,
    "plateau_threshold": None,
    "dormant_threshold": None,
    "degradation_threshold": None,
    "min_degradation_drop": None,
    "noise_k": None,
    "score_window": None,
    "trend_window": None,
    "min_episodes_before_dormant": None,
    "min_episodes_before_degradation": None,
    "callbacks": None,
    "val_pipeline": None,
    "score_smoothing": 2,
    "checkpoint_score_fn": None,
    "verbose": False,
    "verbose_log_file": None,
    "seed": None,
    "run_dir": None,
    "max_steps": None,
    "target_score": None,
    "finalists": 5,
    "resume": False,
    "checkpoint_seconds": 60.0,
    "agent_factory": None,
    "pipeline_factory": None,
    "param_space": None,
    "n_trials": 20,
    "trial_steps_fraction": 0.01,
    "val_pipeline_factory": None,
    "trial_agent_factory": None,
    "warm_start": False,
    "progress": False,
}
"""The documented arguments, in their order."""


def flat(updates: int, window: int) -> float:
    return 1.0


def test_the_signature_is_the_documented_one() -> None:
    *parameters, rest = inspect.signature(RLOptimizer).parameters.values()
    assert [(one.name, one.default) for one in parameters] == list(ARGUMENTS.items())
    assert rest.kind is rest.VAR_KEYWORD


def test_every_argument_is_a_part_a_setting_or_a_factory() -> None:
    made_by = [one.name for one in fields(Factories)]
    settings = [name for name in setting_names() if not name.startswith("diag_")]
    assert sorted(["agent", "pipeline", *settings, *made_by]) == sorted(ARGUMENTS)


def test_the_defaults_of_the_arguments_are_those_of_the_settings() -> None:
    shared = {name: ARGUMENTS[name] for name in setting_names() if name in ARGUMENTS}
    assert run_settings(**shared) == run_settings() == RunSettings()
    for one in fields(Factories)[2:]:
        assert one.default == ARGUMENTS[one.name]


GIVEN: dict[str, Any] = {
    "val_pipeline": ScriptedPipeline(flat),
    "evaluator": MeanReturnEvaluator(),
    "optimizer": FixedHyperparams(),
    "callbacks": [Diary()],
    "checkpoint_score_fn": lambda agent: 1.0,
    "seed": 3,
    "checkpoint_dir": "there",
    "run_dir": "here",
    "verbose_log_file": "file",
    "verbose": True,
    "rollback_on_degradation": True,
    "degradation_threshold": 0.5,
}


@pytest.mark.parametrize("name", setting_names())
def test_every_argument_reaches_the_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[RunSettings] = []
    monkeypatch.setattr(optimizer, "assemble", lambda *given: seen.append(given[-1]))
    value = GIVEN.get(name, 7)
    value = 0.5 if name == "diag_epsilon_reset_value" else value
    # A run that goes on has a directory.
    given = {name: value} | ({"run_dir": "here"} if name == "resume" else {})
    RLOptimizer(CountingAgent(), ScriptedPipeline(flat), **given)
    (settings,) = seen
    assert settings == run_settings(**given)
    groups = (settings, settings.loop, settings.output, settings.diagnostics)
    own_name = name.removeprefix("diag_")
    held = [getattr(group, own_name) for group in groups if hasattr(group, own_name)]
    assert [*held, *(settings.scheduler[one] for one in settings.scheduler)] == [value]


def test_what_is_left_out_of_the_scheduler_is_picked_by_it() -> None:
    settings = run_settings(noise_k=None, trend_window=4)
    assert settings.scheduler == {"trend_window": 4}
    assert settings.scheduler.keys() <= {one.name for one in fields(SchedulerSettings)}


def test_settings_cannot_be_changed_but_replaced() -> None:
    settings = run_settings(max_episodes=3)
    with pytest.raises(FrozenInstanceError):
        settings.loop.max_episodes = 4  # type: ignore[misc]
    longer = replace(settings, loop=replace(settings.loop, max_episodes=4))
    assert (settings.loop.max_episodes, longer.loop.max_episodes) == (3, 4)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"score_smoothing": 0}, ValueError, "score_smoothing must be at least 1, got 0"),
        ({"max_episodes": 0}, ValueError, "max_episodes must be at least 1 or None, got 0"),
        ({"improvement_margin": -1.0}, ValueError, "improvement_margin must not be negative, got"),
        ({"improvement_margin": float("nan")}, ValueError, "must not be negative, got nan"),
        ({"target_score": float("inf")}, ValueError, "must be a finite number or None, got inf"),
        ({"finalists": -1}, ValueError, "finalists must not be negative, got -1"),
        ({"max_snapshots": 0}, ValueError, "max_snapshots must be at least 1, got 0"),
        ({"noise_k": -1.0}, ValueError, "noise_k must be at least 0, got -1.0"),
        ({"diag_target_kl": 0.0}, ValueError, "target_kl must be above 0, got 0.0"),
        ({"evaluator": max}, TypeError, "evaluator must be a BaseEvaluator, got builtin_function"),
        ({"optimizer": FixedHyperparams}, TypeError, "got the class FixedHyperparams; give an"),
        ({"callbacks": Diary()}, TypeError, "callbacks must be a list, got one Diary"),
        ({"loops": 1}, TypeError, "loops"),
        ({"loop": {}}, TypeError, "loop"),
        ({"bounds": {}}, TypeError, "bounds"),
        ({"diag_kl": 1}, TypeError, "diag_kl"),
    ],
)
def test_settings_are_checked_where_they_are_made(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run_settings(**arguments)


def test_checkpoints_lie_in_the_run_directory_unless_they_are_given_a_place(tmp_path: Path) -> None:
    assert OutputSettings().checkpoints.as_posix() == "checkpoints"
    assert OutputSettings(run_dir=tmp_path).checkpoints == tmp_path / "checkpoints"
    assert OutputSettings(run_dir=tmp_path, checkpoint_dir="there").checkpoints.name == "there"


def test_zero_is_a_choice_and_none_is_none():
    settings = run_settings(noise_k=0.0, min_degradation_drop=0, dormant_threshold=None)
    assert settings.scheduler == {"noise_k": 0.0, "min_degradation_drop": 0}


@pytest.mark.parametrize("one", fields(SchedulerSettings), ids=lambda one: one.name)
def test_a_documented_default_says_no_more_than_leaving_it_out(one):
    assert run_settings(**{one.name: one.default}) == run_settings()
    other = 0.5 if one.name == "degradation_threshold" else one.default + 7
    assert run_settings(**{one.name: other}).scheduler == {one.name: other}


def test_a_default_of_the_wrong_kind_is_refused_as_any_other_value():
    with pytest.raises(ValueError, match="base_interval must be an integer, got True"):
        run_settings(base_interval=True)
