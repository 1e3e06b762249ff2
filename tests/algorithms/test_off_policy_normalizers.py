"""DQN and SAC with normalizers: what they learn from, and what they are applied to."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from tensor_optix.core.decisions.validation import GreedyAgent
from tensor_optix.core.normalizers import ObsNormalizer, RewardNormalizer
from tensor_optix.pipeline.batch_pipeline import BatchPipeline
from tensor_optix.pipeline.play import play_episodes
from tensor_optix.pipeline.vector_env import wrap_env
from tensor_optix.pipeline.vector_pipeline import VectorBatchPipeline
from tests.algorithms import small_dqn, small_sac
from tests.frameworks import weights
from tests.pipeline.counting_env import Counter


def counters(agent: Any, count: int = 3, **options: Any) -> VectorBatchPipeline:
    """Return a pipeline whose observations are [which environment, steps of the episode]."""
    # Of different lengths, so that some environments are reset while others step.
    functions = [lambda who=who: Counter(who, 6 + who, **options) for who in range(count)]
    return VectorBatchPipeline(functions, agent, window_size=10)


def collect_and_learn(agent: Any, pipeline: Any, count: int) -> Any:
    for window in itertools.islice(pipeline.episodes(), count):
        agent.learn(window)
        yield window


def make_normalizing(small: Any, seed: int = 0, **params: Any) -> Any:
    return small.make_agent(
        seed,
        obs_shape=(2,),
        obs_normalizer=ObsNormalizer((2,)),
        reward_normalizer=RewardNormalizer(),
        **params,
    )


def statistics(agent: Any) -> dict[str, Any]:
    return {
        f"{kind} {name}": value
        for kind, normalizer in (
            ("obs", agent._obs_normalizer),
            ("reward", agent._reward_normalizer),
        )
        for name, value in normalizer.state_dict().items()
    }


def test_running_returns_begin_at_0_where_the_environments_do():
    agent = make_normalizing(small_dqn)
    pipeline = BatchPipeline(env=Counter(length=1000), agent=agent, window_size=4)
    four = sum(0.99**k for k in range(4))
    for _ in range(2):
        pipeline.setup()
        next(pipeline.episodes())
        assert agent._reward_normalizer.returns == pytest.approx([four])


@pytest.mark.parametrize("num_envs", [1, 3])
def test_normalizers_learn_every_observed_row_once(num_envs):
    agent = make_normalizing(small_dqn)
    pipeline = counters(agent, num_envs)
    observations, rewards = ObsNormalizer((2,)), RewardNormalizer()
    for window in collect_and_learn(agent, pipeline, 3):
        valid = np.ones(window.length, bool) if window.valid is None else window.valid
        observations.update(window.observations[valid])
        grids = (window.grid(part) for part in (window.rewards, window.dones, valid))
        rewards.update(*grids)
    got = statistics(agent)
    np.testing.assert_allclose(got["obs mean"], observations.mean, rtol=1e-6)
    np.testing.assert_allclose(got["obs var"], observations.var, rtol=1e-6)
    np.testing.assert_allclose(got["reward var"], rewards.var, rtol=1e-6)
    np.testing.assert_allclose(got["reward returns"], rewards.returns, rtol=1e-6)


@pytest.mark.parametrize("small", [small_dqn, small_sac])
def test_acting_validation_and_updates_leave_the_normalizers_as_they_are(small):
    agent = make_normalizing(small, batch_size=4)
    episode = small.make_episode(40, (2,))
    agent.learn(episode)
    before = statistics(agent)
    agent.act(episode.observations[0])
    agent.act_batch(episode.observations)
    agent.act_greedy(episode.observations)
    agent._update(agent._replay, 2)
    if small is small_dqn:
        agent._hyperparams = agent._read({"epsilon": 0.0})
        play_episodes(GreedyAgent(agent), wrap_env(Counter()), 2, seed=0)
    for name, value in statistics(agent).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)


@pytest.mark.parametrize("small", [small_dqn, small_sac])
def test_networks_see_what_is_normalized_and_the_buffer_holds_what_is_raw(small, monkeypatch):
    agent = make_normalizing(small, batch_size=8)
    episode = small.make_episode(60, (2,))
    episode.observations[:] = episode.observations * 5 + 40
    episode.final_obs[:] = 40.0
    episode.end_observations[:] = 40.0
    episode.rewards[:] = 100.0
    agent.learn(episode)
    seen: list[dict[str, Any]] = []
    original = agent._make_updates

    def spy(fields: dict[str, Any], batches: int) -> Any:
        seen.append({name: np.array(field) for name, field in fields.items()})
        return original(fields, batches)

    monkeypatch.setattr(agent, "_make_updates", spy)
    agent._update(agent._replay, 1)
    raw = agent._drawn
    normalize, scale = agent._obs_normalizer.normalize, agent._reward_normalizer.normalize
    for name in ("observations", "next_observations"):
        np.testing.assert_array_equal(seen[0][name], normalize(getattr(raw, name)))
    np.testing.assert_array_equal(seen[0]["rewards"], scale(raw.rewards))
    assert raw.observations.min() > 30.0
    assert (raw.rewards == 100.0).all()
    assert np.abs(seen[0]["observations"]).max() < 10.0


@pytest.mark.parametrize(
    ("framework", "small"),
    [("torch", small_dqn), ("torch", small_sac), ("tensorflow", small_dqn)],
    indirect=["framework"],
)
def test_normalizers_are_saved_and_restored(framework, small, tmp_path):
    agent, other, acting = (make_normalizing(small, seed, framework=framework) for seed in range(3))
    episode = small.make_episode(40, (2,))
    agent.learn(episode)
    agent.save_state(tmp_path / "state")
    agent.save_weights(tmp_path / "weights")
    other.load_state(tmp_path / "state")
    acting.load_weights(tmp_path / "weights")
    before = statistics(agent)
    for name, value in statistics(other).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    expected = agent.act_greedy(episode.observations)
    np.testing.assert_array_equal(acting.act_greedy(episode.observations), expected)


def test_networks_that_saw_normalised_observations_load_only_where_they_do_again(tmp_path):
    normalizing, plain = make_normalizing(small_dqn), small_dqn.make_agent(1, obs_shape=(2,))
    normalizing.save_weights(tmp_path / "normalised")
    plain.save_weights(tmp_path / "raw")
    before = weights(plain._q_network)
    with pytest.raises(
        ValueError, match="learned from normalised observations: make the agent with"
    ):
        plain.load_weights(tmp_path / "normalised")
    np.testing.assert_array_equal(weights(plain._q_network)[0], before[0])
    with pytest.raises(ValueError, match="learned from raw observations: make the agent without"):
        normalizing.load_weights(tmp_path / "raw")


def test_the_mean_of_stored_networks_comes_with_the_mean_of_their_normalizers(tmp_path):
    agent, fresh = make_normalizing(small_dqn), make_normalizing(small_dqn, 1)
    paths, means = [tmp_path / "a", tmp_path / "b"], []
    for path, value in zip(paths, (1.0, 4.0), strict=True):
        agent._obs_normalizer.update(np.full((50, 2), value))
        agent.save_weights(path)
        means.append(agent._obs_normalizer.mean)
    assert fresh.average_weights(paths)
    np.testing.assert_allclose(fresh._obs_normalizer.mean, np.mean(means, axis=0))
