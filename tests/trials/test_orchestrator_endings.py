"""TrialOrchestrator: trials that fail, searches that are ended, and what stays of them."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

optuna = pytest.importorskip("optuna")

from tensor_optix.core.base_evaluator import MeanReturnEvaluator
from tensor_optix.core.callbacks import LoopCallback
from tests.trials.small_search import ParamAgent, ParamPipeline, quick_collections, search, states  # noqa: F401

if TYPE_CHECKING:
    from tensor_optix.core.types import EpisodeData

pytestmark = pytest.mark.usefixtures("quick_collections")


def test_a_trial_without_learning_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    search(trial_steps=1, n_trials=1).run()
    assert "a single evaluation" in caplog.text
    caplog.clear()
    search(trial_steps=2, n_trials=1).run()
    assert "a single evaluation" not in caplog.text


def test_a_failing_trial_is_failed_and_logged_and_the_study_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def factory(params: dict[str, Any]) -> ParamAgent:
        if params["x"] > 0.5:
            raise ArithmeticError(f"no such x: {params['x']}")
        return ParamAgent(params)

    orchestrator = search(agent_factory=factory, n_trials=12)
    params, _ = orchestrator.run()
    assert params["x"] <= 0.5
    assert {"COMPLETE", "FAIL"} <= set(states(orchestrator))
    assert len(orchestrator.study.trials) == 12
    assert "no such x" in caplog.text


def test_an_environment_that_raises_fails_the_trial_and_is_torn_down() -> None:
    made: list[ParamPipeline] = []

    class Raising(ParamPipeline):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

        def score(self, updates: int, window: int) -> float:
            if len(made) == 1 and window == 2:
                raise OSError("the environment is gone")
            return super().score(updates, window)

    orchestrator = search(pipeline_factory=Raising, n_trials=3)
    orchestrator.run()
    assert states(orchestrator) == ["FAIL", "COMPLETE", "COMPLETE"]
    assert [(one.setups, one.teardowns) for one in made] == [(1, 1)] * 3


def test_when_all_trials_fail_the_first_exception_is_the_cause() -> None:
    count = iter(range(100))

    def factory(params: dict[str, Any]) -> ParamAgent:
        raise ArithmeticError(f"failure {next(count)}")

    with pytest.raises(RuntimeError, match=r"the 3 trials .* ArithmeticError: failure 0") as caught:
        search(agent_factory=factory, n_trials=3).run()
    assert isinstance(caught.value.__cause__, ArithmeticError)


def test_a_trial_without_a_finished_episode_fails_with_the_reason() -> None:
    silent = {"evaluator": MeanReturnEvaluator(lambda episode, diagnostics: float("nan"))}
    with pytest.raises(RuntimeError, match="no finite score"):
        search(n_trials=1, rloptimizer_kwargs=silent).run()


def test_a_trial_without_ends_is_not_scored_by_the_step_as_others_may_be_by_returns() -> None:
    class Endless(ParamPipeline):
        def window(self, window: int) -> EpisodeData:
            rows, episode = 32, super().window(window)
            return replace(
                episode,
                observations=np.zeros((rows, 1), np.float32),
                actions=np.zeros(rows, np.int64),
                rewards=[1.0] * rows,
                terminated=[False] * rows,
                truncated=[False] * rows,
            )

    with pytest.raises(RuntimeError, match="no finite score: no episode finished"):
        search(pipeline_factory=Endless, n_trials=1, trial_steps=640).run()


def test_before_a_trial_is_complete_there_is_no_best() -> None:
    with pytest.raises(RuntimeError, match=r"none of the 0 trials .* call run"):
        _ = search().best_params


def test_ctrl_c_ends_the_study_and_keeps_what_is_done(
    tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Interrupting(LoopCallback):
        agents = 0

        def on_loop_start(self) -> None:
            Interrupting.agents += 1
            if Interrupting.agents == 3:
                raise KeyboardInterrupt

    kept = {"storage": tmp_path / "x.journal", "study_name": "s"}
    callbacks = {"rloptimizer_kwargs": {"callbacks": [Interrupting()]}}
    orchestrator = search(**kept, **callbacks)
    with pytest.raises(KeyboardInterrupt):
        orchestrator.run()
    assert states(orchestrator) == ["COMPLETE", "COMPLETE", "FAIL"]
    assert 0.0 <= orchestrator.best_params["x"] <= 1.0
    # The interrupted trial is made up for, and is no part of the count.
    caplog.set_level(logging.INFO)
    orchestrator.run()
    assert states(orchestrator).count("COMPLETE") == 5
    told = re.findall(r"trial (\d+) of 5: (?:score|pruned)", caplog.text)
    assert told == ["3", "4", "5"]


def test_stop_ends_a_search_after_the_window_and_is_honoured_before_it() -> None:
    class Stopping(LoopCallback):
        def on_window(self, report: Any) -> None:
            if len(orchestrator.study.trials) == 2:
                orchestrator.stop("enough")

    orchestrator = search(rloptimizer_kwargs={"callbacks": [Stopping()]}, finalists=2)
    orchestrator.run()
    assert states(orchestrator) == ["COMPLETE", "FAIL"]
    idle = search()
    idle.stop()
    with pytest.raises(RuntimeError, match="none of the 0 trials"):
        idle.run()


def test_a_finalist_that_fails_is_out() -> None:
    made = iter(range(100))

    class Weak(ParamPipeline):
        def score(self, updates: int, window: int) -> float:
            assert self.agent is not None
            if next(made) >= 5 * 4 and self.agent.params["x"] == best["x"]:
                raise OSError("gone")
            return super().score(updates, window)

    best = search(n_trials=5, finalists=0).run()[0]
    assert search(pipeline_factory=Weak, n_trials=5, finalists=3).run()[0] != best


def test_nothing_of_a_trial_stays_on_the_disk(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.chdir(tmp_path)
    places: list[set[str]] = []

    class Looking(LoopCallback):
        def on_window(self, report: Any) -> None:
            places.append({path.name for path in tmp_path.iterdir()})

    search(n_trials=2, rloptimizer_kwargs={"callbacks": [Looking()]}).run()
    assert all(len(place) == 1 for place in places)
    assert len(set().union(*places)) == 2
    assert list(tmp_path.iterdir()) == []
