"""PPO and the policy gradient: one window gives the same losses and weights in PyTorch and TensorFlow."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("torch")

from tests.parity.agents import (
    adam_within,
    make_gaussian_ppo,
    make_generic,
    make_ppo,
    make_ppo_of_choices,
    make_ppo_with_trunk,
    normalizers,
)
from tests.parity.twins import DRIFTED, STRICT, Within
from tests.parity.windows import IMAGE, ROWS, VECTOR, make_row, make_window, make_window_of_choices

SIZES = {"n_epochs": 2, "minibatch_size": 16}
"""46 rows that can be learned from: two whole minibatches and one of 14, twice."""
UPDATES = 6


def test_ppo_with_normalizers_stays_the_same_over_three_windows_and_other_hyperparameters():
    twins = make_ppo(options=normalizers(VECTOR), **SIZES)
    first = twins.learn(make_window())
    assert first["n_updates"] == UPDATES
    assert first["grad_norm"] > 0.5, "clipping must have been at work"
    assert first["approx_kl"] > 1e-5, "the policy must have moved between updates"
    twins.set_hyperparams(clip_ratio=0.01, entropy_coef=0.1, vf_coef=1.0, learning_rate=0.3)
    twins.learn(make_window(seed=1), DRIFTED)
    twins.set_hyperparams(gamma=0.9, gae_lambda=0.5, max_grad_norm=10.0, minibatch_size=13)
    twins.learn(make_window(seed=2), DRIFTED)


def test_ppo_of_byte_images_with_momentum_and_then_of_a_single_row():
    twins = make_ppo("momentum", rate=0.05, obs_shape=IMAGE, **SIZES)
    twins.learn(make_window(IMAGE))
    twins.learn(make_window(IMAGE, seed=1), DRIFTED)
    twins.learn(make_window(IMAGE, seed=2), DRIFTED)
    assert twins.learn(make_row(IMAGE), DRIFTED)["n_updates"] == 2


@pytest.mark.parametrize("obs_shape", [VECTOR, IMAGE], ids=["vector", "image"])
def test_ppo_with_one_trunk_of_actor_and_critic(obs_shape):
    twins = make_ppo_with_trunk("momentum", rate=0.05, obs_shape=obs_shape, **SIZES)
    for agent in twins:
        assert agent.ops.shared(agent._actor, agent._critic) is not None
    twins.learn(make_window(obs_shape))
    twins.learn(make_window(obs_shape, seed=1), DRIFTED)


def test_ppo_by_adam():
    rate = 0.01
    twins = make_ppo("adam", rate=rate, **SIZES)
    for count in (1, 2, 3):
        twins.learn(make_window(seed=count), adam_within(rate, UPDATES * count))


def test_ppo_of_several_choices_stays_the_same_over_three_windows():
    twins = make_ppo_of_choices(options=normalizers(VECTOR), entropy_coef=0.1, **SIZES)
    assert twins.learn(make_window_of_choices())["approx_kl"] > 1e-5
    twins.learn(make_window_of_choices(seed=1), DRIFTED)
    twins.learn(make_window_of_choices(seed=2), DRIFTED)


def test_gaussian_ppo_with_normalizers_and_momentum_stays_the_same_over_three_windows():
    twins = make_gaussian_ppo("momentum", rate=0.02, options=normalizers(VECTOR), **SIZES)
    twins.learn(make_window(is_discrete=False))
    twins.learn(make_window(is_discrete=False, seed=1), DRIFTED)
    twins.learn(make_window(is_discrete=False, seed=2), DRIFTED)


def test_gaussian_ppo_of_actions_at_their_very_bounds():
    """The arctanh that is recovered of them is 18.7, where the log-density is some -350 in float32.

    Its last place is 3e-5 there, so that the ratio of two densities is off by 6e-5.
    """
    window = make_window(is_discrete=False)
    window.actions[::5], window.actions[1::7] = 1.0, -1.0
    # One update: on a density that steep it moves the policy so far that the next has no digits left.
    twins = make_gaussian_ppo(rate=0.02, n_epochs=1, minibatch_size=ROWS)
    twins.learn(window, Within(1e-4))


def test_ppo_of_another_policys_window_and_of_one_with_numbers_that_are_not_finite():
    window = make_window()
    window.log_probs = np.random.default_rng(4).uniform(-4.0, 0.0, ROWS).astype(np.float32)
    twins = make_ppo(**SIZES)
    assert twins.learn(window)["approx_kl"] > 0.1
    window.rewards[3], window.observations[25], window.log_probs[30] = np.nan, np.inf, np.nan
    diagnostics = twins.learn(window, DRIFTED)
    # The reward and the observation cost their rows, the log-probability an update in each epoch.
    assert diagnostics["n_skipped_updates"] == SIZES["n_epochs"]
    assert diagnostics["n_updates"] > 0
    window.valid[:] = False
    before = twins.tf._actor.get_weights()
    assert twins.learn(window, DRIFTED)["n_updates"] == 0
    for old, new in zip(before, twins.tf._actor.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    ("kind", "has_values"), [("sgd", False), ("momentum", True)], ids=["reinforce", "a2c"]
)
def test_the_policy_gradient_stays_the_same_over_three_windows(kind, has_values):
    twins = make_generic(kind, rate=0.2, options=normalizers(VECTOR) if has_values else None)
    for seed, within in enumerate([STRICT, DRIFTED, DRIFTED]):
        values = np.random.default_rng(seed).standard_normal(ROWS) if has_values else None
        diagnostics = twins.learn(make_window(seed=seed, values=values), within)
        assert diagnostics["baseline_type"] == ("a2c" if has_values else "reinforce")
        assert diagnostics["n_updates"] == 1


def test_the_policy_gradient_of_byte_images_and_of_a_single_row():
    twins = make_generic(rate=0.5, obs_shape=IMAGE)
    twins.learn(make_window(IMAGE))
    # The return of a single row is not normalised: it is its reward.
    assert twins.learn(make_row(IMAGE), DRIFTED)["n_updates"] == 1


def test_the_policy_gradient_leaves_out_the_same_rows_and_the_same_update():
    window = make_window()
    window.rewards[5] = np.nan
    twins = make_generic()
    assert twins.learn(window)["n_updates"] == 1
    window.observations[7] = np.inf
    assert twins.learn(window)["n_skipped_updates"] == 1
