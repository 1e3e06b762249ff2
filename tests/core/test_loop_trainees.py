"""Callbacks that take part: other agents are trained, policies play each other, the best comes back."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from tensor_optix.core.callbacks import LoopCallback, Trainee
from tensor_optix.pipeline.batch_pipeline import BatchPipeline
from tensor_optix.pipeline.vector_pipeline import VectorBatchPipeline
from tests.core.scripted_loop import EVERY_WINDOW, Setup
from tests.pipeline.counting_env import Counter
from tests.scripted import CountingAgent, ScriptedPipeline


class Director(LoopCallback):
    """Calls `act(control)` once, at the end of a window."""

    def __init__(self, window: int, act) -> None:
        self.window = window
        self.act = act
        self.control = None

    def on_attach(self, control) -> None:
        self.control = control

    def on_episode_end(self, episode_id, eval_metrics) -> None:
        if episode_id == self.window:
            self.act(self.control)


def own_score(updates: int, window: int) -> float:
    return float(updates)


def test_another_agent_is_trained_and_the_best_of_both_ends_in_the_agent_given(tmp_path):
    other = CountingAgent()
    other.updates = 100
    director = Director(3, lambda control: control.train(other))
    setup = Setup(
        tmp_path, own_score, callbacks=[director], scheduler=EVERY_WINDOW, max_episodes=8
    ).run()
    assert len(setup.agent.learned) == 4
    assert len(other.learned) == 4
    assert "trainee" in setup.diary.kinds()
    assert setup.agent.updates == 103


def test_a_new_trainee_begins_with_fresh_episodes_and_a_scheduler_begun_anew(tmp_path):
    director = Director(6, lambda control: control.train(CountingAgent()))
    setup = Setup(
        tmp_path, lambda u, w: 1.0, callbacks=[director], scheduler=EVERY_WINDOW, max_episodes=8
    ).run()
    assert setup.pipeline.setups == 2
    assert setup.pipeline.teardowns == 2
    assert setup.scheduler.consecutive_non_improvements == 1


def test_a_callback_added_later_is_attached_too(tmp_path):
    setup = Setup(tmp_path, own_score, max_episodes=2)
    director = Director(0, lambda control: control.stop("enough"))
    setup.controller.add_callback(director)
    setup.run()
    assert setup.diary.events[-1].numbers["reason"] == "enough"
    assert len(setup.agent.learned) == 1


def play_both(setup_options, tmp_path, val=None):
    played = {}
    weak, strong = CountingAgent(), CountingAgent()
    weak.updates, strong.updates = 10, 20

    def act(control):
        played["returns"] = control.play([weak, strong], 3)

    pipeline = ScriptedPipeline(lambda updates, window: float(updates))
    plain = pipeline.set_agent
    pipeline.set_agent = lambda agent: plain(getattr(agent, "_agent", agent))
    options = {"pipeline": pipeline} if val is None else {}
    if val is not None:
        plain_val = val.set_agent
        val.set_agent = lambda agent: plain_val(getattr(agent, "_agent", agent))
        options["val_pipeline"] = val
    setup = Setup(
        tmp_path,
        own_score,
        callbacks=[Director(2, act)],
        scheduler=EVERY_WINDOW,
        max_episodes=5,
        **options,
    ).run()
    return played["returns"], setup


def test_agents_play_the_same_number_of_episodes_each_and_training_goes_on(tmp_path):
    returns, setup = play_both({}, tmp_path)
    assert returns.tolist() == [[10.0] * 3, [20.0] * 3]
    assert len(setup.agent.learned) == 5
    assert setup.agent.updates == 4


def test_they_play_on_held_out_data_where_there_are_some(tmp_path):
    val = ScriptedPipeline(lambda updates, window: 2.0 * updates)
    returns, setup = play_both({}, tmp_path, val)
    assert returns.tolist() == [[20.0] * 3, [40.0] * 3]
    assert setup.pipeline.setups == 1


def test_live_data_cannot_be_played_again(tmp_path, caplog):
    class Live(ScriptedPipeline):
        is_live = True

    director = Director(1, lambda control: control.play([CountingAgent()], 2))
    Setup(tmp_path, own_score, pipeline=Live(own_score), callbacks=[director], max_episodes=3).run()
    assert "live data cannot be played again" in caplog.text


@pytest.mark.parametrize(("target", "windows"), [(3.0, 4), (1e9, 8)])
def test_a_target_score_ends_the_run_once_the_best_policy_reaches_it(tmp_path, target, windows):
    setup = Setup(
        tmp_path, own_score, target_score=target, scheduler=EVERY_WINDOW, max_episodes=8
    ).run()
    assert setup.pipeline.collected == windows
    reason = setup.diary.events[-1].numbers["reason"]
    assert ("target score of 3" in reason) == (target == 3.0)


def test_a_contest_that_fails_leaves_the_trainee_collecting(tmp_path):
    class Stuck(CountingAgent):
        def act_greedy(self, observations):
            raise RuntimeError("no greedy action")

    class Playing(ScriptedPipeline):
        def window(self, window):
            if type(self.agent).__name__ == "GreedyAgent":
                self.agent.act_batch([None])
            return super().window(window)

    pipeline = Playing(own_score)
    director = Director(2, lambda control: control.play([Stuck()], 2))
    setup = Setup(
        tmp_path,
        None,
        pipeline=pipeline,
        callbacks=[director],
        scheduler=EVERY_WINDOW,
        max_episodes=6,
    ).run()
    assert setup.agent.updates == 5
    assert setup.controller.best_snapshot.eval_metrics.primary_score == 5.0


def test_callbacks_hear_the_windows_of_the_run_also_after_a_hand_over(tmp_path):
    director = Director(6, lambda control: control.train(CountingAgent()))
    setup = Setup(
        tmp_path,
        lambda updates, window: 1.0,
        callbacks=[director],
        scheduler=EVERY_WINDOW | {"plateau_threshold": 1},
        max_episodes=10,
    ).run()
    assert [window for window, _ in setup.diary.named("on_plateau")] == list(range(1, 10))


def test_a_decision_can_be_recorded_as_soon_as_a_callback_is_attached(tmp_path):
    class Early(LoopCallback):
        def on_attach(self, control) -> None:
            control.record(Trainee())

    setup = Setup(tmp_path, own_score, callbacks=[Early()], max_episodes=2)
    assert setup.diary.events[0].kind == "trainee"


class Noisy(Counter):
    """Observes how often it was reset, and what it drew then."""

    def reset(self, *, seed=None, options=None):
        _, info = super().reset(seed=seed)
        self.who = int(self.np_random.integers(10**6))
        return self.observation(), info


def rows_of(tmp_path, pipeline, act, window=3):
    """What an agent saw in 8 windows; `act(control)` is called after one of them."""
    agent = CountingAgent()
    Setup(
        tmp_path,
        None,
        agent=agent,
        pipeline=pipeline,
        callbacks=[Director(window, act)],
        scheduler=EVERY_WINDOW,
        max_episodes=8,
    ).run()
    return np.concatenate([one.observations for one in agent.learned])


def play_some(control):
    control.play([CountingAgent(), CountingAgent()], 3)


def nothing(control):
    pass


class Windows(VectorBatchPipeline):
    """Windows that last."""

    def episodes(self):
        return map(copy.deepcopy, super().episodes())


def test_the_trainings_episodes_go_on_while_policies_play(tmp_path):
    def make():
        return Windows([lambda: Noisy(length=7)] * 2, window_size=5, seed=1)

    undisturbed = rows_of(tmp_path / "a", make(), nothing)
    np.testing.assert_array_equal(rows_of(tmp_path / "b", make(), play_some), undisturbed)


@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize("act", [play_some, lambda control: control.train(CountingAgent())])
def test_training_begins_no_episode_twice(tmp_path, seed, act):
    """Where the environment is the user's, and must be played in; and with another trainee."""
    rows, env = [], Noisy(length=4)

    class Watching(CountingAgent):
        def learn(self, episode_data):
            rows.append(episode_data.observations.copy())
            return super().learn(episode_data)

    def begin(control):
        control.train(Watching())

    Setup(
        tmp_path,
        None,
        agent=Watching(),
        pipeline=BatchPipeline(env=env, window_size=4, seed=seed),
        callbacks=[Director(2, play_some if act is play_some else begin), Director(5, play_some)],
        scheduler=EVERY_WINDOW,
        max_episodes=8,
    ).run()
    begun = [row[0] for row in np.concatenate(rows) if row[1] == 0.0]
    assert len(begun) == len(set(begun)) == 8


def test_a_function_that_gives_one_environment_again_and_again_makes_no_twin(tmp_path):
    """To play in it apart would be to play in the training's own."""
    env = Noisy(length=4)
    rows = rows_of(tmp_path, Windows([lambda: env], window_size=4, seed=1), play_some)
    begun = [row[0] for row in rows if row[1] == 0.0]
    assert len(begun) == len(set(begun)) == 8


@pytest.mark.parametrize("seed", [None, 1])
def test_policies_play_the_same_episodes_also_without_a_seed(tmp_path, seed):
    class Luck(Noisy):
        def step(self, action):
            observation, _, *rest = super().step(action)
            return observation, float(self.who), *rest

    for number, pipeline in enumerate(
        [
            BatchPipeline(env=Luck(), window_size=5, seed=seed),
            VectorBatchPipeline([Luck] * 2, window_size=5, seed=seed),
        ]
    ):
        played = []
        rows_of(
            tmp_path / str(number),
            pipeline,
            lambda control, played=played: played.append(
                control.play([CountingAgent(), CountingAgent()], 4)
            ),
        )
        assert len(set(played[0][0])) == 4
        np.testing.assert_array_equal(played[0][0], played[0][1])
