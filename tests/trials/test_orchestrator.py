"""TrialOrchestrator: what a trial is, which ones are pruned, and which is the best."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

optuna = pytest.importorskip("optuna")

from tensor_optix import BatchPipeline
from tests.scripted import Diary, ScriptedPipeline
from tests.trials.small_search import ParamAgent, ParamPipeline, quick_collections, search, states  # noqa: F401

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("quick_collections")


def test_the_best_parameters_are_found_and_scored() -> None:
    orchestrator = search(n_trials=16)
    params, score = orchestrator.run()
    assert abs(params["x"] - 0.3) < 0.1
    # The last of four windows was collected after three updates.
    assert score == pytest.approx(3 * (1 - (params["x"] - 0.3) ** 2))
    assert (orchestrator.best_params, orchestrator.best_score) == (params, score)
    assert len(orchestrator.study.trials) == 16


def test_what_each_hyperparameter_was_worth_is_told_where_enough_trials_tell() -> None:
    two = {"x": ("float", 0.0, 1.0), "idle": ("float", 0.0, 1.0)}
    orchestrator = search(n_trials=30, param_space=two)
    orchestrator.run()
    worth = orchestrator.importances
    assert list(worth) == ["x", "idle"]
    assert worth["x"] > 0.7
    assert sum(worth.values()) == pytest.approx(1.0)
    few = search(n_trials=9, param_space=two)
    few.run()
    assert few.importances == {}


def test_the_lowest_score_is_sought_and_kept_where_it_is_to_be_minimised() -> None:
    class Loss(ParamPipeline):
        def score(self, updates: int, window: int) -> float:
            assert self.agent is not None
            return 5 + (self.agent.params["x"] - 0.3) ** 2 - 0.1 * updates

    params, score = search(pipeline_factory=Loss, direction="minimize", n_trials=16).run()
    assert abs(params["x"] - 0.3) < 0.1
    # The best policy of such a trial is the last one, not the first and highest.
    assert score == pytest.approx(5 + (params["x"] - 0.3) ** 2 - 0.3)


def test_a_minimised_external_score_keeps_its_sign_and_picks_the_lowest_policy() -> None:
    given = {"checkpoint_score_fn": lambda agent: 10.0 - agent.updates, "direction": "minimize"}
    assert search(**given, n_trials=1).run()[1] == 10.0 - 3


def test_an_external_score_is_that_of_the_best_policy() -> None:
    score_of = {"checkpoint_score_fn": lambda agent: float(-abs(agent.updates - 2))}
    assert search(**score_of, n_trials=1).run()[1] == 0.0


def test_the_validation_score_is_the_one_that_counts() -> None:
    def validation() -> ScriptedPipeline:
        return ScriptedPipeline(lambda updates, window: 100.0)

    assert search(val_pipeline_factory=validation, n_trials=1).run()[1] == 100.0


@pytest.mark.parametrize(("steps", "windows"), [(1, 1), (200, 1), (201, 2), (1000, 5)])
def test_a_trial_has_its_environment_steps_and_at_most_one_window_more(
    steps: int, windows: int
) -> None:
    diary = Diary()
    search(
        pipeline_factory=lambda: BatchPipeline(env_id="CartPole-v1", n_steps=200),
        trial_steps=steps,
        n_trials=1,
        rloptimizer_kwargs={"callbacks": [diary]},
    ).run()
    assert [report.total_steps for report in diary.windows] == [
        200 * window for window in range(1, windows + 1)
    ]


def test_several_environments_do_not_make_a_trial_longer() -> None:
    from tensor_optix import VectorBatchPipeline

    diary = Diary()
    search(
        pipeline_factory=lambda: VectorBatchPipeline(
            env_id="CartPole-v1", num_envs=4, window_size=50, backend="sync"
        ),
        trial_steps=500,
        n_trials=1,
        rloptimizer_kwargs={"callbacks": [diary]},
    ).run()
    assert 500 <= diary.windows[-1].total_steps < 500 + 200


def test_trials_that_lag_behind_are_pruned_and_say_so() -> None:
    orchestrator = search(n_trials=12, trial_steps=15, pruner_warmup_steps=4)
    orchestrator.study.sampler = optuna.samplers.GridSampler({"x": [k / 11 for k in range(12)]}, 0)
    orchestrator.run()
    pruned = [one for one in orchestrator.study.trials if one.state.name == "PRUNED"]
    assert 2 <= len(pruned) < 12
    assert all(len(one.intermediate_values) < 15 for one in pruned)
    assert all(min(one.intermediate_values) == 1 for one in pruned)
    # The first window from which a trial may be pruned; never before three are complete.
    assert min(max(one.intermediate_values) for one in pruned) >= 4
    assert all(one.number >= 3 for one in pruned)


def test_each_trial_gets_a_seed_of_its_own_that_follows_from_the_study(tmp_path: Any) -> None:
    def seeds(seed: int) -> list[int]:
        agents: list[ParamAgent] = []

        def factory(params: dict[str, Any]) -> ParamAgent:
            agents.append(ParamAgent(params))
            return agents[-1]

        search(agent_factory=factory, seed=seed, n_trials=4, finalists=2, finalist_seeds=2).run()
        return [agent.seeds[0] for agent in agents]

    first = seeds(1)
    assert first == seeds(1)
    assert not set(first) & set(seeds(2))
    # Four trials, then two fresh seeds, which both finalists are given.
    assert len(set(first)) == 4 + 2
    assert [first.count(one) for one in first] == [1] * 4 + [2] * 4


def test_the_same_seed_draws_the_same_parameters() -> None:
    def drawn(seed: int) -> list[float]:
        orchestrator = search(n_trials=5, seed=seed)
        orchestrator.run()
        return [trial.params["x"] for trial in orchestrator.study.trials]

    assert drawn(3) == drawn(3)
    assert drawn(3) != drawn(4)
    assert len(set(drawn(3))) == 5


class LuckyPipeline(ParamPipeline):
    """Below x = 0.5 the score is a lottery that only one trial wins; above it is a steady 10."""

    won: Callable[[], bool]

    def __init__(self) -> None:
        super().__init__()
        self.bonus = 100.0 if type(self).won() else 0.0

    def score(self, updates: int, window: int) -> float:
        assert self.agent is not None
        return 10.0 if self.agent.params["x"] > 0.5 else self.bonus


def test_the_finalists_are_compared_on_fresh_seeds_and_luck_does_not_win() -> None:
    made = iter(range(100))
    LuckyPipeline.won = staticmethod(lambda: next(made) < 5)
    assert search(pipeline_factory=LuckyPipeline, n_trials=5).run()[0]["x"] < 0.5
    made = iter(range(100))
    orchestrator = search(pipeline_factory=LuckyPipeline, n_trials=5, finalists=5)
    params, score = orchestrator.run()
    assert params["x"] > 0.5
    assert score == 10.0
    assert len(orchestrator.study.trials) == 5
