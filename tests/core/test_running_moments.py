"""Running mean and variance agree with plain NumPy over the whole stream."""

import math

import numpy as np
import pytest

from tensor_optix.core.normalizers import RunningMeanStd


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def moments_of(rows, epsilon=1e-4):
    """Mean and variance of a stream that began as `epsilon` rows of mean 0 and variance 1."""
    rows = np.asarray(rows, np.float32).astype(np.float64)
    total = len(rows) + epsilon
    mean = rows.sum(axis=0) / total
    squares = ((rows - mean) ** 2).sum(axis=0) + epsilon * (1 + mean**2)
    return mean, squares / total


def same_state(left, right):
    return left.keys() == right.keys() and all(np.array_equal(left[k], right[k]) for k in left)


def test_it_starts_at_mean_zero_variance_one():
    moments = RunningMeanStd((2,))
    assert moments.mean.tolist() == [0, 0]
    assert moments.var.tolist() == [1, 1]
    assert moments.count == 1e-4
    assert RunningMeanStd().mean.shape == ()


@pytest.mark.parametrize("shape", [(), (3,), (2, 5)])
@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (-3.0, 20.0), (1e6, 1.0)])
def test_moments_equal_those_of_the_whole_stream(rng, shape, mean, std):
    rows = rng.normal(mean, std, (2000, *shape)).astype(np.float32)
    moments = RunningMeanStd(shape, epsilon=1e-8)
    for batch in np.split(rows, [1, 2, 40, 41, 1000]):
        moments.update(batch)
    expected_mean, expected_var = moments_of(rows, 1e-8)
    assert moments.mean == pytest.approx(expected_mean, rel=1e-9)
    assert moments.var == pytest.approx(expected_var, rel=1e-6)
    assert moments.count == pytest.approx(2000)


def test_rows_one_by_one_are_the_same_as_a_batch(rng):
    rows = rng.normal(5, 2, (300, 4))
    one_by_one, at_once = RunningMeanStd((4,)), RunningMeanStd((4,))
    for row in rows:
        one_by_one.update(row)
    at_once.update(rows.reshape(30, 10, 4))
    assert one_by_one.mean == pytest.approx(at_once.mean, rel=1e-12)
    assert one_by_one.var == pytest.approx(at_once.var, rel=1e-12)
    assert one_by_one.count == pytest.approx(at_once.count)


def test_scalars_one_by_one_are_the_same_as_a_batch(rng):
    values = rng.normal(5, 2, 300)
    one_by_one, at_once = RunningMeanStd(), RunningMeanStd()
    for value in values:
        one_by_one.update(value)
    at_once.update(values)
    assert one_by_one.var == pytest.approx(at_once.var, rel=1e-12)


def test_rows_that_are_not_finite_stay_out_of_the_statistics(rng):
    rows = rng.normal(size=(50, 2))
    clean, dirty = RunningMeanStd((2,)), RunningMeanStd((2,))
    clean.update(rows)
    dirty.update(np.vstack([rows, [[math.nan, 0], [0, math.inf], [1e300, 0]]]))
    assert same_state(clean.state_dict(), dirty.state_dict())


def test_normalized_rows_are_float32_and_match_the_formula(rng):
    rows = rng.normal(7, 3, (500, 3)).astype(np.float32)
    moments = RunningMeanStd((3,))
    moments.update(rows)
    expected = (rows.astype(np.float64) - moments.mean) / np.sqrt(moments.var + 1e-8)
    normalized = moments.normalize(rows)
    assert normalized.dtype == np.float32
    assert normalized == pytest.approx(expected, abs=1e-5)
    assert moments.normalize(rows[0]) == pytest.approx(expected[0], abs=1e-5)


@pytest.mark.parametrize(("clip", "largest"), [(10.0, 10), (2.0, 2), (0, 1000)])
def test_clip_zero_means_no_clip(clip, largest):
    moments = RunningMeanStd()
    assert moments.normalize(1000.0, clip=clip) == pytest.approx(largest)
    assert moments.normalize(-1000.0, clip=clip) == pytest.approx(-largest)


def test_updating_and_normalizing_in_one_call_is_the_same_as_in_two(rng):
    one, two = RunningMeanStd((3,)), RunningMeanStd((3,))
    for _ in range(5):
        batch = rng.normal(4, 2, (8, 3)).astype(np.float32)
        two.update(batch)
        assert one.update_and_normalize(batch) == pytest.approx(two.normalize(batch), rel=1e-6)
    assert one.mean == pytest.approx(two.mean, rel=1e-12)


def test_a_row_of_the_wrong_shape_is_an_error():
    with pytest.raises(ValueError, match=r"one row of shape \(3,\) or a batch of them, got \(4,\)"):
        RunningMeanStd((3,)).update(np.zeros(4))


def test_a_negative_epsilon_is_an_error():
    with pytest.raises(ValueError, match="epsilon must be >= 0, got -1"):
        RunningMeanStd(epsilon=-1)


def test_frozen_moments_do_not_change():
    moments = RunningMeanStd((2,))
    before = moments.state_dict()
    with moments.freeze():
        moments.update(np.full((5, 2), 3.0))
        moments.update_and_normalize(np.full((5, 2), 3.0))
    assert same_state(moments.state_dict(), before)
