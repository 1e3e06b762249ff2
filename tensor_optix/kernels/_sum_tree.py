"""Kernels of the sum tree and of the priorities kept in it: C leaves, M nodes of 32 sums, B rows.

All raise what the package says of its arguments; `Raises` names what comes on top.
"""

from typing import Any

import numpy as np

from tensor_optix.kernels._backend import kernel, raw_functions
from tensor_optix.kernels._checks import (
    FLOAT32,
    FLOAT64,
    INT64,
    UINT64,
    Arguments,
    Array,
    check_bounds,
    check_count,
    check_number,
    check_unit,
    check_weight,
)

_WIDTH = 16
_raw = raw_functions("_loops_sum_tree")


@kernel
def sum_tree_rebuild(leaves: Array, nodes: Array) -> int:
    """Compute every sum of a tree from its leaves.

    Args:
        leaves: `[C]` float32, finite and not negative.
        nodes: `[M, 32]` float64, written. Levels of `ceil(C / 256)`, a 16th of it and so on up to 1
            node; each node holds the sums of its 16 children, then their running sums.

    Returns:
        How many leaves are positive.
    """
    a = Arguments()
    _check_tree(a, leaves, nodes)
    a.check_disjoint()
    return int(_raw.sum_tree_rebuild(leaves, nodes))


@kernel
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
        ValueError: a value is negative or not finite. Nothing is written then.
    """
    a = Arguments()
    _check_tree(a, leaves, nodes)
    a.read(INT64, "[B]", indices=indices)
    a.read(FLOAT32, indices.shape, values=values)
    a.check_disjoint()
    check_bounds("indices[", indices, len(leaves))
    for at in np.flatnonzero(~((values >= 0) & np.isfinite(values)))[:1]:
        check_weight(f"values[{at}]", float(values[at]))
    return int(_raw.sum_tree_set(leaves, nodes, indices, values))


@kernel
def sum_tree_fill(leaves: Array, nodes: Array, indices: Array, value: float) -> int:
    """Set leaves to one value, finite and not negative; else as `sum_tree_set`."""
    a = Arguments()
    _check_tree(a, leaves, nodes)
    a.read(INT64, "[B]", indices=indices)
    a.check_disjoint()
    wanted = check_number("value", value)
    check_bounds("indices[", indices, len(leaves))
    check_weight("value", wanted)
    return int(_raw.sum_tree_fill(leaves, nodes, indices, wanted))


@kernel
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
        ValueError: all leaves are 0.
    """
    a = Arguments()
    _check_tree(a, leaves, nodes, write=False)
    size, times = check_count("count", count, 1), check_count("batches", batches, 1)
    power = check_unit("beta", beta)
    a.write(UINT64, (1,), state=state)
    a.write(INT64, "[batches * count]", indices=indices)
    rows = len(indices)
    if rows != size * times:
        raise ValueError(f"indices must hold batches * count = {times} * {size} rows, got {rows}")
    a.write(FLOAT32, indices.shape, weights=weights)
    a.check_disjoint()
    total = float(nodes[-1, -1])
    if not total > 0.0:
        raise ValueError(f"leaves must hold a positive value to be drawn, got a total of {total}")
    _raw.sum_tree_sample(leaves, nodes, size, times, power, state, indices, weights)


@kernel
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
        IndexError: an index is outside [0, C). Nothing is written then.
        ValueError: a count is outside [0, M].
    """
    a = Arguments()
    _check_tree(a, leaves, nodes)
    a.read(INT64, "[2, M]", changes=changes)
    a.read(INT64, (2,), counts=counts)
    _check_priorities(a, leaves, raw, running_max)
    power = check_unit("alpha", alpha)
    _check_changes(changes, counts, len(leaves))
    arguments = (leaves, nodes, raw, changes, counts, power, running_max)
    return int(_raw.priorities_replace(*arguments))


@kernel
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
    """
    a = Arguments()
    _check_tree(a, leaves, nodes)
    a.read(INT64, "[B]", indices=indices)
    a.read(FLOAT32, indices.shape, td_errors=td_errors)
    _check_priorities(a, leaves, raw, running_max)
    power, offset = check_unit("alpha", alpha), check_unit("eps", eps)
    check_bounds("indices[", indices, len(leaves))
    arguments = (leaves, nodes, raw, indices, td_errors, power, offset, running_max)
    return int(_raw.priorities_update(*arguments))


@kernel
def priorities_rescale(leaves: Array, nodes: Array, raw: Array, alpha: float) -> None:
    """Recompute the positive leaves from the raw priorities, `raw ** alpha`, and every sum.

    Args:
        leaves: `[C]` float32, updated.
        nodes: `[M, 32]` float64, written.
        raw: `[C]` float32.
        alpha: in [0, 1].
    """
    a = Arguments()
    _check_tree(a, leaves, nodes)
    a.read(FLOAT32, leaves.shape, raw=raw)
    a.check_disjoint()
    _raw.priorities_rescale(leaves, nodes, raw, check_unit("alpha", alpha))


def _check_tree(a: Arguments, leaves: Any, nodes: Any, write: bool = True) -> None:
    take = a.write if write else a.read
    take(FLOAT32, "[C]", leaves=leaves)
    children, count = -(-len(leaves) // _WIDTH), 0
    while True:
        children = -(-children // _WIDTH)
        count += max(children, 1)
        if children <= 1:
            break
    take(FLOAT64, (count, 2 * _WIDTH), nodes=nodes)


def _check_priorities(a: Arguments, leaves: Array, raw: Any, running_max: Any) -> None:
    a.write(FLOAT32, leaves.shape, raw=raw)
    a.write(FLOAT32, (1,), running_max=running_max)
    a.check_disjoint()
    check_weight("running_max", float(running_max[0]))


def _check_changes(changes: Array, counts: Array, size: int) -> None:
    if len(changes) != 2:
        raise ValueError(f"changes must have shape [2, M], got {changes.shape}")
    room = changes.shape[1]
    for k in range(2):
        if not 0 <= counts[k] <= room:
            raise ValueError(f"counts[{k}] must be in [0, {room}], got {counts[k]}")
        check_bounds(f"changes[{k}, ", changes[k, : counts[k]], size)
