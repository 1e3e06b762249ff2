"""Action distributions as records of pure functions.

Sampling is NumPy, from one seeded generator, so that every framework draws the same actions from the
same network outputs; densities are written over a backend's `ops`, for the losses.
"""

from __future__ import annotations

import logging
import math
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from gymnasium.spaces import Box, Discrete

from tensor_optix.core.argument_checks import whole_number
from tensor_optix.core.discrete_spaces import choice_counts, has_many_choices

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tensor_optix.adapters.backend import Backend, Tensor
    from tensor_optix.core.types import Array


logger = logging.getLogger(__name__)


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
    recover: Callable[[Array], Array]
    """`actions` as a window keeps them -> what `log_prob` takes."""
    require: Callable[[Any, Array], None]
    """`(action space, outputs [B, ...])`: raise a ValueError if they do not belong together."""
    counts: Callable[[int], tuple[int, ...]]
    """`the size of outputs -> among how many actions each choice is`; none where actions are continuous."""
    probs: Callable[[Array], Array] | None = None
    """`outputs [B, A] -> probabilities [B, A]` float64, those of each choice side by side; None where
    actions are continuous."""


LEAST_EXPONENTIAL = np.float32(1e-30)
"""Of a draw, so that its logarithm is finite."""


def _with_noise(rng: np.random.Generator, logits: Array) -> Array:
    # argmax(logits + Gumbel noise) is a draw from softmax(logits) (Gumbel 1954), without normalising.
    exponential = rng.standard_exponential(logits.shape, np.float32)
    np.maximum(exponential, LEAST_EXPONENTIAL, out=exponential)
    np.log(exponential, out=exponential)
    noisy: Array = logits - exponential
    return noisy


def _categorical_sample(rng: np.random.Generator, logits: Array) -> Array:
    actions: Array = _with_noise(rng, logits).argmax(axis=-1)
    return actions


def _categorical_greedy(logits: Array) -> Array:
    return np.asarray(np.argmax(logits, axis=-1))


def _categorical_log_prob(ops: Backend, logits: Tensor, actions: Tensor) -> Tensor:
    return ops.take_along(ops.log_softmax(logits), actions)


def _categorical_entropy(ops: Backend, logits: Tensor) -> Tensor:
    log_probs = ops.log_softmax(logits)
    return -ops.sum_last(ops.exp(log_probs) * log_probs)


def _categorical_recover(actions: Array) -> Array:
    return actions.astype(np.int64, copy=False)


def _categorical_probs(logits: Array) -> Array:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def _categorical_require(action_space: Any, logits: Array) -> None:
    if not isinstance(action_space, Discrete):
        remedy = ""
        if has_many_choices(action_space):
            counts = list(choice_counts(action_space))
            remedy = f"; a PPO agent made with choices={counts} acts in it"
        raise ValueError(f"this agent needs a Discrete action space, got {action_space}{remedy}")
    _require_logits(action_space, logits, (int(action_space.n),))


def _require_logits(action_space: Any, logits: Array, counts: tuple[int, ...]) -> None:
    size = sum(counts)
    if logits.ndim != 2 or logits.shape[1] != size:
        raise ValueError(
            f"the actor must return one logit per action, [B, {size}] for {action_space}, "
            f"got {list(logits.shape)} for B = {len(logits)}"
        )
    sums = np.add.reduceat(logits, np.cumsum((0, *counts[:-1])), axis=1)
    if (logits >= 0.0).all() and np.allclose(sums, 1.0, rtol=0.0, atol=1e-6):
        logger.warning(
            "the actor returns numbers that look like probabilities: it learns far worse with a softmax at "
            "its end, which is to return logits"
        )


categorical = Distribution(
    sample=_categorical_sample,
    greedy=_categorical_greedy,
    log_prob=_categorical_log_prob,
    entropy=_categorical_entropy,
    recover=_categorical_recover,
    require=_categorical_require,
    counts=lambda size: (size,),
    probs=_categorical_probs,
)
"""A choice among A actions; the actor returns `[B, A]` unnormalised log-probabilities (logits)."""


def is_known(distribution: Distribution) -> bool:
    """Whether densities and entropies are those of a distribution of this module."""
    known = (categorical, factorized((1,)), squashed_gaussian)
    return any(_formulas(distribution) == _formulas(one) for one in known)


def _formulas(distribution: Distribution) -> tuple[Any, ...]:
    densities = (distribution.log_prob, distribution.entropy)
    return tuple(one.func if isinstance(one, partial) else one for one in densities)


class _Block(NamedTuple):
    """Neighbouring choices among equally many actions: computed together, whatever their number."""

    logits: slice
    choices: slice
    size: int
    """How many actions each of them is among."""


def factorized(counts: Sequence[int]) -> Distribution:
    """Return the distribution of K independent choices; an action is `[K]` int64, each counted from 0.

    The actor returns `[B, sum(counts)]` logits, those of each choice side by side. Log-probability and
    entropy are the sums of those of the choices.

    Args:
        counts: `[K]`, among how many actions each choice is; 2 for each number of a MultiBinary.

    Raises:
        ValueError: If there is none, or one is no whole number of at least 1.
    """
    sizes = tuple(whole_number("every one of choices", count) for count in np.ravel(counts))
    if not sizes:
        raise ValueError("choices must name at least one choice, got none")
    blocks = _blocks(sizes)
    return Distribution(
        sample=partial(_factorized_sample, blocks),
        greedy=partial(_factorized_greedy, blocks),
        log_prob=partial(_factorized_log_prob, blocks),
        entropy=partial(_factorized_entropy, blocks),
        recover=_categorical_recover,
        require=partial(_factorized_require, sizes),
        counts=lambda size: sizes,
        probs=partial(_factorized_probs, blocks),
    )


def _blocks(sizes: Sequence[int]) -> tuple[_Block, ...]:
    blocks, logit, choice = [], 0, 0
    for size, equal in groupby(sizes):
        count = len(list(equal))
        spans = slice(logit, logit + count * size), slice(choice, choice + count)
        blocks.append(_Block(*spans, size))
        logit, choice = spans[0].stop, spans[1].stop
    return tuple(blocks)


def _factorized_sample(blocks: Sequence[_Block], rng: np.random.Generator, logits: Array) -> Array:
    return _factorized_greedy(blocks, _with_noise(rng, logits))


def _factorized_greedy(blocks: Sequence[_Block], logits: Array) -> Array:
    parts = [_folded(logits, block).argmax(axis=-1) for block in blocks]
    return np.concatenate(parts, axis=1)


def _factorized_probs(blocks: Sequence[_Block], logits: Array) -> Array:
    parts = [_categorical_probs(_folded(logits, block)) for block in blocks]
    return np.concatenate([part.reshape(len(logits), -1) for part in parts], axis=1)


def _folded(logits: Array, block: _Block) -> Array:
    chosen: Array = logits[:, block.logits]
    return chosen.reshape(len(logits), -1, block.size)


def _block_log_probs(ops: Backend, logits: Tensor, block: _Block) -> Tensor:
    """Return the log-probabilities of neighbouring choices, `[B, count, size]`."""
    return ops.log_softmax(ops.fold_last(logits[:, block.logits], block.size))


def _factorized_log_prob(
    blocks: Sequence[_Block], ops: Backend, logits: Tensor, actions: Tensor
) -> Tensor:
    def of_block(block: _Block) -> Tensor:
        log_probs = _block_log_probs(ops, logits, block)
        return ops.sum_last(ops.take_along(log_probs, actions[:, block.choices]))

    return sum(map(of_block, blocks))


def _factorized_entropy(blocks: Sequence[_Block], ops: Backend, logits: Tensor) -> Tensor:
    def of_block(block: _Block) -> Tensor:
        log_probs = _block_log_probs(ops, logits, block)
        return -ops.sum_last(ops.sum_last(ops.exp(log_probs) * log_probs))

    return sum(map(of_block, blocks))


def _factorized_require(sizes: tuple[int, ...], action_space: Any, logits: Array) -> None:
    if not has_many_choices(action_space) or choice_counts(action_space) != sizes:
        raise ValueError(
            f"this agent, made with choices={list(sizes)}, needs an action space of these choices, such as "
            f"MultiDiscrete({list(sizes)}), got {action_space}"
        )
    _require_logits(action_space, logits, sizes)


MASKED_LOGIT = -1e9
"""In place of the logit, or the value, of an action that is not allowed: its probability is 0, and finite
numbers keep the logarithm of it, and the entropy, finite."""


def masked(ops: Backend, outputs: Tensor, masks: Tensor) -> Tensor:
    """Return logits or values `[B, A]` by which no action is chosen that the masks `[B, A]` do not allow.

    Of logits, what comes out are those of the distribution over the allowed actions (Huang and Ontanon 2022,
    "A closer look at invalid action masking in policy gradient algorithms", section 4).
    """
    return ops.where(masks, outputs, MASKED_LOGIT)


def masked_array(outputs: Array, masks: Array | None) -> Array:
    """Return what `masked` does, for acting: even where networks have lost all measure. None: all allowed."""
    if masks is None:
        return outputs
    lowest = np.finfo(outputs.dtype).min
    return np.where(masks, np.maximum(outputs, lowest), -np.inf).astype(outputs.dtype, copy=False)


LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0
"""The actor's log standard deviations are clamped to this range."""
SQUASH_EPSILON = 1e-6
"""Keeps the logarithm of the squashing's derivative finite."""
LARGEST_ACTION = 1.0 - 2.0**-52
"""Beyond it the inverse hyperbolic tangent of a double is infinite."""


def squashed_actions(outputs: Array, noise: Array) -> Array:
    """Return actions `tanh(mean + std * noise)` `[B, A]` float64 for standard normal noise `[B, A]`."""
    numbers, size = outputs.astype(np.float64), outputs.shape[-1] // 2
    mean, log_std = numbers[..., :size], numbers[..., size:]
    std = np.exp(np.clip(log_std, LOG_STD_MIN, LOG_STD_MAX))
    return np.asarray(np.tanh(mean + std * noise))


def _squashed_sample(rng: np.random.Generator, outputs: Array) -> Array:
    shape = (*outputs.shape[:-1], outputs.shape[-1] // 2)
    return squashed_actions(outputs, rng.standard_normal(shape))


def _squashed_greedy(outputs: Array) -> Array:
    return np.asarray(np.tanh(outputs[..., : outputs.shape[-1] // 2].astype(np.float64)))


def _squashed_recover(actions: Array) -> Array:
    # In double precision, because float32 knows no action between tanh(9) and 1.
    bounded = np.clip(actions.astype(np.float64), -LARGEST_ACTION, LARGEST_ACTION)
    return np.asarray(np.arctanh(bounded).astype(np.float32))


def gaussian_parameters(ops: Backend, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Split `[B, 2A]` into the mean and the clamped log standard deviation, `[B, A]` each."""
    mean, log_std = ops.split_last(outputs)
    return mean, ops.clip(log_std, LOG_STD_MIN, LOG_STD_MAX)


def _squashed_log_prob(ops: Backend, outputs: Tensor, pre_tanh: Tensor) -> Tensor:
    """Compute the log-density of `a = tanh(u)` (Haarnoja et al. 2018, appendix C, eq. 21).

    `log pi(a) = sum(log N(u; mean, std) - log(1 - tanh(u)^2 + 1e-6))`.
    """
    mean, log_std = gaussian_parameters(ops, outputs)
    squared = ops.square((pre_tanh - mean) / ops.exp(log_std))
    gaussian = -0.5 * (squared + math.log(2.0 * math.pi)) - log_std
    squashing = ops.log(1.0 - ops.square(ops.tanh(pre_tanh)) + SQUASH_EPSILON)
    return ops.sum_last(gaussian - squashing)


def _squashed_entropy(ops: Backend, outputs: Tensor) -> Tensor:
    # Of the Gaussian before squashing: that of the squashed one has no closed form.
    _, log_std = gaussian_parameters(ops, outputs)
    return ops.sum_last(log_std + 0.5 * math.log(2.0 * math.pi * math.e))


def squashed_draw(ops: Backend, outputs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Return actions `tanh(mean + std * noise)` `[B, A]`, differentiable, and their log-densities `[B]`."""
    mean, log_std = gaussian_parameters(ops, outputs)
    pre_tanh = mean + ops.exp(log_std) * noise
    return ops.tanh(pre_tanh), _squashed_log_prob(ops, outputs, pre_tanh)


def require_action_dim(action_dim: int, action_space: Any) -> None:
    """Refuse an action space that is no Box of `action_dim` components, of whatever shape.

    Raises:
        ValueError: If it is not.
    """
    if not isinstance(action_space, Box) or math.prod(action_space.shape) != action_dim:
        raise ValueError(
            f"this agent, made with action_dim={action_dim}, needs a Box action space of "
            f"{action_dim} components, got {action_space}"
        )


def _squashed_require(action_space: Any, outputs: Array) -> None:
    if not isinstance(action_space, Box):
        raise ValueError(f"this agent needs a Box action space, got {action_space}")
    size = math.prod(action_space.shape)
    if outputs.ndim != 2 or outputs.shape[1] != 2 * size:
        raise ValueError(
            f"the actor must return mean and log_std side by side, [B, {2 * size}] for "
            f"{action_space}, got {list(outputs.shape)} for B = {len(outputs)}"
        )


squashed_gaussian = Distribution(
    sample=_squashed_sample,
    greedy=_squashed_greedy,
    log_prob=_squashed_log_prob,
    entropy=_squashed_entropy,
    recover=_squashed_recover,
    require=_squashed_require,
    counts=lambda size: (),
)
"""tanh of a Gaussian in A dimensions; the actor returns `[B, 2A]`, mean and log_std side by side. Actions
are in (-1, 1); `log_prob` takes them before the tanh, because that cannot be undone where it saturates."""
