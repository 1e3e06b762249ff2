"""TensorFlow as the tests of the algorithms see it: its updates are graphs, which XLA does not compile.

Compiling takes as long as tracing, for every agent anew. What XLA makes of each algorithm is tested in
`tests/parity`, against PyTorch, and in `tests/probes`; a test that is about it asks for the fixture `xla`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import frameworks

if TYPE_CHECKING:
    from tests.frameworks import Framework


@pytest.fixture
def xla() -> None:
    """Updates in TensorFlow are compiled, as they are for users with small networks."""


def loaded(name: str, request: pytest.FixtureRequest) -> Framework:
    framework = frameworks.load(name)
    if name == "tensorflow" and "xla" not in request.fixturenames:
        from tensor_optix.adapters.tensorflow import graphs

        patch = request.getfixturevalue("monkeypatch")
        patch.setattr(graphs, "pays", lambda networks: False)
    return framework


@pytest.fixture(params=frameworks.NAMES)
def framework(request: pytest.FixtureRequest) -> Framework:
    """Each framework in turn."""
    return loaded(request.param, request)


@pytest.fixture
def tensorflow_framework(request: pytest.FixtureRequest) -> Framework:
    return loaded("tensorflow", request)
