"""The generic agent: what it aims at, how it explores, and the user's own loss."""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from tensor_optix.core.normalizers import ObsNormalizer, RewardNormalizer
from tensor_optix.pipeline.vector_pipeline import VectorBatchPipeline
from tests.algorithms.small_generic import make_agent, make_episode, make_recording_agent
from tests.contracts.agent_contract import AgentContract
from tests.frameworks import weights

if TYPE_CHECKING:
    from tensor_optix.core.types import EpisodeData


def targets_of(episode: EpisodeData, **params: float) -> np.ndarray:
    agent, calls = make_recording_agent(params=params)
    agent.learn(episode)
    return calls[0][2]


def normalized(returns: Any) -> np.ndarray:
    values = np.asarray(returns, np.float64)
    return (values - values.mean()) / values.std()


class TestGenericAgentContract(AgentContract):
    @pytest.fixture
    def make_agent(self, framework):
        return functools.partial(make_agent, framework=framework)

    @pytest.fixture
    def episode(self):
        return make_episode()


class TestGenericAgentContractWithNormalizers(AgentContract):
    @pytest.fixture
    def make_agent(self, torch_framework):
        return lambda seed: make_agent(
            seed,
            framework=torch_framework,
            obs_normalizer=ObsNormalizer((4,)),
            reward_normalizer=RewardNormalizer(),
        )

    @pytest.fixture
    def episode(self):
        return make_episode()


@pytest.mark.needs_a_framework
def test_it_is_found_at_its_documented_path(framework):
    path = f"tensor_optix.adapters.{framework.adapter}.{framework.prefix}_agent"
    module = importlib.import_module(path)
    assert getattr(module, framework.Generic.__name__) is framework.Generic


def test_model_and_optimizer_are_public_and_the_users_own(framework):
    model = framework.perceptron((4, 2))
    optimizer = framework.sgd(0.1, model)
    agent = framework.Generic(model, optimizer)
    assert agent.model is model
    assert agent.optimizer is optimizer


def test_acting_explores():
    agent = make_agent()
    actions = [agent.act(np.zeros(4, np.float32)) for _ in range(200)]
    assert type(actions[0]) is int
    assert set(actions) == {0, 1}


def test_actions_are_as_frequent_as_the_softmax_has_it(framework):
    agent = make_agent(framework=framework)
    *first, matrix, _ = framework.weights(agent.model)
    bias = np.array([0.0, 2.0], np.float32)
    framework.set_weights(agent.model, [*first, np.zeros_like(matrix), bias])
    actions = agent.act_batch(np.zeros((20_000, 4), np.float32))
    assert np.mean(actions) == pytest.approx(np.exp(2.0) / (1.0 + np.exp(2.0)), abs=0.01)
    np.testing.assert_array_equal(agent.act_greedy(np.zeros((3, 4), np.float32)), [1, 1, 1])


def test_two_episodes_with_returns_0_and_10_get_different_targets():
    terminated = np.arange(20) % 10 == 9
    rewards = np.where(np.arange(20) < 10, 0.0, 1.0)
    targets = targets_of(make_episode(20, rewards=rewards, terminated=terminated), gamma=1.0)
    expected = normalized([*([0.0] * 10), *range(10, 0, -1)])
    np.testing.assert_allclose(targets, expected, rtol=1e-5)


@pytest.mark.parametrize("cut", ["terminated", "truncated"])
def test_returns_are_discounted_and_end_with_the_episode(cut):
    flags = {"terminated": np.zeros(4, bool), "truncated": np.zeros(4, bool)}
    flags[cut] = np.array([False, True, False, False])
    targets = targets_of(make_episode(4, rewards=[1.0, 2.0, 4.0, 8.0], **flags), gamma=0.5)
    np.testing.assert_allclose(targets, normalized([2.0, 2.0, 8.0, 8.0]), rtol=1e-5)


def test_environments_do_not_leak_into_each_other():
    rewards = np.array([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]])
    episode = make_episode(6, rewards=rewards.ravel(), terminated=np.zeros(6, bool), num_envs=2)
    expected = [[3.0, 30.0], [4.0, 40.0], [4.0, 40.0]]
    np.testing.assert_allclose(
        targets_of(episode, gamma=0.5), normalized(np.ravel(expected)), rtol=1e-5
    )


def test_rows_that_are_no_transitions_or_have_no_reward_are_left_out():
    agent, calls = make_recording_agent(params={"gamma": 1.0})
    episode = make_episode(
        6,
        rewards=[1.0, 1.0, 1e6, 1.0, np.nan, 3.0],
        terminated=np.array([False, True, False, False, False, False]),
        valid=np.array([True, True, False, True, True, True]),
    )
    agent.learn(episode)
    _, seen, targets = calls[0]
    rows = [0, 1, 3, 5]
    np.testing.assert_array_equal(seen.observations, episode.observations[rows])
    np.testing.assert_array_equal(seen.actions, episode.actions[rows])
    np.testing.assert_array_equal(seen.terminated, episode.terminated[rows])
    np.testing.assert_allclose(targets, normalized([2.0, 1.0, 1.0, 3.0]), rtol=1e-5)


@pytest.mark.needs_a_framework
def test_the_update_is_one_step_along_the_policy_gradient(framework):
    """From the formula: the gradient of `-mean(log pi(a) * A)` is `x (softmax - 1_a) A / B`."""
    episode, rate = make_episode(12), 0.1
    recording, calls = make_recording_agent(framework)
    recording.learn(episode)
    targets = calls[0][2].astype(np.float64)
    model = framework.perceptron((4, 2))
    matrix, bias = framework.weights(model)
    plain = framework.Generic(model, framework.sgd(rate, model), device="cpu")
    diagnostics = plain.learn(episode)
    logits = episode.observations @ matrix.astype(np.float64) + bias
    policy = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    chosen = np.eye(2)[episode.actions]
    loss = -np.mean(np.log((policy * chosen).sum(axis=1)) * targets)
    slopes = (policy - chosen) * targets[:, None] / 12
    gradient = [episode.observations.T @ slopes, slopes.sum(axis=0)]
    assert diagnostics["loss"] == pytest.approx(loss, rel=1e-4)
    norm = np.sqrt(sum(np.sum(part**2) for part in gradient))
    assert diagnostics["grad_norm"] == pytest.approx(norm, rel=1e-4)
    for new, old, slope in zip(weights(model), (matrix, bias), gradient, strict=True):
        np.testing.assert_allclose(new, old - rate * slope, rtol=1e-4, atol=1e-6)


def test_with_values_the_target_is_the_advantage_over_them():
    rewards, values = [1.0, 2.0, 4.0], np.array([[0.5], [1.0], [3.0]], np.float32)
    agent, calls = make_recording_agent(params={"gamma": 0.5})
    episode = make_episode(3, rewards=rewards, values=values, terminated=np.zeros(3, bool))
    diagnostics = agent.learn(episode)
    returns = np.array([3.0, 4.0, 4.0])
    np.testing.assert_allclose(calls[0][2], returns - values[:, 0], rtol=1e-6)
    assert diagnostics["baseline_type"] == "a2c"
    explained = 1.0 - np.var(returns - values[:, 0]) / np.var(returns)
    assert diagnostics["explained_variance"] == pytest.approx(explained, rel=1e-5)


def test_without_values_the_diagnostics_say_reinforce():
    diagnostics = make_agent().learn(make_episode())
    assert diagnostics["baseline_type"] == "reinforce"
    assert diagnostics["explained_variance"] == 0.0
    assert {"loss", "grad_norm", "baseline_type", "explained_variance"} <= set(diagnostics)
    assert diagnostics["n_updates"] == 1


@pytest.mark.needs_a_framework
def test_the_users_own_loss_replaces_the_built_in_one(framework):
    agent, calls = make_recording_agent(framework)
    episode = make_episode()
    expected = np.mean(framework.call(agent.model, episode.observations) ** 2)
    diagnostics = agent.learn(episode)
    assert diagnostics["loss"] == pytest.approx(expected, rel=1e-5)
    assert len(calls) == 1
    assert calls[0][0] is agent.model
    assert calls[0][1].length == len(calls[0][2]) == 40
    for _ in range(50):
        diagnostics = agent.learn(episode)
    assert diagnostics["loss"] < 0.1 * expected


def test_equal_returns_give_no_direction():
    """Rounding must not be blown up by the normalisation."""
    episode = make_episode(30, rewards=np.full(30, 0.1), terminated=np.ones(30, bool))
    np.testing.assert_array_equal(targets_of(episode), 0.0)


def test_a_single_row_is_learned_from_as_it_is():
    episode = make_episode(1, rewards=[2.5])
    np.testing.assert_array_equal(targets_of(episode), [2.5])


def test_a_window_without_a_usable_row_changes_nothing():
    agent = make_agent()
    before = weights(agent.model)
    assert agent.learn(make_episode(valid=np.zeros(40, bool)))["n_updates"] == 0
    for new, old in zip(weights(agent.model), before, strict=True):
        np.testing.assert_array_equal(new, old)


def test_an_update_with_a_gradient_that_is_not_finite_is_left_out_and_said_so(framework, caplog):
    agent = make_agent(framework=framework)
    episode = make_episode()
    episode.observations[3] = np.inf
    diagnostics = agent.learn(episode)
    assert diagnostics["n_updates"] == 0
    assert diagnostics["n_skipped_updates"] == 1
    assert all(np.isfinite(w).all() for w in weights(agent.model))
    assert "not finite" in caplog.text


def test_normalizers_are_applied_to_what_is_learned_from():
    observations = ObsNormalizer((4,))
    observations.update(np.random.default_rng(0).normal(30.0, 5.0, (100, 4)))
    agent, calls = make_recording_agent(
        obs_normalizer=observations, reward_normalizer=RewardNormalizer()
    )
    episode = make_episode(3, rewards=[100.0, 0.0, -100.0], values=np.zeros(3, np.float32))
    expected, mean = observations.normalize(episode.observations), observations.mean
    agent.learn(episode)
    _, seen, targets = calls[0]
    np.testing.assert_array_equal(seen.observations, expected)
    assert np.abs(targets).max() < 20.0
    assert episode.rewards == [100.0, 0.0, -100.0]
    assert (observations.mean < mean).all()


@pytest.mark.parametrize(
    ("shape", "dtype"), [((1,), np.float32), ((4, 84, 84), np.uint8), ((2, 3), np.float64)]
)
def test_any_observation_shape_and_dtype_acts_and_learns(shape, dtype):
    agent = make_agent(obs_shape=shape)
    episode = make_episode(8, observations=np.ones((8, *shape), dtype))
    assert agent.act(episode.observations[0]) in (0, 1)
    assert agent.learn(episode)["n_updates"] == 1


def test_spaces_that_do_not_fit_are_refused_by_name_before_the_first_step(framework):
    agent = make_agent(framework=framework)
    agent.check_spaces(Box(-1, 1, (4,)), Discrete(2))
    with pytest.raises(ValueError, match="needs a Discrete action space"):
        agent.check_spaces(Box(-1, 1, (4,)), Box(-1, 1, (2,)))
    with pytest.raises(ValueError, match=r"one logit per action, \[B, 3\]"):
        agent.check_spaces(Box(-1, 1, (4,)), Discrete(3))
    with pytest.raises(ValueError, match=r"the model cannot take observations of shape \(7,\)"):
        agent.check_spaces(Box(-1, 1, (7,)), Discrete(2))


def test_an_unknown_hyperparameter_is_refused():
    with pytest.raises(ValueError, match="unknown hyperparameter 'gama'; did you mean 'gamma'"):
        make_agent(params={"gama": 0.9})
    assert make_agent().get_hyperparams().params == {"learning_rate": 1e-2, "gamma": 0.99}


def test_cartpole_improves(framework):
    """A policy that does not learn keeps episodes about as long as in the first window: some 20 steps."""
    agent = make_agent(framework=framework)
    env_fns = [lambda: gymnasium.make("CartPole-v1")] * 8
    pipeline = VectorBatchPipeline(env_fns, agent, window_size=128, seed=3)
    windows = pipeline.episodes()
    lengths = []
    for _ in range(25):
        episode = next(windows)
        lengths.append(episode.num_steps / max(len(episode.finished_returns), 1))
        agent.learn(episode)
    pipeline.teardown()
    assert lengths[0] < 35.0
    assert np.mean(lengths[-3:]) > 2.0 * lengths[0]
