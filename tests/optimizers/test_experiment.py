"""What a difference of scores means: trends cancel, noise is measured, the scale does not count."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import kstest

from tensor_optix.optimizers.experiment import Experiment, ScoreNoise, together


def run(scores_of_sides, quiet=()):
    """Run an experiment on `[(score of A, score of B), ...]`, one pair a window."""
    experiment = Experiment(ScoreNoise(quiet))
    for pair in scores_of_sides:
        experiment.add(pair[experiment.next_side])
    return experiment


def sides(windows):
    experiment, order = Experiment(ScoreNoise()), ""
    for _ in range(windows):
        order += "AB"[experiment.next_side]
        experiment.add(0.0)
    return order


def test_each_block_takes_each_side_twice_and_mirrors_the_block_before():
    assert sides(12) == "ABBABAABABBA"


@pytest.mark.parametrize("slope", [-50.0, 0.0, 0.01, 7.0])
def test_a_linear_trend_cancels_exactly(slope):
    evidence = run([(slope * k + 3.0, slope * k) for k in range(4)]).evidence()
    assert evidence.difference == pytest.approx(3.0)
    assert evidence.noise == 0.0


def test_a_curved_trend_cancels_in_two_blocks():
    evidence = run([(k**2 + 3.0, float(k**2)) for k in range(8)]).evidence()
    assert evidence.difference == pytest.approx(3.0)


def test_without_noise_a_difference_is_certain_and_none_is_none():
    assert run([(1.0, 0.0)] * 4, quiet=[0.0] * 8).evidence().z == 8.0
    assert run([(0.0, 1.0)] * 4, quiet=[0.0] * 8).evidence().z == -8.0
    nothing = run([(0.1, 0.1)] * 4, quiet=[0.1] * 8).evidence()
    assert (nothing.difference, nothing.t, nothing.shrinkage) == (0.0, 0.0, 0.0)


def test_the_scale_is_the_noise_and_without_noise_the_span():
    scatter = np.random.default_rng(0).normal(size=16)
    noisy = run([(5.0, 4.0)] * 4, quiet=10.0 * scatter)
    assert noisy.unit() == pytest.approx(10.0, rel=0.4)
    assert run([(1.0, 0.5)] * 4, quiet=[0.0] * 8).unit() == 1.0


@pytest.mark.parametrize("random_walk", [False, True])
def test_under_the_null_z_is_standard_normal_also_where_the_scores_are_a_random_walk(random_walk):
    rng = np.random.default_rng(1)
    found = []
    for _ in range(600):
        scores = rng.normal(size=20)
        scores = np.cumsum(scores) if random_walk else scores
        found.append(run([(s, s) for s in scores[16:]], quiet=scores[:16]).evidence().z)
    assert kstest(found, "norm").pvalue > 0.01


def test_where_hyperparameters_set_the_rate_of_the_rise_the_difference_is_half_that_of_the_rates():
    experiment, score = Experiment(ScoreNoise()), 0.0
    for _ in range(8):
        score += (5.0, 2.0)[experiment.next_side]
        experiment.add(score)
    assert experiment.evidence().difference == pytest.approx(1.5)


def test_what_an_experiment_left_unexplained_is_noise_for_the_next():
    noise = ScoreNoise([0.0] * 8)
    experiment = Experiment(noise)
    for score in (1.0, -1.0, 1.0, -1.0):
        experiment.add(score)
    before = noise.pooled_with(0.0, 1)[0]
    experiment.close()
    assert before == 0.0
    assert noise.pooled_with(0.0, 1)[0] > 0.0


def test_a_side_effect_is_no_noise():
    noise = ScoreNoise([0.0] * 8)
    experiment = Experiment(noise)
    for _ in range(8):
        experiment.add((10.0, 0.0)[experiment.next_side])
    experiment.close()
    assert noise.pooled_with(0.0, 1)[0] == pytest.approx(0.0, abs=1e-12)


def test_a_difference_below_its_error_is_shrunk_to_nothing():
    scatter = np.random.default_rng(0).normal(size=16)
    evidence = run([(1.0, 0.0)] * 4, quiet=scatter).evidence()
    assert evidence.shrinkage == pytest.approx(max(0.0, 1.0 - 1.0 / evidence.t**2))
    assert run([(0.01, 0.0)] * 4, quiet=scatter).evidence().shrinkage == 0.0


def test_several_experiments_are_surer_than_one_but_not_by_their_number_alone():
    scatter = np.random.default_rng(0).normal(size=16)
    some = run([(2.0, 0.0)] * 4, quiet=scatter).evidence()
    none = run([(0.0, 0.0)] * 4, quiet=scatter).evidence()
    assert together([some, some]).z > together([some]).z
    assert together([none, none]).z <= 0.0
    assert some.z_after(some) == pytest.approx(math.sqrt(2.0) * some.z)
