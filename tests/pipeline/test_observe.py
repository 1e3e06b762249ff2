"""Agents that learn while collecting see every valid row, once, in order, with what it led to."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any, NamedTuple

import numpy as np
import pytest

from tensor_optix.core.decisions.validation import GreedyAgent
from tensor_optix.core.types import EpisodeData, Transitions
from tensor_optix.pipeline.batch_pipeline import BatchPipeline
from tensor_optix.pipeline.rollout_pipeline import RolloutPipeline
from tensor_optix.pipeline.vector_pipeline import VectorBatchPipeline
from tests.pipeline.any_order_env import AnyOrder
from tests.pipeline.counting_env import Counter, collect
from tests.pipeline.row_envs import LENGTHS, TIME_LIMIT
from tests.pipeline.test_vector_env import BACKENDS
from tests.scripted import CountingAgent, OffPolicyAgent


class Seen(NamedTuple):
    """One observed row of one environment."""

    observation: tuple
    action: int
    reward: float
    next_observation: tuple
    terminated: bool
    truncated: bool


class Observer(OffPolicyAgent):
    """Acts by the observation alone and keeps a copy of all that it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[Transitions] = []
        self.log: list[str] = []

    def act(self, observation: Any) -> int:
        return int(np.abs(observation).sum()) % 2

    def act_batch(self, observations: Any) -> Any:
        self.log.append("act")
        return super().act_batch(observations)

    def observe(self, transitions: Transitions) -> None:
        self.log.append("observe")
        self.shown.append(Transitions(*(np.array(part) for part in transitions)))

    def rows(self) -> dict[int, list[Seen]]:
        """What was shown, per environment, in the order of the calls."""
        rows: dict[int, list[Seen]] = {}
        for shown in self.shown:
            for k, env_id in enumerate(shown.env_ids.tolist()):
                start, after = shown.observations[k].tolist(), shown.next_observations[k].tolist()
                flags = bool(shown.terminated[k]), bool(shown.truncated[k])
                action, reward = int(shown.actions[k]), float(shown.rewards[k])
                row = Seen(tuple(start), action, reward, tuple(after), *flags)
                rows.setdefault(env_id, []).append(row)
        return rows


@pytest.fixture(params=[*BACKENDS, "any order"])
def make_env(request):
    """Returns a new environment of one backend at every call; closes them at the end."""
    with contextlib.ExitStack() as stack:

        def opened(*closable: Any) -> Any:
            for each in closable:
                stack.callback(each.close)
            return closable[-1]

        def make(seed: int | None) -> Any:
            is_lockstep = request.param != "any order"
            return BACKENDS[request.param](opened) if is_lockstep else AnyOrder()

        yield make


def rows_of(windows: list[EpisodeData]) -> dict[int, list[Seen]]:
    """The valid rows of windows, but for where they led to, per environment."""
    rows: dict[int, list[Seen]] = {}
    for window in windows:
        fields = (window.observations, window.actions, window.rewards)
        flags = (window.terminated, window.truncated)
        parts = [np.asarray(part) for part in (*fields, *flags)]
        valid = np.ones(window.length, bool) if window.valid is None else window.valid
        for row in np.flatnonzero(valid):
            start, action, reward, terminated, truncated = (part[row].tolist() for part in parts)
            seen = Seen(tuple(start), action, reward, (), terminated, truncated)
            rows.setdefault(int(row) % window.num_envs, []).append(seen)
    return rows


def assert_observed(agent: Observer, windows: list[EpisodeData]) -> None:
    stored = rows_of(windows)
    observed = agent.rows()
    assert observed.keys() == stored.keys()
    for env_id, rows in observed.items():
        assert [row._replace(next_observation=()) for row in rows] == stored[env_id]


def test_every_valid_row_of_every_window_is_observed_once_and_in_order(make_env):
    """Over window borders, a restart, a teardown and a second setup."""
    agent = Observer()
    pipeline = RolloutPipeline(make_env, agent, 7, seed=0)
    windows = collect(pipeline, 4)
    pipeline.restart()
    windows += collect(pipeline, 1)
    pipeline.teardown()
    pipeline.setup()
    windows += collect(pipeline, 2)
    pipeline.teardown()
    assert_observed(agent, windows)
    assert sum(len(shown.env_ids) for shown in agent.shown) == sum(w.num_steps for w in windows)


def test_what_an_action_led_to_is_true_at_every_kind_of_end_and_between(make_env):
    """An observation is [script, episode, t]: an action leads to t + 1 of the same episode."""
    agent = Observer()
    pipeline = RolloutPipeline(make_env, agent, 19, seed=0)
    collect(pipeline, 1)
    pipeline.teardown()
    kinds = set()
    for row in (row for rows in agent.rows().values() for row in rows):
        script, episode, t = row.observation
        assert row.next_observation == (script, episode, t + 1)
        assert row.reward == 10 * episode + t + row.action / 4
        length = LENGTHS[script][episode] if episode < len(LENGTHS[script]) else 2
        assert (row.terminated, row.truncated) == (t + 1 == length, t + 1 == TIME_LIMIT)
        kinds.add((row.terminated, row.truncated, length == 1))
    ends = {(True, False, False), (False, True, False), (True, True, False), (True, False, True)}
    assert kinds == {(False, False, False)} | ends


def test_the_parts_have_the_promised_types_and_are_never_empty(make_env):
    agent = Observer()
    pipeline = RolloutPipeline(make_env, agent, 12, seed=0)
    num_envs = pipeline.env.num_envs
    collect(pipeline, 1)
    pipeline.teardown()
    for shown in agent.shown:
        rows = len(shown.env_ids)
        assert 0 < rows <= num_envs == shown.num_envs
        assert {len(part) for part in shown[:-1]} == {rows}
        assert shown.observations.dtype == shown.next_observations.dtype == np.int16
        assert shown.actions.dtype == shown.env_ids.dtype == np.int64
        assert shown.rewards.dtype == np.float32
        assert shown.terminated.dtype == shown.truncated.dtype == bool


@pytest.mark.parametrize("length", [1, 3])
@pytest.mark.parametrize("truncates", [True, False])
def test_the_rows_of_one_environment_are_observed_without_a_gap(length, truncates):
    agent = Observer()
    pipeline = BatchPipeline(env=Counter(7, length, truncates), agent=agent, window_size=5)
    windows = collect(pipeline, 3)
    assert_observed(agent, windows)
    after = [row.next_observation for row in agent.rows()[0]]
    assert after == [(7, k % length + 1) for k in range(15)]


@pytest.mark.parametrize("backend", ["envpool", "envpool-async"])
def test_envpools_rows_are_observed_and_lead_from_one_to_the_next(backend):
    pytest.importorskip("envpool")
    agent = Observer()
    options: dict[str, Any] = {
        "env_id": "CartPole-v1",
        "num_envs": 6,
        "backend": backend,
        "seed": 1,
    }
    pipeline = VectorBatchPipeline(agent=agent, window_size=40, **options)
    windows = collect(pipeline, 3)
    pipeline.teardown()
    assert_observed(agent, windows)
    ends = 0
    for rows in agent.rows().values():
        for row, following in itertools.pairwise(rows):
            ended = row.terminated or row.truncated
            assert (row.next_observation == following.observation) == (not ended)
            # The cart moves by 0.02 s times its velocity, also in the last step of an episode.
            moved = row.observation[0] + 0.02 * row.observation[1]
            assert row.next_observation[0] == pytest.approx(moved, abs=1e-5)
            ends += ended
    assert ends > 6


def test_each_step_is_observed_before_the_next_action_and_the_last_before_the_window_is_out():
    agent = Observer()
    env_fns = [lambda: Counter(length=9)] * 2
    source = VectorBatchPipeline(env_fns, agent, window_size=3).episodes()
    for window in (1, 2):
        next(source)
        assert agent.log == ["act", "observe"] * 3 * window


def test_an_agent_that_is_on_policy_is_not_called():
    class OnPolicy(Observer):
        is_on_policy = True

    agent = OnPolicy()
    collect(VectorBatchPipeline([Counter, Counter], agent, window_size=7), 2)
    assert agent.log == ["act"] * 14


def test_validation_shows_nothing_to_the_agent():
    agent = Observer()
    collect(VectorBatchPipeline([Counter, Counter], GreedyAgent(agent), window_size=7), 2)
    assert agent.log == ["act"] * 14


def test_another_agent_between_two_windows_observes_its_own_steps_only():
    first, second = Observer(), Observer()
    pipeline = VectorBatchPipeline([Counter, Counter], first, window_size=3)
    source = pipeline.episodes()
    next(source)
    pipeline.set_agent(CountingAgent())
    next(source)
    pipeline.set_agent(second)
    next(source)
    assert len(first.shown) == len(second.shown) == 3
    # An episode of 5 steps and its reset row lie before the third window.
    assert second.shown[0].observations[:, 1].tolist() == [0, 0]


def test_an_agent_given_after_the_setup_observes_from_the_first_step():
    agent = Observer()
    pipeline = VectorBatchPipeline([Counter, Counter], window_size=3)
    pipeline.setup()
    pipeline.set_agent(agent)
    next(pipeline.episodes())
    assert len(agent.shown) == 3


def test_nothing_is_copied_in_lock_step_where_no_episode_ends():
    class Sharing(Observer):
        def observe(self, transitions: Transitions) -> None:
            self.shown.append(transitions)

    agent = Sharing()
    window = next(VectorBatchPipeline([Counter, Counter], agent, window_size=3).episodes())
    for shown in agent.shown:
        assert np.shares_memory(shown.observations, window.observations)
        assert np.shares_memory(shown.actions, window.actions)


def test_an_agent_may_learn_in_observe_and_acts_at_once_by_what_it_learned():
    class Learner(Observer):
        def act(self, observation: Any) -> int:
            return self.updates % 2

        def observe(self, transitions: Transitions) -> None:
            self.updates += 1

    window = next(BatchPipeline(env=Counter(), agent=Learner(), window_size=4).episodes())
    assert window.actions.tolist() == [0, 1, 0, 1]


def test_what_follows_has_the_dtype_of_what_was_seen_whatever_the_backend_answers_in():
    # EnvPool answers int32 for the numbers of a Discrete space, which are int64.
    pytest.importorskip("envpool")
    agent = Observer()
    pipeline = VectorBatchPipeline(
        env_id="FrozenLake-v1", num_envs=2, backend="envpool", agent=agent, window_size=4
    )
    collect(pipeline, 1)
    pipeline.teardown()
    assert agent.shown
    for shown in agent.shown:
        assert shown.next_observations.dtype == shown.observations.dtype == np.int64
