"""Which backend serves, and how one is forced. Each case in a fresh interpreter."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from typing import Any

import pytest

from tensor_optix import kernels as face
from tests.kernels.conftest import load

SAY = """
import sys, tensor_optix.kernels as k
print(k.BACKEND, k.gae.__module__, "numba" in sys.modules)
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
    assert result.stdout.split() == ["native", "tensor_optix.kernels._native", "False"]


def test_numba_can_be_forced() -> None:
    assert fresh(SAY, "numba").stdout.split() == ["numba", "tensor_optix.kernels._numba", "True"]


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


def test_both_backends_take_the_same_arguments(native_and_numba: tuple[Any, Any]) -> None:
    """By the extension's own signature line."""
    native, numba = native_and_numba
    for name in set(face.__all__) - {"BACKEND"}:
        wanted = list(inspect.signature(getattr(numba, name)).parameters)
        line = getattr(native, name).__doc__.splitlines()[0]
        assert [part.split(":")[0] for part in line.split("(")[1].split(", ")] == wanted
