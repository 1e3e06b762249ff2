"""The generators that a framework's own operations draw from go on where they were."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

from tensor_optix.core.checkpoints.saved_state import read_state, write_state
from tests.frameworks import require


def draw(framework: str) -> Any:
    if framework == "torch":
        return importlib.import_module("torch").rand(5).numpy()
    generator = importlib.import_module("tensorflow").random.get_global_generator()
    return generator.uniform((5,)).numpy()


PATHS = {"torch": "pytorch", "tensorflow": "tensorflow"}


@pytest.mark.parametrize("framework", sorted(PATHS))
def test_what_is_drawn_goes_on(framework, tmp_path):
    require(framework)
    ops = importlib.import_module(f"tensor_optix.adapters.{PATHS[framework]}.backend")
    write_state(tmp_path / "random", {"random": ops.random_state()})
    first = draw(framework)
    draw(framework)
    ops.set_random_state(read_state(tmp_path / "random")["random"])
    assert np.array_equal(draw(framework), first)


@pytest.mark.parametrize("framework", sorted(PATHS))
@pytest.mark.parametrize("state", [{}, {"cpu": np.zeros(3), "global": np.zeros(7)}])
def test_what_is_no_such_state_is_refused(framework, state):
    require(framework)
    ops = importlib.import_module(f"tensor_optix.adapters.{PATHS[framework]}.backend")
    with pytest.raises(ValueError, match="the state is none of"):
        ops.set_random_state(state)
