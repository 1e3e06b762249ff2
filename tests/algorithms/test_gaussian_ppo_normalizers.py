"""Normalizers of a PPO agent: what they see, when they learn, and what they must not change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tensor_optix.algorithms.distributions import squashed_gaussian
from tensor_optix.core.decisions.validation import GreedyAgent
from tensor_optix.core.normalizers import ObsNormalizer, RewardNormalizer
from tensor_optix.pipeline.play import play_episodes
from tensor_optix.pipeline.vector_env import wrap_env
from tests.algorithms.small_gaussian import (
    ACTION_DIM,
    ROWS,
    Drift,
    make_agent,
    make_normalizing_agent,
    make_window_pipeline,
    record_log_ratios,
)
from tests.frameworks import framework_engine
from tests.pipeline.counting_env import collect


def statistics(agent: Any) -> dict[str, np.ndarray]:
    observations, rewards = agent._obs_normalizer, agent._reward_normalizer
    return {
        **{f"observations {k}": v for k, v in observations.state_dict().items()},
        **{f"rewards {k}": v for k, v in rewards.state_dict().items()},
    }


def test_with_normalizers_the_first_ratio_of_every_window_is_one(monkeypatch):
    log_ratios = record_log_ratios(monkeypatch)
    with framework_engine():
        agent = make_normalizing_agent(n_epochs=2, minibatch_size=ROWS)
    windows = make_window_pipeline(agent).episodes()
    for _ in range(3):
        log_ratios.clear()
        agent.learn(next(windows))
        assert len(log_ratios) == 2
        np.testing.assert_allclose(np.exp(log_ratios[0]), 1.0, atol=1e-5)
        assert np.abs(log_ratios[1]).max() > 1e-4


def test_the_old_log_probs_are_those_of_the_policy_that_acted_with_its_normalizer(framework):
    """What the normalizer learns of a window must not change what acted in it."""
    agent = make_normalizing_agent(framework=framework, n_epochs=1)
    learned: list[np.ndarray] = []
    epoch = agent._epoch

    def spy(fields: Any, size: int, scalars: Any) -> Any:
        learned.append(np.sort(fields["log_probs"]))
        return epoch(fields, size, scalars)

    agent._epoch = spy
    windows = make_window_pipeline(agent).episodes()
    for number in range(3):
        window = next(windows)
        drawn = squashed_gaussian.recover(window.actions)
        seen = agent._obs_normalizer.normalize(window.observations)
        acted = agent._log_probs(seen, drawn)
        agent.learn(window)
        np.testing.assert_allclose(learned[number], np.sort(acted), rtol=1e-5, atol=1e-5)


def test_learning_feeds_the_normalizers_every_row_once():
    agent = make_normalizing_agent(n_epochs=1)
    episode = collect(make_window_pipeline(agent), 1)[0]
    agent.learn(episode)
    expected_observations, expected_rewards = ObsNormalizer((4,)), RewardNormalizer()
    expected_observations.update(episode.observations)
    expected_rewards.update(episode.rewards, episode.dones)
    state = statistics(agent)
    np.testing.assert_allclose(state["observations mean"], expected_observations.mean)
    assert state["rewards var"] == pytest.approx(expected_rewards.var)
    np.testing.assert_allclose(state["observations mean"], 30.0, atol=2.0)


def test_acting_and_validation_leave_the_normalizers_as_they_are():
    agent = make_normalizing_agent(n_epochs=1)
    episode = collect(make_window_pipeline(agent), 1)[0]
    agent.learn(episode)
    before = statistics(agent)
    agent.act(episode.observations[0])
    agent.act_batch(episode.observations)
    agent.act_greedy(episode.observations)
    play_episodes(GreedyAgent(agent), wrap_env(Drift()), 2, seed=0)
    after = statistics(agent)
    assert before.keys() == after.keys()
    for name, value in before.items():
        np.testing.assert_array_equal(value, after[name], err_msg=name)


def test_networks_see_normalized_observations_when_they_act_and_when_they_learn():
    torch = pytest.importorskip("torch")
    seen: list[np.ndarray] = []

    class Spy(torch.nn.Linear):
        def forward(self, x: Any) -> Any:
            seen.append(x.detach().numpy().copy())
            return super().forward(x)

    agent = make_normalizing_agent(actor=Spy(4, 2 * ACTION_DIM), n_epochs=1, minibatch_size=ROWS)
    pipeline = make_window_pipeline(agent)
    windows = collect(pipeline, 1)
    agent.learn(windows[0])
    expected = agent._obs_normalizer.normalize(windows[0].observations)
    for call in (agent.act_batch, agent.act_greedy, agent.learn):
        seen.clear()
        call(windows[0] if call == agent.learn else windows[0].observations)
        np.testing.assert_array_equal(seen[0], expected)
        # The minibatch holds the same rows in another order.
        np.testing.assert_array_equal(np.sort(seen[-1], axis=0), np.sort(expected, axis=0))
    assert abs(float(expected.mean())) < 0.1
    assert float(expected.std()) == pytest.approx(1.0, abs=0.1)


def test_the_critic_learns_from_normalized_rewards_and_scores_stay_raw():
    plain = make_agent(obs_normalizer=ObsNormalizer((4,)))
    normalizing = make_normalizing_agent()
    episode = collect(make_window_pipeline(plain), 1)[0]
    raw = list(episode.rewards)
    large = plain._prepare(episode)[0]["returns"] * plain._reward_unit
    small = normalizing._prepare(episode)[0]["returns"]
    assert np.abs(large).max() > 50.0
    assert np.abs(small).max() < 15.0
    assert episode.rewards == raw


def test_the_last_and_the_end_observations_are_normalized_for_the_critic():
    agent = make_normalizing_agent()
    episode = collect(make_window_pipeline(agent), 1)[0]
    agent.learn(episode)
    normalize = agent._obs_normalizer.normalize
    np.testing.assert_array_equal(
        agent._end_values(episode), agent._values(normalize(episode.end_observations))
    )
    np.testing.assert_array_equal(
        agent._last_values(episode), agent._values(normalize(episode.final_obs[None]))
    )


def test_normalizers_are_saved_and_restored_with_the_learner(tmp_path):
    agent, other = make_normalizing_agent(), make_normalizing_agent(1)
    episode = collect(make_window_pipeline(agent), 1)[0]
    agent.learn(episode)
    agent.save_state(tmp_path)
    other.load_state(tmp_path)
    for name, value in statistics(agent).items():
        np.testing.assert_array_equal(value, statistics(other)[name], err_msg=name)


def test_saved_weights_bring_what_normalizes_their_observations(tmp_path):
    agent, other = make_normalizing_agent(), make_normalizing_agent(1)
    episode = collect(make_window_pipeline(agent), 1)[0]
    agent.learn(episode)
    agent.save_weights(tmp_path)
    other.load_weights(tmp_path)
    observations = episode.observations
    np.testing.assert_array_equal(agent.act_greedy(observations), other.act_greedy(observations))
