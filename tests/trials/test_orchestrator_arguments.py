"""TrialOrchestrator: spaces, arguments, and what they are refused for."""

from __future__ import annotations

import logging
import subprocess
import sys
import textwrap
from typing import Any

import pytest

optuna = pytest.importorskip("optuna")

from tests.scripted import Diary
from tests.trials.small_search import ParamAgent, ParamPipeline, quick_collections, search, states  # noqa: F401

pytestmark = pytest.mark.usefixtures("quick_collections")


def test_parameters_come_from_the_agents_own_bounds_where_no_space_is_given() -> None:
    class Bounded(ParamAgent):
        default_param_bounds = {"x": (0.1, 0.4), "rate": (1e-4, 1e-1), "count": (2, 5)}  # noqa: RUF012
        default_log_params = ("rate",)

        def __init__(self, params: dict[str, Any]) -> None:
            super().__init__({"rate": 0.01, "count": 3} | params)

    orchestrator = search(agent_factory=Bounded, param_space=None)
    params, _ = orchestrator.run()
    assert 0.1 <= params["x"] <= 0.4
    assert type(params["count"]) is int
    drawn = orchestrator.study.trials[0].distributions
    assert drawn["rate"].log
    assert not drawn["x"].log


def test_an_agent_without_bounds_needs_a_space() -> None:
    with pytest.raises(ValueError, match="give a param_space such as"):
        search(param_space=None).run()


def test_options_reach_each_trials_optimizer() -> None:
    diary = Diary()
    options = {"callbacks": [diary], "max_episodes": 2}
    search(n_trials=2, rloptimizer_kwargs=options).run()
    assert len(diary.named("on_loop_stop")) == 2
    assert len(diary.windows) == 4


def test_optuna_is_quiet_unless_asked_and_its_own_level_is_restored(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    before = optuna.logging.get_verbosity()
    search(n_trials=1).run()
    assert "Trial 0" not in caplog.text
    assert capfd.readouterr() == ("", "")
    search(n_trials=1, optuna_verbosity=logging.INFO).run()
    assert "Trial 0 finished" in caplog.text
    assert optuna.logging.get_verbosity() == before


def test_trials_as_a_table_need_pandas(monkeypatch: Any) -> None:
    orchestrator = search(n_trials=2)
    orchestrator.run()
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        orchestrator.trials_dataframe()


def test_trials_come_as_a_table() -> None:
    pytest.importorskip("pandas")
    orchestrator = search(n_trials=2)
    orchestrator.run()
    assert len(orchestrator.trials_dataframe()) == 2


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"x": ("uniform", 0, 1)}, r"param_space\['x'\] is \('uniform', 0, 1\).*log_float, int"),
        ({"x": ("float", 1, 0)}, r"\['x'\] must have lo < hi"),
        ({"x": ("int", 3, 3)}, "lo < hi"),
        ({"x": ("log_float", 0.0, 1)}, "lo > 0 on a logarithmic scale"),
        ({"x": ("log_int", -1, 1)}, "lo > 0 on a logarithmic scale"),
        ({"x": ("int", 0.5, 2)}, "whole bounds"),
        ({"x": ("float", 0)}, "finite bounds"),
        ({"x": ("float", 0, float("inf"))}, "finite bounds"),
        ({"x": ("float", "0", 1)}, "finite bounds"),
        ({"x": ("categorical",)}, "got no value"),
        ({"x": ("categorical", 1, 1)}, "values that differ"),
        ({"x": ("categorical", [16, 32])}, r"one by one, got one list: \[16, 32\]"),
        ({"x": "float"}, "a tuple such as"),
        ({}, "at least one parameter"),
    ],
)
def test_a_wrong_space_is_refused_before_the_first_trial(space: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        search(param_space=space)


def test_every_kind_of_spec_gives_values_of_its_kind() -> None:
    space = {
        "a": ("float", -1, 1),
        "b": ("log_float", 1e-4, 1e-2),
        "c": ("int", 1, 3),
        "d": ("log_int", 1, 100),
        "e": ("categorical", (64, 64), None, True, 1, "1"),
    }
    seen: list[dict[str, Any]] = []

    def factory(params: dict[str, Any]) -> ParamAgent:
        seen.append(params)
        return ParamAgent({})

    best, _ = search(agent_factory=factory, param_space=space, n_trials=12).run()
    assert best in seen
    for params in seen:
        assert -1 <= params["a"] <= 1
        assert 1e-4 <= params["b"] <= 1e-2
        assert type(params["c"]) is type(params["d"]) is int
        assert any(params["e"] is value for value in space["e"][1:])
    assert sum(params["b"] < 1e-3 for params in seen) > 2


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"n_trials": 0}, ValueError, "n_trials must be a whole number of at least 1, got 0"),
        ({"trial_steps": 0}, ValueError, "trial_steps must be at least 1, got 0"),
        ({"finalists": -1}, ValueError, "finalists must be"),
        ({"finalist_seeds": 0}, ValueError, "finalist_seeds must be"),
        ({"pruner_interval": 0}, ValueError, "pruner_interval must be"),
        ({"direction": "max"}, ValueError, "direction must be 'maximize' or 'minimize'"),
        ({"agent_factory": None}, TypeError, "agent_factory must be a function, got None"),
        ({"storage": "study.txt", "study_name": "s"}, ValueError, "ends in .log or .journal"),
        ({"storage": "sqlite:///x.db"}, ValueError, "storage needs a study_name"),
        ({"storage": 3, "study_name": "s"}, TypeError, "storage must be a path"),
        ({"rloptimizer_kwargs": {"seed": 1}}, ValueError, "must not hold 'seed'; give seed="),
        ({"rloptimizer_kwargs": {"optimizer": None}}, ValueError, "stay as they were drawn"),
        ({"rloptimizer_kwargs": {"agent_factory": dict}}, ValueError, "give agent_factory="),
        ({"rloptimizer_kwargs": {"diagnostics": {}}}, TypeError, "'diagnostics', which"),
        ({"rloptimizer_kwargs": {"diag_kl": 1}}, TypeError, "'diag_kl', which RLOptimizer has not"),
        ({"about": {"param_space": 1}}, ValueError, "about must not hold 'param_space'"),
        ({"about": {"env": object()}}, TypeError, "about must hold what JSON can"),
        ({"rloptimizer_kwargs": {"noise": 1}}, TypeError, "'noise', which RLOptimizer has not"),
    ],
)
def test_wrong_arguments_are_refused_before_the_first_trial(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        search(**changes)


def test_optuna_is_loaded_by_a_search_only_and_named_where_it_is_missing() -> None:
    script = """
        import sys
        import tensor_optix, tensor_optix.trials.orchestrator, tensor_optix.trials.factory_run
        from tensor_optix.trials.orchestrator import TrialOrchestrator
        assert "optuna" not in sys.modules
        sys.modules["optuna"] = None
        try:
            TrialOrchestrator(dict, list)
        except ImportError as error:
            assert "pip install 'tensor-optix[tune]'" in str(error), error
        else:
            raise AssertionError("no ImportError")
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)
