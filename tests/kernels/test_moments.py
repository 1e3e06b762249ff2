"""Running moments and normalisation against NumPy on all rows at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests import oracle

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHAPES = [(1, 1), (5, 1), (300, 1), (7, 3), (256, 4), (257, 17), (1000, 5), (33, 70), (3, 600)]


def new_state(dims: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    return np.zeros(dims), np.ones(dims), np.zeros(1)


def random_batch(rows: int, dims: int, offset: float = 0.0, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng([seed, rows, dims])
    return (rng.normal(size=(rows, dims)) * 2 + offset).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
def test_merged_batches_have_the_moments_of_all_rows(kernels: Any, shape: tuple[int, int]) -> None:
    mean, var, count = new_state(shape[1])
    batches = [random_batch(*shape, seed=seed) for seed in range(4)]
    for batch in batches:
        kernels.update_moments(batch, mean, var, count)
    expected_mean, expected_var, expected_count = oracle.moments(batches)
    np.testing.assert_allclose(mean, expected_mean, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(var, expected_var, rtol=1e-12, atol=1e-12)
    assert count[0] == expected_count


def test_a_large_offset_costs_no_digits(kernels: Any) -> None:
    """Squares summed without a shift would lose every digit of the variance here."""
    mean, var, count = new_state(3)
    batches = [random_batch(500, 3, offset=1e6, seed=seed) for seed in range(3)]
    for batch in batches:
        kernels.update_moments(batch, mean, var, count)
    expected_mean, expected_var, _ = oracle.moments(batches)
    np.testing.assert_allclose(mean, expected_mean, rtol=1e-14)
    np.testing.assert_allclose(var, expected_var, rtol=1e-9)


@pytest.mark.parametrize("dims", [1, 4, 17])
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_left_out(kernels: Any, dims: int, poison: float) -> None:
    batch = random_batch(400, dims)
    batch[[0, 3, 256, 399], dims // 2] = poison
    mean, var, count = new_state(dims)
    kernels.update_moments(batch, mean, var, count)
    expected_mean, expected_var, expected_count = oracle.moments([batch])
    assert count[0] == expected_count == 396
    np.testing.assert_allclose(mean, expected_mean, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(var, expected_var, rtol=1e-12)


@pytest.mark.parametrize("batch", [np.empty((0, 3)), np.full((5, 3), np.nan)])
def test_a_batch_without_a_finite_row_changes_nothing(
    kernels: Any, batch: NDArray[np.float64]
) -> None:
    mean, var, count = np.full(3, 2.0), np.full(3, 5.0), np.full(1, 9.0)
    kernels.update_moments(batch.astype(np.float32), mean, var, count)
    assert (mean.tolist(), var.tolist(), count.tolist()) == ([2.0] * 3, [5.0] * 3, [9.0])


@pytest.mark.parametrize("shape", [*SHAPES, (0, 3), (3, 0), (2, 1100)])
@pytest.mark.parametrize("clip", [-1.0, 0.0, 0.5, 10.0])
def test_normalize_equals_the_oracle(kernels: Any, shape: tuple[int, int], clip: float) -> None:
    batch = random_batch(*shape, offset=3.0)
    rng = np.random.default_rng(1)
    mean, var = rng.normal(size=shape[1]), rng.random(shape[1]) * 9
    out = np.full(shape, 7.0, np.float32)
    kernels.normalize(batch, mean, var, clip, 1e-8, out)
    expected = oracle.normalize(batch, mean, var, clip, 1e-8)
    np.testing.assert_allclose(out, expected, rtol=1e-6, atol=1e-6)


def test_nan_stays_nan_and_infinity_is_clipped(kernels: Any) -> None:
    batch = np.array([[np.nan, np.inf, -np.inf, 1.0]], np.float32)
    out = np.empty_like(batch)
    kernels.normalize(batch, np.zeros(4), np.ones(4), 5.0, 1e-8, out)
    np.testing.assert_array_equal(out, np.array([[np.nan, 5.0, -5.0, 1.0]], np.float32))


def test_a_batch_can_be_normalised_in_place(kernels: Any) -> None:
    batch = random_batch(100, 7)
    mean, var, out = np.full(7, 0.5), np.full(7, 2.0), np.empty((100, 7), np.float32)
    kernels.normalize(batch, mean, var, 1.0, 1e-8, out)
    kernels.normalize(batch, mean, var, 1.0, 1e-8, batch)
    np.testing.assert_array_equal(batch, out)


@pytest.mark.parametrize("shape", SHAPES)
def test_update_and_normalize_updates_first(kernels: Any, shape: tuple[int, int]) -> None:
    batch = random_batch(*shape)
    one, two = new_state(shape[1]), new_state(shape[1])
    out, expected = np.empty(shape, np.float32), np.empty(shape, np.float32)
    kernels.update_and_normalize(batch, *one, 4.0, 1e-8, out)
    kernels.update_moments(batch, *two)
    kernels.normalize(batch, *two[:2], 4.0, 1e-8, expected)
    np.testing.assert_array_equal(out, expected)
    for ours, theirs in zip(one, two, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("shape", SHAPES)
def test_both_backends_give_the_same_bits(
    native_and_numba: tuple[Any, Any], shape: tuple[int, int]
) -> None:
    results = []
    for kernels in native_and_numba:
        state, out = new_state(shape[1]), np.empty(shape, np.float32)
        for seed in range(3):
            batch = random_batch(*shape, offset=5.0, seed=seed)
            batch[:: 7 + seed, 0] = np.nan
            kernels.update_and_normalize(batch, *state, 2.0, 1e-8, out)
        results.append([array.tobytes() for array in (*state, out)])
    assert results[0] == results[1]
