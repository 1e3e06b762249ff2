"""Ensembles of the ready-made agents."""

import gymnasium
import numpy as np
import pytest

from tensor_optix.core.base_optimizer import FixedHyperparams
from tensor_optix.core.checkpoint_registry import CheckpointRegistry
from tensor_optix.core.ensemble_agent import EnsembleAgent
from tensor_optix.core.policy_manager import PolicyManager
from tensor_optix.optimizer import RLOptimizer
from tensor_optix.pipeline.batch_pipeline import BatchPipeline
from tests.algorithms import small_dqn, small_gaussian, small_ppo
from tests.frameworks import load

OBSERVATIONS = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)


def frequencies(agent, num_actions, draws=20_000):
    return np.stack(
        [
            np.bincount(agent.act_batch(np.tile(one, (draws, 1))), minlength=num_actions) / draws
            for one in OBSERVATIONS
        ]
    )


def test_a_ppo_agent_tells_the_probabilities_by_which_it_acts(framework):
    agent = small_ppo.make_agent(framework=framework)
    probs = agent.action_probs(OBSERVATIONS)
    np.testing.assert_allclose(probs.sum(axis=1), 1.0)
    np.testing.assert_allclose(frequencies(agent, 3), probs, atol=0.02)
    assert np.ptp(probs) > 0.03


@pytest.mark.parametrize("epsilon", [0.0, 0.4])
def test_a_dqn_agent_tells_the_probabilities_by_which_it_acts(epsilon):
    agent = small_dqn.make_agent(epsilon=epsilon, epsilon_min=0.0)
    probs = agent.action_probs(OBSERVATIONS)
    np.testing.assert_allclose(probs.sum(axis=1), 1.0)
    np.testing.assert_allclose(frequencies(agent, 2), probs, atol=0.02)


def test_a_wholly_random_dqn_agent_still_tells_its_greedy_action():
    agent = small_dqn.make_agent(epsilon=1.0)
    probs = agent.action_probs(OBSERVATIONS)
    np.testing.assert_allclose(probs, 0.5, atol=1e-5)
    np.testing.assert_array_equal(np.argmax(probs, axis=1), agent.act_greedy(OBSERVATIONS))


def test_continuous_agents_tell_no_probabilities():
    with pytest.raises(NotImplementedError, match="does not tell action probabilities"):
        small_gaussian.make_agent().action_probs(OBSERVATIONS)


@pytest.mark.parametrize("name", ["torch", "native"])
@pytest.mark.parametrize("small", [small_ppo, small_dqn])
def test_discrete_ensembles_train_on_cartpole_and_act_by_its_actions(tmp_path, small, name):
    """The released package rejected every action, and recorded one-step episodes of reward 0."""
    params = {"num_actions": 2} if small is small_ppo else {}
    agents = [small.make_agent(seed=seed, framework=load(name), **params) for seed in range(2)]
    manager = PolicyManager(CheckpointRegistry(tmp_path))
    for agent in agents:
        manager.add_agent(agent)
    ensemble = EnsembleAgent(manager, agents[0])
    optimizer = RLOptimizer(
        agent=ensemble,
        pipeline=BatchPipeline(env=gymnasium.make("CartPole-v1"), window_size=128),
        optimizer=FixedHyperparams(),
        checkpoint_dir=tmp_path,
        max_episodes=4,
        seed=0,
    )
    optimizer.run()
    assert optimizer.best_snapshot.eval_metrics.primary_score >= 8.0
    assert ensemble.act(OBSERVATIONS[0]) in (0, 1)
    assert (tmp_path / f"snapshot_{optimizer.best_snapshot.snapshot_id}").is_dir()
    assert list(tmp_path.glob("snapshot_*/weights/members/1"))
