"""The numba backend of the sum tree: the functions of `tensor_optix.kernels` without a compiler.

Every function checks its arguments and runs a compiled loop (`_loops_sum_tree.py`) on the caller's
arrays: C leaves, M nodes of 32 sums, B rows.
"""

import operator

import numpy as np

from tensor_optix.kernels import _loops_sum_tree as _loops
from tensor_optix.kernels._checks import (
    FLOAT32,
    FLOAT64,
    INT64,
    UINT64,
    Array,
    check_array,
    check_disjoint,
    check_number,
    check_unit,
)

__all__ = [
    "priorities_replace",
    "priorities_rescale",
    "priorities_update",
    "sum_tree_fill",
    "sum_tree_rebuild",
    "sum_tree_sample",
    "sum_tree_set",
]

_LARGEST = float(np.finfo(np.float32).max)


def sum_tree_rebuild(leaves: Array, nodes: Array) -> int:
    """Compute every sum of a tree from its leaves.

    Args:
        leaves: `[C]` float32, finite and not negative.
        nodes: `[M, 32]` float64, written. Levels of `ceil(C / 256)`, a 16th of it and so on up to 1
            node; each node holds the sums of its 16 children, then their running sums.

    Returns:
        How many leaves are positive.

    Raises:
        TypeError: an argument is no array.
        ValueError: an array has the wrong dtype, layout or shape.
    """
    return int(_loops.rebuild_loop(*_check_tree(leaves, nodes)))


def sum_tree_set(leaves: Array, nodes: Array, indices: Array, values: Array) -> int:
    """Set leaves, in order (of a row that comes twice the last value stays), and the sums above.

    Args:
        leaves: `[C]` float32, updated.
        nodes: `[M, 32]` float64, updated.
        indices: `[B]` int64.
        values: `[B]` float32, finite and not negative.

    Returns:
        The change in the number of positive leaves.

    Raises:
        IndexError: an index is outside [0, C). Nothing is written then.
        TypeError: an argument is no array.
        ValueError: an array has the wrong dtype, layout or shape; a value is negative or not
            finite. Nothing is written then.
    """
    tree = _check_tree(leaves, nodes)
    i = _check_rows("indices", indices, INT64, "[B]", tree)
    v = _check_rows("values", values, FLOAT32, i.shape, tree)
    _check_bounds(i, len(leaves))
    bad = np.flatnonzero(~((v >= 0) & (v <= _LARGEST)))
    if bad.size:
        at = bad[0]
        raise ValueError(f"values[{at}] must be finite and not negative, got {float(v[at])}")
    return int(_loops.set_loop(*tree, i, v))


def sum_tree_fill(leaves: Array, nodes: Array, indices: Array, value: float) -> int:
    """Set leaves to one value, finite and not negative; else as `sum_tree_set`."""
    tree = _check_tree(leaves, nodes)
    i = _check_rows("indices", indices, INT64, "[B]", tree)
    wanted = check_number("value", value)
    _check_bounds(i, len(leaves))
    _check_weight("value", wanted)
    return int(_loops.set_loop(*tree, i, np.array([wanted], np.float32)))


def sum_tree_sample(
    leaves: Array,
    nodes: Array,
    count: int,
    batches: int,
    beta: float,
    state: Array,
    indices: Array,
    weights: Array,
) -> None:
    """Draw stratified batches of leaves, and their importance weights (Schaul et al. 2016).

    Row i of a batch comes from `[i, i + 1) * total / count`; no leaf of value 0 is drawn. A weight
    is `(N * p / total) ** -beta` over its batch's largest, so `(smallest p of the batch / p) **
    beta`: neither N nor the total matters.

    Args:
        leaves: `[C]` float32.
        nodes: `[M, 32]` float64.
        count: rows of a batch, at least 1.
        batches: how many batches, at least 1.
        beta: in [0, 1].
        state: `[1]` uint64, the state of a splitmix64 generator, advanced.
        indices: `[batches * count]` int64, written, ascending within a batch.
        weights: `[batches * count]` float32, written.

    Raises:
        TypeError: an argument is no array, or no number.
        ValueError: an array has the wrong dtype, layout or shape; a number is out of range; all
            leaves are 0.
    """
    leaf, node = _check_tree(leaves, nodes, write=False)
    size, times = _check_count("count", count), _check_count("batches", batches)
    power = check_unit("beta", beta)
    s = check_array("state", state, UINT64, (1,), write=True)
    i = check_array("indices", indices, INT64, "[batches * count]", write=True)
    if len(i) != size * times:
        raise ValueError(f"indices must hold batches * count = {times} * {size} rows, got {len(i)}")
    w = check_array("weights", weights, FLOAT32, i.shape, write=True)
    check_disjoint({"state": s, "indices": i, "weights": w}, {"leaves": leaf, "nodes": node})
    total = float(node[-1, -1])
    if not total > 0.0:
        raise ValueError(f"leaves must hold a positive value to be drawn, got a total of {total}")
    _loops.sample_loop(leaf, node, size, power, s, i, w)


def priorities_replace(
    leaves: Array,
    nodes: Array,
    raw: Array,
    changes: Array,
    counts: Array,
    alpha: float,
    running_max: Array,
) -> int:
    """Let rows in with the largest raw priority seen, then take rows out; one may do both.

    Args:
        leaves: `[C]` float32, updated: `raw ** alpha`, at least the smallest normal number.
        nodes: `[M, 32]` float64, updated.
        raw: `[C]` float32, updated.
        changes: `[2, M]` int64: rows that come in, and rows that leave.
        counts: `[2]` int64, how many of each; what follows in `changes` is not looked at.
        alpha: in [0, 1].
        running_max: `[1]` float32.

    Returns:
        The change in the number of positive leaves.

    Raises:
        As `priorities_update`; a count outside [0, M] is a ValueError.
    """
    tree = _check_tree(leaves, nodes)
    c = _check_rows("changes", changes, INT64, "[2, M]", tree)
    n = _check_rows("counts", counts, INT64, (2,), tree)
    r, top = _check_priorities(raw, running_max, tree, {"changes": c, "counts": n})
    power = check_unit("alpha", alpha)
    inserted, removed = _check_changes(c, n, len(leaves))
    return int(_loops.replace_loop(*tree, r, inserted, removed, power, top[0]))


def priorities_update(
    leaves: Array,
    nodes: Array,
    raw: Array,
    indices: Array,
    td_errors: Array,
    alpha: float,
    eps: float,
    running_max: Array,
) -> int:
    """Give the rows that are in (leaf > 0) the raw priority `|td_error| + eps`; others stay out.

    A row whose sum is not finite keeps what it had. Of a row that comes twice the last stays.

    Args:
        leaves: `[C]` float32, updated: `raw ** alpha`, at least the smallest normal number.
        nodes: `[M, 32]` float64, updated.
        raw: `[C]` float32, updated.
        indices: `[B]` int64.
        td_errors: `[B]` float32.
        alpha: in [0, 1].
        eps: in [0, 1].
        running_max: `[1]` float32, raised to the largest raw priority.

    Returns:
        How many td_errors were not finite.

    Raises:
        IndexError: an index is outside [0, C). Nothing is written then.
        TypeError: an argument is no array, or no number.
        ValueError: an array has the wrong dtype, layout or shape; a number is out of range.
    """
    tree = _check_tree(leaves, nodes)
    i = _check_rows("indices", indices, INT64, "[B]", tree)
    t = _check_rows("td_errors", td_errors, FLOAT32, i.shape, tree)
    r, top = _check_priorities(raw, running_max, tree, {"indices": i, "td_errors": t})
    power, offset = check_unit("alpha", alpha), np.float32(check_unit("eps", eps))
    _check_bounds(i, len(leaves))
    return int(_loops.update_loop(*tree, r, i, t, power, offset, top))


def priorities_rescale(leaves: Array, nodes: Array, raw: Array, alpha: float) -> None:
    """Recompute the positive leaves from the raw priorities, `raw ** alpha`, and every sum.

    Args:
        leaves: `[C]` float32, updated.
        nodes: `[M, 32]` float64, written.
        raw: `[C]` float32.
        alpha: in [0, 1].

    Raises:
        TypeError: an argument is no array, or no number.
        ValueError: an array has the wrong dtype, layout or shape; alpha is out of range.
    """
    tree = _check_tree(leaves, nodes)
    r = check_array("raw", raw, FLOAT32, leaves.shape)
    check_disjoint({"leaves": tree[0], "nodes": tree[1]}, {"raw": r})
    _loops.rescale_loop(*tree, r, check_unit("alpha", alpha))


def _check_tree(leaves: object, nodes: object, write: bool = True) -> tuple[Array, Array]:
    leaf = check_array("leaves", leaves, FLOAT32, "[C]", write)
    first, depth = _loops.levels_of(len(leaf))
    node = check_array("nodes", nodes, FLOAT64, (int(first[depth - 1]) + 1, 32), write)
    check_disjoint({"nodes": node}, {"leaves": leaf})
    return leaf, node


def _check_rows(
    name: str,
    rows: object,
    dtype: tuple[str, tuple[np.dtype[np.generic], ...]],
    shape: tuple[int, ...] | str,
    tree: tuple[Array, Array],
) -> Array:
    """Return an argument that is read while the tree is written."""
    checked = check_array(name, rows, dtype, shape)
    check_disjoint({name: checked}, {"leaves": tree[0], "nodes": tree[1]})
    return checked


def _check_priorities(
    raw: object, running_max: object, tree: tuple[Array, Array], rows: dict[str, Array]
) -> tuple[Array, Array]:
    r = check_array("raw", raw, FLOAT32, tree[0].shape, write=True)
    top = check_array("running_max", running_max, FLOAT32, (1,), write=True)
    check_disjoint({"raw": r, "running_max": top}, {"leaves": tree[0], "nodes": tree[1], **rows})
    _check_weight("running_max", float(top[0]))
    return r, top


def _check_changes(changes: Array, counts: Array, size: int) -> tuple[Array, Array]:
    if len(changes) != 2:
        raise ValueError(f"changes must have shape [2, M], got {changes.shape}")
    room = changes.shape[1]
    for k in range(2):
        if not 0 <= counts[k] <= room:
            raise ValueError(f"counts[{k}] must be in [0, {room}], got {counts[k]}")
    inserted, removed = changes[0, : counts[0]], changes[1, : counts[1]]
    _check_bounds(inserted, size, "changes[0, ")
    _check_bounds(removed, size, "changes[1, ")
    return inserted, removed


def _check_bounds(indices: Array, size: int, name: str = "indices[") -> None:
    outside = np.flatnonzero((indices < 0) | (indices >= size))
    if outside.size:
        at = outside[0]
        raise IndexError(f"{name}{at}] must be in [0, {size}), got {indices[at]}")


def _check_weight(name: str, value: float) -> None:
    if not 0.0 <= value <= _LARGEST:
        raise ValueError(f"{name} must be finite and not negative, got {value}")


def _check_count(name: str, value: object) -> int:
    try:
        count = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name} must be a whole number, got {type(value).__name__}") from None
    if count < 1:
        raise ValueError(f"{name} must be at least 1, got {count}")
    return count
