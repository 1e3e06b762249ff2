"""Policies as SavedModels: an inference graph goes in, a directory comes out, and what it computes."""

from __future__ import annotations

import functools
import json
import keyword
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tensor_optix.adapters.inference_graph import (
    ACTION,
    Branches,
    ChannelsToFront,
    Columns,
    Convolution2D,
    DenseLayer,
    Divide,
    FileInterface,
    Flatten,
    Normalize,
    OneHot,
    Stretch,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from tensor_optix.adapters.inference_graph import Choose, GraphInput, InferenceGraph, Step
    from tensor_optix.core.types import Array

ACTIVATIONS = {
    "identity": tf.identity,
    "tanh": tf.tanh,
    "relu": tf.nn.relu,
    "elu": tf.nn.elu,
    "silu": lambda x: x * tf.sigmoid(x),
}
FACTS = "policy.json"
OWN_ARGUMENT = "self"
"""Of the functions through which TensorFlow passes the inputs on."""


def write(graph: InferenceGraph, path: Path, facts: Mapping[str, Any]) -> None:
    """Write a graph to a directory, with facts of the policy in `assets.extra/policy.json` in it.

    Its signature `serving_default` takes the inputs by their names, letters and digits as they are and all
    else as `_`, and returns the actions and the scores.

    Raises:
        OSError: If the directory cannot be written.
    """
    specs = {
        name: tf.TensorSpec((None, *one.shape), one.dtype, name=name)
        for name, one in _named(graph).items()
    }
    module = tf.Module()
    module.policy = tf.function(functools.partial(_outputs, graph), input_signature=[specs])
    tf.saved_model.save(module, str(path), signatures=module.policy)
    extra = path / "assets.extra"
    extra.mkdir()
    (extra / FACTS).write_text(json.dumps(dict(facts)), encoding="utf-8")


def reader(
    path: Path, graph: InferenceGraph
) -> tuple[str, Callable[[Mapping[str, Array]], tuple[Array, Array]]]:
    """Return what runs a directory that `write` wrote of the graph: in words, and to be called."""
    module: Any = tf.saved_model.load(str(path))
    serve = module.signatures["serving_default"]

    def run(inputs: Mapping[str, Array]) -> tuple[Array, Array]:
        given = {name: tf.constant(inputs[one.name]) for name, one in _named(graph).items()}
        found = serve(**given)
        return found[ACTION].numpy(), found[graph.scores].numpy()

    return "TensorFlow", run


def interface(path: Path, graph: InferenceGraph) -> FileInterface:
    """Return how a directory of a graph is used."""
    inputs = tuple(replace(one, name=name) for name, one in _named(graph).items())
    given = ", ".join(f"{one.name}=..." for one in inputs)
    usage = (
        f'policy = tf.saved_model.load("{path}").signatures["serving_default"]',
        f'action = policy({given})["{ACTION}"]',
    )
    return FileInterface(inputs, graph.outputs, usage)


def _named(graph: InferenceGraph) -> dict[str, GraphInput]:
    """Return the inputs by names that TensorFlow takes, and that tell them apart."""
    found: dict[str, GraphInput] = {}
    for one in graph.signature:
        name = re.sub(r"\W", "_", one.name, flags=re.ASCII)
        is_taken = keyword.iskeyword(name) or name == OWN_ARGUMENT
        name = name if name[0].isalpha() and not is_taken else f"part_{name}"
        # TensorFlow does not tell capitals from small letters.
        while name.lower() in map(str.lower, found):
            name += "_"
        found[name] = one
    return found


def _outputs(graph: InferenceGraph, given: Mapping[str, Any]) -> dict[str, Any]:
    inputs = {one.name: given[name] for name, one in _named(graph).items()}
    parts = [_of_steps(one.steps, inputs[one.name]) for one in graph.inputs]
    rows = parts[0] if len(parts) == 1 else tf.concat(parts, 1)
    scores = _of_steps(graph.steps, rows)[:, : graph.score_count]
    head = graph.head
    if isinstance(head, Stretch):
        action = _stretched(head, scores)
    else:
        action = _chosen(head, scores, None if head.mask is None else inputs[head.mask])
    return {ACTION: action, graph.scores: scores}


def _of_steps(steps: Sequence[Step], x: Any) -> Any:
    return functools.reduce(_step, steps, x)


def _step(x: Any, step: Step) -> Any:
    match step:
        case Flatten():
            return tf.cast(_rows(x), tf.float32)
        case OneHot():
            spread = tf.gather(tf.cast(_rows(x), tf.int64), step.columns, axis=1)
            return tf.cast(spread == tf.constant(step.numbers, tf.int64), tf.float32)
        case Normalize():
            normal = (tf.cast(x, tf.float64) - step.mean) / step.deviation
            limit = step.clip or np.inf
            return tf.cast(tf.clip_by_value(normal, -limit, limit), tf.float32)
        case Divide():
            return tf.cast(x, tf.float32) / step.divisors
        case Columns():
            return tf.reshape(x[:, step.first : step.last], (-1, *step.shape))
        case ChannelsToFront():
            return tf.transpose(x, (0, 3, 1, 2))
        case Convolution2D():
            return _convolution(step, x)
        case DenseLayer():
            weight = tf.constant(np.ascontiguousarray(step.weight))
            return ACTIVATIONS[step.activation](
                tf.matmul(x, weight, transpose_b=True) + tf.constant(step.bias)
            )
        case Branches():
            return tf.concat([_of_steps(branch, x) for branch in step.branches], 1)


def _rows(x: Any) -> Any:
    size = int(np.prod(x.shape[1:], dtype=np.int64))
    return tf.reshape(x, (-1, size))


def _convolution(step: Convolution2D, images: Any) -> Any:
    # On a CPU, TensorFlow convolves only where the channels lie last.
    turned = tf.transpose(tf.cast(images, tf.float32), (0, 2, 3, 1))
    kernel = tf.constant(np.ascontiguousarray(step.weight.transpose(2, 3, 1, 0)))
    side = [step.padding] * 2
    made = tf.nn.conv2d(turned, kernel, step.stride, [[0, 0], side, side, [0, 0]])
    return tf.transpose(tf.nn.relu(made + tf.constant(step.bias)), (0, 3, 1, 2))


def _stretched(head: Stretch, scores: Any) -> Any:
    x = head.middle + head.half * tf.tanh(tf.cast(scores, tf.float64))
    x = tf.maximum(tf.minimum(x, head.high), head.low)
    rounded = tf.round(x) if head.rounds else x
    return tf.reshape(tf.cast(rounded, head.dtype), (-1, *head.shape))


def _chosen(head: Choose, scores: Any, mask: Any) -> Any:
    best = []
    for block in head.blocks:
        shape = (-1, block.count, block.size)
        ours = tf.reshape(scores[:, block.first : block.last], shape)
        if mask is not None:
            allowed = tf.reshape(mask[:, block.first : block.last], shape) != 0
            allowed |= ~tf.reduce_any(allowed, 2, keepdims=True)
            lowest = float(np.finfo(np.float32).min)
            ours = tf.where(allowed, tf.maximum(ours, lowest), -np.inf)
        best.append(tf.argmax(ours, 2))
    actions = tf.concat(best, 1) + tf.constant(head.starts, tf.int64)
    return tf.reshape(tf.cast(actions, head.dtype), (-1, *head.shape))
