"""Policies as ONNX: an inference graph goes in, a file comes out, and what it computes."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

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
from tensor_optix.exporting.facts import as_text
from tensor_optix.exporting.numpy_reading import Outputs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from tensor_optix.adapters.inference_graph import (
        Block,
        Choose,
        GraphInput,
        InferenceGraph,
        Step,
    )
    from tensor_optix.core.types import Array

OPSET = 17
IR_VERSION = 8
"""That belongs to it: older runtimes read no later one."""
BATCH = "batch"
ONLY_ERRORS = 3
"""Of what the runtime logs."""
ACTIVATIONS = {"tanh": "Tanh", "relu": "Relu", "elu": "Elu"}


def write(graph: InferenceGraph, path: Path, facts: Mapping[str, Any]) -> None:
    """Write a graph to a file, with facts of the policy as its metadata.

    Raises:
        OSError: If the file cannot be written.
    """
    nodes = _Nodes()
    parts = [nodes.of_steps(one.steps, one.name) for one in graph.inputs]
    rows = parts[0] if len(parts) == 1 else nodes.add("Concat", *parts, axis=1)
    scores = nodes.columns(nodes.of_steps(graph.steps, rows), 0, graph.score_count)
    head = graph.head
    action = (
        nodes.stretched(head, scores) if isinstance(head, Stretch) else nodes.chosen(head, scores)
    )
    nodes.name(scores, graph.scores)
    nodes.name(action, ACTION)
    inputs, outputs = ([_value(one) for one in ends] for ends in (graph.signature, graph.outputs))
    body = helper.make_graph(nodes.made, "policy", inputs, outputs, nodes.constants)
    model = helper.make_model(
        body,
        producer_name="tensor_optix",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    helper.set_model_props(model, {name: as_text(fact) for name, fact in facts.items()})
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def reader(
    path: Path, graph: InferenceGraph
) -> tuple[str, Callable[[Mapping[str, Array]], Outputs]]:
    """Return what runs a file that `write` wrote of the graph: in words, and to be called."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ONLY_ERRORS
    session = onnxruntime.InferenceSession(
        path.read_bytes(), options, providers=["CPUExecutionProvider"]
    )

    def run(inputs: Mapping[str, Array]) -> Outputs:
        return Outputs(*session.run([ACTION, graph.scores], dict(inputs)))

    return "ONNX Runtime", run


def interface(path: Path, graph: InferenceGraph) -> FileInterface:
    """Return how a file of a graph is used."""
    found = ", ".join(one.name for one in graph.outputs)
    given = ", ".join(
        f'"{one.name}": {f"numpy.array([{one.name}])" if one.name.isidentifier() else "..."}'
        for one in graph.signature
    )
    usage = (
        f'session = onnxruntime.InferenceSession("{path}")',
        f"{found} = session.run(None, {{{given}}})",
    )
    return FileInterface(graph.signature, graph.outputs, usage)


def _value(one: GraphInput) -> Any:
    return helper.make_tensor_value_info(one.name, _type(one.dtype), [BATCH, *one.shape])


def _type(dtype: str) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


class _Nodes:
    """The nodes and the constants of a graph, as they are added."""

    def __init__(self) -> None:
        self.made: list[Any] = []
        self.constants: list[Any] = []

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; return the name of its output, which is no input's."""
        name = f"/{kind}_{len(self.made)}"
        self.made.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def constant(self, values: Any, dtype: Any) -> str:
        """Add a constant; return its name."""
        name = f"/constant_{len(self.constants)}"
        # Contiguous, as only such are kept row-major.
        array = np.ascontiguousarray(values, dtype).reshape(np.shape(values))
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def name(self, value: str, name: str) -> None:
        """Give an output of the graph its name."""
        self.made.append(helper.make_node("Identity", [value], [name]))

    def cast(self, value: str, dtype: str) -> str:
        """Add what changes the dtype."""
        return self.add("Cast", value, to=_type(dtype))

    def reshaped(self, value: str, *shape: int) -> str:
        """Add what changes the shape; 0 keeps a size, -1 is found out."""
        return self.add("Reshape", value, self.constant(shape, np.int64))

    def columns(self, value: str, first: int, last: int) -> str:
        """Add what takes columns of rows."""
        ends = [self.constant([one], np.int64) for one in (first, last, 1)]
        return self.add("Slice", value, *ends)

    def of_steps(self, steps: Sequence[Step], value: str) -> str:
        """Add steps in order; return the name of what comes out."""
        return functools.reduce(self._step, steps, value)

    def _step(self, x: str, step: Step) -> str:
        match step:
            case Flatten():
                return self.cast(self.reshaped(x, 0, -1), "float32")
            case OneHot():
                return self._one_hot(step, x)
            case Normalize():
                return self._normalized(step, x)
            case Divide():
                divisors = self.constant(step.divisors, np.float32)
                return self.add("Div", self.cast(x, "float32"), divisors)
            case Columns():
                return self.reshaped(self.columns(x, step.first, step.last), 0, *step.shape)
            case ChannelsToFront():
                return self.add("Transpose", x, perm=(0, 3, 1, 2))
            case Convolution2D():
                return self._convolution(step, x)
            case DenseLayer():
                return self._dense(step, x)
            case Branches():
                parts = [self.of_steps(branch, x) for branch in step.branches]
                return self.add("Concat", *parts, axis=1)

    def _one_hot(self, step: OneHot, x: str) -> str:
        rows = self.cast(self.reshaped(x, 0, -1), "int64")
        places = self.constant(step.columns, np.int64)
        spread = self.add("Gather", rows, places, axis=1)
        return self.cast(
            self.add("Equal", spread, self.constant(step.numbers, np.int64)), "float32"
        )

    def _normalized(self, step: Normalize, x: str) -> str:
        mean, deviation = (self.constant(one, np.float64) for one in (step.mean, step.deviation))
        normal = self.add("Div", self.add("Sub", self.cast(x, "float64"), mean), deviation)
        if step.clip:
            ends = (self.constant(one, np.float64) for one in (-step.clip, step.clip))
            normal = self.add("Clip", normal, *ends)
        return self.cast(normal, "float32")

    def _convolution(self, step: Convolution2D, x: str) -> str:
        made = self.add(
            "Conv",
            self.cast(x, "float32"),
            self.constant(step.weight, np.float32),
            self.constant(step.bias, np.float32),
            strides=(step.stride, step.stride),
            pads=(step.padding,) * 4,
        )
        return self.add("Relu", made)

    def _dense(self, step: DenseLayer, x: str) -> str:
        weight, bias = (self.constant(one, np.float32) for one in (step.weight, step.bias))
        made = self.add("Gemm", x, weight, bias, transB=1)
        if step.activation == "silu":
            return self.add("Mul", made, self.add("Sigmoid", made))
        kind = ACTIVATIONS.get(step.activation)
        return made if kind is None else self.add(kind, made)

    def stretched(self, head: Stretch, scores: str) -> str:
        """Add what makes continuous actions of the scores."""
        value = self.add("Tanh", self.cast(scores, "float64"))
        value = self.add("Mul", value, self.constant(head.half, np.float64))
        value = self.add("Add", value, self.constant(head.middle, np.float64))
        value = self.add("Min", value, self.constant(head.high, np.float64))
        value = self.add("Max", value, self.constant(head.low, np.float64))
        if head.rounds:
            value = self.add("Round", value)
        return self.reshaped(self.cast(value, head.dtype), -1, *head.shape)

    def chosen(self, head: Choose, scores: str) -> str:
        """Add what makes choices of the scores."""
        blocks = [self._best(block, scores, head.mask) for block in head.blocks]
        best = blocks[0] if len(blocks) == 1 else self.add("Concat", *blocks, axis=1)
        actions = self.add("Add", best, self.constant(head.starts, np.int64))
        return self.reshaped(self.cast(actions, head.dtype), -1, *head.shape)

    def _best(self, block: Block, scores: str, mask: str | None) -> str:
        ours = self._of_block(block, scores)
        if mask is not None:
            ours = self._allowed(self._of_block(block, mask), ours)
        return self.add("ArgMax", ours, axis=2, keepdims=0)

    def _of_block(self, block: Block, value: str) -> str:
        columns = self.columns(value, block.first, block.last)
        return self.reshaped(columns, 0, block.count, block.size)

    def _allowed(self, mask: str, scores: str) -> str:
        allowed = self.cast(mask, "bool")
        most = self.add("ReduceMax", self.cast(allowed, "float32"), axes=[2], keepdims=1)
        is_silent = self.add("Not", self.cast(most, "bool"))
        lowest = self.constant(np.finfo(np.float32).min, np.float32)
        return self.add(
            "Where",
            self.add("Or", allowed, is_silent),
            self.add("Max", scores, lowest),
            self.constant(-np.inf, np.float32),
        )
