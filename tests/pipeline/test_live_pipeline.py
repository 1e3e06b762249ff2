"""Live windows: every row once, their borders, and what is learned of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tensor_optix.core.callbacks import LoopCallback
from tensor_optix.core.trajectory_buffer import compute_gae
from tensor_optix.optimizer import RLOptimizer
from tensor_optix.pipeline import live_stream
from tensor_optix.pipeline.live_pipeline import LivePipeline
from tests.contracts.pipeline_contract import PipelineContract
from tests.pipeline.live_source import (
    Feed,
    Steps,
    advantages_of,
    live_threads,
    row,
    wait_until,
    windows_of,
)
from tests.scripted import CountingAgent


class TestLivePipelineContract(PipelineContract):
    @pytest.fixture
    def pipeline(self):
        return LivePipeline(Steps(), episode_boundary_fn=LivePipeline.every_n_steps(4))


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    wait_until(lambda: not live_threads())


@pytest.fixture(autouse=True)
def short_delays(monkeypatch):
    monkeypatch.setattr(live_stream, "FIRST_DELAY", 0.001)


def numbers(windows: list[Any]) -> list[float]:
    return [number for window in windows for number in window.observations[:, 0].tolist()]


EVERY_4 = LivePipeline.every_n_steps(4)
OVER = [None]
"""A last stream, of what is no row: a test that waits for another row fails, and does not hang."""


def test_a_learner_slower_than_the_source_sees_every_row_once_and_in_order(tmp_path):
    """The buffer of 5 is full, and the source waits, before the agent goes on learning."""
    source = Feed(row(n, end="terminated" if n % 10 == 9 else "") for n in range(200))

    class Slow(CountingAgent):
        def learn(self, episode_data: Any) -> dict[str, Any]:
            taken = sum(window.length for window in self.learned) + episode_data.length
            wait_until(lambda: source.read >= min(200, taken + 6))
            assert source.read <= taken + 7
            return super().learn(episode_data)

    agent = Slow()
    pipeline = LivePipeline(source, None, EVERY_4, buffer_size=5, reconnect_on_disconnect=False)
    RLOptimizer(agent, pipeline, checkpoint_dir=tmp_path).run()
    assert numbers(agent.learned) == list(range(200))
    assert source.opened == 1
    assert [len(window.rewards) for window in agent.learned[:4]] == [4, 4, 2, 4]


def test_a_source_that_writes_into_one_array_is_copied():
    pipeline = LivePipeline(Steps(50), CountingAgent())
    episode = next(pipeline.episodes())
    pipeline.teardown()
    assert episode.observations[:, 0].tolist() == list(range(50))


def test_a_window_cut_by_steps_is_bootstrapped_from_the_row_that_followed():
    first, second = windows_of(Feed(row(n * n) for n in range(8)), episode_boundary_fn=EVERY_4)
    assert first.final_obs.tolist() == [16.0] == second.observations[0].tolist()
    assert first.truncated == [False] * 4
    assert not len(first.end_rows)
    advantages, returns = compute_gae(
        first.rewards, first.observations[:, 0], first.dones, 1.0, 0.0, first.final_obs[0]
    )
    np.testing.assert_array_equal(returns, [1 + 1, 1 + 4, 1 + 9, 1 + 16])
    np.testing.assert_array_equal(advantages_of(first)[0], advantages)


def test_a_window_cut_by_time_is_bootstrapped_too():
    first, *_ = windows_of(
        Feed(row(n + 5) for n in range(4)), episode_boundary_fn=lambda n, elapsed, obs: elapsed >= 0
    )
    assert first.final_obs.tolist() == [6.0]
    assert advantages_of(first)[0].tolist() == [2.0]


def test_the_boundaries_are_those_that_their_names_say():
    assert [LivePipeline.every_n_steps(3)(n, 9.0, None) for n in (2, 3)] == [False, True]
    assert [LivePipeline.every_n_seconds(2)(9, s, None) for s in (1.9, 2.0)] == [False, True]
    assert not LivePipeline.on_done_signal()(10**6, 1e6, None)


def test_the_boundary_is_asked_with_the_rows_and_the_seconds_of_the_window_and_its_last_observation():
    asked = []

    def boundary(steps: int, elapsed: float, observation: Any) -> bool:
        asked.append((steps, observation[0]))
        assert 0 <= elapsed < 60
        return observation[0] == 2

    windows_of(Feed(row(n) for n in range(6)), episode_boundary_fn=boundary)
    assert asked == [(1, 0), (2, 1), (3, 2), (1, 3), (2, 4)]


def test_the_time_of_a_window_begins_with_its_first_row(monkeypatch):
    seconds = []
    clock = iter(range(1000))
    monkeypatch.setattr("tensor_optix.pipeline.live_pipeline.time.monotonic", lambda: next(clock))
    windows_of(
        Feed(row(n) for n in range(6)),
        episode_boundary_fn=lambda n, elapsed, obs: seconds.append(elapsed) or n == 3,
    )
    assert seconds == [1, 2, 3, 1, 2]


def test_without_a_boundary_windows_are_episodes_and_their_returns_are_told():
    ends = {2: "terminated", 6: "truncated"}
    windows = windows_of(Feed(row(n, reward=n, end=ends.get(n, "")) for n in range(9)))
    assert [window.length for window in windows] == [3, 4, 2]
    assert [window.finished_returns.tolist() for window in windows] == [[3.0], [18.0], []]
    assert [window.finished_lengths.tolist() for window in windows] == [[3], [4], []]
    assert windows[0].final_obs is None
    assert windows[0].end_rows.tolist() == [2]


def test_returns_are_counted_over_the_borders_of_windows():
    source = Feed(row(n, end="terminated" if n == 9 else "") for n in range(10))
    windows = windows_of(source, episode_boundary_fn=EVERY_4)
    finished = [window.finished_returns.tolist() for window in windows]
    assert finished == [[], [], [10.0]]


def test_a_terminated_row_is_paid_its_reward_and_nothing_follows():
    (window,) = windows_of(Feed([row(3), row(5, end="terminated"), row(9)]))[:1]
    advantages, usable = advantages_of(window)
    assert usable.all()
    assert advantages.tolist() == [1 + 5 - 3, 1 - 5]


@pytest.mark.parametrize("final_obs", [None, np.array([8.0])])
def test_a_truncated_row_is_bootstrapped_from_its_final_observation_or_not_learned_from(final_obs):
    """Without it the row before still leads to the row that is left out."""
    info = {} if final_obs is None else {"final_obs": final_obs}
    window = windows_of(Feed([row(3), row(5, end="truncated", **info), row(99)]))[0]
    advantages, usable = advantages_of(window)
    assert window.truncated == [False, True]
    assert usable.tolist() == [True, final_obs is not None]
    assert advantages[0] == 1 + 5 - 3
    assert advantages[1] == (0 if final_obs is None else 1 + 8 - 5)


def test_nothing_is_learned_across_a_lost_connection():
    """Rows 0 to 2, then a stream that fails, then 50 to 52 and an end."""
    source = Feed(
        [row(0), row(1), row(2), OSError("the line went dead")],
        [row(50), row(51), row(52, end="terminated")],
        OVER,
    )
    pipeline = LivePipeline(source, CountingAgent())
    stream = pipeline.episodes()
    first, second = next(stream), next(stream)
    pipeline.teardown()
    assert first.truncated == [False, False, True]
    advantages, usable = advantages_of(first)
    assert usable.tolist() == [True, True, False]
    assert advantages[:2].tolist() == [1 + 1 - 0, 1 + 2 - 1]
    assert not len(first.finished_returns)
    assert second.observations[:, 0].tolist() == [50, 51, 52]
    assert second.finished_returns.tolist() == [3.0]


def test_a_stream_that_fails_is_opened_again_and_the_reason_is_logged(caplog):
    source = Feed([row(0), row(1), OSError("the line went dead")], [row(2, end="terminated")], OVER)
    pipeline = LivePipeline(source, CountingAgent())
    stream = pipeline.episodes()
    next(stream), next(stream)
    pipeline.teardown()
    assert (
        "the stream of Feed failed: OSError: the line went dead; it is opened again" in caplog.text
    )


def test_an_episode_that_a_lost_connection_cut_is_not_scored_in_the_next():
    source = Feed([row(0), row(1), row(2)], [row(7, end="terminated")], OVER)
    pipeline = LivePipeline(source, CountingAgent(), EVERY_4)
    stream = pipeline.episodes()
    finished = [next(stream).finished_lengths.tolist() for _ in range(2)]
    pipeline.teardown()
    assert finished == [[], [1]]


def test_without_reconnecting_the_rest_is_delivered_and_the_run_ends_cleanly(tmp_path, caplog):
    source = Feed([*(row(n) for n in range(6)), OSError("unplugged")])
    agent = CountingAgent()
    pipeline = LivePipeline(source, None, EVERY_4, reconnect_on_disconnect=False)
    RLOptimizer(agent, pipeline, checkpoint_dir=tmp_path).run()
    assert numbers(agent.learned) == list(range(6))
    assert "OSError: unplugged; no more will come" in caplog.text


def test_a_feed_without_rows_ends_the_run_cleanly(tmp_path):
    agent = CountingAgent()
    pipeline = LivePipeline(Feed([]), None, reconnect_on_disconnect=False)
    RLOptimizer(agent, pipeline, checkpoint_dir=tmp_path).run()
    assert agent.updates == 0


def test_a_second_run_on_the_same_pipeline_works(tmp_path):
    agent = CountingAgent()
    pipeline = LivePipeline(Steps(), None)
    for _ in range(2):
        RLOptimizer(agent, pipeline, checkpoint_dir=tmp_path, max_episodes=3).run()
        assert not live_threads()
    assert numbers(agent.learned) == [*range(15), *range(15)]


def test_an_error_of_the_agent_propagates_and_ends_the_thread(tmp_path):
    class Failing(CountingAgent):
        def act(self, observation: Any) -> int:
            raise ZeroDivisionError("the agent's own")

    optimizer = RLOptimizer(Failing(), LivePipeline(Steps()), checkpoint_dir=tmp_path)
    with pytest.raises(ZeroDivisionError, match="the agent's own"):
        optimizer.run()
    assert not live_threads()


def test_stop_ends_the_run_after_the_window_under_way(tmp_path):
    class Stopper(LoopCallback):
        def on_window(self, report: Any) -> None:
            optimizer.stop("enough")

    pipeline = LivePipeline(Steps())
    optimizer = RLOptimizer(
        CountingAgent(), pipeline, checkpoint_dir=tmp_path, callbacks=[Stopper()]
    )
    optimizer.run()
    assert not live_threads()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"buffer_size": 0}, "buffer_size must be at least 1, got 0"),
        ({"reward_delay": 2}, "reward_delay must be 0 or 1, got 2"),
    ],
)
def test_numbers_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LivePipeline(Steps(), **options)
    with pytest.raises(ValueError, match="n must be at least 1 step, got 0"):
        LivePipeline.every_n_steps(0)
    with pytest.raises(ValueError, match="n must be more than 0 seconds, got 0"):
        LivePipeline.every_n_seconds(0)


def test_a_source_without_a_stream_is_refused():
    with pytest.raises(TypeError, match=r"must have a method stream\(\), got list"):
        LivePipeline([])


def test_a_pipeline_without_an_agent_says_so():
    pipeline = LivePipeline(Steps())
    with pytest.raises(RuntimeError, match="LivePipeline has no agent"):
        next(pipeline.episodes())
    pipeline.teardown()
