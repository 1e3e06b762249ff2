"""Forks: learners go on from one moment; the better one goes on, and whatever happens nothing is lost."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tensor_optix import RLOptimizer, VectorBatchPipeline, make_agent
from tensor_optix.core.base_optimizer import FixedHyperparams, ForkPlan, OrdinaryRange
from tensor_optix.core.callbacks import Forked, LoopCallback
from tensor_optix.core.checkpoint_registry import CheckpointRegistry
from tensor_optix.core.checkpoints.run_keeper import RunKeeper
from tensor_optix.core.decisions.episode_ends import EpisodesWithoutEnd
from tensor_optix.core.decisions.forks import (
    Contest,
    Race,
    episodes_to_compare,
    most_plays,
    most_windows,
)
from tensor_optix.core.decisions.validation import PLAYED_ENVS, PLAYED_ROWS, Collector
from tensor_optix.core.types import EpisodeData, HyperparamSet, LoopState
from tests.core.scripted_loop import EVERY_WINDOW, Setup
from tests.faults.lasting_run import make_run as lasting_run
from tests.scripted import CountingAgent, Diary, KillAt, Killed, ScriptedPipeline

if TYPE_CHECKING:
    from pathlib import Path


class RateAgent(CountingAgent):
    """Its weight grows by the learning rate with each window, and is its score."""

    def learn(self, episode_data: Any) -> dict[str, Any]:
        self.learned.append(episode_data)
        rate = self.params["learning_rate"]
        self.updates += rate
        return {"loss": math.nan if rate > 50 else 0.0}

    def act(self, observation: Any) -> Any:
        return self.updates

    def set_hyperparams(self, hyperparams: HyperparamSet) -> None:
        if hyperparams.params["learning_rate"] < 0:
            raise ValueError("learning_rate must be above 0")
        super().set_hyperparams(hyperparams)


class ScoredByAct(ScriptedPipeline):
    """Each window's return is a function of what the agent's `act` returns, greedy or not."""

    def window(self, window: int) -> EpisodeData:
        episode = super().window(window)
        return replace(episode, rewards=[self.score_of(self.agent.act(None), window)])


class Proposer(FixedHyperparams):
    """Proposes learning rates, the present one first, after the evaluations that it is told."""

    def __init__(self, rates, *, at=(4,), windows=2, at_the_end=False, **flags) -> None:
        self.rates = rates
        self.at = at
        self.windows = windows
        self.at_the_end = at_the_end
        self.flags = flags
        self.asked: list[Any] = []

    def propose_forks(self, standing):
        self.asked.append(standing)
        is_last = standing.state is LoopState.DORMANT
        if is_last is not self.at_the_end or not (is_last or len(standing.history) in self.at):
            return None
        present = standing.hyperparams.params["learning_rate"]
        candidates = [HyperparamSet({"learning_rate": rate}) for rate in (present, *self.rates)]
        return ForkPlan(candidates, self.windows, "because", **self.flags)


def weight(updates: float, window: int) -> float:
    return float(updates)


def run(tmp_path, tuner, score_of=weight, **options):
    options = {"scheduler": EVERY_WINDOW, "max_episodes": 30} | options
    options.setdefault("pipeline", ScoredByAct(score_of))
    options.setdefault("agent", RateAgent())
    return Setup(tmp_path, score_of, optimizer=tuner, **options).run()


def forked(setup) -> list[Forked]:
    return forked_in(setup.diary)


def test_the_better_learner_goes_on_and_the_others_leave_no_trace(tmp_path):
    setup = run(tmp_path, Proposer([0.5, 5.0, 0.01]), max_episodes=4 + 8 + 8 + 1)
    (event,) = forked(setup)
    assert event.tried == [
        {},
        {"learning_rate": 0.5},
        {"learning_rate": 5.0},
        {"learning_rate": 0.01},
    ]
    assert event.windows == [6, 2, 6, 2]
    assert event.winner == 2
    assert event.has_gained
    assert event.scores == pytest.approx([0.3 + 0.6, 0.3 + 1.0, 0.3 + 30.0, 0.3 + 0.02])
    assert event.gain == pytest.approx(30.0 - 0.6)
    assert event.hyperparams == {"learning_rate": 5.0}
    assert setup.agent.params == {"learning_rate": 5.0}
    # The last window was collected by the winner, which began as the best policy so far.
    assert setup.diary.windows[-1].score == pytest.approx(30.3)


def test_no_better_learner_and_the_present_one_goes_on_from_where_it_has_come(tmp_path):
    setup = run(tmp_path, Proposer([0.05]), max_episodes=9)
    (event,) = forked(setup)
    assert (event.winner, event.has_gained) == (0, False)
    assert setup.agent.params == {"learning_rate": 0.1}
    assert setup.diary.windows[-1].score == pytest.approx(0.3 + 0.1 * 2)


def flat(updates: float, window: int) -> float:
    return 0.0


def test_present_ones_that_are_in_doubt_stay_only_if_all_others_break_down(tmp_path):
    def result(rates, doubts_present, name):
        tuner = Proposer(rates, doubts_present=doubts_present)
        return forked(run(tmp_path / name, tuner, max_episodes=20))[0]

    assert result([0.05], False, "worse").winner == 0
    in_doubt = result([0.05], True, "worse and in doubt")
    assert (in_doubt.winner, in_doubt.has_gained) == (1, True)
    assert result([100.0, 200.0], True, "broken down").winner == 0


def test_the_order_decides_between_those_that_the_comparison_cannot_tell_apart(tmp_path):
    def told_apart_above_4(updates: float, window: int) -> float:
        return max(4.0, updates)

    rates = [0.5, 0.6, 0.7]
    ordered = run(tmp_path, Proposer(rates, is_ordered=True), told_apart_above_4, max_episodes=24)
    assert forked(ordered)[0].windows == [6, 6, 2, 2]
    rates = [0.5, 5.0, 0.7]
    ordered = run(
        tmp_path / "two", Proposer(rates, is_ordered=True), told_apart_above_4, max_episodes=24
    )
    assert forked(ordered)[0].windows == [6, 2, 6, 2]


def test_who_learns_as_learners_usually_do_is_preferred_where_the_comparison_cannot_tell(tmp_path):
    class Told(RateAgent):
        def learn(self, episode_data):
            return super().learn(episode_data) | {"step": self.params["learning_rate"]}

    tuner = Proposer([0.5, 5.0, 50.0], is_ordered=True, ordinary=OrdinaryRange("step", 2.0, 10.0))
    (event,) = forked(run(tmp_path, tuner, flat, agent=Told(), max_episodes=24))
    assert event.windows == [6, 2, 6, 2]


def test_the_distance_to_an_ordinary_range_is_that_of_the_median():
    usual = OrdinaryRange("step", 1.0, 10.0)
    assert usual.distance([0.1, 2.0, 1e6]) == 0.0
    assert usual.distance([0.1]) == pytest.approx(math.log(10.0))
    assert usual.distance([100.0]) == pytest.approx(math.log(10.0))
    assert usual.distance([0.0, math.nan]) == math.inf


def test_all_steps_are_counted_and_no_window_of_a_fork_is_an_evaluation(tmp_path):
    tuner = Proposer([0.5])
    setup = run(tmp_path, tuner, max_episodes=10)
    (event,) = forked(setup)
    reports = setup.diary.windows
    in_forks = [report for report in reports[4:8]]
    assert [report.score for report in in_forks] == [None] * 4
    assert [report.episode_id for report in reports] == list(range(10))
    played = event.steps - 4
    assert played >= 2 * 8
    assert reports[-1].total_steps == 10 + played
    assert len(tuner.asked[-1].history) == 6


def test_a_learner_that_breaks_down_or_that_the_agent_refuses_is_out(tmp_path):
    setup = run(tmp_path, Proposer([100.0, -1.0, 0.01]), max_episodes=25)
    (event,) = forked(setup)
    assert event.scores[1:3] == [None, None]
    assert event.windows == [2, 1, 0, 2]
    assert event.winner == 0
    assert setup.agent.params == {"learning_rate": 0.1}


def test_each_fork_begins_with_all_that_a_learner_remembers(tmp_path):
    class Counting(RateAgent):
        def __init__(self):
            super().__init__()
            self.count = 0
            self.began: list[int] = []

        def learn(self, episode_data):
            self.began.append(self.count)
            self.count += 1
            return super().learn(episode_data)

        def run_state(self):
            return {"count": self.count}

        def load_run_state(self, state):
            self.count = state["count"]

    agent = Counting()
    run(tmp_path, Proposer([5.0, 0.5]), agent=agent, max_episodes=19)
    # Four windows, two of each fork, four more of the present and the better one, whose count goes on.
    assert agent.began == [0, 1, 2, 3, *(4, 5) * 3, *(6, 7, 8, 9) * 2, 10]


@pytest.mark.parametrize(("least_gain", "has_gained"), [(0.1, True), (1.0, False)])
def test_a_small_gain_over_the_best_policy_is_none(tmp_path, least_gain, has_gained):
    agent = RateAgent()

    def play_best(episodes):
        return np.full(episodes, 0.5)

    contest = Contest(
        learn=lambda: agent.learn(None),
        renew=lambda: None,
        play=lambda episodes: np.full(episodes, agent.updates),
        play_best=play_best,
        least_gain=least_gain,
        episodes=4,
    )
    plan = ForkPlan([HyperparamSet({"learning_rate": rate}) for rate in (0.1, 1.0)], 1, "")
    result = Race(agent, plan, contest, tmp_path).run()
    assert result.gain == pytest.approx(0.5)
    assert result.has_gained is has_gained
    assert agent.params["learning_rate"] == (1.0 if has_gained else 0.1)


@pytest.mark.parametrize(("later", "has_gained"), [(1.0, True), (-1.0, False)])
def test_what_looks_like_a_gain_over_the_best_policy_is_decided_by_further_episodes(
    tmp_path, later, has_gained
):
    agent, played = RateAgent(), []

    def play(episodes):
        played.append(episodes)
        return np.array([1.0, 1.5, 1.0, 1.5] + [later] * (episodes - 4))

    contest = Contest(
        learn=lambda: agent.learn(None),
        renew=lambda: None,
        play=play,
        play_best=np.zeros,
        least_gain=0.1,
        episodes=4,
    )
    plan = ForkPlan([HyperparamSet({"learning_rate": rate}) for rate in (0.1, 1.0)], 1, "")
    result = Race(agent, plan, contest, tmp_path).run()
    assert played == [4, 4, 12]
    assert result.gain == pytest.approx((5.0 + 8 * later) / 12)
    assert result.has_gained is has_gained


def test_present_ones_that_break_down_are_left(tmp_path):
    class Breaking(RateAgent):
        def learn(self, episode_data):
            super().learn(episode_data)
            has_broken = self.params["learning_rate"] == 0.1 and len(self.learned) > 4
            return {"loss": math.nan if has_broken else 0.0}

    setup = run(tmp_path, Proposer([0.05]), agent=Breaking(), max_episodes=12)
    (event,) = forked(setup)
    assert event.scores[0] is None
    assert event.winner == 1


def test_a_run_that_would_stop_goes_on_only_if_a_fork_beats_its_best_policy(tmp_path):
    def saturated(updates, window):
        return min(float(updates), 3.0)

    tuner = Proposer([0.5], at_the_end=True)
    quick = EVERY_WINDOW | {"dormant_threshold": 3}
    setup = run(tmp_path, tuner, saturated, scheduler=quick, max_episodes=None)
    first, *others = forked(setup)
    assert not first.has_gained
    assert not others
    assert setup.diary.named("on_dormant")

    def stuck(updates, window):
        return 3.0 if 3.0 < updates < 8.0 else min(float(updates), 9.0)

    tuner = Proposer([5.0], at_the_end=True)
    again = run(tmp_path / "again", tuner, stuck, scheduler=quick, max_episodes=None)
    events = forked(again)
    assert events[0].has_gained
    assert not events[-1].has_gained
    assert again.registry.best.eval_metrics.primary_score == 9.0
    # What beat the best takes its place at once, whatever comes of it, and counts as much.
    at = again.diary.events.index(events[0])
    before, best = [one for one in again.diary.events[: at + 2] if one.kind == "best"][-2:]
    assert best is again.diary.events[at + 1]
    assert best.score == before.score
    assert best.rank > before.rank


def test_a_stop_within_forks_ends_the_run_with_the_window_under_way(tmp_path):
    class Stopper(LoopCallback):
        def on_attach(self, control):
            self.control = control

        def on_window(self, report):
            if report.episode_id == 6:
                self.control.stop("enough")

    setup = run(tmp_path, Proposer([0.5, 5.0]), callbacks=[Stopper()])
    assert len(setup.diary.windows) == 7
    assert not forked(setup)
    assert setup.agent.params == {"learning_rate": 0.1}


def test_an_environment_that_fails_in_a_fork_leaves_the_learner_that_they_began_with(tmp_path):
    class Failing(ScoredByAct):
        def window(self, window):
            if self.collected == 7:
                raise OSError("the cable is out")
            return super().window(window)

    class Last(LoopCallback):
        def on_event(self, event):
            if event.kind == "error":
                self.state = (setup.agent.updates, dict(setup.agent.params))

    last = Last()
    setup = Setup(
        tmp_path,
        weight,
        RateAgent(),
        optimizer=Proposer([5.0]),
        pipeline=Failing(weight),
        scheduler=EVERY_WINDOW,
        max_episodes=30,
        callbacks=[last],
    )
    with pytest.raises(OSError, match="cable"):
        setup.run()
    assert last.state == (pytest.approx(0.3), {"learning_rate": 0.1})


def test_a_disk_that_takes_no_learner_is_told_of_and_training_goes_on(tmp_path):
    class Full(RateAgent):
        def save_state(self, path):
            if self.updates > 1.0:
                raise OSError("no space left")
            super().save_state(path)

    setup = run(tmp_path, Proposer([5.0]), agent=Full(), max_episodes=15)
    assert not forked(setup)
    (told,) = [event for event in setup.diary.events if event.kind == "unsaved"]
    assert told.reason == "other settings were not tried: no space left"
    assert setup.agent.params == {"learning_rate": 0.1}
    assert len(setup.diary.windows) == 15


def test_a_fork_whose_episodes_do_not_end_is_out(tmp_path, monkeypatch):
    def play(self, agents, episodes, trainee, longest):
        if agents[0].updates > 1.0:
            raise EpisodesWithoutEnd("it stands still")
        return [[agents[0].updates] * episodes]

    monkeypatch.setattr(Collector, "play", play)
    setup = run(tmp_path, Proposer([5.0]), max_episodes=12)
    (event,) = forked(setup)
    assert (event.scores[1], event.winner) == (None, 0)


def test_without_room_in_the_budget_nothing_is_tried(tmp_path):
    assert not forked(run(tmp_path, Proposer([0.5]), max_episodes=7))
    assert not forked(run(tmp_path / "steps", Proposer([0.5]), max_episodes=None, max_steps=7))


@pytest.mark.parametrize(("at_the_end", "plays"), [(False, 2), (True, 2 + 7)])
def test_there_is_room_where_every_episode_may_last_ten_times_as_long_as_the_latest(
    tmp_path, at_the_end, plays
):
    tuner = partial(Proposer, [0.1], at_the_end=at_the_end)
    found = run(tmp_path / "free", tuner(), lambda *_: 1.0, max_episodes=None, max_steps=10_000)
    (begun,) = [event for event in found.diary.events if event.kind == "forking"][:1]
    asked = begun.total_steps + 4 + plays * 8 * 10
    for room, is_tried in ((asked, True), (asked - 1, False)):
        setup = run(
            tmp_path / str(room), tuner(), lambda *_: 1.0, max_episodes=None, max_steps=room
        )
        assert bool(forked(setup)) is is_tried


class AfterThree(FixedHyperparams):
    """Tries four other rates after three evaluations."""

    def propose_forks(self, standing):
        if len(standing.history) != 3:
            return None
        rate = standing.hyperparams.params["learning_rate"]
        tried = [HyperparamSet({"learning_rate": rate * factor}) for factor in (1, 2, 3, 4, 5)]
        return ForkPlan(tried, 1, "because")


@pytest.mark.parametrize(("missing", "is_tried"), [(0, True), (1, False)])
def test_forks_keep_within_the_budget(tmp_path, missing, is_tried):
    num_envs, window_size, diary = 12, 200, Diary()
    pipeline = VectorBatchPipeline(
        env_id="Pendulum-v1", num_envs=num_envs, window_size=window_size, seed=0
    )
    # Four windows, one of them without an end, nine of the learners, and seven plays of one episode each.
    asked = num_envs * (4 * window_size - 3 + 9 * window_size)
    asked += PLAYED_ENVS * 7 * (200 + PLAYED_ROWS)
    RLOptimizer(
        make_agent("Pendulum-v1", framework="native", seed=0),
        pipeline,
        optimizer=AfterThree(),
        checkpoint_dir=str(tmp_path),
        max_steps=asked - missing,
        callbacks=[diary],
        seed=0,
    ).run()
    assert bool(forked_in(diary)) is is_tried
    # A play ends with its 224th row. Rows in which an episode begins are no steps: one of each play, and two
    # of the nine windows.
    steps = num_envs * (9 * window_size - 2) + PLAYED_ENVS * 7 * 223
    assert [event.steps for event in forked_in(diary)] == [steps] * is_tried


def test_live_data_cannot_be_played_again_and_nothing_is_tried(tmp_path):
    class Live(ScoredByAct):
        @property
        def is_live(self):
            return True

    setup = run(tmp_path, Proposer([0.5]), pipeline=Live(weight), max_episodes=12)
    assert not forked(setup)


def test_windows_of_successive_halving():
    def plan(others):
        return ForkPlan([HyperparamSet({})] * (1 + others), 2, "")

    assert most_windows(plan(1)) == 2 * 2
    assert most_windows(plan(3)) == 4 * 2 + 2 * 4
    assert most_windows(plan(6)) == 7 * 2 + 3 * 4 + 2 * 8


def test_comparisons_take_a_small_share_of_the_steps():
    plan = ForkPlan([HyperparamSet({})] * 4, 2, "")
    assert episodes_to_compare(1_000, 100.0, plan, 1) == 8
    assert episodes_to_compare(10**7, 100.0, plan, 1) == 20
    assert episodes_to_compare(100_000, 100.0, plan, 1) == 12
    assert episodes_to_compare(100_000, math.nan, plan, 1) == 8


@pytest.mark.parametrize(
    ("num_envs", "episodes"), [(5, 10), (7, 14), (8, 8), (12, 12), (16, 16), (20, 20), (64, 13)]
)
def test_environments_that_step_anyhow_play_episodes_that_count(num_envs, episodes):
    plan = ForkPlan([HyperparamSet({})] * 4, 2, "")
    assert episodes_to_compare(109_000, 100.0, plan, num_envs) == episodes


@pytest.mark.parametrize("has_best", [True, False])
@pytest.mark.parametrize("others", [1, 3, 4, 6])
def test_no_race_plays_or_learns_more_than_was_foretold(tmp_path, others, has_best):
    agent, windows, played = RateAgent(), [], []

    def learn():
        windows.append(1)
        return agent.learn(None)

    def play(episodes):
        played.append(episodes)
        return np.full(episodes, agent.updates)

    def play_best(episodes):
        return 0.0 * play(episodes)

    contest = Contest(learn, lambda: None, play, play_best if has_best else None, 0.0, 4)
    candidates = [HyperparamSet({"learning_rate": 0.1 * (1 + k)}) for k in range(1 + others)]
    plan = ForkPlan(candidates, 2, "")
    assert Race(agent, plan, contest, tmp_path).run().has_gained
    assert len(windows) == most_windows(plan)
    assert sum(played) == 4 * most_plays(plan, has_best)


class ThirdWindow(FixedHyperparams):
    """Tries another rate after three evaluations."""

    def propose_forks(self, standing):
        if len(standing.history) != 3:
            return None
        rate = standing.hyperparams.params["learning_rate"]
        tried = [HyperparamSet({"learning_rate": one}) for one in (rate, 3.0 * rate)]
        return ForkPlan(tried, 1, "because")


def make_run(directory, algorithm, *callbacks, **settings) -> tuple[Any, Diary]:
    diary = Diary()
    common = {"optimizer": ThirdWindow(), "max_episodes": 12, "checkpoint_seconds": 0.0}
    told = {"callbacks": [diary, *callbacks]}
    return lasting_run(str(directory), algorithm, "native", **common | settings | told), diary


@pytest.fixture
def every_window(monkeypatch):
    """Let a checkpoint be taken between any two windows."""

    def is_due(self):
        self.wait()
        return True

    monkeypatch.setattr(RunKeeper, "is_due", property(is_due))


def told(diary: Diary) -> list[Any]:
    return [(one.episode_id, one.total_steps, one.score, one.diagnostics) for one in diary.windows]


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
@pytest.mark.parametrize("window", [3, 4, 8])
@pytest.mark.usefixtures("every_window")
def test_a_run_killed_in_a_fork_tries_the_forks_again(tmp_path, algorithm, window):
    straight, whole = make_run(tmp_path / "straight", algorithm)
    straight.run()
    (event,) = forked_in(whole)
    killed, _ = make_run(tmp_path / "killed", algorithm, KillAt(window))
    with pytest.raises(Killed):
        killed.run()
    again, diary = make_run(tmp_path / "killed", algorithm)
    again.run()
    assert told(diary) == told(whole)[-len(diary.windows) :]
    assert [one.numbers for one in forked_in(diary)] == ([event.numbers] if window < 8 else [])


class FasterAtTheEnd(FixedHyperparams):
    """Tries a larger rate where the run would stop."""

    def propose_forks(self, standing):
        if standing.state is not LoopState.DORMANT:
            return None
        rate = standing.hyperparams.params["learning_rate"]
        return ForkPlan(
            [HyperparamSet({"learning_rate": one}) for one in (rate, 2.0 * rate)], 1, ""
        )


@pytest.mark.parametrize("window", [6, 8, 12])
@pytest.mark.usefixtures("every_window")
def test_a_run_killed_about_a_fork_that_becomes_the_best_policy_finds_it_again(
    tmp_path, monkeypatch, window
):
    def play(self, agents, episodes, trainee, longest=None):
        # The larger its rate, the better an agent is.
        return [[agents[0].get_hyperparams().params["learning_rate"]] * episodes]

    monkeypatch.setattr(Collector, "play", play)
    settings = {"dormant_threshold": 2, "min_episodes_before_dormant": 4, "max_episodes": 16}

    def made(name, *callbacks):
        own = {"optimizer": FasterAtTheEnd(), **settings}
        return make_run(tmp_path / name, "ppo", *callbacks, **own)

    straight, whole = made("straight")
    straight.run()
    assert any(event.has_gained for event in forked_in(whole))
    killed, _ = made("killed", KillAt(window))
    with pytest.raises(Killed):
        killed.run()
    again, diary = made("killed")
    again.run()
    assert told(diary) == told(whole)[-len(diary.windows) :]
    crowned = [
        [event.numbers for event in one.events if event.kind == "best"] for one in (diary, whole)
    ]
    assert crowned[0] == crowned[1][-len(crowned[0]) :]
    assert stored(tmp_path / "killed") == stored(tmp_path / "straight") != []


def stored(run_dir: Path) -> list[Any]:
    policies = CheckpointRegistry(run_dir / "checkpoints").snapshots
    return [(one.eval_metrics.primary_score, one.hyperparams.params) for one in policies]


def forked_in(diary: Diary) -> list[Forked]:
    return [event for event in diary.events if isinstance(event, Forked)]
