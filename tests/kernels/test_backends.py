"""Which backend serves, and how one is forced. Each case in a fresh interpreter."""

from __future__ import annotations

import importlib
import inspect
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from tests.kernels import test_arguments, test_replay_arguments, test_sum_tree_arguments
from tests.kernels.conftest import functions, load

SAY = """
import sys, tensor_optix.kernels as k
print(k.BACKEND, "tensor_optix.kernels._native" in sys.modules, "numba" in sys.modules)
"""


def fresh(code: str, forced: str | None) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "TENSOR_OPTIX_KERNELS"}
    if forced is not None:
        environment["TENSOR_OPTIX_KERNELS"] = forced
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("forced", [None, "native"])
def test_the_extension_serves_without_importing_numba(forced: str | None) -> None:
    load("native")
    result = fresh(SAY, forced)
    assert result.stdout.split() == ["native", "True", "False"]


def test_numba_can_be_forced() -> None:
    assert fresh(SAY, "numba").stdout.split() == ["numba", "False", "True"]


HIDE = """
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name.endswith("_native") else find(name, *a)
"""


def test_numba_serves_where_the_extension_is_missing() -> None:
    assert fresh(HIDE + SAY, None).stdout.startswith("numba")


def test_forcing_a_missing_extension_says_what_to_do() -> None:
    result = fresh(HIDE + SAY, "native")
    assert result.returncode != 0
    assert "ImportError: TENSOR_OPTIX_KERNELS is 'native'" in result.stderr
    assert "reinstall tensor-optix with a C++17 compiler" in result.stderr


def test_an_unknown_backend_is_an_error() -> None:
    result = fresh(SAY, "cuda")
    assert "ValueError: TENSOR_OPTIX_KERNELS must be 'native' or 'numba', got 'cuda'" in (
        result.stderr
    )


def valid_calls() -> dict[str, dict[str, Any]]:
    """Arguments of every function, by name."""
    calls = {name: make() for name, (make, _) in test_arguments.CALLS.items()}
    calls |= {name: make() for name, (make, _) in test_replay_arguments.CALLS.items()}
    for name in test_sum_tree_arguments.ONLY_READ:
        calls[name] = test_sum_tree_arguments.arguments_of(name)
    array = np.zeros(4, np.float32)
    calls["gather"] = {"sources": [array], "indices": np.arange(4, dtype=np.int32)}
    calls["gather"]["outputs"] = [array.copy()]
    return calls


@pytest.mark.parametrize("name", sorted(valid_calls()))
def test_both_backends_take_the_same_arguments(
    native_and_numba: tuple[Any, Any], name: str
) -> None:
    """By position and by name; the extension does not leave to the checks what they let pass."""
    extension = importlib.import_module("tensor_optix.kernels._native")
    for kernels in (*native_and_numba, load("native"), load("numba")):
        getattr(kernels, name)(**valid_calls()[name])
    signature = inspect.signature(getattr(load("numba"), name))
    getattr(extension, name)(*signature.bind(**valid_calls()[name]).args)


def test_every_function_is_called_here() -> None:
    assert set(functions(load("numba"))) == set(valid_calls())


def test_an_argument_that_is_missing_is_named_as_in_any_python_function(kernels: Any) -> None:
    with pytest.raises(TypeError, match=r"shuffle\(\) missing 1 required positional argument"):
        load(kernels.BACKEND).shuffle(np.zeros(3, np.int32))
