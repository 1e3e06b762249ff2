"""Observations to try policies on: in their space, its ends first, and around what a policy has seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

from tensor_optix.exporting.sampling import elements, nested

HUGE = np.finfo(np.float32).max
UNIT = (np.zeros(2), np.ones(2))


@pytest.mark.parametrize(
    "space",
    [
        Box(-1.0, 2.0, (2,), np.float32),
        Box(0, 255, (2,), np.uint8),
        Box(-np.inf, np.inf, (2,), np.float64),
        Box(-HUGE, HUGE, (1, 2), np.float32),
        Box(np.array([0.0, -np.inf], np.float32), np.array([np.inf, 3.0], np.float32)),
        Discrete(4, start=-2),
        MultiDiscrete([2, 5], start=[1, 0]),
        MultiBinary((2, 3)),
    ],
)
def test_all_are_elements_of_the_space(space: Any) -> None:
    drawn = elements(np.random.default_rng(0), space, UNIT, 50)
    assert drawn.shape == (50, *(space.shape or ()))
    assert drawn.dtype == space.dtype
    assert all(space.contains(one) for one in drawn)
    assert len(np.unique(drawn)) > 1
    assert np.isfinite(drawn).all()


def test_the_ends_come_first() -> None:
    space = Box(np.array([-1.0, 0.0], np.float32), np.array([1.0, 7.0], np.float32))
    drawn = elements(np.random.default_rng(0), space, UNIT, 50)
    np.testing.assert_array_equal(drawn[:2], [space.low, space.high])
    codes = elements(np.random.default_rng(0), Discrete(9, start=3), UNIT, 50)
    assert list(codes[:2]) == [3, 11]


def test_one_may_be_asked_for() -> None:
    for space in (Box(-1.0, 1.0, (2,), np.float32), Discrete(3)):
        assert len(elements(np.random.default_rng(0), space, UNIT, 1)) == 1


def test_half_are_where_the_policy_has_been() -> None:
    around = np.array([100.0, -5.0]), np.array([2.0, 0.1])
    space = Box(np.array([0.0, -np.inf]), np.array([1000.0, np.inf]), dtype=np.float64)
    drawn = elements(np.random.default_rng(0), space, around, 1000)
    # What is bounded is drawn between its ends as well; half of it lies there, and few more do by chance.
    is_near = np.abs(drawn[:, 0] - 100.0) < 8.0
    assert 0.45 < is_near.mean() < 0.6
    assert np.abs(drawn[2:, 1] + 5.0).max() < 0.6
    assert drawn[2:, 1].std() == pytest.approx(0.1, rel=0.1)
    np.testing.assert_allclose(drawn[:2, 1], [-6.2, -3.8])


def test_parts_are_put_as_deep_as_they_are() -> None:
    space = Dict({"a": Discrete(2), "b": Tuple((Discrete(3), Dict({"c": Discrete(4)})))})
    parts = {("a",): np.zeros(2), ("b", 0): np.ones(2), ("b", 1, "c"): np.full(2, 2.0)}
    found = nested(space, (), parts)
    assert found["a"] is parts["a",]
    assert found["b"][0] is parts["b", 0]
    assert found["b"][1]["c"] is parts["b", 1, "c"]
