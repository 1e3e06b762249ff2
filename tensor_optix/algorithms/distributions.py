"""Action distributions as records of pure functions.

Sampling is NumPy, from one seeded generator, so that every framework draws the same actions from the
same network outputs; densities are written over a backend's `ops`, for the losses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from gymnasium.spaces import Discrete

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
    require: Callable[[Any, Array], None]
    """`(action space, outputs [B, ...])`: raise a ValueError if they do not belong together."""


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


def _categorical_require(action_space: Any, logits: Array) -> None:
    if not isinstance(action_space, Discrete) or action_space.start != 0:
        raise ValueError(
            f"this agent needs a Discrete action space that starts at 0, got {action_space}"
        )
    if logits.ndim != 2 or logits.shape[1] != action_space.n:
        raise ValueError(
            f"the actor must return one logit per action, [B, {action_space.n}] for {action_space}, "
            f"got {list(logits.shape)} for B = {len(logits)}"
        )


categorical = Distribution(
    sample=_categorical_sample,
    greedy=_categorical_greedy,
    log_prob=_categorical_log_prob,
    entropy=_categorical_entropy,
    to_python=int,
    require=_categorical_require,
)
"""A choice among A actions; the actor returns `[B, A]` unnormalised log-probabilities (logits)."""
