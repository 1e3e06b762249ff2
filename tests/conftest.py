"""What all tests share: the frameworks that they run with."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests import frameworks

if TYPE_CHECKING:
    from tests.frameworks import Framework

# TensorFlow tells on every start which instructions and devices it has found.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@pytest.fixture(params=frameworks.NAMES)
def framework(request: pytest.FixtureRequest) -> Framework:
    """Each framework in turn."""
    return frameworks.load(request.param)


@pytest.fixture
def torch_framework() -> Framework:
    return frameworks.load("torch")


@pytest.fixture
def tensorflow_framework() -> Framework:
    return frameworks.load("tensorflow")
