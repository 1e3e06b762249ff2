"""The sum tree, against cumulative sums in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tests.kernels.tree_arrays import Tree

SIZES = [1, 15, 16, 17, 255, 256, 257, 4097, 70_000]


def values_of(size: int, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    return (rng.random(size) * rng.integers(0, 2, size)).astype(np.float32)


def units(seed: int, count: int) -> Any:
    """The uniform numbers that splitmix64 gives, in plain Python."""
    out, mask = [], 2**64 - 1
    for _ in range(count):
        seed = (seed + 0x9E3779B97F4A7C15) & mask
        z = ((seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        out.append(((z ^ (z >> 31)) >> 11) * 2.0**-53)
    return np.array(out), seed


@pytest.mark.parametrize("size", SIZES)
def test_every_node_holds_the_sums_below_it(kernels: Any, size: int) -> None:
    tree = Tree(kernels, size)
    tree.load(values_of(size))
    sums = tree.leaves.astype(np.float64)
    at = 0
    while at < len(tree.nodes):
        children = np.array([c.sum() for c in np.split(sums, range(16, len(sums), 16))])
        nodes = -(-len(children) // 16)
        padded = np.pad(children, (0, nodes * 16 - len(children))).reshape(nodes, 16)
        level = tree.nodes[at : at + nodes]
        np.testing.assert_allclose(level[:, :16], padded, rtol=1e-12)
        np.testing.assert_allclose(level[:, 16:], padded.cumsum(1), rtol=1e-12)
        sums, at = children, at + nodes
    assert len(sums) <= 16


@pytest.mark.parametrize("size", SIZES)
def test_sums_depend_on_the_leaves_and_not_on_what_happened_before(kernels: Any, size: int) -> None:
    """100 000 updates of very different magnitudes, in calls of all lengths, bit for bit."""
    rng = np.random.default_rng(size)
    tree, expected, done, positive = Tree(kernels, size), np.zeros(size, np.float32), 0, 0
    while done < 100_000:
        count = int(rng.choice([1, 7, 64, 256, 257, 5000]))
        rows = rng.integers(0, size, count)
        values = (10.0 ** rng.uniform(-30, 30, count)).astype(np.float32)
        values[rng.random(count) < 0.3] = 0
        positive += tree.set(rows, values)
        for row, value in zip(rows, values, strict=True):
            expected[row] = value
        done += count
    fresh = Tree(kernels, size)
    fresh.load(expected)
    assert tree.leaves.tobytes() == expected.tobytes()
    assert tree.nodes.tobytes() == fresh.nodes.tobytes()
    assert positive == (expected > 0).sum()


OPERATION = st.tuples(
    st.lists(st.tuples(st.integers(0, 299), st.floats(0, 2.0**100, width=32)), max_size=40),
    st.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 300), operations=st.lists(OPERATION, max_size=6), seed=st.integers(0))
def test_any_sequence_of_operations_gives_what_cumulative_sums_give(
    kernels: Any, size: int, operations: Any, seed: int
) -> None:
    tree, expected = Tree(kernels, size), np.zeros(size)
    for pairs, fill in operations:
        rows = [row % size for row, _ in pairs]
        values = [0.5 if fill else value for _, value in pairs]
        if fill:
            kernels.sum_tree_fill(*tree.arrays, np.array(rows, np.int64), 0.5)
        else:
            tree.set(rows, values)
        for row, value in zip(rows, values, strict=True):
            expected[row] = value
    assert tree.leaves.tolist() == expected.tolist()
    total = tree.nodes[-1, -1]
    assert total == pytest.approx(expected.sum(), rel=1e-12)
    if total == 0:
        with pytest.raises(ValueError, match="must hold a positive value to be drawn"):
            tree.sample(4)
        return
    indices, _, _ = tree.sample(32, seed=seed % 2**64)
    drawn, _ = units(seed % 2**64, 32)
    targets = (np.arange(32) + drawn) / 32 * total
    above = np.cumsum(expected)
    # A target within rounding of an edge may fall on either side of it.
    assert (targets <= above[indices] * (1 + 1e-12)).all()
    assert (targets >= (above - expected)[indices] * (1 - 1e-12)).all()
    assert (expected[indices] > 0).all()


@pytest.mark.parametrize("size", SIZES)
def test_draws_are_those_of_a_search_in_the_cumulative_sums(kernels: Any, size: int) -> None:
    """Whole numbers: all sums are exact, so every index must agree. Three batches of 100."""
    tree = Tree(kernels, size)
    tree.load(np.random.default_rng(1).integers(0, 5, size) + np.arange(size) % 2 + (size == 1))
    indices, _, state = tree.sample(100, batches=3, seed=99)
    drawn, expected_state = units(99, 300)
    above = np.cumsum(tree.leaves.astype(np.float64))
    targets = (np.tile(np.arange(100), 3) + drawn) * (above[-1] / 100)
    assert indices.tolist() == np.searchsorted(above, targets, side="right").tolist()
    assert state == expected_state


def test_each_stratum_gets_exactly_one_draw(kernels: Any) -> None:
    tree = Tree(kernels, 1000)
    tree.load(1.0)
    indices, _, _ = tree.sample(100, batches=7)
    assert (indices.reshape(7, 100) // 10 == np.arange(100)).all()
    assert len({tuple(batch) for batch in indices.reshape(7, 100)}) == 7


def test_leaves_are_drawn_in_proportion_to_their_values(kernels: Any) -> None:
    values = np.random.default_rng(2).random(500) ** 3
    tree = Tree(kernels, 500)
    tree.load(values)
    indices, _, _ = tree.sample(1, batches=100_000)
    counts = np.bincount(indices, minlength=500)
    expected = tree.leaves / tree.leaves.sum(dtype=np.float64) * 100_000
    few = expected < 5
    pooled = (
        np.append(counts[~few], counts[few].sum()),
        np.append(expected[~few], expected[few].sum()),
    )
    assert stats.chisquare(pooled[0], pooled[1] * (100_000 / pooled[1].sum())).pvalue > 1e-3


@pytest.mark.parametrize(
    "values",
    [
        np.where(np.arange(4096) % 3 == 0, 1e-38, 0)
        + np.where(np.arange(4096) % 512 == 9, 1e30, 0),
        np.where(np.arange(4096) % 2 == 0, 1e30, 0) + np.where(np.arange(4096) == 4095, 1e-38, 0),
        np.where(np.arange(4096) % 7 == 0, 1e-45, 0),
        np.where(np.arange(4096) % 5 == 0, 3.4e38, 0),
        np.where(np.arange(4096) % 5 == 0, 1 / 3, 0),
        np.where(np.arange(4096) < 2000, 0.1, 0),
    ],
)
def test_a_leaf_of_zero_is_never_drawn(kernels: Any, values: Any) -> None:
    tree = Tree(kernels, 4096)
    tree.load(values)
    for seed in range(5):
        indices, weights, _ = tree.sample(4096, beta=0.7, seed=seed)
        assert (tree.leaves[indices] > 0).all()
        assert np.isfinite(weights).all()


@pytest.mark.parametrize("only", [0, 524_287, 999_999])
def test_the_only_positive_leaf_of_a_million_is_drawn_every_time(kernels: Any, only: int) -> None:
    tree = Tree(kernels, 1_000_000)
    tree.load(0)
    assert tree.set([only], [1e-38]) == 1
    indices, weights, _ = tree.sample(64, batches=3, beta=0.5)
    assert set(indices) == {only}
    assert set(weights) == {1.0}


def test_a_target_that_rounds_up_to_the_total_stays_within_the_tree(kernels: Any) -> None:
    """From this state the first uniform number is 1 - 2**-53; times a denormal it rounds to 1."""
    mask = 2**64 - 1
    z = mask  # the word before this one's last steps, inverted one by one
    z = z ^ (z >> 31) ^ (z >> 62)
    z = z * pow(0x94D049BB133111EB, -1, 2**64) & mask
    z = z ^ (z >> 27) ^ (z >> 54)
    z = z * pow(0xBF58476D1CE4E5B9, -1, 2**64) & mask
    z = z ^ (z >> 30) ^ (z >> 60)
    seed = (z - 0x9E3779B97F4A7C15) & mask
    assert units(seed, 1)[0][0] == 1 - 2.0**-53
    tree = Tree(kernels, 40)
    for values in (np.where(np.arange(40) < 20, 0.1, 0), np.where(np.arange(40) == 3, 1.5, 0)):
        tree.load(values)
        indices, _, _ = tree.sample(1, seed=seed)
        assert indices[0] == np.flatnonzero(values)[-1]
        # The last of three parts: 3 * (total / 3) can exceed the total.
        last = (seed - 2 * 0x9E3779B97F4A7C15) & mask
        assert tree.sample(3, seed=last)[0][2] == np.flatnonzero(values)[-1]


@pytest.mark.parametrize("beta", [0.0, 0.4, 0.5, 1.0])
@pytest.mark.parametrize("count", [1, 300])
def test_weights_are_those_of_schaul_over_the_largest_of_their_batch(
    kernels: Any, beta: float, count: int
) -> None:
    tree = Tree(kernels, 1000)
    tree.load(np.random.default_rng(3).random(1000) ** 4 + 1e-6)
    indices, weights, _ = tree.sample(count, batches=3, beta=beta)
    p = tree.leaves.astype(np.float64)
    expected = (1000 * p[indices] / p.sum()) ** -beta
    expected = expected.reshape(3, count) / expected.reshape(3, count).max(axis=1, keepdims=True)
    np.testing.assert_allclose(weights.reshape(3, count), expected, rtol=2e-7)


def test_the_last_of_a_duplicate_wins(kernels: Any) -> None:
    tree = Tree(kernels, 20)
    assert tree.set([3, 5, 3], [9.0, 1.0, 2.0]) == 2
    assert tree.set([3, 3, 5], [9.0, 0.0, 1.0]) == -1
    assert (tree.leaves[3], tree.leaves[5], tree.nodes[-1, -1]) == (0.0, 1.0, 1.0)
