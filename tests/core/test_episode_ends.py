"""Tasks whose episodes end late or never: what windows are scored by, and what is kept of such runs."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np
import pytest

from tensor_optix import RLOptimizer
from tensor_optix.core.base_evaluator import MeanReturnEvaluator
from tensor_optix.core.callbacks import LoopCallback
from tensor_optix.core.checkpoint_registry import CheckpointRegistry
from tensor_optix.core.decisions.best_policy import STEP_SHARE
from tensor_optix.core.decisions.episode_ends import (
    LONGEST_LIMIT,
    MOST_STEPS,
    EpisodeEnds,
    steps_to_end,
)
from tensor_optix.core.types import EpisodeData, EvalMetrics, LoopState
from tensor_optix.pipeline.batch_pipeline import BatchPipeline
from tests.core.scripted_loop import EVERY_WINDOW, Setup
from tests.scripted import CountingAgent, Diary

ROWS = 32


class Endless(gymnasium.Env[np.ndarray, Any]):
    """Pays for the action; an episode takes `length` steps, if it has any."""

    def __init__(
        self, length: float = math.inf, continuous: bool = False, pay: float = 1.0
    ) -> None:
        self.observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
        actions = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
        self.action_space = actions if continuous else gymnasium.spaces.Discrete(2)  # type: ignore[assignment]
        self.length, self.pay = length, pay
        self.age = self.steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.age = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.age += 1
        self.steps += 1
        reward = self.pay + float(np.sum(action))
        return np.zeros(2, np.float32), reward, False, self.age >= self.length, {}


LIMIT = 1000
gymnasium.register("EndsAtLimit-v0", Endless, max_episode_steps=LIMIT)


def run(
    tmp_path: Any, env: Any = None, windows: int = 12, rows: int = ROWS, **options: Any
) -> Setup:
    """A loop over an environment, with an agent that learns nothing."""
    source = {"env_id": env} if isinstance(env, str) else {"env": Endless() if env is None else env}
    return Setup(
        tmp_path,
        None,
        pipeline=BatchPipeline(**source, window_size=rows),
        scheduler=EVERY_WINDOW,
        max_episodes=windows,
        **options,
    ).run()


def scores(diary: Diary) -> list[float | None]:
    return [report.score for report in diary.windows]


def test_without_ends_windows_are_scored_by_the_step_from_the_fifth_on_and_it_is_said_once(
    tmp_path, caplog
):
    setup = run(tmp_path)
    assert scores(setup.diary) == [None] * 4 + [1.0] * 8
    assert setup.diary.kinds()[:3] == ["start", "rescored", "baseline"]
    assert setup.diary.kinds().count("rescored") == 1
    assert caplog.text.count("mean reward a step") == 1
    best = setup.controller.best_snapshot.eval_metrics
    assert (best.primary_score, best.is_per_step, best.score_count) == (1.0, True, 0)


def test_a_few_short_windows_are_not_long_enough(tmp_path):
    setup = run(tmp_path, rows=10)
    assert scores(setup.diary) == [None] * 9 + [1.0] * 3


def test_a_run_without_ends_keeps_the_best_policy_tunes_and_comes_to_rest(tmp_path):
    class Better(CountingAgent):
        """Chooses 1, which pays more, after six updates."""

        def act(self, observation: Any) -> int:
            return int(self.updates >= 6)

    resting = {"dormant_threshold": 5, "max_interval_episodes": 1}
    pipeline = BatchPipeline(env=Endless(), window_size=ROWS)
    setup = Setup(tmp_path, None, agent=Better(), pipeline=pipeline, scheduler=resting).run()
    assert setup.controller.best_snapshot.eval_metrics.primary_score == 2.0
    assert setup.agent.act(None) == 1
    assert setup.controller.state is LoopState.DORMANT
    assert setup.diary.named("on_hyperparam_update")
    assert setup.diary.named("on_plateau") or setup.diary.named("on_dormant")


def test_before_a_known_time_limit_could_have_ended_an_episode_nothing_is_given_up(tmp_path):
    setup = run(tmp_path, "EndsAtLimit-v0", rows=128)
    assert scores(setup.diary) == [None] * 7 + [float(LIMIT)] + [None] * 4
    assert "rescored" not in setup.diary.kinds()


def test_a_time_limit_beyond_the_budget_is_told_at_the_start_and_not_waited_for(tmp_path, caplog):
    setup = run(tmp_path, "EndsAtLimit-v0", windows=7, rows=128)
    assert scores(setup.diary) == [None] * 4 + [1.0] * 3
    assert (
        "no episode can reach its time limit of 1,000 steps within the 896 steps of this run: "
        "unless episodes end sooner, the score is the mean reward a step" in caplog.messages
    )


def test_a_budget_too_short_for_that_says_so(tmp_path, caplog):
    run(tmp_path, "EndsAtLimit-v0", windows=3, rows=128)
    assert "within the 384 steps of this run: unless episodes end sooner, nothing is" in caplog.text


@pytest.mark.parametrize(("windows", "env"), [(12, "EndsAtLimit-v0"), (7, Endless(length=20))])
def test_where_ends_can_come_nothing_is_said(tmp_path, caplog, windows, env):
    run(tmp_path, env, windows, rows=128)
    assert "time limit" not in caplog.text
    assert "a step" not in caplog.text


def test_an_end_that_comes_after_all_begins_the_run_anew_and_nothing_is_compared(tmp_path, caplog):
    """-1 a step is more than the return of -300, which is the best all the same."""
    setup = run(tmp_path, Endless(length=300, pay=-1.0), windows=16)
    assert scores(setup.diary)[4:9] == [-1.0] * 5
    assert setup.diary.windows[9].score == -300.0
    assert setup.diary.windows[9].best == -300.0
    assert setup.diary.kinds().count("rescored") == setup.diary.kinds().count("baseline") == 2
    best = setup.controller.best_snapshot.eval_metrics
    assert (best.primary_score, best.is_per_step) == (-300.0, False)
    assert setup.scheduler.best_score == -300.0
    assert [one.eval_metrics.primary_score for one in setup.registry.snapshots] == [-300.0]
    assert caplog.text.count("ended after all") == 1


def test_a_policy_that_a_function_of_the_users_ranks_stays_the_best_when_scores_begin_anew(
    tmp_path,
):
    def latest_but(agent: Any) -> float:
        return -abs(agent.updates - 6.0)

    env = Endless(length=300)
    setup = run(tmp_path, env, windows=16, checkpoint_score_fn=latest_but)
    assert "rescored" in setup.diary.kinds()
    assert setup.agent.updates == 6


def window(done: bool, rows: int = ROWS) -> EpisodeData:
    return EpisodeData(
        observations=np.zeros((rows, 1), np.float32),
        actions=np.zeros(rows, np.int64),
        rewards=[0.0] * rows,
        terminated=[False] * (rows - 1) + [done],
        truncated=[False] * rows,
        infos=[],
        episode_id=0,
    )


@pytest.mark.parametrize(
    ("at", "counts"), [(MOST_STEPS // ROWS, True), (MOST_STEPS // ROWS + 1, False)]
)
def test_an_end_that_takes_too_long_to_wait_for_the_next_leaves_the_score_as_it_is(at, counts):
    ends = EpisodeEnds()
    for _ in range(at - 1):
        ends.note(window(False))
        ends.are_given_up = ends.are_late
    assert ends.are_given_up
    ends.note(window(True))
    assert ends.came_after_all is counts
    ends.note(window(False))
    assert ends.came_after_all is counts


@pytest.mark.parametrize(
    ("limit", "steps"),
    [(None, MOST_STEPS), (100, 100), (50_000, 50_000), (LONGEST_LIMIT + 1, MOST_STEPS)],
)
def test_an_episode_is_given_its_time_limit_or_a_number_that_is_known(limit, steps):
    assert steps_to_end(limit) == steps
    assert EpisodeEnds(have_come=True).windows_to_wait(limit, 64) == math.ceil(steps / 64)


def test_a_second_run_goes_on_with_the_score_of_the_first(tmp_path):
    setup = run(tmp_path, windows=8)
    setup.run()
    assert scores(setup.diary)[8:] == [1.0] * 8
    assert setup.diary.kinds().count("rescored") == 1


def test_a_score_of_the_users_stays_the_score(tmp_path):
    own = MeanReturnEvaluator(lambda window, diagnostics: 5.0)
    setup = run(tmp_path, evaluator=own)
    assert scores(setup.diary) == [5.0] * 12
    assert "rescored" not in setup.diary.kinds()
    nothing = MeanReturnEvaluator(lambda window, diagnostics: math.nan)
    assert scores(run(tmp_path / "nan", evaluator=nothing).diary) == [None] * 12


def test_an_evaluator_with_a_constructor_and_a_score_of_its_own_needs_no_other(tmp_path):
    class Sharpe(MeanReturnEvaluator):
        def __init__(self) -> None:
            self.scale = 2.0

        def score(self, episode_data: EpisodeData, train_diagnostics: Any) -> EvalMetrics:
            return EvalMetrics(self.scale, {}, episode_data.episode_id)

    assert scores(run(tmp_path, evaluator=Sharpe()).diary) == [2.0] * 12


# ---- what is kept


def test_a_budget_that_ends_before_any_score_keeps_the_last_weights_marked_as_never_scored(
    tmp_path,
):
    setup = run(tmp_path, windows=3)
    kept = setup.controller.best_snapshot
    assert kept.eval_metrics.never_scored
    assert math.isnan(kept.eval_metrics.primary_score)
    other = CountingAgent()
    registry = CheckpointRegistry(tmp_path)
    assert registry.load_best(other).snapshot_id == kept.snapshot_id
    assert other.updates == setup.agent.updates == 3
    assert registry.best is None
    assert setup.diary.events[-1].numbers["best"] is None


def test_of_two_runs_without_a_score_the_later_weights_are_kept(tmp_path):
    setup = run(tmp_path, windows=3, max_snapshots=1)
    setup.run()
    other = CountingAgent()
    CheckpointRegistry(tmp_path).load_best(other)
    assert other.updates == setup.agent.updates == 6
    assert len(setup.registry.snapshots) == 1


def test_what_is_scored_later_is_the_best_and_not_the_weights_that_never_were(tmp_path):
    env = Endless()
    setup = run(tmp_path, env, windows=3)
    env.length = 10
    setup.run()
    best = setup.controller.best_snapshot.eval_metrics
    assert (best.primary_score, best.never_scored) == (10.0, False)
    assert CheckpointRegistry(tmp_path).best.eval_metrics.primary_score == 10.0


def test_after_a_failure_nothing_that_was_never_scored_is_kept(tmp_path):
    class Unteachable(CountingAgent):
        def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
            raise RuntimeError("cannot learn")

    with pytest.raises(RuntimeError, match="cannot learn"):
        run(tmp_path, agent=Unteachable())
    assert CheckpointRegistry(tmp_path).snapshots == []


# ---- finals, validation, contests


class Rising(CountingAgent):
    """Gets one better with each update."""

    def act(self, observation: Any) -> np.ndarray:
        return np.array([self.updates / 100.0], np.float32)


def continuing(tmp_path: Any, windows: int, validated: bool, own: bool) -> tuple[Endless, Endless]:
    trained, held_out = Endless(continuous=True), Endless(continuous=True)
    mean = MeanReturnEvaluator(lambda window, diagnostics: float(np.mean(window.rewards)))
    RLOptimizer(
        agent=Rising(),
        pipeline=BatchPipeline(env=trained, window_size=ROWS),
        val_pipeline=BatchPipeline(env=held_out, window_size=ROWS) if validated else None,
        evaluator=mean if own else None,
        max_episodes=windows,
        checkpoint_dir=tmp_path,
    ).run()
    return trained, held_out


@pytest.mark.parametrize("own", [True, False])
def test_the_finals_cost_their_share_and_a_validation_about_a_window_where_nothing_ends(
    tmp_path, caplog, own
):
    trained, _ = continuing(tmp_path / "finals", 40, validated=False, own=own)
    assert 40 * ROWS < trained.steps <= (1.0 + STEP_SHARE) * 40 * ROWS
    _, held_out = continuing(tmp_path / "held out", 20, validated=True, own=own)
    # One each, and one to confirm a new best; a score that needs ends waits for them at first.
    assert held_out.steps <= (2 * 20 + (0 if own else 5)) * ROWS
    assert caplog.text.count("did not end within") <= (0 if own else 1)


def test_agents_are_not_compared_in_episodes_that_do_not_end(tmp_path):
    played: list[str] = []

    class Contest(LoopCallback):
        def on_attach(self, control: Any) -> None:
            self.control = control

        def on_episode_end(self, episode_id: int, eval_metrics: Any) -> None:
            if episode_id == 6:
                with pytest.raises(RuntimeError, match="no episode has ended in 7 windows"):
                    self.control.play([CountingAgent()], 1)
                played.append("refused")

    env = Endless()
    run(tmp_path, env, callbacks=[Contest()])
    assert played == ["refused"]
    assert env.steps == 12 * ROWS
