"""Trying a policy in C: its header comes in, compiled it goes out, as something to be called."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tensor_optix.adapters.inference_graph import Choose
from tensor_optix.exporting.numpy_reading import Outputs, evaluate
from tensor_optix.exporting.policy_graph import NotExportable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tensor_optix.adapters.inference_graph import InferenceGraph, Stretch
    from tensor_optix.core.types import Array

FLAGS = ("-std=c99", "-O1", "-Wall", "-Wextra", "-Werror")
COMPILERS = ("cc", "gcc", "clang")
PROGRAM = """
#include <stdio.h>
#include "policy.h"

int main(void)
{{
    float observation[POLICY_INPUTS];
    unsigned char mask[POLICY_SCORES];
    {type} action[POLICY_ACTIONS];
    while (fread(observation, sizeof(float), POLICY_INPUTS, stdin) == POLICY_INPUTS
           && fread(mask, 1, POLICY_SCORES, stdin) == POLICY_SCORES) {{
        {call}
        fwrite(action, sizeof({type}), POLICY_ACTIONS, stdout);
    }}
    return 0;
}}
"""
"""Reads observations, a mask behind each, needed or not, and writes the actions."""


def reader(
    path: Path, graph: InferenceGraph
) -> tuple[str, Callable[[Mapping[str, Array]], Outputs]]:
    """Return what runs a header of the graph: in words, and to be called.

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
    """Compile the header, and run it on observations.

    Raises:
        NotExportable: If the compiler refuses it.
    """
    head = graph.head
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        shutil.copyfile(path, directory / "policy.h")
        (directory / "main.c").write_text(_program(head))
        command = [compiler, *FLAGS, "main.c", "-o", "policy", "-lm"]
        made = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
        if made.returncode:
            raise NotExportable(f"{compiler} refuses the header: {made.stderr.strip()[:500]}")
        given = _rows(graph, inputs)
        run = subprocess.run(
            [directory / "policy"], input=given.tobytes(), capture_output=True, check=True
        )
    found = np.frombuffer(run.stdout, np.float32 if c_type(head) == "float" else np.int32)
    return Outputs(found.astype(head.dtype).reshape(len(given), *head.shape), None)


def _rows(graph: InferenceGraph, inputs: Mapping[str, Array]) -> Array:
    """Return the bytes `[B, N]` of observations, and of the masks behind them."""
    observations = np.asarray(inputs[graph.inputs[0].name], np.float32)
    numbers = np.ascontiguousarray(observations.reshape(len(observations), -1))
    mask = np.zeros((len(numbers), graph.score_count), np.uint8)
    if isinstance(graph.head, Choose) and graph.head.mask is not None:
        mask[:] = inputs[graph.head.mask] != 0
    return np.concatenate([numbers.view(np.uint8), mask], axis=1)


def c_type(head: Choose | Stretch) -> str:
    """Return the type of an action, or of one of its components."""
    return "int" if isinstance(head, Choose) or head.rounds else "float"


def _program(head: Choose | Stretch) -> str:
    is_masked = isinstance(head, Choose) and head.mask is not None
    given = ["observation", *["mask"] * is_masked]
    if head.is_number:
        call = f"action[0] = policy_act({', '.join(given)});"
    else:
        call = f"policy_act({', '.join([*given, 'action'])});"
    return PROGRAM.format(type=c_type(head), call=call)
