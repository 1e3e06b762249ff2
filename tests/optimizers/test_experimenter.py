"""The accepted base: what the agent makes of a suggestion, and what others change."""

from __future__ import annotations

import numpy as np
import pytest

from tensor_optix.core.search_space import SearchSpace
from tensor_optix.optimizers.experimenter import AcceptedBase


@pytest.fixture
def base():
    base = AcceptedBase(SearchSpace({"x": (0.0, 1.0)}))
    base.adopt({"x": 0.5})
    return base


def test_what_the_agent_makes_of_the_base_is_the_base(base):
    base.asked = {"x": 0.8}
    base.read({"x": 0.6})
    base.asked = base.at(None)
    assert base.recognises({"x": 0.52})
    base.read({"x": 0.52})
    assert base.at(None) == {"x": 0.52}
    assert not base.is_left


def test_what_was_not_asked_for_and_is_no_clipping_is_not_recognised(base):
    assert base.recognises({"x": 0.5})
    assert not base.recognises({"x": 0.51})
    base.asked = {"x": 0.8}
    assert base.recognises({"x": 0.7})
    assert not base.recognises({"x": 0.4})


def test_values_out_of_bounds_are_never_the_base(base):
    base.asked = {"x": 1.0}
    base.accept({"x": 3.0})
    assert base.at(None) == {"x": 1.0}
    assert base.at(np.array([7.0])) == {"x": 1.0}
