import numpy as np

from tensor_optix.core.evolution.variants import compare_pairs, compare_records


def test_a_contest_needs_evidence_and_not_just_a_higher_mean():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=20)
    assert compare_pairs(noise + 1.0, noise).is_won
    assert not compare_pairs(np.full(20, 500.0), np.full(20, 500.0)).is_won
    lucky = np.zeros(20)
    lucky[0] = 1000.0
    assert not compare_pairs(lucky, np.zeros(20)).is_won
    assert not compare_pairs(noise - 1.0, noise).is_won


def test_equal_sides_win_a_contest_in_at_most_a_twentieth_of_cases():
    rng = np.random.default_rng(1)
    wins = sum(compare_pairs(*rng.normal(size=(2, 20))).is_won for _ in range(400))
    assert wins <= 32


def test_scores_on_record_are_compared_by_the_latest_ones():
    early, late = [0.0] * 30, [5.0] * 10
    assert compare_records(early + late, [1.0, 2.0, 3.0] * 3).is_won
    assert not compare_records(late + early, [1.0, 2.0, 3.0] * 3).is_won
    assert not compare_records([], [1.0]).is_won
