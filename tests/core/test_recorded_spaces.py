"""Spaces in files: what comes back is what was recorded, and what was altered is a clean error."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import (
    Box,
    Dict,
    Discrete,
    MultiBinary,
    MultiDiscrete,
    Sequence,
    Space,
    Text,
    Tuple,
)

from tensor_optix.core.observation_layout import MaskedSpace, seen_space
from tensor_optix.core.recorded_spaces import space_from_json, space_to_json, whole_space

VECTOR = Box(np.array([-1.0, -np.inf, 0.1], np.float32), np.array([1.0, np.inf, 0.3], np.float32))
NESTED = Dict(
    {
        "place": Tuple((Discrete(3, start=-1), Dict({"z": VECTOR, "a": MultiBinary(2)}))),
        "image": Box(0, 255, (4, 4, 3), np.uint8),
    }
)
SPACES: list[Space[Any]] = [
    VECTOR,
    Box(-np.inf, np.inf, (), np.float64),
    Box(0, 2**64 - 1, (2,), np.uint64),
    Box(-(2**63), 2**63 - 1, (2, 2), np.int64),
    Box(0, 1, (3,), np.bool_),
    Box(0.0, 1.0, (0,), np.float16),
    Discrete(4),
    Discrete(4, start=7),
    MultiDiscrete([2, 3], start=[1, -1]),
    MultiDiscrete([[4, 4], [4, 4]], dtype=np.int32),
    MultiBinary(3),
    MultiBinary((2, 1)),
    Tuple((Discrete(2), VECTOR)),
    NESTED,
]


def recorded(space: Space[Any]) -> Space[Any]:
    """Return what comes back of a space, by way of text."""
    return space_from_json(json.loads(json.dumps(space_to_json(space), allow_nan=False)))


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_a_space_comes_back(space: Space[Any]) -> None:
    found = recorded(space)
    assert found == space
    assert (found.shape, found.dtype) == (space.shape, space.dtype)
    assert json.dumps(space_to_json(found)) == json.dumps(space_to_json(space))


def test_the_parts_keep_their_order() -> None:
    assert isinstance(found := recorded(NESTED), Dict)
    assert list(found.spaces) == list(NESTED.spaces)


def test_the_bounds_are_one_number_where_all_are_alike() -> None:
    assert space_to_json(Box(0, 255, (84, 84, 4), np.uint8)) == {
        "type": "Box",
        "shape": [84, 84, 4],
        "dtype": "uint8",
        "low": 0,
        "high": 255,
    }


def test_the_rows_of_parts_are_recorded_as_these() -> None:
    rows = seen_space(NESTED)
    assert recorded(rows) == NESTED == whole_space(rows)
    assert seen_space(recorded(rows)) == rows
    masked = MaskedSpace(rows, 4)
    assert recorded(masked) == masked
    assert whole_space(masked) == NESTED


def test_what_is_no_number_leaves_its_place_empty() -> None:
    words = Sequence(Discrete(3))
    found = recorded(Tuple((Text(3), VECTOR, words)))
    assert seen_space(found).layout.size == 3  # type: ignore[attr-defined]
    rows = seen_space(Tuple((Text(3), VECTOR)))
    assert rows.flattened((0, VECTOR.low)).shape == (3,)  # type: ignore[attr-defined]
    assert seen_space(recorded(rows)).flattened(("x", VECTOR.low)).shape == (3,)  # type: ignore[attr-defined]
    assert type(recorded(words)) is Space
    assert type(recorded(Discrete(2**40))) is Space
    assert type(recorded(Dict({"x": words})["x"])) is Space


BOX = space_to_json(Box(0.0, 1.0, (2,)))
HOSTILE: list[Any] = [
    *(None, 3, "Box", [], {}, {"type": None}, {"type": []}, {"type": "Text"}),
    *({"type": "Box"}, BOX | {"shape": [2**20, 2**20]}, BOX | {"shape": [-1]}, BOX | {"shape": 2}),
    *(BOX | {"shape": [True]}, BOX | {"shape": [1] * 40}, BOX | {"shape": ["2"]}),
    *(BOX | {"dtype": "object"}, BOX | {"dtype": "U9"}, BOX | {"dtype": ["int8"]}),
    *(BOX | {"low": [0.0]}, BOX | {"low": "a"}, BOX | {"low": {"$float": "x"}}),
    *(BOX | {"low": {"$float": "nan"}}, BOX | {"low": 2.0}, BOX | {"dtype": "uint8", "low": 300}),
    {"type": "Discrete", "n": 0, "start": 0, "dtype": "int64"},
    {"type": "Discrete", "n": 2**60, "start": 0, "dtype": "int64"},
    {"type": "Discrete", "n": 2, "start": 10**30, "dtype": "int64"},
    {"type": "Discrete", "n": 2, "start": 0.5, "dtype": "int64"},
    {"type": "MultiDiscrete", "shape": [2], "dtype": "int64", "nvec": [2**40, 2], "start": 0},
    {"type": "MultiDiscrete", "shape": [2], "dtype": "int64", "nvec": [0, 2], "start": 0},
    {"type": "MultiDiscrete", "shape": [2], "dtype": "float32", "nvec": 2, "start": 0},
    {"type": "MultiBinary", "shape": [2**40]},
    {"type": "Dict", "parts": 3},
    {"type": "Dict", "parts": [["a"]]},
    {"type": "Tuple", "parts": [None]},
    {"type": "Masked", "observations": BOX, "mask_size": 0},
    {"type": "Masked", "observations": {"type": "unknown"}, "mask_size": 2},
]


@pytest.mark.parametrize("tree", HOSTILE, ids=lambda tree: str(tree)[:60])
def test_altered_json_is_a_clean_error(tree: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        space_from_json(tree)


def test_spaces_within_spaces_without_end_are_refused() -> None:
    tree: Any = BOX
    for _ in range(100):
        tree = {"type": "Tuple", "parts": [tree]}
    with pytest.raises(ValueError, match="at most 32 deep"):
        space_from_json(tree)
