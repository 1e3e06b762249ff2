"""What a live pipeline does with actions and with rewards that come later, and who sees it."""

from __future__ import annotations

import queue
from itertools import islice
from typing import Any

import gymnasium
import numpy as np
import pytest

from tensor_optix.pipeline import live_stream
from tensor_optix.pipeline.live_pipeline import LivePipeline
from tests.pipeline.live_source import (
    Feed,
    Steps,
    advantages_of,
    live_threads,
    row,
    wait_until,
    windows_of,
)
from tests.pipeline.test_observe import Observer
from tests.scripted import CountingAgent

EVERY_4 = LivePipeline.every_n_steps(4)


@pytest.mark.parametrize("delay", [0, 1])
def test_actions_are_sent_at_once_each_before_the_next_is_chosen(delay):
    log: list[Any] = []

    class Machine(Feed):
        def send_action(self, action: Any) -> None:
            log.append(("sent", action))

    class Acting(CountingAgent):
        def act(self, observation: Any) -> int:
            log.append(("acted on", observation[0]))
            return int(observation[0]) + 10

    windows_of(Machine([row(0), row(1), row(2)]), Acting(), reward_delay=delay)
    expected = [[("acted on", n), ("sent", n + 10)] for n in range(3)]
    assert log == [entry for pair in expected for entry in pair]
    assert all(type(value) is int for kind, value in log if kind == "sent")


def test_actions_may_be_taken_by_on_action_too():
    class Listener(Feed):
        heard: list[Any] = []  # noqa: RUF012

        def on_action(self, action: Any) -> None:
            self.heard.append(action)

    source = Listener([row(0), row(1)])
    windows_of(source)
    assert source.heard == [0, 0]


class Unit(CountingAgent):
    has_unit_actions = True

    def act(self, observation: Any) -> Any:
        return np.array([0.5, -1.0])


def test_actions_in_minus_1_to_1_are_stretched_to_an_action_space_that_is_given():
    source = Steps(2)
    space = gymnasium.spaces.Box(-2.0, 4.0, (2,), np.float32)
    pipeline = LivePipeline(source, Unit(), action_space=space)
    episode = next(pipeline.episodes())
    pipeline.teardown()
    assert source.sent[0].tolist() == [2.5, -2.0]
    assert episode.actions.tolist() == [[0.5, -1.0]] * 2


def test_actions_are_sent_as_they_are_without_an_action_space():
    source = Steps(2)
    pipeline = LivePipeline(source, Unit())
    next(pipeline.episodes())
    pipeline.teardown()
    assert source.sent[0].tolist() == [0.5, -1.0]


def test_with_a_delay_the_reward_of_the_next_row_belongs_to_an_action():
    """As `env.step` gives them: the first row pays nothing, the last one is only seen."""
    source = Feed(
        [row(0, 77.0), row(1, 10.0), row(2, 20.0), row(3, 30.0, "truncated"), row(50, 88.0)]
    )
    agent = CountingAgent()
    window = windows_of(source, agent, reward_delay=1)[0]
    assert window.observations[:, 0].tolist() == [0, 1, 2]
    assert window.rewards == [10.0, 20.0, 30.0]
    assert window.truncated == [False, False, True]
    assert window.end_observations.tolist() == [[3.0]]
    assert window.finished_returns.tolist() == [60.0]
    advantages, usable = advantages_of(window)
    assert usable.all()
    assert advantages.tolist() == [10 + 1, 20 + 1, 30 + 1]


def test_with_a_delay_the_row_before_a_lost_connection_leads_to_the_last_one_seen():
    window = windows_of(Feed([row(0), row(1, 5.0), row(4, 7.0)]), reward_delay=1)[0]
    assert window.rewards == [5.0, 7.0]
    assert window.truncated == [False, True]
    assert window.final_obs.tolist() == [4.0]
    advantages, usable = advantages_of(window)
    assert usable.all()
    assert advantages.tolist() == [5 + 1 - 0, 7 + 4 - 1]


def test_with_a_delay_windows_cut_by_steps_pay_every_row_once():
    source = Feed(row(n, n, "terminated" if n == 9 else "") for n in range(10))
    windows = windows_of(source, reward_delay=1, episode_boundary_fn=EVERY_4)
    assert [window.rewards for window in windows] == [[1, 2, 3, 4], [5, 6, 7, 8], [9]]
    assert windows[-1].finished_returns.tolist() == [45.0]


@pytest.mark.parametrize("delay", [0, 1])
def test_an_agent_that_learns_while_collecting_sees_what_every_action_led_to(delay):
    source = Feed([row(0, 0.0), row(1, 1.0), row(2, 2.0, "terminated"), row(10, 3.0), row(11, 4.0)])
    agent = Observer()
    windows = windows_of(source, agent, reward_delay=delay)
    seen = agent.rows()[0]
    led = [(each.observation[0], each.next_observation[0], each.reward) for each in seen]
    if delay:
        assert led == [(0, 1, 1), (1, 2, 2), (10, 11, 4)]
    else:
        assert led == [(0, 1, 0), (1, 2, 1), (2, 2, 2), (10, 11, 3)]
    assert [each.terminated for each in seen] == [False, *([False] * (1 - delay)), True, False]
    assert len(seen) == sum(window.num_steps for window in windows)
    assert agent.log[:3] == ["act", "observe", "act"]


def test_a_truncated_row_that_leads_nowhere_known_is_not_observed():
    agent = Observer()
    windows_of(Feed([row(0), row(1, end="truncated"), row(7), row(8, end="terminated")]), agent)
    assert [each.observation[0] for each in agent.rows()[0]] == [0, 7, 8]


def test_actions_that_do_not_fit_the_action_space_are_refused():
    space = gymnasium.spaces.Box(-1.0, 1.0, (3,), np.float32)
    pipeline = LivePipeline(Steps(), Unit(), action_space=space)
    with pytest.raises(ValueError, match=r"actions of shape \(1, 3\), got \(1, 2\)"):
        next(pipeline.episodes())
    pipeline.teardown()


class Answering:
    """Pays 1 for a row if the action in force when it is made is what the row before wanted.

    It goes on whether an action has come or not, and says in the info which one was in force.
    """

    def __init__(self) -> None:
        self.in_force: int | None = None
        self.log: list[str] = []

    def send_action(self, action: int) -> None:
        self.log.append("sent")
        self.in_force = action

    def stream(self) -> Any:
        wanted, generator = None, np.random.default_rng(3)
        for number in range(1, 1000):
            self.log.append("asked")
            paid = float(self.in_force == wanted)
            wanted = int(generator.integers(2))
            info = {"in_force": self.in_force}
            yield np.array([wanted], np.float32), paid, number % 20 == 0, False, info


class Guessing(CountingAgent):
    """Acts at random."""

    def __init__(self) -> None:
        super().__init__()
        self._generator = np.random.default_rng(5)

    def act(self, observation: Any) -> int:
        return int(self._generator.integers(2))


@pytest.mark.parametrize("buffer_size", [1, 1000])
@pytest.mark.parametrize("boundary", [None, EVERY_4])
def test_a_reward_is_credited_to_the_action_in_force_when_it_was_made(boundary, buffer_size):
    """With what the action was chosen from: it pays exactly where it is what that observation wanted."""
    windows = windows_of(
        Answering(),
        Guessing(),
        reward_delay=1,
        episode_boundary_fn=boundary,
        buffer_size=buffer_size,
    )
    actions = np.concatenate([window.actions for window in windows])
    wanted = np.concatenate([window.observations[:, 0] for window in windows])
    rewards = np.concatenate([window.rewards for window in windows])
    in_force = [info["in_force"] for window in windows for info in window.infos]
    assert len(actions) == 19 * 49 + 18
    assert in_force == actions.tolist()
    assert rewards.tolist() == (actions == wanted).tolist()
    assert 0.4 < rewards.mean() < 0.6


@pytest.mark.parametrize("delay", [0, 1])
def test_a_source_that_takes_actions_is_asked_for_a_row_when_the_last_is_answered(delay):
    source = Answering()
    pipeline = LivePipeline(source, Guessing(), EVERY_4, reward_delay=delay)
    stream = pipeline.episodes()
    for number in (1, 2, 3):
        next(stream)
        # The row after a border is known, and answered when the next window begins.
        assert source.log == [*["asked", "sent"] * (4 * number), "asked"]
    pipeline.teardown()


def test_a_source_that_takes_no_actions_is_read_ahead_as_ever():
    source = Feed(row(n) for n in range(50))
    pipeline = LivePipeline(source, CountingAgent(), EVERY_4, buffer_size=9)
    next(pipeline.episodes())
    wait_until(lambda: source.read == 5 + 9 + 1)
    pipeline.teardown()


class Waiting:
    """Makes no row before the action for the last one has come."""

    def __init__(self) -> None:
        self._actions: queue.Queue[int] = queue.Queue()

    def send_action(self, action: int) -> None:
        self._actions.put(action)

    def stream(self) -> Any:
        for number in range(1, 1000):
            yield row(number, end="terminated" if number % 5 == 0 else "")
            if number % 5:
                self._actions.get()


def test_a_source_that_waits_for_actions_is_not_left_waiting_at_the_end():
    pipeline = LivePipeline(Waiting(), CountingAgent(), reward_delay=1)
    assert [window.length for window in islice(pipeline.episodes(), 3)] == [4] * 3
    pipeline.teardown()
    assert not live_threads()


def test_a_source_whose_send_action_waits_for_the_stream_goes_on_and_is_told_what_to_do(
    caplog, monkeypatch
):
    monkeypatch.setattr(live_stream, "STALLED", 0.01)
    monkeypatch.setattr(live_stream, "PATIENCE", 0.01)

    class Meeting(Waiting):
        def send_action(self, action: int) -> None:
            super().send_action(action)
            wait_until(self._actions.empty)

    pipeline = LivePipeline(Meeting(), CountingAgent(), reward_delay=1)
    window = next(pipeline.episodes())
    pipeline.teardown()
    assert window.observations[:, 0].tolist() == [1, 2, 3, 4]
    assert "sending an action to Meeting takes more than 0.01 s" in caplog.text


def test_without_a_delay_a_source_that_takes_actions_is_warned_of(caplog):
    for source, delay in ((Answering(), 1), (Feed(), 0)):
        LivePipeline(source, reward_delay=delay)
    assert not caplog.records
    LivePipeline(Answering())
    assert "Answering takes actions, but with reward_delay=0 a reward is credited" in caplog.text


@pytest.mark.parametrize("end", ["", "terminated"])
def test_no_reward_of_a_new_connection_is_credited_to_an_action_of_the_old(end, monkeypatch):
    monkeypatch.setattr(live_stream, "FIRST_DELAY", 0.001)

    class Machine(Feed):
        def send_action(self, action: Any) -> None:
            pass

    source = Machine(
        [row(0), row(1, 1.0), row(2, 2.0), OSError("lost")],
        [row(2, 99.0, end), row(3, 3.0), row(4, 4.0, "terminated"), row(5)],
        [None],
    )
    agent = Observer()
    pipeline = LivePipeline(source, agent, reward_delay=1)
    first, second = islice(pipeline.episodes(), 2)
    pipeline.teardown()
    assert (first.rewards, first.truncated) == ([1.0, 2.0], [False, True])
    assert second.rewards == ([3.0, 4.0] if not end else [4.0])
    assert 99.0 not in [each.reward for each in agent.rows()[0]]
