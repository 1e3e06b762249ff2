"""Policies as safetensors: an inference graph goes in, a file of named arrays comes out, and the graph again.

The metadata of the header say the rest under `policy`, JSON: the algorithm, both spaces, the snapshot with
its score, and the `graph`. That has the `inputs` with their `steps`, the `steps` that follow, the `head` that
makes actions, and the name of the `scores`. Every step has a `kind`, one of `KINDS`, whose dataclass in
`adapters.inference_graph` says what it computes; in the place of an array stands its name in the file:

normalizer.mean, normalizer.deviation       float64, of one observation
divide.divisors                             float32
convolution.0.weight, convolution.0.bias    and so on, in order
dense.0.weight, dense.0.bias                `[outputs, inputs]` and `[outputs]`, and so on, in order
action.middle, .half, .low, .high           float64, where actions are continuous
"""

from __future__ import annotations

import json
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.numpy

from tensor_optix.adapters.inference_graph import (
    Branches,
    ChannelsToFront,
    Choose,
    Columns,
    Convolution2D,
    DenseLayer,
    Divide,
    FileInterface,
    Flatten,
    GraphInput,
    InferenceGraph,
    Normalize,
    OneHot,
    Stretch,
)
from tensor_optix.exporting.numpy_reading import evaluate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tensor_optix.core.types import Array
    from tensor_optix.exporting.numpy_reading import Outputs

KINDS: dict[str, type[Any]] = {
    "flatten": Flatten,
    "one_hot": OneHot,
    "normalize": Normalize,
    "divide": Divide,
    "columns": Columns,
    "channels_first": ChannelsToFront,
    "convolution": Convolution2D,
    "dense": DenseLayer,
    "branches": Branches,
    "choose": Choose,
    "stretch": Stretch,
    "input": GraphInput,
    "graph": InferenceGraph,
}
NAMES = {type_: name for name, type_ in KINDS.items()}
ALONE = {"normalize": "normalizer", "divide": "divide", "stretch": "action"}
"""What the arrays of kinds are called of which there is one; those of the others are numbered."""
ARRAY = "Array"
HEADER = "policy"


def write(graph: InferenceGraph, path: Path, facts: Mapping[str, Any]) -> None:
    """Write a graph to a file, with facts of the policy in its header.

    Raises:
        OSError: If the file cannot be written.
    """
    arrays: dict[str, Array] = {}
    content = {**facts, "graph": _as_tree(graph, arrays)}
    # One entry, as several come in any order, and the same policy is to give the same bytes.
    header = {HEADER: json.dumps(content, allow_nan=False)}
    path.write_bytes(safetensors.numpy.save(arrays, header))


def reader(
    path: Path, graph: InferenceGraph
) -> tuple[str, Callable[[Mapping[str, Array]], Outputs]]:
    """Return what runs a file that `write` wrote: in words, and to be called. The graph is not looked at."""
    return "NumPy", partial(evaluate, read(path))


def interface(path: Path, graph: InferenceGraph) -> FileInterface:
    """Return how a file of a graph is used."""
    usage = (
        f'graph = tensor_optix.exporting.safetensors_files.read("{path}")',
        "action = tensor_optix.exporting.numpy_reading.evaluate(graph, inputs).action",
    )
    return FileInterface(graph.signature, graph.outputs, usage)


def read(path: Path) -> InferenceGraph:
    """Return the graph that a file holds."""
    with safetensors.safe_open(path, "numpy") as stored:
        header = stored.metadata()
        arrays = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    graph: InferenceGraph = _of_tree(json.loads(header[HEADER])["graph"], arrays)
    return graph


def _as_tree(value: Any, arrays: dict[str, Array]) -> Any:
    """Return a dataclass as JSON, whose arrays are put aside by their names."""
    if isinstance(value, tuple):
        return [_as_tree(one, arrays) for one in value]
    kind = NAMES.get(type(value))
    if kind is None:
        return value
    tree: dict[str, Any] = {"kind": kind}
    owner = ALONE.get(kind) or f"{kind}.{sum(name.startswith(f'{kind}.') for name in arrays) // 2}"
    for field in fields(value):
        inner = getattr(value, field.name)
        if field.type == ARRAY:
            name = f"{owner}.{field.name}"
            arrays[name] = np.ascontiguousarray(inner)
            tree[field.name] = name
        else:
            tree[field.name] = _as_tree(inner, arrays)
    return tree


def _of_tree(tree: Any, arrays: Mapping[str, Array]) -> Any:
    if isinstance(tree, list):
        return tuple(_of_tree(one, arrays) for one in tree)
    if not isinstance(tree, dict):
        return tree
    type_ = KINDS[tree["kind"]]
    found = {}
    for field in fields(type_):
        inner = tree[field.name]
        found[field.name] = arrays[inner] if field.type == ARRAY else _of_tree(inner, arrays)
    return type_(**found)
