"""The distributions: PyTorch, TensorFlow and NumPy in double precision agree, also where they saturate."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.special import log_softmax, softmax

pytest.importorskip("tensorflow")
pytest.importorskip("torch")

from tensor_optix.algorithms.distributions import (
    LARGEST_ACTION,
    categorical,
    factorized,
    gaussian_parameters,
    squashed_draw,
    squashed_gaussian,
)
from tests.parity.frameworks import assert_all_agree

RNG = np.random.default_rng(3)
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
EPSILON = 1e-6

LOGITS = {
    "random": 3.0 * RNG.standard_normal((6, 5)),
    "ties": np.repeat(RNG.standard_normal((6, 1)), 5, axis=1),
    "large": 40.0 * RNG.standard_normal((6, 5)),
    "one certain action": np.eye(6, 5) * 80.0,
    "shifted far from zero": 1e4 + RNG.standard_normal((6, 5)),
    "two actions": RNG.standard_normal((6, 2)),
    "one action": RNG.standard_normal((6, 1)),
}


def categorical_log_prob(logits, actions):
    return log_softmax(logits, -1)[np.arange(len(logits)), actions]


def categorical_entropy(logits):
    return stats.entropy(softmax(logits, -1), axis=-1)


@DTYPES
@pytest.mark.parametrize("case", LOGITS)
@pytest.mark.parametrize("batch", [6, 1])
def test_the_categorical_agrees(case, batch, dtype):
    logits = LOGITS[case][:batch].astype(dtype)
    actions = RNG.integers(0, logits.shape[1], batch)
    # A log-probability near 0 is the difference of logits and their log-sum: their roundings remain.
    floor = 4 * np.finfo(dtype).eps * np.abs(logits).max()
    floors = (floor, floor)
    assert_all_agree(categorical.log_prob, categorical_log_prob, logits, actions, floors=floors)
    assert_all_agree(categorical.entropy, categorical_entropy, logits, floors=floors)


COUNTS = (1, 2, 2)
"""Of the five columns of LOGITS."""
BEGINS = (0, 1, 3)


def factorized_log_prob(logits, actions):
    parts = zip(np.split(logits, BEGINS[1:], axis=1), actions.T, strict=True)
    return sum(categorical_log_prob(part, chosen) for part, chosen in parts)


def factorized_entropy(logits):
    return sum(map(categorical_entropy, np.split(logits, BEGINS[1:], axis=1)))


@DTYPES
@pytest.mark.parametrize("case", [case for case in LOGITS if LOGITS[case].shape[1] == 5])
def test_several_choices_agree(case, dtype):
    logits = LOGITS[case].astype(dtype)
    actions = np.stack([RNG.integers(0, count, len(logits)) for count in COUNTS], axis=1)
    floor = 3 * 4 * np.finfo(dtype).eps * np.abs(logits).max()
    floors = (floor, floor)
    distribution = factorized(COUNTS)
    assert_all_agree(distribution.log_prob, factorized_log_prob, logits, actions, floors=floors)
    assert_all_agree(distribution.entropy, factorized_entropy, logits, floors=floors)


def parameters(outputs):
    mean, log_std = np.split(outputs, 2, axis=-1)
    return mean, np.clip(log_std, -5.0, 2.0)


def squashed_log_prob(outputs, pre_tanh):
    mean, log_std = parameters(outputs)
    normal = stats.norm.logpdf(pre_tanh, mean, np.exp(log_std))
    return (normal - np.log(1.0 - np.tanh(pre_tanh) ** 2 + EPSILON)).sum(-1)


def squashed_entropy(outputs):
    return stats.norm.entropy(0.0, np.exp(parameters(outputs)[1])).sum(-1)


def draw(outputs, noise):
    mean, log_std = parameters(outputs)
    pre_tanh = mean + np.exp(log_std) * noise
    return np.tanh(pre_tanh), squashed_log_prob(outputs, pre_tanh)


def actor_outputs(mean, log_std, batch=5, size=3):
    means = mean + 0.3 * RNG.standard_normal((batch, size))
    log_stds = np.broadcast_to(log_std, (batch, size)) + 0.0
    return np.concatenate([means, log_stds], axis=-1)


OUTPUTS = {
    "random": actor_outputs(0.0, 0.3 * RNG.standard_normal((5, 3))),
    "log_std below its clamp": actor_outputs(0.5, -7.5),
    "log_std above its clamp": actor_outputs(-0.5, 9.0),
    "log_std at its lower bound": actor_outputs(0.0, -5.0),
    "log_std at its upper bound": actor_outputs(0.0, 2.0),
    "log_std on both sides of its bounds": actor_outputs(0.0, [-5.001, 1.999, 2.001]),
    "saturated up": actor_outputs(9.0, -1.0),
    "saturated down": actor_outputs(-30.0, 0.0),
}


def cancellation(pre_tanh, dtype):
    """What rounding may change in `log(1 - tanh(u)^2 + 1e-6)`, summed to `[B]`, and in its derivative.

    Where tanh saturates, `1 - tanh^2` is what remains of two numbers near 1. Its absolute error, two units in
    either framework, is divided by the logarithm's argument; so it is in the derivative
    `-2 tanh (1 - tanh^2) / argument`, where the numerator is rounded on its own.
    """
    error = 4.0 * np.finfo(dtype).eps
    argument = 1.0 - np.tanh(pre_tanh.astype(np.float64)) ** 2 + EPSILON
    return (error / argument).sum(-1), float(2.0 * error / argument.min())


@DTYPES
@pytest.mark.parametrize("case", OUTPUTS)
@pytest.mark.parametrize("batch", [5, 1])
def test_densities_of_the_squashed_gaussian_agree(case, batch, dtype):
    outputs = OUTPUTS[case][:batch].astype(dtype)
    mean, log_std = parameters(outputs)
    pre_tanh = (mean + np.exp(log_std) * RNG.standard_normal(mean.shape)).astype(dtype)
    of_log, of_derivative = cancellation(pre_tanh, dtype)
    assert_all_agree(
        squashed_gaussian.log_prob,
        squashed_log_prob,
        outputs,
        pre_tanh,
        floors=(of_log, of_derivative),
    )


@DTYPES
def test_densities_of_recovered_actions_agree_also_at_the_very_bounds(dtype):
    actions = np.array([[1.0, -1.0, 0.999999], [0.0, LARGEST_ACTION, -0.5], [0.97, -0.3, 1e-8]])
    pre_tanh = squashed_gaussian.recover(actions).astype(dtype)
    outputs = OUTPUTS["random"][:3].astype(dtype)
    of_log, of_derivative = cancellation(pre_tanh, dtype)
    assert_all_agree(
        squashed_gaussian.log_prob,
        squashed_log_prob,
        outputs,
        pre_tanh,
        floors=(of_log, of_derivative),
    )


@DTYPES
@pytest.mark.parametrize("case", OUTPUTS)
def test_entropy_and_parameters_of_the_gaussian_agree(case, dtype):
    outputs = OUTPUTS[case].astype(dtype)
    for batch in (outputs, outputs[:1]):
        assert_all_agree(squashed_gaussian.entropy, squashed_entropy, batch)
        assert_all_agree(gaussian_parameters, parameters, batch)


def actions_of(ops, outputs, noise):
    return squashed_draw(ops, outputs, noise)[0]


def densities_of(ops, outputs, noise):
    return squashed_draw(ops, outputs, noise)[1]


@DTYPES
@pytest.mark.parametrize("case", OUTPUTS)
def test_draws_agree_in_actions_densities_and_their_gradients(case, dtype):
    outputs = OUTPUTS[case].astype(dtype)
    noise = RNG.standard_normal((5, 3)).astype(dtype)
    mean, log_std = parameters(outputs)
    std = np.exp(log_std)
    of_log, of_derivative = cancellation(mean + std * noise, dtype)
    # The gradient for log_std is that for u times std * noise.
    reach = max(1.0, float(np.abs(std * noise).max()))
    unit = float(np.finfo(dtype).eps)
    for batch in (5, 1):
        arrays = outputs[:batch], noise[:batch]
        floors = (0.0, 8.0 * unit * reach)
        assert_all_agree(actions_of, lambda *a: draw(*a)[0], *arrays, floors=floors)
        floors = (of_log[:batch], of_derivative * reach)
        assert_all_agree(densities_of, lambda *a: draw(*a)[1], *arrays, floors=floors)
