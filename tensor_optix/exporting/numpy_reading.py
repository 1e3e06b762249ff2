"""What an inference graph means, in NumPy: a graph and observations come in, actions and scores go out."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from tensor_optix.adapters.inference_graph import (
    Branches,
    ChannelsToFront,
    Columns,
    Convolution2D,
    DenseLayer,
    Divide,
    Flatten,
    Normalize,
    OneHot,
    Stretch,
)
from tensor_optix.adapters.native.perceptron import FUNCTIONS
from tensor_optix.adapters.native.views import Activation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tensor_optix.adapters.inference_graph import Choose, InferenceGraph, Step
    from tensor_optix.core.types import Array


class Outputs(NamedTuple):
    """What an exported policy returns for B observations."""

    action: Array
    """`[B, ...]`."""
    scores: Array | None
    """`[B, F]`; None where the format gives none."""


def evaluate(graph: InferenceGraph, inputs: Mapping[str, Array]) -> Outputs:
    """Return the actions and the scores for B observations, by the names of the inputs."""
    parts = [run(one.steps, inputs[one.name]) for one in graph.inputs]
    rows = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
    scores = run(graph.steps, rows)[:, : graph.score_count]
    if isinstance(graph.head, Stretch):
        return Outputs(_finished(graph.head, stretched(graph.head, scores)), scores)
    mask = None if graph.head.mask is None else inputs[graph.head.mask]
    return Outputs(_chosen(graph.head, scores, mask), scores)


def run(steps: Sequence[Step], values: Array) -> Array:
    """Return what steps in order make of `[B, ...]`."""
    return functools.reduce(_step, steps, values)


def _step(x: Array, step: Step) -> Array:
    match step:
        case Flatten():
            return x.reshape(len(x), -1).astype(np.float32)
        case OneHot():
            hot = x.reshape(len(x), -1)[:, step.columns] == np.array(step.numbers)
            return np.asarray(hot, np.float32)
        case Normalize():
            normal = (x.astype(np.float64) - step.mean) / step.deviation
            limit = step.clip or np.inf
            return np.asarray(np.clip(normal, -limit, limit), np.float32)
        case Divide():
            return np.asarray(x.astype(np.float32) / step.divisors)
        case Columns():
            return x[:, step.first : step.last].reshape(len(x), *step.shape)
        case ChannelsToFront():
            return np.asarray(x.transpose(0, 3, 1, 2))
        case Convolution2D():
            return _convolution(step, x.astype(np.float32))
        case DenseLayer():
            return FUNCTIONS[Activation[step.activation.upper()]](x @ step.weight.T + step.bias)
        case Branches():
            return np.concatenate([run(branch, x) for branch in step.branches], axis=1)


def _convolution(step: Convolution2D, images: Array) -> Array:
    sides = (step.padding, step.padding)
    padded = np.pad(images, ((0, 0), (0, 0), sides, sides))
    windows = sliding_window_view(padded, step.weight.shape[2:], (2, 3))
    windows = windows[:, :, :: step.stride, :: step.stride]
    made = np.tensordot(windows, step.weight, ((1, 4, 5), (1, 2, 3))) + step.bias
    return np.asarray(np.maximum(made, 0.0).transpose(0, 3, 1, 2))


def stretched(head: Stretch, scores: Array) -> Array:
    """Return actions `[B, A]` float64 before they are rounded and shaped."""
    squashed = np.tanh(scores[:, : head.size].astype(np.float64))
    return np.asarray(np.clip(head.middle + head.half * squashed, head.low, head.high))


def _finished(head: Stretch, actions: Array) -> Array:
    rounded = np.rint(actions) if head.rounds else actions
    return np.asarray(rounded.astype(head.dtype).reshape(len(actions), *head.shape))


def allowed_scores(head: Choose, scores: Array, mask: Array | None) -> list[Array]:
    """Return the scores of each block of choices, `[B, count, size]`, minus infinity where not allowed."""
    found = []
    for block in head.blocks:
        shape = (len(scores), block.count, block.size)
        ours = scores[:, block.first : block.last].reshape(shape)
        if mask is not None:
            allowed = mask[:, block.first : block.last].reshape(shape) != 0
            allowed |= ~allowed.any(axis=2, keepdims=True)
            ours = np.where(allowed, np.maximum(ours, np.finfo(np.float32).min), -np.inf)
        found.append(ours)
    return found


def _chosen(head: Choose, scores: Array, mask: Array | None) -> Array:
    best = [one.argmax(axis=2) for one in allowed_scores(head, scores, mask)]
    actions = np.concatenate(best, axis=1) + np.array(head.starts)
    return np.asarray(actions.astype(head.dtype).reshape(len(scores), *head.shape))
