"""The priorities kept in a sum tree, against float64 powers in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.kernels.tree_arrays import Tree

TINY = float(np.finfo(np.float32).tiny)
ALPHAS = [0.0, 0.3, 0.5, 0.6, 1.0]


@pytest.mark.parametrize("alpha", ALPHAS)
def test_a_leaf_is_its_raw_priority_to_the_power_of_alpha(kernels: Any, alpha: float) -> None:
    """Over the whole range of float32, to the last place but one."""
    errors = (10.0 ** np.linspace(-37, 38, 600)).astype(np.float32)
    tree, raw, top = Tree(kernels, 600), np.zeros(600, "f4"), np.ones(1, "f4")
    rows = np.arange(600)
    assert tree.insert(raw, rows, alpha, top) == 600
    assert (tree.leaves == 1).all()
    assert kernels.priorities_update(*tree.arrays, raw, rows, -errors, alpha, 0.0, top) == 0
    assert raw.tobytes() == errors.tobytes()
    assert top[0] == errors[-1]
    np.testing.assert_allclose(tree.leaves, errors.astype(np.float64) ** alpha, rtol=1.2e-7)
    kernels.priorities_rescale(*tree.arrays, raw, 0.25)
    np.testing.assert_allclose(tree.leaves, errors.astype(np.float64) ** 0.25, rtol=1.2e-7)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_no_priority_is_so_small_that_its_row_is_lost(kernels: Any, alpha: float) -> None:
    tree, raw, top = Tree(kernels, 3), np.zeros(3, "f4"), np.ones(1, "f4")
    rows, errors = np.arange(3), np.array([0.0, 1e-45, 1e-38], np.float32)
    tree.insert(raw, rows, alpha, top)
    kernels.priorities_update(*tree.arrays, raw, rows, errors, alpha, 0.0, top)
    assert (tree.leaves >= TINY).all()


def test_an_error_that_is_not_finite_changes_nothing_and_is_counted(kernels: Any) -> None:
    tree, raw, top = Tree(kernels, 600), np.zeros(600, "f4"), np.ones(1, "f4")
    rows = np.arange(600)
    tree.insert(raw, rows, 0.6, top)
    errors = np.full(600, 2.0, np.float32)
    errors[[0, 300, 599]] = np.nan, np.inf, -np.inf
    assert kernels.priorities_update(*tree.arrays, raw, rows, errors, 0.6, 0.5, top) == 3
    assert np.flatnonzero(raw == 1.0).tolist() == [0, 300, 599]
    assert np.flatnonzero(tree.leaves == 1.0).tolist() == [0, 300, 599]
    assert top[0] == 2.5
    fresh = Tree(kernels, 600)
    fresh.load(tree.leaves)
    assert fresh.nodes.tobytes() == tree.nodes.tobytes()


def test_a_row_that_is_out_stays_out(kernels: Any) -> None:
    tree, raw, top = Tree(kernels, 4), np.zeros(4, "f4"), np.ones(1, "f4")
    tree.insert(raw, np.array([1, 2]), 0.6, top)
    errors = np.full(4, 9.0, np.float32)
    assert kernels.priorities_update(*tree.arrays, raw, np.arange(4), errors, 1.0, 0.0, top) == 0
    assert tree.leaves.tolist() == [0, 9, 9, 0]
    kernels.priorities_rescale(*tree.arrays, raw, 0.5)
    assert tree.leaves.tolist() == [0, 3, 3, 0]


@pytest.mark.parametrize("size", [1, 17, 300, 5000])
@pytest.mark.parametrize(("inserted", "removed"), [(0, 0), (64, 64), (0, 5), (300, 3), (200, 700)])
def test_rows_come_in_and_then_others_leave(
    kernels: Any, size: int, inserted: int, removed: int
) -> None:
    """As one after the other, whatever lies in the same line, comes twice or does both."""
    rng = np.random.default_rng(size)
    tree, raw, top = Tree(kernels, size), np.zeros(size, "f4"), np.full(1, 4.0, "f4")
    tree.load(np.where(rng.random(size) < 0.5, np.float32(9.0), np.float32(0.0)))
    for _ in range(3):
        come = rng.integers(0, size, inserted)
        leave = np.append(come[: removed // 2], rng.integers(0, size, removed - removed // 2))
        leave = leave[:removed]
        expected, expected_raw = Tree(kernels, size), raw.copy()
        leaves, expected_raw[come] = tree.leaves.copy(), 4.0
        leaves[come] = 2.0
        leaves[leave] = 0.0
        expected.load(leaves)
        change = int((leaves > 0).sum()) - int((tree.leaves > 0).sum())
        assert tree.replace(raw, come, leave, 0.5, top) == change
        assert raw.tobytes() == expected_raw.tobytes()
        assert tree.leaves.tobytes() == leaves.tobytes()
        assert tree.nodes.tobytes() == expected.nodes.tobytes()
    assert top[0] == 4.0


@pytest.mark.parametrize("size", [1, 100, 5000])
def test_both_backends_give_the_same_bits(native_and_numba: tuple[Any, Any], size: int) -> None:
    results = []
    for kernels in native_and_numba:
        rng = np.random.default_rng(4)
        tree, raw, top = Tree(kernels, size), np.zeros(size, "f4"), np.ones(1, "f4")
        tree.insert(raw, rng.integers(0, size, size), 0.6, top)
        for alpha in ALPHAS:
            rows = rng.integers(0, size, 700)
            tree.replace(raw, rows[:90], rows[80:400], alpha, top)
            tree.insert(raw, rows[400:], alpha, top)
            errors = (10.0 ** rng.uniform(-44, 38, 700)).astype(np.float32)
            kernels.priorities_update(*tree.arrays, raw, rows, errors, alpha, 1e-6, top)
            indices, weights, state = tree.sample(200, 3, 0.4, seed=5)
            results.append((indices, weights, state))
        results.append((raw, top, tree.leaves, tree.nodes))
    for native, numba in zip(
        results[: len(results) // 2], results[len(results) // 2 :], strict=True
    ):
        for one, other in zip(native, numba, strict=True):
            assert np.asarray(one).tobytes() == np.asarray(other).tobytes()
