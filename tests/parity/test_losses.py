"""The losses: PyTorch, TensorFlow and NumPy in double precision agree, and the gradients of the two."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("torch")

from tensor_optix.algorithms import off_policy, ppo
from tests.parity.frameworks import assert_all_agree, by_tensorflow, by_torch, tf, torch, torch_ops

RNG = np.random.default_rng(2)
CLIP = 0.2
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def rows(*shape, scale=1.0):
    return scale * RNG.standard_normal(shape)


def surrogate(log_ratio, advantages):
    ratio = np.exp(log_ratio)
    gains = ratio * advantages, np.clip(ratio, 1 - CLIP, 1 + CLIP) * advantages
    return -np.minimum(*gains).mean()


def clipped_surrogate(ops, log_ratio, advantages):
    """The library's, with the clip ratio as a tensor, as compiled updates have it."""
    dtype = log_ratio.dtype
    constant = torch.tensor if ops is torch_ops else tf.constant
    return ppo.clipped_surrogate(ops, log_ratio, advantages, constant(CLIP, dtype=dtype))


BOUNDS = np.log([1 - CLIP, 1 + CLIP])
LOG_RATIOS = {
    "of a policy that has not moved": np.zeros(6),
    "inside the bounds": rows(6, scale=0.05),
    "on both sides of the bounds": np.concatenate([BOUNDS - 1e-3, BOUNDS + 1e-3, [0.5, -0.5]]),
    "of another policy": np.array([-80.0, -20.0, -3.0, 3.0, 20.0, 60.0]),
}


@DTYPES
@pytest.mark.parametrize("case", LOG_RATIOS)
@pytest.mark.parametrize("sign", [-1, 0, 1])
def test_the_clipped_surrogate_agrees(case, sign, dtype):
    """With advantages of either sign, and of none: which of the two terms is taken depends on it."""
    advantages = np.abs(rows(6)) * sign if sign else rows(6)
    arrays = LOG_RATIOS[case].astype(dtype), advantages.astype(dtype)
    assert_all_agree(clipped_surrogate, surrogate, *arrays)
    assert_all_agree(clipped_surrogate, surrogate, *(array[:1] for array in arrays))


@pytest.mark.parametrize("advantage", [-1.5, 0.0, 1.5])
def test_exactly_at_the_clip_bounds_both_frameworks_take_the_same_side(advantage):
    """With a clip ratio of 0 both bounds are 1, which is what `exp(0)` is to the bit."""

    def fn(ops, log_ratio, advantages):
        return ppo.clipped_surrogate(ops, log_ratio, advantages, 0.0)

    arrays = np.zeros(3, np.float32), np.full(3, advantage, np.float32)
    assert_all_agree(fn, lambda _, advantages: -advantages.mean(), *arrays)


def test_a_ratio_that_overflows_gives_the_same_infinite_or_undefined_loss():
    with np.errstate(all="ignore"):
        for advantage in (-1.0, 1.0, 0.0):
            arrays = np.array([200.0], np.float32), np.array([advantage], np.float32)
            ours, theirs = (
                by_torch(clipped_surrogate, *arrays),
                by_tensorflow(clipped_surrogate, *arrays),
            )
            np.testing.assert_array_equal(ours.values[0], theirs.values[0])
            np.testing.assert_array_equal(
                np.isfinite(ours.gradients[0]), np.isfinite(theirs.gradients[0])
            )


@DTYPES
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_critics_squared_error_agrees(scale, dtype):
    values, targets = rows(9, scale=scale).astype(dtype), rows(9, scale=scale).astype(dtype)
    for b in (9, 1):
        assert_all_agree(
            ppo.squared_error, lambda v, t: ((v - t) ** 2).mean(), values[:b], targets[:b]
        )
    equal = np.zeros(3, dtype)
    assert_all_agree(ppo.squared_error, lambda v, t: ((v - t) ** 2).mean(), equal, equal.copy())


@DTYPES
def test_weighted_squares_agree(dtype):
    errors = np.array([0.0, 1e-6, -3.0, 1e6, 2.0, -0.1], dtype)
    weights = np.array([1.0, 0.0, 1e-6, 0.5, 1.0, 0.3], dtype)
    for b in (6, 1):
        assert_all_agree(
            off_policy.weighted_squares, lambda e, w: (w * e * e).mean(), errors[:b], weights[:b]
        )


@DTYPES
@pytest.mark.parametrize("case", LOG_RATIOS)
def test_the_approximate_kl_agrees(case, dtype):
    """Near ratio 1 two numbers near 1 cancel, so that float32 leaves an absolute error of its unit there."""
    unit = np.finfo(dtype).eps
    for log_ratio in (LOG_RATIOS[case].astype(dtype), LOG_RATIOS[case][:1].astype(dtype)):
        assert_all_agree(
            ppo.approximate_kl,
            lambda x: (np.expm1(x) - x).mean(),
            log_ratio,
            floors=(4 * unit, 4 * unit),
        )
