"""The statistics on scores, against their definitions and against simulated noise."""

import math

import numpy as np
import pytest
from scipy import stats

from tensor_optix.core.decisions.statistics import (
    finite,
    gain_so_far,
    line_fit,
    noise_std,
    rises_significantly,
    slope_t,
    successive_difference_std,
)

ESTIMATORS = pytest.mark.parametrize("estimate", [noise_std, successive_difference_std])


@ESTIMATORS
@pytest.mark.parametrize("n", [5, 8, 20, 100])
def test_noise_estimates_have_the_right_mean_square(estimate, n):
    rng = np.random.default_rng(n)
    squares = [estimate(rng.normal(3.0, 2.0, n)) ** 2 for _ in range(4000)]
    assert math.sqrt(np.mean(squares)) == pytest.approx(2.0, rel=0.07)


@ESTIMATORS
@pytest.mark.parametrize("slope", [-30.0, 0.0, 0.5, 1e3])
def test_a_straight_line_has_no_noise_whatever_its_slope(estimate, slope):
    assert estimate(7.0 + slope * np.arange(20)) == pytest.approx(0.0, abs=1e-9)


@ESTIMATORS
def test_noise_is_measured_around_the_trend_not_including_it(estimate):
    noise = np.random.default_rng(1).normal(size=200)
    assert estimate(noise + 50.0 * np.arange(200)) == pytest.approx(estimate(noise), rel=0.05)


@ESTIMATORS
def test_scores_that_are_not_finite_are_dropped(estimate):
    noise = np.random.default_rng(2).normal(size=30)
    holed = np.insert(noise, [3, 10, 20], [math.nan, math.inf, -math.inf])
    assert estimate(holed) == estimate(noise)
    np.testing.assert_array_equal(finite(holed), noise)


@ESTIMATORS
@pytest.mark.parametrize("scores", [[], [1.0], [1.0, 9.0], [1.0, math.nan, 9.0]])
def test_fewer_than_three_scores_have_no_noise(estimate, scores):
    assert estimate(scores) == 0.0


def test_outliers_and_jumps_hardly_move_the_robust_noise():
    scores = np.random.default_rng(3).normal(size=40)
    scores[[7, 25]] += 1000.0
    scores[30:] -= 500.0
    assert 0.6 < noise_std(scores) < 3.0
    assert successive_difference_std(scores) > 100.0
    assert noise_std([9.0] * 10 + [500.0] * 10) == 0.0


def test_scores_of_two_values_keep_their_noise():
    """Half of the differences are 0 here, which a median absolute deviation would take for all."""
    scores = np.random.default_rng(4).choice([300.0, 500.0], 400)
    assert noise_std(scores) == pytest.approx(100.0, rel=0.1)


def test_slope_and_its_error_are_those_of_scipy():
    scores = 0.3 * np.arange(25) + np.random.default_rng(5).normal(size=25)
    (slope, spread), expected = line_fit(scores), stats.linregress(np.arange(25), scores)
    assert slope == pytest.approx(expected.slope)
    assert slope_t(scores) == pytest.approx(expected.slope / expected.stderr)
    residuals = scores - expected.intercept - expected.slope * np.arange(25)
    assert spread == pytest.approx(math.sqrt(np.sum(residuals**2) / 23))


@pytest.mark.parametrize("value", [0.0, 0.1, -1e9, 1e-300])
def test_a_constant_has_a_t_of_zero(value):
    assert (*line_fit([value] * 20), slope_t([value] * 20)) == (0.0, 0.0, 0.0)
    assert not rises_significantly([value] * 20)


def test_an_exact_line_rises_for_certain_and_a_falling_one_does_not():
    assert slope_t(np.arange(10.0)) == math.inf
    assert rises_significantly(np.arange(10.0))
    assert slope_t(-np.arange(10.0)) == -math.inf
    assert not rises_significantly(-np.arange(10.0))
    assert not rises_significantly([1.0, 2.0])


def test_the_rate_of_false_rises_is_alpha():
    rng = np.random.default_rng(6)
    found = [rises_significantly(rng.normal(size=8), alpha=0.05) for _ in range(4000)]
    assert np.mean(found) == pytest.approx(0.05, abs=0.012)


def test_the_gain_is_that_of_the_best_block_over_the_first():
    assert gain_so_far([0.0, 2.0, 10.0, 12.0, 3.0, 3.0], 2) == pytest.approx(10.0)
    assert gain_so_far([5.0, 3.0, 1.0], 1) == 0.0
    assert gain_so_far([5.0, 9.0], 8) == 0.0
    assert gain_so_far([], 4) == 0.0
