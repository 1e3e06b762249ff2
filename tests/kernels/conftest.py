"""Every kernel test runs against both backends, side by side in one process."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGE = "tensor_optix.kernels"
BACKENDS = ("native", "numba")


def load(name: str) -> Any:
    """Return the package as it is with one backend; skip where the extension was not built."""
    if name == "native" and importlib.util.find_spec(f"{PACKAGE}._native") is None:
        pytest.skip("the extension is not built")
    return _import_afresh(name)


@cache
def _import_afresh(name: str) -> Any:
    from tensor_optix import kernels as usual

    ours = [key for key in sys.modules if key.startswith(PACKAGE) and key != f"{PACKAGE}._native"]
    kept = {key: sys.modules.pop(key) for key in ours}
    try:
        with mock.patch.dict(os.environ, {"TENSOR_OPTIX_KERNELS": name}):
            return importlib.import_module(PACKAGE)
    finally:
        sys.modules.update(kept)
        sys.modules["tensor_optix"].kernels = usual


def by_position(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that passes its arguments on by position.

    As the package does: then the extension's own checks come first.
    """
    signature = inspect.signature(function)
    return lambda *arguments, **named: function(*signature.bind(*arguments, **named).args)


def functions(package: Any) -> dict[str, Callable[..., Any]]:
    """Return the kernels of a package by name."""
    return dict(inspect.getmembers(package, inspect.isfunction))


@cache
def called_by_position(name: str) -> Any:
    kernels = functions(load(name))
    passed_on = {key: by_position(function) for key, function in kernels.items()}
    return SimpleNamespace(BACKEND=name, **passed_on)


@pytest.fixture(params=BACKENDS, scope="session")
def kernels(request: pytest.FixtureRequest) -> Any:
    """One backend's functions."""
    return called_by_position(request.param)


@pytest.fixture(scope="session")
def native_and_numba() -> tuple[Any, Any]:
    """Both backends, for tests that compare them bit for bit."""
    return called_by_position("native"), called_by_position("numba")
