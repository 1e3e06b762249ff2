"""What the engine computes, in NumPy and double precision: obviously right, and slow."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from tests.kernels.engine_parts import Net

    Array = NDArray[Any]


def logistic(x: Array) -> Array:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))


ACTIVATIONS: list[Callable[[Array], Array]] = [
    lambda x: x,
    np.tanh,
    lambda x: np.where(x < 0.0, 0.0, x),
    lambda x: np.where(x > 0.0, x, np.expm1(np.minimum(x, 0.0))),
    lambda x: x * logistic(x),
]


class Double:
    """A perceptron's copy in double precision."""

    def __init__(self, net: Net) -> None:
        self.layers = [
            (weight.astype(float), None if bias is None else bias.astype(float), kind, by_outputs)
            for weight, bias, kind, by_outputs in net.layers
        ]
        self.arrays = [array for layer in self.layers for array in layer[:2] if array is not None]

    def __call__(self, inputs: Array) -> Array:
        values = inputs.astype(float)
        for weight, bias, kind, by_outputs in self.layers:
            values = values @ (weight.T if by_outputs else weight)
            values = ACTIVATIONS[kind](values if bias is None else values + bias)
        return values


def numeric_gradients(
    loss: Callable[[], float], arrays: Sequence[Array], step: float = 1e-6
) -> list[Array]:
    """Return central differences of a loss that reads these arrays."""
    found = []
    for array in arrays:
        gradient = np.empty_like(array)
        for at in np.ndindex(array.shape):
            value = array[at]
            array[at] = value + step
            above = loss()
            array[at] = value - step
            gradient[at] = (above - loss()) / (2.0 * step)
            array[at] = value
        found.append(gradient)
    return found


def log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def choices(
    logits: Array, actions: Array, counts: Sequence[int], masks: Array | None = None
) -> tuple[Array, Array]:
    """Return log-probabilities and entropies `[B]` of actions `[B, K]` among `counts` each."""
    if masks is not None:
        logits = np.where(masks, logits, -1e9)
    rows, begin = np.arange(len(logits)), 0
    log_probs, entropies = np.zeros(len(logits)), np.zeros(len(logits))
    for k, count in enumerate(counts):
        of_choice = log_softmax(logits[:, begin : begin + count])
        log_probs += of_choice[rows, actions[:, k]]
        entropies -= (np.exp(of_choice) * of_choice).sum(axis=1)
        begin += count
    return log_probs, entropies


def gaussian_parameters(outputs: Array) -> tuple[Array, Array]:
    mean, log_std = np.split(outputs, 2, axis=1)
    return mean, np.clip(log_std, -5.0, 2.0)


def squashed(outputs: Array, pre_tanh: Array) -> tuple[Array, Array]:
    """Return log-densities of `tanh(pre_tanh)` and entropies before the tanh, `[B]` each."""
    mean, log_std = gaussian_parameters(outputs)
    pre_tanh = pre_tanh.astype(float)
    z = (pre_tanh - mean) / np.exp(log_std)
    squashing = np.log(1.0 - np.tanh(pre_tanh) ** 2 + 1e-6)
    densities = -0.5 * z**2 - 0.5 * math.log(2.0 * math.pi) - log_std - squashing
    entropies = log_std + 0.5 * math.log(2.0 * math.pi * math.e)
    return densities.sum(axis=1), entropies.sum(axis=1)


def draw(outputs: Array, noise: Array) -> tuple[Array, Array]:
    """Return actions `[B, A]` and their log-densities `[B]`."""
    mean, log_std = gaussian_parameters(outputs)
    pre_tanh = mean + np.exp(log_std) * noise.astype(float)
    return np.tanh(pre_tanh), squashed(outputs, pre_tanh)[0]


def policy(
    outputs: Array, actions: Array, counts: Sequence[int], masks: Any
) -> tuple[Array, Array]:
    """Return log-probabilities and entropies of either kind of actions."""
    return choices(outputs, actions, counts, masks) if counts else squashed(outputs, actions)


def ppo(
    outputs: Array,
    values: Array,
    batch: tuple[Any, ...],
    counts: Sequence[int],
    settings: tuple[float, float, float],
) -> tuple[float, dict[str, float]]:
    """Return PPO's loss of a minibatch and its parts; settings: clip_ratio, vf_coef, entropy_coef."""
    _, actions, masks, old_log_probs, advantages, returns = batch
    clip_ratio, vf_coef, entropy_coef = settings
    log_probs, entropies = policy(outputs, actions, counts, masks)
    log_ratio = log_probs - old_log_probs
    ratio = np.exp(log_ratio)
    clipped = np.clip(ratio, 1.0 - clip_ratio, 1.0 + clip_ratio)
    parts = {
        "policy_loss": -np.minimum(ratio * advantages, clipped * advantages).mean(),
        "value_loss": ((values - returns) ** 2).mean(),
        "entropy": entropies.mean(),
        "approx_kl": (ratio - 1.0 - log_ratio).mean(),
    }
    loss = parts["policy_loss"] + vf_coef * parts["value_loss"] - entropy_coef * parts["entropy"]
    return loss, parts


def adam(
    leaf: tuple[Array, Array, Array],
    gradient: Array,
    step: int,
    settings: dict[str, float],
    is_keras: bool = False,
    is_decoupled: bool = False,
) -> None:
    """Make a step of Adam in place: PyTorch's, AdamW, or Keras's."""
    values, first, second = leaf
    rate, beta1, beta2 = settings["rate"], settings["beta1"], settings["beta2"]
    epsilon, decay = settings["epsilon"], settings.get("decay", 0.0)
    if is_decoupled:
        values *= 1.0 - rate * decay
    else:
        gradient = gradient + decay * values
    first += (1.0 - beta1) * (gradient - first)
    second += (1.0 - beta2) * (gradient**2 - second)
    of_first, of_second = 1.0 - beta1**step, 1.0 - beta2**step
    if is_keras:
        values -= rate * np.sqrt(of_second) / of_first * first / (np.sqrt(second) + epsilon)
    else:
        root = np.sqrt(second) / np.sqrt(of_second)
        values -= rate / of_first * first / (root + epsilon)


def sgd(
    values: Array,
    momentum: Array,
    gradient: Array,
    settings: dict[str, float],
    is_nesterov: bool = False,
) -> None:
    """Make a step of SGD in place, as PyTorch has momentum."""
    gradient = gradient + settings.get("decay", 0.0) * values
    beta = settings.get("beta1", 0.0)
    momentum *= beta
    momentum += gradient
    values -= settings["rate"] * (gradient + beta * momentum if is_nesterov else momentum)
