"""What all tests share: the frameworks that they run with."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING

import pytest

from tests import frameworks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.frameworks import Framework

# TensorFlow tells on every start which instructions and devices it has found.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


NEEDS = (
    "needs_a_framework: images, shared layers or losses, which the native engine has not by itself"
)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", NEEDS)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what the native engine cannot do without a framework, where a test says so."""
    left_out = [one for one in items if _is_beyond_perceptrons(one)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [one for one in items if one not in left_out]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Leave what is imported and collected, frameworks above all, out of every search for garbage."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def _is_beyond_perceptrons(item: pytest.Item) -> bool:
    callspec = getattr(item, "callspec", None)
    is_native = callspec is not None and callspec.params.get("framework") == "native"
    return is_native and item.get_closest_marker("needs_a_framework") is not None


@pytest.fixture(params=frameworks.NAMES)
def framework(request: pytest.FixtureRequest) -> Framework:
    """Each framework in turn."""
    return frameworks.load(request.param)


@pytest.fixture
def torch_framework() -> Framework:
    return frameworks.load("torch")


@pytest.fixture
def native_framework() -> Framework:
    return frameworks.load("native")


@pytest.fixture
def tensorflow_framework() -> Framework:
    return frameworks.load("tensorflow")
