"""What DQN and SAC share: what is stored, and when updates are made."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tensor_optix.core.decisions.validation import GreedyAgent
from tensor_optix.pipeline.batch_pipeline import BatchPipeline
from tensor_optix.pipeline.vector_pipeline import VectorBatchPipeline
from tests.algorithms import small_dqn, small_sac
from tests.algorithms.small_dqn import empty_window, make_agent, make_episode, vector_steps
from tests.pipeline.counting_env import Counter, collect

if TYPE_CHECKING:
    from tensor_optix.core.types import EpisodeData

NEVER = {"learning_starts": 10**9}
"""Rows are stored, nothing is learned from them."""


def stored(agent: Any) -> set[tuple[Any, ...]]:
    """The rows in the replay buffer: (observation, reward, next observation, done, steps summed)."""
    # So many draws of so few rows leave none out.
    batch = agent._replay.sample(100 * len(agent._replay) + 100)
    return {
        (tuple(obs), round(reward, 4), tuple(after), done, steps)
        for obs, reward, after, done, steps in zip(
            batch.observations.tolist(),
            batch.rewards.tolist(),
            batch.next_observations.tolist(),
            batch.dones.tolist(),
            batch.n_steps.tolist(),
            strict=True,
        )
    }


def counters(agent: Any, count: int = 3, **options: Any) -> VectorBatchPipeline:
    """Return a pipeline whose observations are [which environment, steps of the episode]."""
    functions = [lambda who=who: Counter(who, **options) for who in range(count)]
    return VectorBatchPipeline(functions, agent, window_size=10)


class OnlyLast(Counter):
    """Pays at the end of the episode, and nothing before."""

    def step(self, action: int) -> Any:
        observation, _, terminated, truncated, info = super().step(action)
        return observation, float(terminated), terminated, truncated, info


@pytest.mark.parametrize("make", [small_dqn.make_agent, small_sac.make_agent])
def test_off_policy_agents_say_so(make):
    assert not make().is_on_policy


def test_every_observed_row_is_stored_once_with_its_own_environments_next_observation():
    agent = make_agent(obs_shape=(2,), **NEVER)
    steps = 0
    for window in collect_and_learn(agent, counters(agent), 5):
        steps += window.num_steps
        assert len(agent._replay) == agent._steps == steps
    assert steps > 100
    for (who, t), reward, (other, after), done, _ in stored(agent):
        assert (other, after, reward, done) == (who, t + 1, 1.0, after == 5)


def collect_and_learn(agent: Any, pipeline: Any, count: int) -> Any:
    for window in itertools.islice(pipeline.episodes(), count):
        agent.learn(window)
        yield window


@pytest.mark.parametrize("num_envs", [1, 2])
def test_a_window_that_was_not_observed_is_taken_in_whole(num_envs):
    agent, episode = make_agent(**NEVER), make_episode(64, num_envs=num_envs)
    assert agent.learn(episode)["buffer_size"] == 64
    # Once more, from elsewhere: as it was not observed this time either, it comes in again.
    assert agent.learn(episode)["buffer_size"] == 128


def test_an_observed_window_is_not_taken_in_twice_unless_it_is_given_once_more():
    agent = make_agent(obs_shape=(2,), **NEVER)
    window = next(counters(agent, 2).episodes())
    steps = window.num_steps
    assert agent.learn(window)["buffer_size"] == steps
    # Nothing was observed since, so the same window now counts as one from elsewhere.
    assert agent.learn(window)["buffer_size"] == 2 * steps


def test_a_window_from_elsewhere_is_taken_in_after_a_collection_that_was_interrupted():
    agent, episode = make_agent(obs_shape=(2,), **NEVER), make_episode(20, (2,))
    collect(counters(agent, 1, length=10**6), 3)
    before = len(agent._replay)
    assert before == 30
    assert agent.learn(episode)["buffer_size"] == before + 20


def test_three_step_returns_go_on_over_windows_and_keep_every_terminal_reward():
    """Windows of 10, episodes of 7 that pay at the end: each reaches the last three rows."""
    agent = make_agent(obs_shape=(2,), n_step=3, gamma=0.5, **NEVER)
    functions = [lambda who=who: OnlyLast(who, length=7) for who in range(3)]
    pipeline = VectorBatchPipeline(functions, agent, window_size=10)
    ended = sum(int(np.sum(window.terminated)) for window in collect_and_learn(agent, pipeline, 6))
    batch = agent._replay.sample(20_000)
    last = {1.0: 1, 0.5: 2, 0.25: 3}
    paid = batch.rewards > 0
    assert ended > 20
    for reward, after, done, steps in zip(
        batch.rewards[paid], batch.next_observations[paid], batch.dones[paid], batch.n_steps[paid],
        strict=True,
    ):  # fmt: skip
        assert (done, after[1], steps) == (True, 7, last[float(reward)])
    for (_, t), reward, (_, after), done, steps in stored(agent):
        assert reward == {6: 1.0, 5: 0.5, 4: 0.25}.get(t, 0.0)
        assert after == min(t + 3, 7) == t + steps
        assert done == (t >= 4)
    # No row is missing but those that still wait for their rewards.
    assert 0 <= agent._steps - len(agent._replay) <= 2 * 3
    share = np.mean(paid)
    assert share == pytest.approx(3 * ended / len(agent._replay), abs=0.02)


@pytest.mark.parametrize("source", ["observed", "from elsewhere"])
def test_a_time_limit_is_stored_as_not_done_with_the_true_last_observation(source):
    agent = make_agent(obs_shape=(2,), **NEVER)
    if source == "observed":
        list(collect_and_learn(agent, counters(agent, truncates=True), 2))
    else:
        for window in collect(counters(GreedyAgent(agent), truncates=True), 2):
            agent.learn(window)
    rows = stored(agent)
    assert all(done is False and after[1] == obs[1] + 1 for obs, _, after, done, _ in rows)
    assert ((0.0, 4.0), 1.0, (0.0, 5.0), False, 1) in rows


@pytest.mark.parametrize("per_step", [0.25, 1.0, 2.5, 20.0])
def test_there_are_exactly_as_many_updates_per_step_as_were_asked_for(per_step):
    agent = make_agent(updates_per_step=per_step)
    for count, step in enumerate(vector_steps(5), 1):
        agent.observe(step)
        # The first batch of 16 is there with the second step, and from there on updates are due.
        updates = int(8 * max(count - 1, 0) * per_step)
        assert agent._updates == updates
    assert agent.learn(empty_window())["n_updates"] == updates


@pytest.mark.parametrize("freq", [8, 20, 100])
def test_updates_wait_for_their_round_and_none_is_lost(freq):
    """The updates of 8 steps at a time, 4 due with each."""
    agent, rounds = make_agent(updates_per_step=0.5, train_freq=freq), [0]
    for count, step in enumerate(vector_steps(30), 1):
        agent.observe(step)
        due = 4 * max(count - 1, 0)
        if (8 * count) // freq > (8 * (count - 1)) // freq:
            rounds.append(due)
        assert agent._updates == rounds[-1]


def test_an_agent_may_go_on_with_another_number_of_environments(caplog):
    agent = make_agent(**NEVER)
    for num_envs in (2, 4, 3):
        agent.learn(make_episode(rows=24 * num_envs, num_envs=num_envs))
        assert agent._replay.num_envs == num_envs
    assert "rows of 2 environments, now there are 4: an empty one is begun" in caplog.text


def test_a_learner_that_is_restored_without_its_rows_waits_for_as_many_again(tmp_path):
    options = {"learning_starts": 40, "updates_per_step": 1.0, "batch_size": 8}
    before = make_agent(**options)
    before.learn(make_episode(rows=64))
    before.save_state(tmp_path)
    before.save_replay(tmp_path)
    agent = make_agent(**options)
    agent.load_state(tmp_path)
    assert agent.learn(make_episode(rows=32))["n_updates"] == 0
    assert agent.learn(make_episode(rows=32))["n_updates"] > 0
    with_rows = make_agent(**options)
    with_rows.load_state(tmp_path)
    with_rows.load_replay(tmp_path)
    assert with_rows.learn(make_episode(rows=32))["n_updates"] > 0


def test_nothing_is_learned_before_the_steps_that_learning_starts_at():
    agent = make_agent(learning_starts=40, updates_per_step=1.0)
    seen = []
    for step in vector_steps(6):
        agent.observe(step)
        seen.append(agent._updates)
    assert seen == [0, 0, 0, 0, 8, 16]


@pytest.mark.parametrize("make", [small_dqn.make_agent, small_sac.make_agent])
def test_with_less_than_a_batch_nothing_is_learned_and_losses_are_zero(make, tmp_path):
    agent = make()
    episode = small_sac.make_episode(15) if make is small_sac.make_agent else make_episode(15)
    agent.save_weights(tmp_path / "before")
    diagnostics = agent.learn(episode)
    agent.save_weights(tmp_path / "after")
    assert diagnostics["n_updates"] == 0
    assert next(value for name, value in diagnostics.items() if "loss" in name) == 0.0
    for path in (tmp_path / "before").iterdir():
        assert path.read_bytes() == (tmp_path / "after" / path.name).read_bytes()


def test_the_discount_of_a_row_is_of_the_steps_really_summed_and_zero_where_nothing_follows(
    monkeypatch,
):
    agent = make_agent(n_step=3, gamma=0.9, updates_per_step=1.0)
    seen: list[dict[str, Any]] = []
    drawn: list[Any] = []
    original = agent._make_updates

    def spy(fields: dict[str, Any], batches: int) -> Any:
        seen.append({name: np.array(field) for name, field in fields.items()})
        drawn.append(type(agent._drawn)(*(np.array(field) for field in agent._drawn)))
        return original(fields, batches)

    monkeypatch.setattr(agent, "_make_updates", spy)
    agent.learn(make_episode(200))
    steps = set()
    for fields, batch in zip(seen, drawn, strict=True):
        expected = np.where(batch.dones, 0.0, 0.9**batch.n_steps)
        np.testing.assert_allclose(fields["discounts"], expected, rtol=1e-6)
        assert fields["discounts"].dtype == np.float32
        steps |= set(zip(batch.dones.tolist(), batch.n_steps.tolist(), strict=True))
    assert steps == set(itertools.product((False, True), (1, 2, 3)))


@pytest.mark.parametrize(
    ("framework", "alpha"),
    [("torch", 0.0), ("torch", 0.6), ("tensorflow", 0.6)],
    indirect=["framework"],
)
def test_priorities_follow_the_errors_where_they_are_asked_for(framework, alpha, monkeypatch):
    agent = make_agent(framework=framework, per_alpha=alpha, updates_per_step=1.0)
    told: list[tuple[Any, Any]] = []
    steps = list(vector_steps(3))
    agent.observe(steps[0])
    monkeypatch.setattr(
        agent._replay, "update_priorities", lambda rows, errors: told.append((rows.copy(), errors))
    )
    errors: list[Any] = []
    original = agent._make_updates

    def spy(fields: dict[str, Any], batches: int) -> Any:
        first = framework.tensors({name: field[:16] for name, field in fields.items()})
        values = framework.array(agent._values_tensor(first["observations"]))
        targets = framework.array(agent._td_targets(first))
        errors.append(targets - values[np.arange(16), fields["actions"][:16]])
        return original(fields, batches)

    monkeypatch.setattr(agent, "_make_updates", spy)
    for step in steps[1:]:
        agent.observe(step)
    assert len(told) == (0 if alpha == 0.0 else 2)
    for (rows, got), expected in zip(told, errors, strict=False):
        assert rows.shape == got.shape == (8 * 16,)
        np.testing.assert_allclose(np.abs(got[:16]), np.abs(expected), rtol=1e-4, atol=1e-5)


def test_the_buffer_keeps_no_more_than_its_capacity_and_the_newest():
    agent = make_agent(replay_capacity=40, obs_shape=(2,), batch_size=40)
    list(collect_and_learn(agent, counters(agent, 2, length=10**6), 10))
    assert len(agent._replay) == 40
    assert {obs[1] for obs, *_ in stored(agent)} == set(range(80, 100))


def test_a_single_environment_is_learned_from_while_it_is_stepped():
    agent = make_agent(obs_shape=(2,), batch_size=4, updates_per_step=0.5)
    source = BatchPipeline(env=Counter(), agent=agent, window_size=12).episodes()
    window: EpisodeData = next(source)
    assert agent._updates == (12 - 3) // 2
    assert agent.learn(window)["n_updates"] == 4
    assert agent._replay.num_envs == 1


def test_an_agent_may_be_kept_in_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    agent = small_dqn.make_agent(0)
    for place, save, load in (
        ("~/weights", agent.save_weights, agent.load_weights),
        ("~/state", agent.save_state, agent.load_state),
        ("~/replay", agent.save_replay, agent.load_replay),
    ):
        save(place)
        assert (tmp_path / place.removeprefix("~/")).is_dir()
        load(place)
    assert agent.average_weights(["~/weights", "~/state"])
    assert not (tmp_path / "~").exists()
