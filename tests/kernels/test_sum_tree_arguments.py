"""Every argument of the sum tree's kernels is checked, and the error names it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from tests.kernels.tree_arrays import Tree


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("count", [3, 600])
def test_a_value_that_is_no_weight_is_named_and_nothing_changes(
    kernels: Any, value: float, count: int
) -> None:
    tree = Tree(kernels, 20)
    values = np.ones(count)
    values[count - 1] = value
    expected = f"values[{count - 1}] must be finite and not negative, got {value}"
    with pytest.raises(ValueError, match=re.escape(expected)):
        tree.set(np.zeros(count), values)
    with pytest.raises(ValueError, match=f"value must be finite and not negative, got {value}"):
        kernels.sum_tree_fill(*tree.arrays, np.zeros(count, np.int64), value)
    assert not tree.leaves.any()
    assert not tree.nodes.any()


@pytest.mark.parametrize("row", [-1, 20, 2**63 - 1, -(2**63)])
def test_an_index_out_of_range_is_named_and_nothing_changes(kernels: Any, row: int) -> None:
    tree, raw, top = Tree(kernels, 20), np.zeros(20, np.float32), np.ones(1, np.float32)
    rows, numbers = np.array([2, row]), np.ones(2, np.float32)
    calls = [
        ("sum_tree_set", (*tree.arrays, rows, numbers)),
        ("sum_tree_fill", (*tree.arrays, rows, 1.0)),
        ("priorities_update", (*tree.arrays, raw, rows, numbers, 0.5, 0.1, top)),
    ]
    for name, arguments in calls:
        with pytest.raises(IndexError, match=rf"indices\[1\] must be in \[0, 20\), got {row}$"):
            getattr(kernels, name)(*arguments)
    assert not tree.leaves.any()
    assert not tree.nodes.any()
    assert not raw.any()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"count": 0}, ValueError, "count must be at least 1, got 0"),
        ({"batches": -2}, ValueError, "batches must be at least 1, got -2"),
        ({"count": 2.5}, TypeError, "count must be a whole number, got float"),
        ({"beta": 1.5}, ValueError, "beta must be in [0, 1], got 1.5"),
        ({"count": 3}, ValueError, "indices must hold batches * count = 2 * 3 rows, got 8"),
        ({"weights": np.zeros(7, "f4")}, ValueError, "weights must have shape (8,), got (7,)"),
        ({"nodes": np.zeros((2, 32))}, ValueError, "nodes must have shape (1, 32), got (2, 32)"),
        ({"leaves": np.zeros(20, "f8")}, ValueError, "leaves must be float32, got float64"),
        ({"state": np.zeros(1, "i8")}, ValueError, "state must be uint64, got int64"),
        ({"nodes": np.zeros((1, 32))}, ValueError, "to be drawn, got a total of 0.0"),
    ],
)
def test_an_argument_of_sampling_that_does_not_fit_is_named(
    kernels: Any, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    tree = Tree(kernels, 20)
    tree.load(1.0)
    arguments = {"leaves": tree.leaves, "nodes": tree.nodes, "count": 4, "batches": 2, "beta": 0.5}
    arguments |= {"state": np.zeros(1, "u8"), "indices": np.zeros(8, "i8")}
    arguments |= {"weights": np.zeros(8, "f4")} | change
    with pytest.raises(error, match=re.escape(message)):
        kernels.sum_tree_sample(**arguments)


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("row", [-1, 20, 2**63 - 1, -(2**63)])
def test_a_changed_row_out_of_range_is_named_and_nothing_changes(
    kernels: Any, side: int, row: int
) -> None:
    arguments = arguments_of("priorities_replace")
    kernels.sum_tree_rebuild(arguments["leaves"], arguments["nodes"])
    arguments["changes"][side, 2] = row
    before = {key: np.copy(value) for key, value in arguments.items()}
    expected = re.escape(f"changes[{side}, 2] must be in [0, 20), got {row}") + "$"
    with pytest.raises(IndexError, match=expected):
        kernels.priorities_replace(**arguments)
    for key, value in before.items():
        np.testing.assert_array_equal(arguments[key], value)
    arguments["counts"][side] = 2
    kernels.priorities_replace(**arguments)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([9, 0], "counts[0] must be in [0, 8], got 9"),
        ([0, 2**40], f"counts[1] must be in [0, 8], got {2**40}"),
        ([-1, 0], "counts[0] must be in [0, 8], got -1"),
        ([1, -5], "counts[1] must be in [0, 8], got -5"),
    ],
)
def test_a_count_of_changes_that_are_not_there_is_named(
    kernels: Any, counts: list[int], message: str
) -> None:
    arguments = arguments_of("priorities_replace") | {"counts": np.array(counts)}
    with pytest.raises(ValueError, match=re.escape(message) + "$"):
        kernels.priorities_replace(**arguments)
    assert (arguments["nodes"] == 1).all()


def arguments_of(name: str) -> dict[str, Any]:
    """Valid arguments of a function, for a tree of 20 leaves."""
    tree = {"leaves": np.ones(20, "f4"), "nodes": np.ones((1, 32))}
    rows = {"indices": np.zeros(8, np.int64)}
    priorities = {"raw": np.ones(20, "f4"), "alpha": 0.5, "running_max": np.ones(1, "f4")}
    draw = {"count": 4, "batches": 2, "beta": 0.5, "state": np.zeros(1, np.uint64)}
    return (
        tree
        | {
            "sum_tree_rebuild": {},
            "sum_tree_set": rows | {"values": np.ones(8, "f4")},
            "sum_tree_fill": rows | {"value": 1.0},
            "sum_tree_sample": rows | draw | {"weights": np.zeros(8, "f4")},
            "priorities_replace": priorities
            | {"changes": np.zeros((2, 8), np.int64), "counts": np.array([3, 8])},
            "priorities_update": rows | priorities | {"td_errors": np.ones(8, "f4"), "eps": 0.1},
            "priorities_rescale": {"raw": np.ones(20, "f4"), "alpha": 0.5},
        }[name]
    )


ONLY_READ = {
    "sum_tree_set": {"indices", "values"},
    "sum_tree_fill": {"indices"},
    "sum_tree_sample": {"leaves", "nodes"},
    "priorities_replace": {"changes", "counts"},
    "priorities_update": {"indices", "td_errors"},
    "priorities_rescale": {"raw"},
    "sum_tree_rebuild": set(),
}
ARRAYS = [
    (name, key)
    for name in ONLY_READ
    for key, value in arguments_of(name).items()
    if isinstance(value, np.ndarray)
]
each_array = pytest.mark.parametrize(("name", "key"), ARRAYS)


@each_array
def test_an_array_that_does_not_fit_is_named(kernels: Any, name: str, key: str) -> None:
    array = arguments_of(name)[key]
    raw = np.zeros(array.nbytes + 1, np.uint8)[1:]
    wide = np.zeros((*array.shape[:-1], array.shape[-1] * 2), array.dtype)[..., ::2]
    cases = [
        (array.astype("f2"), ValueError, f"{key} must be {array.dtype}, got float16"),
        (raw.view(array.dtype).reshape(array.shape), ValueError, f"{key} must be aligned"),
        (array[..., None], ValueError, f"{key} must have shape "),
        (array.tolist(), TypeError, f"{key} must be a NumPy array, got list"),
    ]
    if array.size > 1:
        cases.append((wide, ValueError, f"{key} must be C-contiguous, got a strided view"))
    for value, error, message in cases:
        with pytest.raises(error, match="^" + re.escape(message)):
            getattr(kernels, name)(**arguments_of(name) | {key: value})


@each_array
def test_only_what_is_written_must_be_writeable(kernels: Any, name: str, key: str) -> None:
    arguments = arguments_of(name)
    kernels.sum_tree_rebuild(arguments["leaves"], arguments["nodes"])
    arguments[key].flags.writeable = False
    if key in ONLY_READ[name]:
        getattr(kernels, name)(**arguments)
        return
    with pytest.raises(ValueError, match=f"^{key} must be writeable, got a read-only array"):
        getattr(kernels, name)(**arguments)


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("sum_tree_sample", "leaves", "weights"),
        ("priorities_update", "leaves", "raw"),
        ("priorities_update", "td_errors", "raw"),
        ("priorities_replace", "running_max", "raw"),
        ("priorities_replace", "leaves", "raw"),
        ("priorities_rescale", "leaves", "raw"),
        ("sum_tree_set", "leaves", "values"),
    ],
)
def test_arrays_that_share_memory_are_named(kernels: Any, name: str, one: str, other: str) -> None:
    arguments = arguments_of(name)
    memory = np.ones(20, np.float32)
    for key in (one, other):
        arguments[key] = memory[: len(arguments[key])]
    with pytest.raises(ValueError, match="must not share memory with") as caught:
        getattr(kernels, name)(**arguments)
    assert {one, other} <= set(str(caught.value).split())


@pytest.mark.parametrize(
    ("name", "key", "value", "message"),
    [
        ("priorities_replace", "alpha", 1.5, "alpha must be in [0, 1], got 1.5"),
        (
            "priorities_replace",
            "changes",
            np.zeros((3, 8), np.int64),
            "changes must have shape [2, M], got (3, 8)",
        ),
        ("priorities_update", "eps", -1.0, "eps must be in [0, 1], got -1.0"),
        ("priorities_rescale", "alpha", float("nan"), "alpha must be in [0, 1], got nan"),
        (
            "priorities_replace",
            "running_max",
            np.array([np.nan], "f4"),
            "running_max must be finite and not negative, got nan",
        ),
    ],
)
def test_a_number_out_of_range_is_named(
    kernels: Any, name: str, key: str, value: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        getattr(kernels, name)(**arguments_of(name) | {key: value})
