"""When a new point has stood its test, and what the agent makes of a suggestion."""

from __future__ import annotations

import numpy as np
import pytest

from tensor_optix.core.search_space import SearchSpace
from tensor_optix.optimizers.experiment import Evidence, is_open, stands
from tensor_optix.optimizers.experimenter import AcceptedBase


def evidence(z, windows=4):
    return Evidence(difference=z, noise=1.0, t=z, z=z, windows=windows)


def test_a_point_must_beat_the_base_by_itself_however_much_its_probe_promised():
    assert not stands(evidence(0.5), evidence(8.0))
    assert stands(evidence(1.5), evidence(8.0))


def test_a_point_needs_overwhelming_evidence():
    assert not stands(evidence(3.9), None)
    assert stands(evidence(4.1), None)
    assert not stands(evidence(2.0), evidence(2.0))
    assert stands(evidence(3.0), evidence(3.0))


def test_a_test_goes_on_while_it_is_open_and_not_for_ever():
    assert is_open(evidence(2.0), None)
    assert not is_open(evidence(-0.1), None)
    assert not is_open(evidence(5.0), None)
    assert not is_open(evidence(2.0, windows=16), None)
    assert not is_open(evidence(1.5, windows=12), evidence(2.0))


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
