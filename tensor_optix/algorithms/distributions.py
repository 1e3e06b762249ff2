"""Action distributions as records of pure functions.

Sampling is NumPy, from one seeded generator, so that every framework draws the same actions from the
same network outputs; densities are written over a backend's `ops`, for the losses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from tensor_optix.adapters.backend import Backend, Tensor
    from tensor_optix.core.types import Array


class Distribution(NamedTuple):
    """What an algorithm needs of a distribution. `outputs` is what the actor network returns."""

    sample: Callable[[np.random.Generator, Array], Array]
    """`(rng, outputs [B, ...]) -> actions`."""
    greedy: Callable[[Array], Array]
    """`outputs [B, ...] -> actions`."""
    log_prob: Callable[[Backend, Tensor, Tensor], Tensor]
    """`(ops, outputs [B, ...], actions) -> [B]`."""
    entropy: Callable[[Backend, Tensor], Tensor]
    """`(ops, outputs [B, ...]) -> [B]`."""
    to_python: Callable[[Array], Any]
    """One action in the form that a single environment takes."""


def _categorical_sample(rng: np.random.Generator, logits: Array) -> Array:
    # argmax(logits + Gumbel noise) is a draw from softmax(logits) (Gumbel 1954), without normalising.
    exponential = rng.standard_exponential(logits.shape, np.float32)
    np.maximum(exponential, np.float32(1e-30), out=exponential)
    np.log(exponential, out=exponential)
    return np.asarray(np.argmax(logits - exponential, axis=-1))


def _categorical_greedy(logits: Array) -> Array:
    return np.asarray(np.argmax(logits, axis=-1))


def _categorical_log_prob(ops: Backend, logits: Tensor, actions: Tensor) -> Tensor:
    return ops.take_along(ops.log_softmax(logits), actions)


def _categorical_entropy(ops: Backend, logits: Tensor) -> Tensor:
    log_probs = ops.log_softmax(logits)
    return -ops.sum_last(ops.exp(log_probs) * log_probs)


categorical = Distribution(
    sample=_categorical_sample,
    greedy=_categorical_greedy,
    log_prob=_categorical_log_prob,
    entropy=_categorical_entropy,
    to_python=int,
)
"""A choice among A actions; the actor returns `[B, A]` unnormalised log-probabilities (logits)."""
