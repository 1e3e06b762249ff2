"""Policies as C99: the inference graph of a perceptron goes in, one header comes out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.adapters.inference_graph import (
    ACTION,
    DenseLayer,
    Divide,
    FileInterface,
    Flatten,
    GraphInput,
    Normalize,
    OneHot,
    Stretch,
)
from tensor_optix.exporting.c_trial import c_type
from tensor_optix.exporting.c_trial import reader as reader
from tensor_optix.exporting.facts import as_text
from tensor_optix.exporting.policy_graph import NotExportable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tensor_optix.adapters.inference_graph import Choose, InferenceGraph, Step
    from tensor_optix.core.types import Array

INT = np.iinfo(np.int32)
NUMBERS_A_LINE = 6
ACTIVATIONS = {
    "tanh": "tanhf(x[i])",
    "relu": "x[i] > 0.0f ? x[i] : 0.0f",
    "elu": "x[i] > 0.0f ? x[i] : expm1f(x[i])",
    "silu": "x[i] / (1.0f + expf(-x[i]))",
}
DENSE = """
static inline void policy_dense(const float *weight, const float *bias, const float *x, int inputs,
                                float *y, int outputs)
{
    for (int i = 0; i < outputs; i++) {
        float sum = 0.0f;
        for (int j = 0; j < inputs; j++)
            sum += weight[i * inputs + j] * x[j];
        y[i] = sum + bias[i];
    }
}
"""
ACTIVATION = """
static inline void policy_{name}(float *x, int size)
{{
    for (int i = 0; i < size; i++)
        x[i] = {formula};
}}
"""
BEST = """
/* The place of the best score of those that the mask allows; of all, if it allows none or is null. */
static inline int policy_best(const float *scores, const unsigned char *mask, int size)
{
    int best = -1;
    for (int i = 0; i < size; i++)
        if ((!mask || mask[i]) && (best < 0 || scores[i] > scores[best]))
            best = i;
    return best < 0 && mask ? policy_best(scores, 0, size) : best;
}
"""
HEADER = """{comment}
#ifndef POLICY_H
#define POLICY_H

#include <math.h>

#define POLICY_INPUTS {inputs}
#define POLICY_SCORES {scores}
#define POLICY_ACTIONS {actions}

{constants}
{functions}
{declaration}
{{
{body}
}}

#endif
"""


def write(graph: InferenceGraph, path: Path, facts: Mapping[str, Any]) -> None:
    """Write a graph to a header, with facts of the policy in a comment.

    Raises:
        NotExportable: If it is no perceptron of one vector.
        OSError: If the file cannot be written.
    """
    steps = _steps(graph)
    body = _Body(_inputs(graph))
    for step in steps:
        body.add(step)
    head = graph.head
    if isinstance(head, Stretch):
        body.stretch(head)
    else:
        body.choose(head)
    text = HEADER.format(
        comment=_comment(graph, facts),
        inputs=_inputs(graph),
        scores=graph.score_count,
        actions=math.prod(head.shape),
        constants="\n".join(body.constants),
        functions=_functions(graph, steps),
        declaration=_declaration(head),
        body="\n".join(f"    {line}" for line in body.lines),
    )
    path.write_text(text, encoding="utf-8")


def interface(path: Path, graph: InferenceGraph) -> FileInterface:
    """Return how a header of a graph is used."""
    head = graph.head
    inputs = [GraphInput("observation", (_inputs(graph),), "float")]
    if not isinstance(head, Stretch) and head.mask is not None:
        inputs.append(GraphInput("action_mask", (graph.score_count,), "unsigned char"))
    shape = () if head.is_number else (math.prod(head.shape),)
    action = GraphInput(ACTION, shape, c_type(head))
    usage = (f'#include "{path.name}"', f"{_declaration(head)};")
    return FileInterface(tuple(inputs), (action,), usage, is_batched=False)


def _inputs(graph: InferenceGraph) -> int:
    return math.prod(graph.inputs[0].shape)


def _steps(graph: InferenceGraph) -> list[Step]:
    """Return the steps of a perceptron that sees one vector.

    Raises:
        NotExportable: If it is something else, or chooses whole numbers that int does not hold.
    """
    known = Normalize | Divide | OneHot | Flatten | DenseLayer
    steps = [*graph.inputs[0].steps, *graph.steps]
    if len(graph.inputs) > 1 or not all(isinstance(one, known) for one in steps):
        sees = ", ".join(f"{one.name} {list(one.shape)}" for one in graph.inputs)
        how = " by convolutions" if len(graph.inputs) == 1 else " side by side"
        raise NotExportable(
            f"C is for perceptrons that see one vector, and this policy sees {sees}{how}: export it to onnx"
        )
    head = graph.head
    if isinstance(head, Stretch) and head.rounds:
        least, most = head.low.min(), head.high.max()
        if least < INT.min or most > INT.max:
            raise NotExportable(
                f"C gives whole numbers as int, and those of this policy reach from {least:g} to {most:g}: "
                "export it to onnx"
            )
    return steps


def _comment(graph: InferenceGraph, facts: Mapping[str, Any]) -> str:
    said = [
        *(f"{name}: {as_text(fact)}" for name, fact in facts.items()),
        f"observation: {_inputs(graph)} numbers as the environment gives them, row-major",
        "Nothing is allocated. Link with -lm.",
    ]
    # What is said must not end the comment, nor seem to begin one.
    lines = [
        f" * {' '.join(one.split())}".replace("*/", "* /").replace("/*", "/ *") for one in said
    ]
    return "\n".join(["/* The policy of a tensor_optix run.", *lines, " */"])


def _functions(graph: InferenceGraph, steps: list[Step]) -> str:
    """Return the functions that the policy calls."""
    names = {one.activation for one in steps if isinstance(one, DenseLayer)} - {"identity"}
    made = [ACTIVATION.format(name=name, formula=ACTIVATIONS[name]) for name in sorted(names)]
    return DENSE + "".join(made) + BEST * (not isinstance(graph.head, Stretch))


def _declaration(head: Choose | Stretch) -> str:
    given = ["const float *observation"]
    if not isinstance(head, Stretch) and head.mask is not None:
        given.append("const unsigned char *action_mask")
    if head.is_number:
        return f"static inline int policy_act({', '.join(given)})"
    return f"static inline void policy_act({', '.join([*given, f'{c_type(head)} *action'])})"


class _Body:
    """The constants and the lines of the function, as steps are added.

    Args:
        size: How many numbers the observation has.
    """

    def __init__(self, size: int) -> None:
        self.constants: list[str] = []
        self.lines: list[str] = []
        self._value, self._size, self._count = "observation", size, 0

    def add(self, step: Step) -> None:
        """Add a step that `_steps` has let pass."""
        match step:
            case DenseLayer():
                self._dense(step)
            case Normalize():
                self._normalize(step)
            case Divide():
                divisors = np.broadcast_to(step.divisors.reshape(-1), self._size)
                self._constant("divisors", divisors)
                self._loop(self._size, "{y}[i] = {x}[i] / policy_divisors[i];")
            case OneHot():
                self._constant("columns", np.array(step.columns))
                self._constant("numbers", np.array(step.numbers))
                hot = "{y}[i] = {x}[policy_columns[i]] == (float)policy_numbers[i] ? 1.0f : 0.0f;"
                self._loop(len(step.columns), hot)

    def _dense(self, step: DenseLayer) -> None:
        outputs, inputs = step.weight.shape
        weight, bias = (
            self._constant(f"{name}_{self._count}", array)
            for name, array in (("weight", step.weight), ("bias", step.bias))
        )
        self._count += 1
        x, y = self._next(outputs)
        self.lines.append(f"policy_dense({weight}, {bias}, {x}, {inputs}, {y}, {outputs});")
        if step.activation != "identity":
            self.lines.append(f"policy_{step.activation}({y}, {outputs});")

    def _normalize(self, step: Normalize) -> None:
        self._constant("mean", step.mean)
        self._constant("deviation", step.deviation)
        one, end = "one", repr(float(step.clip))
        if step.clip:
            one = f"one < -{end} ? -{end} : one > {end} ? {end} : one"
        self._loop(
            self._size,
            "const double one = ({x}[i] - policy_mean[i]) / policy_deviation[i];",
            f"{{y}}[i] = (float)({one});",
        )

    def stretch(self, head: Stretch) -> None:
        """Add what makes continuous actions."""
        for name in ("middle", "half", "low", "high"):
            self._constant(name, getattr(head, name))
        last = "rint(one)" if head.rounds else "one"
        self._lines_for_each(
            head.size,
            f"double one = policy_middle[i] + policy_half[i] * tanh({self._value}[i]);",
            "one = one > policy_high[i] ? policy_high[i] : one;",
            "one = one < policy_low[i] ? policy_low[i] : one;",
            f"action[i] = ({c_type(head)}){last};",
        )

    def choose(self, head: Choose) -> None:
        """Add what makes choices."""
        first = 0
        for place, (count, start) in enumerate(zip(head.counts, head.starts, strict=True)):
            mask = "0" if head.mask is None else f"action_mask + {first}"
            best = f"{start} + policy_best({self._value} + {first}, {mask}, {count});"
            self.lines.append(f"return {best}" if head.is_number else f"action[{place}] = {best}")
            first += count

    def _loop(self, size: int, *lines: str) -> None:
        """Add lines for each number of a new array `y`, of those of the last one, `x`."""
        x, y = self._next(size)
        self._lines_for_each(size, *(line.format(x=x, y=y) for line in lines))

    def _lines_for_each(self, size: int, *lines: str) -> None:
        inner = [f"    {line}" for line in lines]
        self.lines += [f"for (int i = 0; i < {size}; i++) {{", *inner, "}"]

    def _next(self, size: int) -> tuple[str, str]:
        """Add a new array; return the names of the last one and of this one."""
        former = self._value
        self._value, self._size = f"x{len(self.lines)}", size
        self.lines.append(f"float {self._value}[{size}];")
        return former, self._value

    def _constant(self, name: str, values: Array) -> str:
        """Add an array of numbers, each as exactly as it is; return its name."""
        flat = np.ravel(values)
        kind = {"f4": "float", "f8": "double"}.get(flat.dtype.str[1:], "int")
        texts = [_number(one, kind) for one in flat]
        lines = [
            ", ".join(texts[first : first + NUMBERS_A_LINE])
            for first in range(0, len(texts), NUMBERS_A_LINE)
        ]
        inside = ",\n    ".join(lines)
        self.constants.append(
            f"static const {kind} policy_{name}[{len(texts)}] = {{\n    {inside}\n}};"
        )
        return f"policy_{name}"


def _number(value: Any, kind: str) -> str:
    """Return a number as C takes it, with all its digits."""
    if kind == "int":
        return str(int(value))
    if not math.isfinite(value):
        return "-HUGE_VAL" if value < 0 else "HUGE_VAL"
    digits, ending = (9, "f") if kind == "float" else (17, "")
    text = f"{float(value):.{digits}g}"
    return text + ("" if "." in text or "e" in text else ".0") + ending
