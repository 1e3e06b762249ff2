"""PPO: its signal, its guards, and what it does with each kind of window."""

from __future__ import annotations

from functools import partial
from itertools import islice

import numpy as np
import pytest

from tensor_optix.algorithms import distributions, ppo
from tensor_optix.core.decisions.validation import GreedyAgent
from tensor_optix.core.normalizers import RewardNormalizer
from tensor_optix.core.types import EpisodeData
from tensor_optix.pipeline.vector_pipeline import VectorBatchPipeline
from tests.algorithms.small_ppo import make_agent, make_episode, weights
from tests.contracts.agent_contract import AgentContract
from tests.pipeline.counting_env import Counter


class TestPPOContract(AgentContract):
    @pytest.fixture
    def make_agent(self, framework):
        return partial(make_agent, framework=framework)

    @pytest.fixture
    def episode(self):
        return make_episode()


def test_another_seed_acts_otherwise():
    observations, one, other = make_episode().observations, make_agent(), make_agent()
    other.seed(1)
    assert not np.array_equal(one.act_batch(observations), other.act_batch(observations))


def test_the_ratio_is_one_before_the_first_update(framework):
    agent = make_agent(framework=framework, n_epochs=1, minibatch_size=128)
    diagnostics = agent.learn(make_episode())
    assert diagnostics["n_updates"] == 1
    assert abs(diagnostics["approx_kl"]) < 1e-6
    assert abs(diagnostics["policy_loss"]) < 1e-5


def test_every_row_is_used_in_every_epoch_also_in_a_short_last_minibatch():
    diagnostics = make_agent(n_epochs=2, minibatch_size=50).learn(make_episode(128))
    assert diagnostics["n_updates"] == 2 * 3


def test_diagnostics_have_the_documented_names():
    diagnostics = make_agent().learn(make_episode())
    names = "policy_loss value_loss entropy approx_kl explained_var explained_variance n_updates"
    assert set(names.split()) <= set(diagnostics)
    assert diagnostics["entropy"] == pytest.approx(np.log(3), abs=0.1)


def test_invalid_rows_are_never_learned_from():
    """Whatever an environment's reset rows hold, the update is the same."""
    episode = make_episode()
    episode.valid = np.ones(128, bool)
    episode.terminated[39] = True
    episode.valid[40] = False
    changed = make_episode()
    changed.terminated[39], changed.valid = True, episode.valid
    changed.rewards[40] = 1e6
    changed.observations[40] = 1e3
    changed.actions[40] = 2
    one, other = make_agent(), make_agent()
    assert one.learn(episode) == other.learn(changed)


def test_a_row_with_a_nan_reward_is_left_out_and_the_weights_stay_finite():
    episode = make_episode()
    episode.rewards[64] = np.nan
    agent = make_agent()
    diagnostics = agent.learn(episode)
    assert diagnostics["n_skipped_updates"] == 0
    assert all(np.isfinite(w).all() for w in weights(agent))


def test_an_update_with_a_gradient_that_is_not_finite_is_left_out_and_said_so(framework, caplog):
    episode = make_episode()
    episode.observations[3] = np.inf
    agent = make_agent(framework=framework, n_epochs=1)
    agent.learn(episode)
    assert all(np.isfinite(w).all() for w in weights(agent))
    episode = make_episode()
    episode.log_probs = np.full(128, np.nan, np.float32)
    diagnostics = agent.learn(episode)
    assert diagnostics["n_updates"] == 0
    assert diagnostics["n_skipped_updates"] == 2
    assert "not finite" in caplog.text


def test_a_window_without_a_usable_row_changes_nothing():
    episode = make_episode()
    episode.valid = np.zeros(128, bool)
    agent = make_agent()
    before = weights(agent)
    assert agent.learn(episode)["n_updates"] == 0
    assert all(np.array_equal(a, b) for a, b in zip(before, weights(agent), strict=True))


def test_what_is_learned_of_several_environments_is_what_is_learned_of_each_alone(framework):
    """Advantages are normalised over the window, so the returns are compared: they hold no trace of it."""
    agent, together = make_agent(framework=framework), make_episode(40, num_envs=2)
    rollout, _ = agent._prepare(together)
    for n in range(2):
        alone = make_episode(40, num_envs=2)
        for name in ("observations", "actions", "rewards", "terminated", "truncated"):
            setattr(alone, name, getattr(alone, name)[n::2])
        alone.num_envs, alone.final_obs = 1, together.final_obs[n]
        expected, _ = agent._prepare(alone)
        np.testing.assert_allclose(rollout["returns"][n::2], expected["returns"], rtol=1e-5)


def test_log_probs_of_another_behaviour_policy_are_used():
    episode = make_episode()
    episode.log_probs = np.full(128, -3.0, np.float32)
    diagnostics = make_agent(n_epochs=1, minibatch_size=128).learn(episode)
    assert diagnostics["approx_kl"] > 0.1


def test_a_time_limit_is_no_termination_for_the_critic():
    """A reward of 1 for ever, cut every 10 steps: the value is 1 / (1 - gamma) = 10, not less."""
    rows, gamma = 200, 0.9
    truncated = np.arange(rows) % 10 == 9
    observation = np.ones((rows, 1), np.float32)
    ends = np.flatnonzero(truncated)
    episode = EpisodeData(
        observations=observation,
        actions=np.zeros(rows, np.int64),
        rewards=np.ones(rows, np.float32),
        terminated=np.zeros(rows, bool),
        truncated=truncated,
        infos=[],
        episode_id=0,
        end_rows=ends,
        end_observations=np.ones((len(ends), 1), np.float32),
    )
    agent = make_agent(obs_shape=(1,), num_actions=1, gamma=gamma, learning_rate=1e-2)
    for _ in range(60):
        agent.learn(episode)
    assert float(agent._values(observation[:1])[0]) == pytest.approx(10.0, rel=0.05)


def test_a_reward_normalizer_changes_what_is_learned_and_is_saved_with_the_agent(
    framework, tmp_path
):
    agent, other = (
        make_agent(seed, framework=framework, reward_normalizer=RewardNormalizer())
        for seed in range(2)
    )
    agent.learn(make_episode())
    agent.save_state(tmp_path)
    other.load_state(tmp_path)
    rewards = np.linspace(-1, 1, 5, dtype=np.float32)
    np.testing.assert_array_equal(
        agent._reward_normalizer.normalize(rewards), other._reward_normalizer.normalize(rewards)
    )
    assert not np.allclose(agent._reward_normalizer.normalize(rewards), rewards)


def test_running_returns_begin_at_0_where_the_environments_do_and_only_then():
    agent = make_agent(obs_shape=(2,), num_actions=2, reward_normalizer=RewardNormalizer())

    def learned(pipeline, windows=1):
        for window in islice(pipeline.episodes(), windows):
            agent.learn(window)
        return agent._reward_normalizer.returns

    pipeline = VectorBatchPipeline([partial(Counter, length=1000)] * 2, agent, window_size=3)
    pipeline.setup()
    three = sum(0.99**k for k in range(3))
    assert learned(pipeline) == pytest.approx([three] * 2)
    six = learned(pipeline)
    assert six == pytest.approx([three + 0.99**3 * three] * 2)
    held_out = VectorBatchPipeline([Counter], GreedyAgent(agent), window_size=9)
    next(held_out.episodes())
    assert agent._reward_normalizer.returns.tolist() == six.tolist()
    for begin in (pipeline.restart, pipeline.setup):
        begin()
        assert learned(pipeline) == pytest.approx([three] * 2)
    other = VectorBatchPipeline([partial(Counter, length=1000)] * 5, agent, window_size=3)
    assert learned(other) == pytest.approx([three] * 5)


def test_the_policy_loss_is_equation_7_of_the_paper(framework):
    rng = np.random.default_rng(0)
    log_ratio, advantages = rng.normal(0, 0.4, 200), rng.standard_normal(200)
    ratio = np.exp(log_ratio)
    expected = -np.mean(
        [min(r * a, min(max(r, 0.8), 1.2) * a) for r, a in zip(ratio, advantages, strict=True)]
    )
    tensors = map(framework.tensor, (log_ratio, advantages, 0.2))
    loss = ppo.clipped_surrogate(framework.backend, *tensors)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_categorical_log_probs_entropy_and_samples_agree_with_softmax(framework):
    logits = np.array([[1.0, 0.0, -1.0]], np.float32)
    probabilities = np.exp(logits[0]) / np.exp(logits[0]).sum()
    categorical = distributions.categorical
    backend, tensor = framework.backend, framework.tensor
    log_prob = categorical.log_prob(backend, tensor(logits), tensor(np.array([2])))
    entropy = categorical.entropy(backend, tensor(logits))
    assert float(log_prob[0]) == pytest.approx(np.log(probabilities[2]), rel=1e-5)
    assert float(entropy[0]) == pytest.approx(
        -(probabilities * np.log(probabilities)).sum(), rel=1e-5
    )
    draws = categorical.sample(np.random.default_rng(0), np.repeat(logits, 20_000, axis=0))
    frequencies = np.bincount(draws, minlength=3) / len(draws)
    np.testing.assert_allclose(frequencies, probabilities, atol=0.02)
    assert categorical.greedy(logits)[0] == 0


def test_an_unbounded_last_observation_costs_its_own_row_only():
    episode = make_episode(64)
    episode.final_obs[:] = np.nan
    agent = make_agent(n_epochs=1, minibatch_size=1)
    assert agent.learn(episode)["n_updates"] == 63


def test_a_single_row_can_be_learned_from():
    episode = make_episode(1)
    agent = make_agent(entropy_coef=0.0)
    before = weights(agent)
    agent.learn(episode)
    assert not np.array_equal(before[0], weights(agent)[0])


def test_equal_advantages_say_nothing(torch_framework):
    """Not even by rounding: a thousand times 0.1 has the mean 0.1."""
    agent = make_agent(gae_lambda=0.0, gamma=0.0)
    episode = make_episode(rows=1000)
    episode.rewards = np.full(1000, 0.1, np.float32)
    critic = agent._critic
    torch_framework.set_weights(critic, [np.zeros_like(w) for w in torch_framework.weights(critic)])
    rollout, _ = agent._prepare(episode)
    np.testing.assert_array_equal(rollout["advantages"], 0.0)
