"""The squashed Gaussian against SciPy: densities, entropy, and what can be recovered of an action."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

torch = pytest.importorskip("torch")

from tensor_optix.adapters.pytorch import backend
from tensor_optix.algorithms.distributions import (
    LOG_STD_MAX,
    LOG_STD_MIN,
    categorical,
    require_action_dim,
    squashed_draw,
    squashed_gaussian,
)


def outputs_of(mean, log_std):
    """Actor outputs `[B, 2A]` of means and log standard deviations `[B, A]`."""
    return np.concatenate([np.atleast_2d(mean), np.atleast_2d(log_std)], axis=-1)


def log_prob(outputs, pre_tanh):
    arguments = (torch.tensor(np.asarray(x, np.float64)) for x in (outputs, pre_tanh))
    return squashed_gaussian.log_prob(backend, *arguments).numpy()


def expected_log_prob(mean, log_std, pre_tanh):
    """`sum(log N(u; mean, std) - log(1 - tanh(u)^2 + 1e-6))`, the Gaussian by SciPy."""
    gaussian = stats.norm.logpdf(pre_tanh, mean, np.exp(log_std))
    return (gaussian - np.log(1.0 - np.tanh(pre_tanh) ** 2 + 1e-6)).sum(axis=-1)


def test_log_probs_are_those_of_the_formula_also_where_tanh_saturates():
    rng = np.random.default_rng(0)
    mean, log_std = rng.uniform(-8, 8, (200, 3)), rng.uniform(-5, 2, (200, 3))
    pre_tanh = mean + np.exp(log_std) * rng.standard_normal((200, 3))
    expected = expected_log_prob(mean, log_std, pre_tanh)
    np.testing.assert_allclose(log_prob(outputs_of(mean, log_std), pre_tanh), expected, rtol=1e-9)


def test_far_in_the_tails_the_epsilon_bounds_the_density():
    """Without it, `-log(1 - tanh(20)^2)` would be infinite in double precision."""
    outputs = outputs_of([[20.0]], [[0.0]])
    expected = stats.norm.logpdf(0.0) - np.log(1e-6)
    assert log_prob(outputs, [[20.0]])[0] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("mean", "log_std"), [(0.0, 0.0), (0.7, -1.0), (-1.2, 0.3)])
def test_the_density_of_an_action_integrates_to_one_up_to_the_epsilon(mean, log_std):
    outputs = outputs_of([[mean]], [[log_std]])

    def density(action):
        return float(np.exp(log_prob(outputs, [[np.arctanh(action)]])[0]))

    total, _ = integrate.quad(density, -1.0 + 1e-12, 1.0 - 1e-12, limit=200)
    assert total == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(("asked", "used"), [(-50.0, LOG_STD_MIN), (50.0, LOG_STD_MAX)])
def test_log_std_is_clamped_in_samples_densities_and_entropy(asked, used):
    assert (LOG_STD_MIN, LOG_STD_MAX) == (-5.0, 2.0)
    wild, tame = outputs_of([[0.1]], [[asked]]), outputs_of([[0.1]], [[used]])
    samples = [
        squashed_gaussian.sample(np.random.default_rng(0), outputs) for outputs in (wild, tame)
    ]
    np.testing.assert_array_equal(*samples)
    assert log_prob(wild, [[0.2]]) == log_prob(tame, [[0.2]])
    entropies = [
        float(squashed_gaussian.entropy(backend, torch.tensor(outputs))) for outputs in (wild, tame)
    ]
    assert entropies[0] == entropies[1]


def test_the_entropy_is_that_of_the_gaussian_before_squashing():
    log_std = np.array([[-1.0, 0.5], [0.0, 2.0]])
    expected = stats.norm(0.0, np.exp(log_std)).entropy().sum(axis=-1)
    entropy = squashed_gaussian.entropy(backend, torch.tensor(outputs_of(np.ones((2, 2)), log_std)))
    np.testing.assert_allclose(entropy.numpy(), expected, rtol=1e-9)


@settings(max_examples=50, deadline=None)
@given(mean=st.floats(-8.0, 8.0), log_std=st.floats(-5.0, 0.0), seed=st.integers(0, 2**32 - 1))
def test_what_an_action_was_before_the_tanh_is_recovered_to_1e_4(mean, log_std, seed):
    outputs = outputs_of(np.full((64, 2), mean), np.full((64, 2), log_std))
    actions = squashed_gaussian.sample(np.random.default_rng(seed), outputs)
    noise = np.random.default_rng(seed).standard_normal((64, 2))
    pre_tanh = mean + np.exp(log_std) * noise
    np.testing.assert_allclose(squashed_gaussian.recover(actions), pre_tanh, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_actions_at_the_very_ends_recover_to_something_finite_of_the_right_sign(dtype):
    recovered = squashed_gaussian.recover(np.array([[-1.0, 1.0]], dtype))
    assert np.isfinite(recovered).all()
    assert recovered[0, 0] < -8.0
    assert recovered[0, 1] > 8.0
    assert recovered.dtype == np.float32


def test_samples_follow_the_seed_and_the_distribution():
    outputs = np.repeat(outputs_of([[0.5, -1.0]], [[-0.5, 0.2]]), 20_000, axis=0)
    same = [squashed_gaussian.sample(np.random.default_rng(7), outputs) for _ in range(2)]
    np.testing.assert_array_equal(*same)
    other = squashed_gaussian.sample(np.random.default_rng(8), outputs)
    assert not np.array_equal(same[0], other)
    for column, (mean, log_std) in enumerate([(0.5, -0.5), (-1.0, 0.2)]):
        cdf = stats.norm(mean, np.exp(log_std)).cdf
        assert stats.kstest(np.arctanh(other[:, column]), cdf).pvalue > 1e-3


def test_the_greedy_action_is_the_squashed_mean():
    outputs = outputs_of([[0.5, -2.0]], [[1.0, 1.0]]).astype(np.float32)
    np.testing.assert_allclose(squashed_gaussian.greedy(outputs), np.tanh([[0.5, -2.0]]), rtol=1e-6)


def test_a_draw_within_the_framework_is_the_same_distribution():
    outputs = torch.tensor(outputs_of([[0.5, -1.0]], [[0.3, 9.0]]), requires_grad=True)
    noise = np.array([[0.2, -0.7]])
    actions, log_probs = squashed_draw(backend, outputs, torch.tensor(noise))
    pre_tanh = [0.5, -1.0] + np.exp([0.3, LOG_STD_MAX]) * noise
    np.testing.assert_allclose(actions.detach().numpy(), np.tanh(pre_tanh))
    expected = expected_log_prob([[0.5, -1.0]], [[0.3, LOG_STD_MAX]], pre_tanh)
    np.testing.assert_allclose(log_probs.detach().numpy(), expected)
    actions.sum().backward()
    slopes = 1.0 - np.tanh(pre_tanh[0]) ** 2
    expected_gradient = [*slopes, slopes[0] * np.exp(0.3) * 0.2, 0.0]
    np.testing.assert_allclose(outputs.grad.numpy()[0], expected_gradient, rtol=1e-6)


@pytest.mark.parametrize(
    ("space", "outputs", "message"),
    [
        (Discrete(2), np.zeros((2, 4)), r"needs a Box action space, got Discrete"),
        (Box(-1, 1, (2, 2)), np.zeros((2, 4)), r"side by side, \[B, 8\] .* got \[2, 4\] for B = 2"),
        (Box(-1, 1, (3,)), np.zeros((2, 4)), r"side by side, \[B, 6\] .* got \[2, 4\] for B = 2"),
        (Box(-1, 1, (3,)), np.zeros(12), r"\[B, 6\] .* got \[12\]"),
    ],
)
def test_spaces_and_outputs_that_do_not_belong_together_are_refused(space, outputs, message):
    with pytest.raises(ValueError, match=message):
        squashed_gaussian.require(space, outputs)


@pytest.mark.parametrize("space", [Box(-1, 1, (3,)), Discrete(2), Box(-1, 1, (2, 2))])
def test_an_action_space_of_another_size_is_refused_by_name(space):
    with pytest.raises(ValueError, match=r"action_dim=2, needs a Box action space of 2 components"):
        require_action_dim(2, space)
    for shape in ((2,), (2, 1)):
        require_action_dim(2, Box(-1, 1, shape))
    require_action_dim(1, Box(-1, 1, ()))


def test_an_actor_that_returns_probabilities_is_warned_of(caplog):
    """A softmax at its end is the usual mistake: it acts, and learns far worse."""
    logits = np.array([[0.3, 0.9], [0.3, 0.9]], np.float32)
    categorical.require(Discrete(2), logits)
    categorical.require(Discrete(2), logits - logits)
    assert not caplog.records
    categorical.require(Discrete(2), np.array([[0.25, 0.75], [0.5, 0.5]], np.float32))
    assert "softmax" in caplog.text
