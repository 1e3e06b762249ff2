"""Policies as C99: the inference graph of a perceptron goes in, one header comes out, and is tried."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.adapters.inference_graph import (
    DenseLayer,
    Divide,
    Flatten,
    Normalize,
    OneHot,
    Stretch,
)
from tensor_optix.exporting.numpy_reading import Outputs, evaluate
from tensor_optix.exporting.policy_graph import NotExportable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tensor_optix.adapters.inference_graph import Choose, InferenceGraph, Step
    from tensor_optix.core.types import Array

FLAGS = ("-std=c99", "-O1", "-Wall", "-Wextra", "-Werror")
COMPILERS = ("cc", "gcc", "clang")
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
PROGRAM = """
#include <stdio.h>
#include "policy.h"

int main(void)
{{
    float observation[POLICY_INPUTS];
    {mask}{type} action[POLICY_ACTIONS];
    while (fread(observation, sizeof(float), POLICY_INPUTS, stdin) == POLICY_INPUTS{and_mask}) {{
        {call}
        fwrite(action, sizeof({type}), POLICY_ACTIONS, stdout);
    }}
    return 0;
}}
"""


def write(graph: InferenceGraph, path: Path, facts: Mapping[str, str]) -> None:
    """Write a graph to a header, with facts of the policy in a comment.

    Raises:
        NotExportable: If it is no perceptron of one vector.
        OSError: If the file cannot be written.
    """
    path.write_text(_header(graph, facts), encoding="utf-8")


def reader(
    path: Path, graph: InferenceGraph
) -> tuple[str, Callable[[Mapping[str, Array]], Outputs]]:
    """Return what runs a header that `write` wrote of the graph: in words, and to be called.

    Without a compiler NumPy runs the graph.
    """
    compiler = compiler_found()
    if compiler is None:
        return "NumPy, as no C compiler was found", partial(evaluate, graph)
    return Path(compiler).name, partial(_run, compiler, path, graph)


def compiler_found() -> str | None:
    """Return the C compiler that is there, that in the variable CC first; None: there is none."""
    names = [name for name in (os.environ.get("CC"), *COMPILERS) if name]
    return next((found for name in names if (found := shutil.which(name))), None)


def _run(compiler: str, path: Path, graph: InferenceGraph, inputs: Mapping[str, Array]) -> Outputs:
    head = graph.head
    parts = [np.asarray(inputs[graph.inputs[0].name], np.float32)]
    rows = [parts[0].reshape(len(parts[0]), -1).view(np.uint8)]
    if not isinstance(head, Stretch) and head.mask is not None:
        rows.append((inputs[head.mask] != 0).astype(np.uint8))
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        shutil.copyfile(path, directory / "policy.h")
        (directory / "main.c").write_text(_program(graph))
        command = [compiler, *FLAGS, "main.c", "-o", "policy", "-lm"]
        made = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
        if made.returncode:
            raise NotExportable(f"{compiler} refuses the header: {made.stderr.strip()[:500]}")
        data = np.concatenate(rows, axis=1).tobytes()
        run = subprocess.run([directory / "policy"], input=data, capture_output=True, check=True)
    found = np.frombuffer(run.stdout, np.float32 if _type(head) == "float" else np.int32)
    return Outputs(found.astype(head.dtype).reshape(len(parts[0]), *head.shape), None)


def _program(graph: InferenceGraph) -> str:
    head = graph.head
    is_masked = not isinstance(head, Stretch) and head.mask is not None
    given = ("observation", *["mask"] * is_masked)
    returns = not isinstance(head, Stretch) and head.shape == ()
    call = (
        f"action[0] = policy_act({', '.join(given)});"
        if returns
        else f"policy_act({', '.join((*given, 'action'))});"
    )
    read = "\n           && fread(mask, 1, POLICY_SCORES, stdin) == POLICY_SCORES"
    mask = "unsigned char mask[POLICY_SCORES];\n    "
    return PROGRAM.format(
        type=_type(head), call=call, mask=mask * is_masked, and_mask=read * is_masked
    )


def _type(head: Choose | Stretch) -> str:
    return "float" if isinstance(head, Stretch) and not head.rounds else "int"


def _steps(graph: InferenceGraph) -> list[Step]:
    """Return the steps of a perceptron that sees one vector.

    Raises:
        NotExportable: If it is something else.
    """
    known = Normalize | Divide | OneHot | Flatten | DenseLayer
    steps = [*graph.inputs[0].steps, *graph.steps]
    if len(graph.inputs) > 1 or not all(isinstance(one, known) for one in steps):
        sees = ", ".join(f"{one.name} {list(one.shape)}" for one in graph.inputs)
        raise NotExportable(
            f"C is for perceptrons that see one vector, and this policy sees {sees}"
            f"{' by convolutions' * (len(graph.inputs) == 1)}: export it to onnx"
        )
    _require_ints(graph.head)
    return steps


def _require_ints(head: Choose | Stretch) -> None:
    """Refuse whole numbers that int does not hold. Raises NotExportable."""
    if not isinstance(head, Stretch) or not head.rounds:
        return
    if head.low.min() < INT.min or head.high.max() > INT.max:
        raise NotExportable(
            "C gives whole numbers as int, and those of this policy reach from "
            f"{head.low.min():g} to {head.high.max():g}: export it to onnx"
        )


def _header(graph: InferenceGraph, facts: Mapping[str, str]) -> str:
    steps = _steps(graph)
    constants, body = list[str](), list[str]()
    size = math.prod(graph.inputs[0].shape)
    inputs, value = size, "observation"
    for place, step in enumerate(steps):
        lines, size, value = _of_step(step, place, size, value, constants)
        body += lines
    head_lines = _of_head(graph.head, value, constants)
    activations = {one.activation for one in steps if isinstance(one, DenseLayer)} - {"identity"}
    functions = [
        ACTIVATION.format(name=name, formula=ACTIVATIONS[name]) for name in sorted(activations)
    ]
    if not isinstance(graph.head, Stretch):
        functions.append(BEST)
    inside = "\n".join(f"    {line}" for line in [*body, *head_lines])
    actions = max(1, math.prod(graph.head.shape))
    return "\n".join(
        [
            _comment(graph, facts),
            "#ifndef POLICY_H\n#define POLICY_H\n\n#include <math.h>\n",
            f"#define POLICY_INPUTS {inputs}",
            f"#define POLICY_SCORES {graph.score_count}",
            f"#define POLICY_ACTIONS {actions}\n",
            *constants,
            DENSE + "".join(functions),
            f"{_declaration(graph.head)}\n{{\n{inside}\n}}\n\n#endif",
            "",
        ]
    )


def _comment(graph: InferenceGraph, facts: Mapping[str, str]) -> str:
    # What stands in the facts must not end the comment.
    said = [f"{name}: {text}".replace("*/", "* /") for name, text in facts.items()]
    given = [
        f"observation: {math.prod(graph.inputs[0].shape)} numbers as the environment gives them, row-major",
        "Nothing is allocated. Link with -lm.",
    ]
    return "\n".join(
        ["/* The policy of a tensor_optix run.", *(f" * {one}" for one in [*said, *given]), " */"]
    )


def _declaration(head: Choose | Stretch) -> str:
    given = ["const float *observation"]
    if not isinstance(head, Stretch) and head.mask is not None:
        given.append("const unsigned char *action_mask")
    if not isinstance(head, Stretch) and head.shape == ():
        return f"static inline int policy_act({', '.join(given)})"
    given.append(f"{_type(head)} *action")
    return f"static inline void policy_act({', '.join(given)})"


def _of_step(
    step: Step, place: int, size: int, value: str, constants: list[str]
) -> tuple[list[str], int, str]:
    """Return the lines of a step, how many numbers it makes, and the array that holds them."""
    made = f"x{place}"
    match step:
        case DenseLayer():
            outputs = len(step.weight)
            weight, bias = f"policy_weight_{place}", f"policy_bias_{place}"
            constants += [_array(weight, step.weight), _array(bias, step.bias)]
            lines = [
                f"float {made}[{outputs}];",
                f"policy_dense({weight}, {bias}, {value}, {size}, {made}, {outputs});",
            ]
            if step.activation != "identity":
                lines.append(f"policy_{step.activation}({made}, {outputs});")
            return lines, outputs, made
        case Normalize():
            constants += [
                _array("policy_mean", step.mean),
                _array("policy_deviation", step.deviation),
            ]
            return _normalized(step, made, size, value), size, made
        case Divide():
            constants.append(
                _array(
                    "policy_divisors",
                    np.broadcast_to(step.divisors, size)
                    if step.divisors.size == 1
                    else step.divisors,
                )
            )
            return (
                [
                    f"float {made}[{size}];",
                    *_loop(size, f"{made}[i] = {value}[i] / policy_divisors[i];"),
                ],
                size,
                made,
            )
        case OneHot():
            constants += [
                _array("policy_columns", np.array(step.columns)),
                _array("policy_numbers", np.array(step.numbers)),
            ]
            hot = (
                f"{made}[i] = {value}[policy_columns[i]] == (float)policy_numbers[i] ? 1.0f : 0.0f;"
            )
            count = len(step.columns)
            return [f"float {made}[{count}];", *_loop(count, hot)], count, made
    return [], size, value


def _normalized(step: Normalize, made: str, size: int, value: str) -> list[str]:
    lines = [f"const double one = ({value}[i] - policy_mean[i]) / policy_deviation[i];"]
    if step.clip:
        end = repr(float(step.clip))
        lines.append(f"{made}[i] = (float)(one < -{end} ? -{end} : one > {end} ? {end} : one);")
    else:
        lines.append(f"{made}[i] = (float)one;")
    return [f"float {made}[{size}];", *_loop(size, *lines)]


def _loop(size: int, *lines: str) -> list[str]:
    return [f"for (int i = 0; i < {size}; i++) {{", *(f"    {line}" for line in lines), "}"]


def _of_head(head: Choose | Stretch, value: str, constants: list[str]) -> list[str]:
    if isinstance(head, Stretch):
        return _stretched(head, value, constants)
    first, lines = 0, list[str]()
    is_one = head.shape == ()
    for place, (count, start) in enumerate(zip(head.counts, head.starts, strict=True)):
        mask = "0" if head.mask is None else f"action_mask + {first}"
        best = f"{start} + policy_best({value} + {first}, {mask}, {count});"
        lines.append(f"return {best}" if is_one else f"action[{place}] = {best}")
        first += count
    return lines


def _stretched(head: Stretch, value: str, constants: list[str]) -> list[str]:
    constants += [
        _array(f"policy_{name}", getattr(head, name)) for name in ("middle", "half", "low", "high")
    ]
    kind = _type(head)
    last = "rint(one)" if head.rounds else "one"
    return _loop(
        head.size,
        f"double one = policy_middle[i] + policy_half[i] * tanh({value}[i]);",
        "one = one > policy_high[i] ? policy_high[i] : one;",
        "one = one < policy_low[i] ? policy_low[i] : one;",
        f"action[i] = ({kind}){last};",
    )


def _array(name: str, values: Array) -> str:
    """Return the definition of an array of numbers, each as exactly as it is."""
    flat = np.ravel(values)
    kind = {"f4": "float", "f8": "double"}.get(flat.dtype.str[1:], "int")
    texts = [_number(one, kind) for one in flat]
    lines = [
        ", ".join(texts[first : first + NUMBERS_A_LINE])
        for first in range(0, len(texts), NUMBERS_A_LINE)
    ]
    inside = ",\n    ".join(lines)
    return f"static const {kind} {name}[{len(texts)}] = {{\n    {inside}\n}};"


def _number(value: Any, kind: str) -> str:
    if kind == "int":
        return str(int(value))
    if not math.isfinite(value):
        return "-HUGE_VAL" if value < 0 else "HUGE_VAL"
    digits, ending = (9, "f") if kind == "float" else (17, "")
    text = f"{float(value):.{digits}g}"
    return text + ("" if any(mark in text for mark in ".e") else ".0") + ending
