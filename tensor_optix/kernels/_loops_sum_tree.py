"""The raw functions of the sum tree in numba: checked arrays come in, are updated.

Operation by operation as in the C++ kernels, in the same order and precision, so that both backends
give the same bits. A node is a row of 32: the sums of its 16 children, then their running sums.
"""

import math

import numpy as np

from tensor_optix.kernels._loops import Array, jit, splitmix64

_WIDTH = 16
_PENDING = -1.0
_BLOCK = 256
_LARGEST = np.float32(np.finfo(np.float32).max)
_SMALLEST = np.float32(np.finfo(np.float32).tiny)
_TINY = np.finfo(np.float64).tiny
_U11 = np.uint64(11)


@jit
def levels_of(size: int) -> tuple[Array, int]:
    """Return the first node of each level, from the lowest, and the number of levels."""
    first = np.zeros(16, np.int64)
    children = (size + _WIDTH - 1) // _WIDTH
    offset = depth = 0
    while True:
        children = (children + _WIDTH - 1) // _WIDTH
        first[depth] = offset
        depth += 1
        offset += children
        if children <= 1:
            return first, depth


@jit
def _running_sums(values: Array, sums: Array) -> float:
    """Fill the running sums of 16 values, groups of 4 summed on their own; return the last."""
    total = 0.0
    for g in range(0, _WIDTH, 4):
        group = 0.0
        for k in range(g, g + 4):
            group += np.float64(values[k])
            sums[k] = total + group
        total += group
    return total


@jit
def _line_sums(leaves: Array, line: int, sums: Array) -> float:
    """Fill the running sums of a line of 16 leaves, a short one completed with zeros."""
    start = line * _WIDTH
    if start + _WIDTH <= len(leaves):
        return _running_sums(leaves[start : start + _WIDTH], sums)  # type: ignore[no-any-return]
    full = np.zeros(_WIDTH, np.float32)
    for i in range(start, len(leaves)):
        full[i - start] = leaves[i]
    return _running_sums(full, sums)  # type: ignore[no-any-return]


@jit
def _refresh(node: Array) -> float:
    """Recompute a node's running sums; return the last, its total."""
    return _running_sums(node[:_WIDTH], node[_WIDTH:])  # type: ignore[no-any-return]


@jit
def _climb(nodes: Array, first: Array, depth: int, touched: Array, length: int) -> None:
    """Recompute what lies above the first `length` touched lines, each node once."""
    for level in range(1, depth):
        above = 0
        for i in range(length):
            child = touched[i] // _WIDTH
            slot = nodes[first[level] + child // _WIDTH]
            if slot[child % _WIDTH] != _PENDING:
                slot[child % _WIDTH] = _PENDING
                touched[above] = child
                above += 1
        length = above
        for i in range(length):
            child = touched[i]
            total = _refresh(nodes[first[level - 1] + child])
            nodes[first[level] + child // _WIDTH, child % _WIDTH] = total
    _refresh(nodes[first[depth - 1]])


@jit
def sum_tree_rebuild(leaves: Array, nodes: Array) -> int:
    """Compute every sum; return how many leaves are positive."""
    first, depth = levels_of(len(leaves))
    nodes[:] = 0.0
    positive = 0
    for i in range(len(leaves)):
        positive += leaves[i] > 0
    children = (len(leaves) + _WIDTH - 1) // _WIDTH
    sums = np.empty(_WIDTH)
    for line in range(children):
        nodes[line // _WIDTH, line % _WIDTH] = _line_sums(leaves, line, sums)
    for level in range(depth):
        children = (children + _WIDTH - 1) // _WIDTH
        for i in range(children):
            total = _refresh(nodes[first[level] + i])
            if level + 1 < depth:
                nodes[first[level + 1] + i // _WIDTH, i % _WIDTH] = total
    return positive


@jit
def sum_tree_set(leaves: Array, nodes: Array, indices: Array, values: Array) -> int:
    """Write leaves in order, a negative value nothing; return the change of positive ones.

    `values` holds one for each index, or one for all.
    """
    first, depth = levels_of(len(leaves))
    touched, sums = np.empty(_BLOCK, np.int64), np.empty(_WIDTH)
    change = 0
    for start in range(0, len(indices), _BLOCK):
        length = 0
        for i in range(start, min(start + _BLOCK, len(indices))):
            value = values[i if len(values) > 1 else 0]
            if value < 0:
                continue
            row = indices[i]
            change += int(value > 0) - int(leaves[row] > 0)
            leaves[row] = value
            line = row // _WIDTH
            if nodes[line // _WIDTH, line % _WIDTH] != _PENDING:
                nodes[line // _WIDTH, line % _WIDTH] = _PENDING
                touched[length] = line
                length += 1
        for i in range(length):
            line = touched[i]
            nodes[line // _WIDTH, line % _WIDTH] = _line_sums(leaves, line, sums)
        if length > 0:
            _climb(nodes, first, depth, touched, length)
    return change


@jit
def sum_tree_fill(leaves: Array, nodes: Array, indices: Array, value: float) -> int:
    """Write one value to leaves; return the change of positive ones."""
    change: int = sum_tree_set(leaves, nodes, indices, np.full(1, value, np.float32))
    return change


@jit
def _pick(sums: Array, target: float) -> tuple[int, float]:
    """Return the first running sum above `target`, and what is left of it within that child."""
    total = sums[_WIDTH - 1]
    kept = target if target < total else np.nextafter(total, 0.0)
    child = 0
    while child < _WIDTH - 1 and sums[child] <= kept:
        child += 1
    return child, kept - sums[child - 1] if child > 0 else kept


@jit
def _find(leaves: Array, nodes: Array, first: Array, depth: int, target: float, sums: Array) -> int:
    """Return the leaf that `target`, in [0, total), falls on. `sums` is scratch for 16."""
    at = 0
    for level in range(depth - 1, -1, -1):
        child, target = _pick(nodes[first[level] + at, _WIDTH:], target)
        at = at * _WIDTH + child
    _line_sums(leaves, at, sums)
    child, target = _pick(sums, target)
    leaf: int = at * _WIDTH + child
    return leaf


@jit
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
    """Draw stratified batches of `count` leaves, and their importance weights."""
    first, depth = levels_of(len(leaves))
    width, sums = nodes[-1, -1] / np.float64(count), np.empty(_WIDTH)
    s = state[0]
    for start in range(0, batches * count, count):
        smallest = _LARGEST
        for i in range(count):
            s, word = splitmix64(s)
            unit = np.float64(word >> _U11) * 2.0**-53
            leaf = _find(leaves, nodes, first, depth, (np.float64(i) + unit) * width, sums)
            indices[start + i] = leaf
            weights[start + i] = leaves[leaf]
            smallest = min(smallest, leaves[leaf])
        for i in range(start, start + count):
            weights[i] = power(np.float64(smallest) / np.float64(weights[i]), beta)
    state[0] = s


@jit
def power(x: float, exponent: float) -> np.float32:
    """Return `x ** exponent` of an `x >= 0` and an exponent in [0, 1], as float32; `0 ** 0` is 1.

    Other than for the exponents 0, 1/2 and 1, 0 gives a tiny positive number.
    """
    if exponent == 0.0:
        return np.float32(1.0)
    if exponent == 0.5:
        return np.float32(np.sqrt(x))
    if exponent == 1.0:
        return np.float32(x)
    return np.float32(_exp2(exponent * _log2(max(x, _TINY))))


@jit
def _log2(x: float) -> float:
    """Return log2(x) by the series of 2 artanh((m - 1) / (m + 1)), x = 2**k * m."""
    m, k = math.frexp(x)
    if m < 0.7071067811865476:
        m, k = m * 2.0, k - 1
    s = (m - 1.0) / (m + 1.0)
    q = s * s
    series = q * (1.0 / 11.0) + 1.0 / 9.0
    series = q * series + 1.0 / 7.0
    series = q * series + 1.0 / 5.0
    series = q * series + 1.0 / 3.0
    series = q * series + 1.0
    return np.float64(k) + s * series * 2.8853900817779268


@jit
def _exp2(y: float) -> float:
    """Return 2**y by the Taylor series of exp around the nearest whole number."""
    whole = np.rint(y)
    r = (y - whole) * 0.6931471805599453
    series = r * (1.0 / 5040.0) + 1.0 / 720.0
    series = r * series + 1.0 / 120.0
    series = r * series + 1.0 / 24.0
    series = r * series + 1.0 / 6.0
    series = r * series + 0.5
    series = r * series + 1.0
    series = r * series + 1.0
    return math.ldexp(series, int(whole))


@jit
def leaf_of(raw: np.float32, alpha: float) -> np.float32:
    """Return `raw ** alpha`, but never 0."""
    return max(power(np.float64(raw), alpha), _SMALLEST)


@jit
def priorities_replace(
    leaves: Array,
    nodes: Array,
    raw: Array,
    changes: Array,
    counts: Array,
    alpha: float,
    running_max: Array,
) -> int:
    """Let rows in, then take rows out; return the change of how many are in."""
    inserted, removed = changes[0, : counts[0]], changes[1, : counts[1]]
    for i in range(len(inserted)):
        raw[inserted[i]] = running_max[0]
    rows = np.empty(len(inserted) + len(removed), np.int64)
    rows[: len(inserted)] = inserted
    rows[len(inserted) :] = removed
    values = np.zeros(len(rows), np.float32)
    values[: len(inserted)] = leaf_of(running_max[0], alpha)
    change: int = sum_tree_set(leaves, nodes, rows, values)
    return change


@jit
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
    """Give the rows that are in new priorities; return how many errors were not finite."""
    refused, offset = 0, np.float32(eps)
    values = np.full(len(indices), np.float32(-1.0))
    for i in range(len(indices)):
        total = np.abs(td_errors[i]) + offset
        if not total <= _LARGEST:
            refused += 1
        elif leaves[indices[i]] > 0:
            raw[indices[i]] = total
            running_max[0] = max(running_max[0], total)
            values[i] = leaf_of(total, alpha)
    sum_tree_set(leaves, nodes, indices, values)
    return refused


@jit
def priorities_rescale(leaves: Array, nodes: Array, raw: Array, alpha: float) -> None:
    """Recompute the positive leaves, and every sum."""
    for i in range(len(leaves)):
        if leaves[i] > 0:
            leaves[i] = leaf_of(raw[i], alpha)
    sum_tree_rebuild(leaves, nodes)
