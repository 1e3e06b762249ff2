"""Every kernel test runs against both backends, side by side in one process."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

BACKENDS = ("native", "numba")


def load(name: str) -> Any:
    """Import one backend; skip where the extension was not built."""
    module = f"tensor_optix.kernels._{name}"
    if name == "native" and importlib.util.find_spec(module) is None:
        pytest.skip("the extension is not built")
    return importlib.import_module(module)


@pytest.fixture(params=BACKENDS, scope="session")
def kernels(request: pytest.FixtureRequest) -> Any:
    """One backend's functions."""
    return load(request.param)


@pytest.fixture(scope="session")
def native_and_numba() -> tuple[Any, Any]:
    """Both backends, for tests that compare them bit for bit."""
    return load("native"), load("numba")
