"""Interquartile means and their intervals."""

from __future__ import annotations

import numpy as np
import pytest

from tensor_optix.runs.spread import interquartile_mean, interval


def test_the_least_and_the_greatest_quarter_are_left_out() -> None:
    assert interquartile_mean([-1e6, 1.0, 2.0, 3.0, 1e6]) == 2.0
    assert interquartile_mean([1.0, 2.0, 6.0]) == 3.0, "of three runs none is a quarter"
    assert interquartile_mean(np.arange(8.0)) == pytest.approx(np.mean([2, 3, 4, 5]))


def test_the_interval_holds_the_mean_and_is_narrower_for_more_runs() -> None:
    rng = np.random.default_rng(1)
    few, many = (rng.normal(10.0, 1.0, count) for count in (8, 128))
    (low, high), (lower, upper) = interval(few), interval(many)
    assert low < interquartile_mean(few) < high
    assert 0.15 < upper - lower < 0.6 < high - low


def test_about_95_of_100_intervals_hold_the_truth() -> None:
    rng = np.random.default_rng(2)
    low, high = interval(rng.normal(0.0, 1.0, (200, 30)))
    # A percentile bootstrap of 30 runs is a little too narrow; each has its own resamples of the same runs.
    assert 0.85 <= np.mean((low < 0.0) & (high > 0.0)) <= 0.99


def test_a_curve_is_resampled_whole() -> None:
    curve = np.array([[0.0, 1.0, 5.0, 2.0]])
    low, high = interval(np.repeat(curve, 3, axis=0))
    assert len(set(low)) == len(set(high)) == 1


def test_the_same_scores_give_the_same_interval() -> None:
    assert interval([1.0, 2.0, 4.0]) == interval([1.0, 2.0, 4.0])


def test_runs_that_agree_leave_no_doubt() -> None:
    assert interval([3.0, 3.0]) == (3.0, 3.0)
    assert interval([3.0, 3.0], np.mean) == (3.0, 3.0)
