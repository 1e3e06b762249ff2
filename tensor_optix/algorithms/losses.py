"""Scalar objectives as pure functions of tensors; `ops` is a backend module. All tensors are `[B]`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tensor_optix.adapters.backend import Backend, Tensor


def clipped_surrogate(
    ops: Backend, log_ratio: Tensor, advantages: Tensor, clip_ratio: Tensor
) -> Tensor:
    """Compute the PPO policy loss, Schulman et al. 2017, eq. 7, as a scalar to minimise.

    `-mean(min(r * A, clip(r, 1 - clip_ratio, 1 + clip_ratio) * A))` with `r = exp(log_ratio)`.
    """
    ratio = ops.exp(log_ratio)
    clipped = ops.clip(ratio, 1.0 - clip_ratio, 1.0 + clip_ratio)
    return -ops.mean(ops.minimum(ratio * advantages, clipped * advantages))


def squared_error(ops: Backend, values: Tensor, targets: Tensor) -> Tensor:
    """Compute the mean squared error of a critic."""
    return ops.mean(ops.square(values - targets))


def weighted_squares(ops: Backend, errors: Tensor, weights: Tensor) -> Tensor:
    """Compute the mean of squared errors with importance weights (Schaul et al. 2016, algorithm 1)."""
    return ops.mean(weights * ops.square(errors))


def approximate_kl(ops: Backend, log_ratio: Tensor) -> Tensor:
    """Estimate KL(old, new) from samples of the old policy: `mean((r - 1) - log r)`.

    The low-variance unbiased estimator k3 of Schulman, "Approximating KL divergence" (2020).
    """
    return ops.mean((ops.exp(log_ratio) - 1.0) - log_ratio)
