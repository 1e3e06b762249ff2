"""DQN, SAC and TD3: the same rows, replayed with the same noise, give the same losses and weights."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("torch")

from tests.parity.agents import adam_within, make_dqn, make_sac, make_td3, normalizers
from tests.parity.twins import DRIFTED, arrays_of
from tests.parity.windows import IMAGE, VECTOR, make_window

REPLAY = {"batch_size": 16, "replay_capacity": 300, "learning_starts": 46}
"""The first window, of 46 transitions, ends with the first updates; the following ones have one per step."""
PRIORITISED = {"n_step": 3, "per_alpha": 0.6, "per_beta": 0.5}
DQN = REPLAY | {"target_update_freq": 8, "updates_per_step": 0.5}
SAC = REPLAY | {"tau": 0.1}


def learn_three_windows(twins, obs_shape=VECTOR, is_discrete=True):
    """Let both learn from three windows; return the diagnostics of the last."""
    twins.learn(make_window(obs_shape, is_discrete))
    twins.learn(make_window(obs_shape, is_discrete, seed=1), DRIFTED)
    return twins.learn(make_window(obs_shape, is_discrete, seed=2), DRIFTED)


def target_lags(agent, name, target):
    """Whether a target network has other weights than the network that it follows."""
    arrays = arrays_of(agent)
    return not np.allclose(arrays[name][0], arrays[target][0], rtol=1e-3, atol=0.0)


def assert_the_same_updates_are_left_out(twins, window):
    """A reward and an observation that are not finite come into the replay, and into some batches."""
    window.rewards[5], window.observations[25] = np.nan, np.inf
    diagnostics = twins.learn(window, DRIFTED)
    assert diagnostics["n_skipped_updates"] > 0
    assert diagnostics["n_updates"] > 0


def test_dqn_with_uniform_replay():
    twins = make_dqn(rate=0.05, **DQN)
    assert learn_three_windows(twins)["target_updated"] == 1
    assert all(target_lags(agent, "q_network", "target") for agent in twins)
    assert_the_same_updates_are_left_out(twins, make_window(seed=3))


def test_dqn_with_n_steps_importance_weights_normalizers_and_momentum():
    twins = make_dqn("momentum", rate=0.02, options=normalizers(VECTOR), **DQN, **PRIORITISED)
    learn_three_windows(twins)
    # Priorities follow from the errors of both, and decide what is drawn next.
    drawn = [agent._replay.sample(64, 1) for agent in twins]
    np.testing.assert_array_equal(drawn[0].indices, drawn[1].indices)
    np.testing.assert_allclose(drawn[0].weights, drawn[1].weights, rtol=1e-4)
    assert np.ptp(drawn[0].weights) > 0.1, "weights that are all 1 would show nothing"


def test_dqn_of_byte_images_by_adam():
    rate, updates = 0.01, 1
    twins = make_dqn("adam", rate=rate, obs_shape=IMAGE, **DQN)
    for seed in range(3):
        twins.learn(make_window(IMAGE, seed=seed), adam_within(rate, updates))
        updates += 23


def test_sac_with_uniform_replay_and_then_another_learning_rate_and_tau():
    twins = make_sac(rate=0.02, **SAC)
    learn_three_windows(twins, is_discrete=False)
    twins.set_hyperparams(learning_rate=0.05, tau=0.5, gamma=0.9)
    diagnostics = twins.learn(make_window(is_discrete=False, seed=3), DRIFTED)
    assert diagnostics["alpha"] != pytest.approx(1.0, abs=0.01)
    assert all(target_lags(agent, "critic1", "target_critics") for agent in twins)
    assert_the_same_updates_are_left_out(twins, make_window(is_discrete=False, seed=4))


def test_sac_of_byte_images_with_n_steps_importance_weights_and_momentum():
    twins = make_sac("momentum", rate=0.01, obs_shape=IMAGE, **SAC, **PRIORITISED)
    learn_three_windows(twins, IMAGE, is_discrete=False)


def test_sac_with_normalizers_by_adam():
    rate, updates = 0.01, 0
    options = normalizers(VECTOR)
    twins = make_sac("adam", rate=rate, options=options, **SAC, updates_per_step=0.34)
    for seed in range(3):
        # One update with the last three rows of the first window, then 46 times 0.34.
        updates += 16 if seed else 1
        window = make_window(is_discrete=False, seed=seed)
        made = twins.learn(window, adam_within(rate, updates))["n_updates"]
        assert made <= updates


def test_td3_with_uniform_replay_and_then_another_learning_rate_and_delay():
    twins = make_td3(rate=0.02, **SAC)
    learn_three_windows(twins, is_discrete=False)
    twins.set_hyperparams(learning_rate=0.05, tau=0.5, gamma=0.9, policy_delay=3)
    twins.learn(make_window(is_discrete=False, seed=3), DRIFTED)
    assert all(target_lags(agent, "critic1", "target_critics") for agent in twins)
    assert all(target_lags(agent, "actor", "target_actor") for agent in twins)
    assert_the_same_updates_are_left_out(twins, make_window(is_discrete=False, seed=4))


def test_td3_of_byte_images_with_n_steps_importance_weights_and_momentum():
    twins = make_td3("momentum", rate=0.01, obs_shape=IMAGE, **SAC, **PRIORITISED)
    learn_three_windows(twins, IMAGE, is_discrete=False)


def test_td3_with_normalizers_by_adam():
    rate, updates = 0.01, 0
    params = SAC | {"updates_per_step": 0.34, "policy_delay": 1}
    twins = make_td3("adam", rate=rate, options=normalizers(VECTOR), **params)
    for seed in range(3):
        updates += 16 if seed else 1
        window = make_window(is_discrete=False, seed=seed)
        made = twins.learn(window, adam_within(rate, updates))["n_updates"]
        assert made <= updates
