"""PPO for continuous actions: its signal where tanh saturates, and what it accepts."""

from __future__ import annotations

import copy
import functools

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from tensor_optix.core.normalizers import ObsNormalizer
from tensor_optix.pipeline.batch_pipeline import BatchPipeline
from tests.algorithms.small_gaussian import (
    ACTION_DIM,
    ROWS,
    Drift,
    make_agent,
    make_episode,
    make_normalizing_agent,
    make_saturated_actor,
    make_window_pipeline,
    record_log_ratios,
)
from tests.contracts.agent_contract import AgentContract
from tests.frameworks import framework_engine
from tests.pipeline.counting_env import collect


class TestGaussianPPOContract(AgentContract):
    @pytest.fixture
    def make_agent(self, torch_framework):
        return functools.partial(make_agent, framework=torch_framework)

    @pytest.fixture
    def episode(self):
        return make_episode()


class TestGaussianPPOContractWithNormalizers(AgentContract):
    @pytest.fixture
    def make_agent(self, torch_framework):
        return functools.partial(make_normalizing_agent, framework=torch_framework)

    @pytest.fixture
    def episode(self):
        return make_episode()


def test_a_restored_learner_with_normalizers_goes_on_bit_for_bit(framework, tmp_path):
    straight, resumed = (make_normalizing_agent(seed, framework=framework) for seed in range(2))
    episode = make_episode()
    straight.learn(episode)
    straight.save_state(tmp_path)
    resumed.load_state(tmp_path)
    assert straight.learn(episode) == resumed.learn(episode)
    actions = (agent.act_batch(episode.observations) for agent in (straight, resumed))
    np.testing.assert_array_equal(*actions)


@pytest.mark.parametrize(("mean", "log_std"), [(6.0, 1.0), (-6.0, 1.0), (8.0, -1.0)])
def test_before_the_first_update_every_ratio_is_one_also_where_tanh_saturates(
    monkeypatch, mean, log_std
):
    log_ratios = record_log_ratios(monkeypatch)
    actor = make_saturated_actor(mean, log_std)
    with framework_engine():
        agent = make_agent(actor=actor, n_epochs=1, minibatch_size=ROWS)
    diagnostics = agent.learn(collect(make_window_pipeline(agent), 1)[0])
    assert diagnostics["n_updates"] == 1
    assert log_ratios[0].shape == (ROWS,)
    np.testing.assert_allclose(np.exp(log_ratios[0]), 1.0, atol=1e-5)


@pytest.mark.parametrize(("mean", "log_std"), [(6.0, 1.0), (-6.0, 1.0), (8.0, -1.0)])
def test_the_engines_ratios_are_one_before_the_first_update_too(mean, log_std):
    actor = make_saturated_actor(mean, log_std)
    agent = make_agent(actor=actor, n_epochs=1, minibatch_size=ROWS)
    if agent.engine_choice.name != "native":
        pytest.skip("the engine is not there")
    diagnostics = agent.learn(collect(make_window_pipeline(agent), 1)[0])
    # The mean of (r - 1) - log r, which is about (log r)^2 / 2.
    assert abs(diagnostics["approx_kl"]) < 1e-9


@pytest.mark.parametrize(("mean", "log_std"), [(6.0, 1.0), (8.0, -1.0), (0.0, 0.0)])
def test_a_window_holds_the_very_draws_that_acted(framework, mean, log_std):
    """What the log-probabilities are taken of is what was drawn before the tanh, not a bound of it."""
    actor = make_saturated_actor(mean, log_std, framework)
    agent = make_agent(framework=framework, actor=actor)
    noise = copy.deepcopy(agent._rng).standard_normal((ROWS, ACTION_DIM))
    episode = collect(make_window_pipeline(agent), 1)[0]
    rollout, _ = agent._prepare(episode)
    means = agent._policy(episode.observations)[:, :ACTION_DIM]
    drawn = means + np.exp(log_std) * noise
    np.testing.assert_allclose(rollout["actions"], drawn, atol=1e-3)


def test_actions_are_within_minus_one_and_one_and_a_single_one_is_float32(framework):
    agent = make_agent(framework=framework)
    observations = make_episode().observations
    for actions in (agent.act_batch(observations), agent.act_greedy(observations)):
        assert actions.shape == (len(observations), ACTION_DIM)
        assert (np.abs(actions) < 1.0).all()
    action = agent.act(observations[0])
    assert action.dtype == np.float32
    assert action.shape == (ACTION_DIM,)
    assert agent.has_unit_actions


def test_a_saturated_policy_never_leaves_the_interval(framework):
    actor = make_saturated_actor(30.0, 2.0, framework)
    agent = make_agent(framework=framework, actor=actor)
    actions = agent.act_batch(make_episode().observations)
    assert (np.abs(actions) <= 1.0).all()


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (Discrete(2), r"action_dim=2, needs a Box action space of 2 components, got Discrete\(2\)"),
        (Box(-1, 1, (3,)), r"action_dim=2, needs a Box action space of 2 components, got Box"),
    ],
)
def test_an_action_space_that_does_not_fit_is_refused_before_the_first_step(space, message):
    with pytest.raises(ValueError, match=message):
        make_agent().check_spaces(Box(-1, 1, (4,)), space)


def test_an_actor_without_log_std_is_refused_before_the_first_step(framework):
    agent = make_agent(framework=framework, actor=framework.perceptron((4, ACTION_DIM)))
    with pytest.raises(ValueError, match=r"mean and log_std side by side, \[B, 4\].*got \[2, 2\]"):
        agent.check_spaces(Box(-1, 1, (4,)), Box(-1, 1, (2,)))


def test_networks_that_cannot_take_the_observations_are_refused_by_name(framework):
    with pytest.raises(ValueError, match=r"the actor cannot take observations of shape \(7,\)"):
        make_agent(framework=framework).check_spaces(Box(-1, 1, (7,)), Box(-1, 1, (2,)))


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((1,), np.float32), ((4, 84, 84), np.uint8), ((3,), np.uint8), ((2, 3), np.float64)],
)
def test_any_observation_shape_and_dtype_acts_and_learns(shape, dtype):
    agent = make_agent(obs_shape=shape, n_epochs=1)
    episode = make_episode(8, shape, dtype)
    assert agent.act(episode.observations[0]).shape == (ACTION_DIM,)
    assert agent.learn(episode)["n_updates"] == 1


def test_learning_moves_the_policy_towards_what_pays():
    """The reward is the first action component, so its mean must rise."""
    agent = make_agent(obs_normalizer=ObsNormalizer((4,)), learning_rate=3e-3)
    pipeline = BatchPipeline(env=Drift(), agent=agent, window_size=256, seed=1)
    windows = pipeline.episodes()
    before = np.mean(next(windows).actions[:, 0])
    for _ in range(10):
        agent.learn(next(windows))
    assert np.mean(next(windows).actions[:, 0]) > before + 0.3
