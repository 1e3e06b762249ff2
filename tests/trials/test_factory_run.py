"""The factory mode: trials first, then the full run with the best hyperparameters."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import pytest

from tensor_optix.core.types import LoopState
from tensor_optix.optimizer import RLOptimizer
from tensor_optix.settings import run_settings
from tensor_optix.trials.factory_run import Factories, FactoryRun
from tests.scripted import Diary, ScriptedOptimizer, ScriptedPipeline

if TYPE_CHECKING:
    from pathlib import Path

    from tensor_optix.core.callbacks import WindowReport

pytest.importorskip("optuna")

from tests.trials.small_search import SPACE, ParamAgent, ParamPipeline, quick_collections  # noqa: F401

pytestmark = pytest.mark.usefixtures("quick_collections")


class Factory:
    """Remembers the agents that it made."""

    def __init__(self) -> None:
        self.agents: list[ParamAgent] = []

    def __call__(self, params: dict[str, Any]) -> ParamAgent:
        self.agents.append(ParamAgent(params))
        return self.agents[-1]


def factories(**changes: Any) -> Factories:
    parts = {"agent_factory": Factory(), "pipeline_factory": ParamPipeline, "param_space": SPACE}
    return Factories(**parts | {"n_trials": 4} | changes)


def test_the_full_run_has_the_parameters_that_the_trials_found(tmp_path: Path) -> None:
    diary, made = Diary(), factories()
    settings = run_settings(max_episodes=12, checkpoint_dir=tmp_path, callbacks=[diary], seed=3)
    run = FactoryRun(made, settings)
    run.run()
    assert run.agent is made.agent_factory.agents[-1]
    assert run.agent.params["x"] == run.params["x"]
    searched = [agent.params["x"] for agent in made.agent_factory.agents[:4]]
    assert run.params["x"] in searched
    # What is meant for the full run is not used by the trials.
    assert len(diary.windows) == 12
    assert run.best_snapshot is not None


@pytest.mark.parametrize(
    ("fraction", "cap", "windows"), [(0.01, 1000, 10), (0.01, 100, 5), (0.5, 3, 3), (1.0, 7, 7)]
)
def test_a_trial_is_a_share_of_the_run(
    fraction: float, cap: int, windows: int, tmp_path: Path
) -> None:
    small = Factory()
    made = factories(trial_agent_factory=small, trial_steps_fraction=fraction, n_trials=1)
    FactoryRun(made, run_settings(max_episodes=cap, checkpoint_dir=tmp_path)).prepare()
    assert len(small.agents[0].learned) == windows
    assert len(made.agent_factory.agents) == 1


def test_without_a_space_there_is_no_search(tmp_path: Path) -> None:
    made = factories(param_space=None)
    run = FactoryRun(made, run_settings(max_episodes=3, checkpoint_dir=tmp_path))
    run.run()
    (agent,) = made.agent_factory.agents
    assert len(agent.learned) == 3


def test_a_warm_start_goes_on_from_what_the_best_trial_has_learned(tmp_path: Path) -> None:
    made = factories(warm_start=True)
    settings = run_settings(max_episodes=12, checkpoint_dir=tmp_path / "policies", seed=3)
    run = FactoryRun(made, settings)
    loop = run.prepare()
    assert loop is not None
    *trials, agent = made.agent_factory.agents
    best = max(trials, key=lambda one: one.updates * (1 - (one.params["x"] - 0.3) ** 2))
    assert agent.updates == best.updates > 0
    assert agent.params["x"] == best.params["x"]
    loop.run()
    # The best policy is the one that collected the last window: what that taught is not in it.
    assert agent.updates == best.updates + 11


def test_only_the_best_trials_learner_stays_with_the_run(tmp_path: Path) -> None:
    made = factories(warm_start=True)
    run = FactoryRun(made, run_settings(max_episodes=6, run_dir=tmp_path / "run", seed=3))
    run.run()
    assert len(list((tmp_path / "run" / "learners").iterdir())) == 1
    cold = factories()
    FactoryRun(cold, run_settings(max_episodes=6, run_dir=tmp_path / "cold", seed=3)).run()
    assert not (tmp_path / "cold" / "learners").exists()


def test_a_run_that_goes_on_without_what_trials_learned_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options: dict[str, Any] = {"max_episodes": 6, "run_dir": tmp_path / "run", "seed": 3}
    FactoryRun(factories(), run_settings(**options)).run()
    again = factories(warm_start=True)
    FactoryRun(again, run_settings(**options, resume=True)).run()
    assert "the best trial's agent was not kept" in caplog.text


def test_without_a_run_directory_nothing_stays_of_a_warm_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    run = FactoryRun(factories(warm_start=True), run_settings(max_episodes=6, seed=3))
    assert list(tmp_path.iterdir()) == []
    run.run()
    assert any("learners" in one.name for one in tmp_path.iterdir())
    del run
    gc.collect()
    assert not any("learners" in one.name for one in tmp_path.iterdir())


def test_a_warm_start_without_an_agent_to_start_from_is_refused() -> None:
    with pytest.raises(
        ValueError, match="warm_start needs trials to start from: give a param_space"
    ):
        factories(warm_start=True, param_space=None)
    with pytest.raises(ValueError, match="leave trial_agent_factory out"):
        factories(warm_start=True, trial_agent_factory=Factory())
    with pytest.raises(TypeError, match="warm_start needs agent_factory and pipeline_factory"):
        RLOptimizer(ParamAgent({}), ParamPipeline(), warm_start=True)


def test_state_and_stop_work_before_the_run(tmp_path: Path) -> None:
    made = factories()
    run = FactoryRun(made, run_settings(max_episodes=3, checkpoint_dir=tmp_path))
    assert run.state is LoopState.ACTIVE
    assert run.best_snapshot is None
    assert run.agent is None
    run.stop()
    run.run()
    assert made.agent_factory.agents == []


@pytest.mark.parametrize("trial", [1, 3])
def test_stop_during_the_search_ends_it_and_there_is_no_full_run(
    trial: int, tmp_path: Path
) -> None:
    class Stopping(ParamPipeline):
        def setup(self) -> None:
            super().setup()
            if len(made.agent_factory.agents) == trial:
                run.stop()

    made = factories(pipeline_factory=Stopping)
    run = FactoryRun(made, run_settings(max_episodes=30, checkpoint_dir=tmp_path))
    run.run()
    assert len(made.agent_factory.agents) == trial
    assert run.agent is None


def test_stop_during_the_full_run_ends_it(tmp_path: Path) -> None:
    class Stopping(Diary):
        def on_window(self, report: WindowReport) -> None:
            super().on_window(report)
            run.stop()

    diary = Stopping()
    run = FactoryRun(factories(), run_settings(max_episodes=30, checkpoint_dir=tmp_path))
    run.add_callback(diary)
    run.run()
    assert len(diary.windows) == 1


def test_what_is_no_callback_is_refused_when_it_is_added(tmp_path: Path) -> None:
    run = FactoryRun(factories(), run_settings(checkpoint_dir=tmp_path))
    with pytest.raises(TypeError, match="a callback must be a LoopCallback, got the class Diary"):
        run.add_callback(Diary)  # type: ignore[arg-type]


def test_validation_and_tuning_belong_where_they_should(tmp_path: Path) -> None:
    validations: list[ScriptedPipeline] = []

    def validation() -> ScriptedPipeline:
        validations.append(ScriptedPipeline(lambda updates, window: 1.0))
        return validations[-1]

    optimizer = ScriptedOptimizer()
    made = factories(
        pipeline_factory=lambda: ScriptedPipeline(lambda updates, window: 1.0 + window),
        val_pipeline_factory=validation,
        n_trials=2,
    )
    settings = run_settings(max_episodes=3, checkpoint_dir=tmp_path, optimizer=optimizer)
    run = FactoryRun(made, settings)
    run.prepare()
    assert optimizer.calls == []
    assert len(validations) == len(made.agent_factory.agents)
    run.run()
    assert optimizer.calls


def test_diagnostic_rules_may_be_given_with_factories(tmp_path: Path) -> None:
    optimizer = RLOptimizer(
        agent_factory=ParamAgent,
        pipeline_factory=ParamPipeline,
        param_space=SPACE,
        n_trials=1,
        max_episodes=5,
        checkpoint_dir=tmp_path,
        diag_target_kl=0.02,
    )
    optimizer.run()
    assert optimizer.best_snapshot is not None


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"target_score": float("nan")}, ValueError, "target_score must be a finite number"),
        ({"max_episodes": 0}, ValueError, "max_episodes must be at least 1 or None, got 0"),
        ({"finalists": -1}, ValueError, "finalists must not be negative, got -1"),
        ({"score_smoothing": 0}, ValueError, "score_smoothing must be at least 1"),
        ({"base_interval": 0}, ValueError, "base_interval must be"),
        ({"diag_target_kl": 0.0}, ValueError, "target_kl must be above 0"),
        ({"optimizer": ScriptedOptimizer}, TypeError, "got the class ScriptedOptimizer; give an"),
        ({"evaluator": 3}, TypeError, "evaluator must be a BaseEvaluator, got int"),
        ({"callbacks": Diary()}, TypeError, "callbacks must be a list, got one Diary"),
        ({"run_dir": "old"}, ValueError, "holds another run"),
    ],
)
def test_what_the_full_run_would_refuse_is_refused_before_the_search(
    options: dict[str, Any],
    error: type[Exception],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "metrics.jsonl").touch()
    with pytest.raises(error, match=message):
        RLOptimizer(
            agent_factory=ParamAgent, pipeline_factory=ParamPipeline, param_space=SPACE, **options
        )


def test_a_free_run_directory_is_not_made_before_the_run(tmp_path: Path) -> None:
    FactoryRun(factories(), run_settings(run_dir=tmp_path / "new"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.5])
def test_a_fraction_out_of_range_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match=r"trial_steps_fraction must be in \(0, 1\]"):
        FactoryRun(factories(trial_steps_fraction=fraction), run_settings())
