"""What a difference of scores means: trends cancel, noise is measured, the scale does not count."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import kstest

from tensor_optix.optimizers.evidence import Evidence, ScoreNoise, side_of, together


def scores_of(pairs):
    """Return the scores of an experiment on `[(score of A, score of B), ...]`, one pair a window."""
    return [pair[side_of(window)] for window, pair in enumerate(pairs)]


def run(pairs, quiet=()):
    return ScoreNoise(quiet).evidence(scores_of(pairs))


def evidence(z, windows=4):
    return Evidence(difference=z, noise=1.0, t=z, z=z, windows=windows)


def test_each_block_takes_each_side_twice_and_mirrors_the_block_before():
    assert "".join("AB"[side_of(window)] for window in range(12)) == "ABBABAABABBA"


@pytest.mark.parametrize("slope", [-50.0, 0.0, 0.01, 7.0])
def test_a_linear_trend_cancels_exactly(slope):
    found = run([(slope * k + 3.0, slope * k) for k in range(4)])
    assert found.difference == pytest.approx(3.0)
    assert found.noise == 0.0


def test_a_curved_trend_cancels_in_two_blocks():
    found = run([(k**2 + 3.0, float(k**2)) for k in range(8)])
    assert found.difference == pytest.approx(3.0)


def test_without_noise_a_difference_is_certain_and_none_is_none():
    assert run([(1.0, 0.0)] * 4, quiet=[0.0] * 8).z == 8.0
    assert run([(0.0, 1.0)] * 4, quiet=[0.0] * 8).z == -8.0
    nothing = run([(0.1, 0.1)] * 4, quiet=[0.1] * 8)
    assert (nothing.difference, nothing.t, nothing.shrinkage) == (0.0, 0.0, 0.0)


def test_the_scale_is_the_noise_and_without_noise_the_span():
    scatter = np.random.default_rng(0).normal(size=16)
    noisy = ScoreNoise(10.0 * scatter)
    assert noisy.unit(scores_of([(5.0, 4.0)] * 4)) == pytest.approx(10.0, rel=0.4)
    assert ScoreNoise([0.0] * 8).unit(scores_of([(1.0, 0.5)] * 4)) == 1.0


@pytest.mark.parametrize("random_walk", [False, True])
def test_under_the_null_z_is_standard_normal_also_where_the_scores_are_a_random_walk(random_walk):
    rng = np.random.default_rng(1)
    found = []
    for _ in range(600):
        scores = rng.normal(size=20)
        scores = np.cumsum(scores) if random_walk else scores
        found.append(run([(s, s) for s in scores[16:]], quiet=scores[:16]).z)
    assert kstest(found, "norm").pvalue > 0.01


def test_where_hyperparameters_set_the_rate_of_the_rise_the_difference_is_half_that_of_the_rates():
    scores = np.cumsum(scores_of([(5.0, 2.0)] * 8))
    assert ScoreNoise().evidence(scores).difference == pytest.approx(1.5)


def test_what_an_experiment_left_unexplained_is_noise_for_the_next():
    noise = ScoreNoise([0.0] * 8)
    assert noise.evidence([0.0] * 4).noise == 0.0
    noise.add_experiment([1.0, -1.0, 1.0, -1.0])
    assert noise.evidence([0.0] * 4).noise > 0.0


def test_a_side_effect_is_no_noise():
    noise = ScoreNoise([0.0] * 8)
    noise.add_experiment(scores_of([(10.0, 0.0)] * 8))
    assert noise.evidence([0.0] * 4).noise == pytest.approx(0.0, abs=1e-12)


def test_a_difference_below_its_error_is_shrunk_to_nothing():
    scatter = np.random.default_rng(0).normal(size=16)
    found = run([(1.0, 0.0)] * 4, quiet=scatter)
    assert found.shrinkage == pytest.approx(max(0.0, 1.0 - 1.0 / found.t**2))
    assert run([(0.01, 0.0)] * 4, quiet=scatter).shrinkage == 0.0


def test_several_experiments_are_surer_than_one_but_not_by_their_number_alone():
    scatter = np.random.default_rng(0).normal(size=16)
    some = run([(2.0, 0.0)] * 4, quiet=scatter)
    none = run([(0.0, 0.0)] * 4, quiet=scatter)
    assert together([some, some]).z > together([some]).z
    assert together([none, none]).z <= 0.0
    assert some.z_after(some) == pytest.approx(math.sqrt(2.0) * some.z)


def test_a_point_must_beat_the_base_by_itself_however_much_its_probe_promised():
    assert not evidence(0.5).stands(evidence(8.0))
    assert evidence(1.5).stands(evidence(8.0))


def test_a_point_needs_overwhelming_evidence():
    assert not evidence(3.9).stands(None)
    assert evidence(4.1).stands(None)
    assert not evidence(2.0).stands(evidence(2.0))
    assert evidence(3.0).stands(evidence(3.0))


def test_a_test_goes_on_while_it_is_open_and_not_for_ever():
    assert evidence(2.0).is_open(None)
    assert not evidence(-0.1).is_open(None)
    assert not evidence(5.0).is_open(None)
    assert not evidence(2.0, windows=16).is_open(None)
    assert not evidence(1.5, windows=12).is_open(evidence(2.0))
