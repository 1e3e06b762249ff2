"""The factorised categorical against brute force: the joint distribution over all combinations of choices."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from scipy import stats
from scipy.special import softmax

from tensor_optix.algorithms.distributions import categorical, factorized

CHOICES = {
    "of equal sizes": (3, 3),
    "of several sizes, some of them neighbours": (2, 3, 3, 1, 2),
    "bits": (2, 2, 2, 2),
    "one": (4,),
    "nothing to choose": (1, 1),
}
ROWS = 5


@pytest.fixture(params=CHOICES)
def counts(request: Any) -> tuple[int, ...]:
    return CHOICES[request.param]


def logits_of(counts: tuple[int, ...], scale: float = 2.0, rows: int = ROWS) -> np.ndarray:
    rng = np.random.default_rng(sum(counts))
    return (scale * rng.standard_normal((rows, sum(counts)))).astype(np.float32)


def joint(counts: tuple[int, ...], logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return all M combinations `[M, K]`, and their probabilities `[B, M]` in double precision."""
    combinations = np.array(list(itertools.product(*map(range, counts))))
    columns = combinations + np.cumsum((0, *counts[:-1]))
    energies = logits.astype(np.float64)[:, columns].sum(axis=-1)
    return combinations, softmax(energies, axis=-1)


def test_log_probs_are_those_of_the_joint_distribution(counts, framework):
    logits = logits_of(counts)
    combinations, probs = joint(counts, logits)
    distribution = factorized(counts)
    for number, combination in enumerate(combinations):
        actions = framework.tensor(np.repeat(combination[None], ROWS, axis=0))
        found = distribution.log_prob(framework.backend, framework.tensor(logits), actions)
        expected = np.log(probs[:, number])
        np.testing.assert_allclose(framework.array(found), expected, rtol=1e-5, atol=1e-6)


def test_the_entropy_is_that_of_the_joint_distribution(counts, framework):
    logits = logits_of(counts)
    found = factorized(counts).entropy(framework.backend, framework.tensor(logits))
    expected = stats.entropy(joint(counts, logits)[1], axis=-1)
    np.testing.assert_allclose(framework.array(found), expected, rtol=1e-5, atol=1e-6)


def test_samples_follow_the_joint_distribution_and_the_seed(counts):
    distribution, draws = factorized(counts), 20_000
    logits = logits_of(counts, scale=1.0, rows=1)
    combinations, (probs,) = joint(counts, logits)
    many = np.repeat(logits, draws, axis=0)
    actions = distribution.sample(np.random.default_rng(11), many)
    assert actions.shape == (draws, len(counts))
    assert actions.dtype == np.int64
    numbers = np.ravel_multi_index(tuple(actions.T), counts)
    found = np.bincount(numbers, minlength=len(combinations))
    if len(combinations) > 1:
        assert stats.chisquare(found, draws * probs).pvalue > 1e-3
    again = distribution.sample(np.random.default_rng(11), many)
    np.testing.assert_array_equal(actions, again)


def test_the_greedy_action_is_the_likeliest_combination(counts):
    logits = logits_of(counts)
    combinations, probs = joint(counts, logits)
    np.testing.assert_array_equal(
        factorized(counts).greedy(logits), combinations[probs.argmax(axis=-1)]
    )


def test_probabilities_are_the_marginals_side_by_side(counts):
    logits = logits_of(counts)
    combinations, probs = joint(counts, logits)
    expected = [
        probs[:, combinations[:, k] == n].sum(axis=1)
        for k, count in enumerate(counts)
        for n in range(count)
    ]
    found = factorized(counts).probs(logits)
    np.testing.assert_allclose(found, np.stack(expected, axis=1), rtol=1e-6)
    assert found.dtype == np.float64


def test_one_choice_is_drawn_as_by_the_categorical():
    logits = logits_of((6,), rows=100)
    one, other = (
        distribution.sample(np.random.default_rng(3), logits)
        for distribution in (factorized([6]), categorical)
    )
    np.testing.assert_array_equal(one[:, 0], other)


def test_equally_large_choices_are_computed_together_however_many_there_are(framework):
    """200 bits are one block, not 200 operations to compile."""
    calls = []

    class Counting:
        def __getattr__(self, name: str) -> Any:
            calls.append(name)
            return getattr(framework.backend, name)

    logits = logits_of((2,) * 200)
    actions = factorized((2,) * 200).greedy(logits)
    tensors = framework.tensor(logits), framework.tensor(actions)
    found = factorized((2,) * 200).log_prob(Counting(), *tensors)
    assert len(calls) < 6
    p = softmax(logits.reshape(ROWS, 200, 2).astype(np.float64), axis=-1)
    np.testing.assert_allclose(framework.array(found), np.log(p.max(-1)).sum(-1), rtol=1e-5)


def test_a_copy_computes_the_same():
    logits, copied = logits_of((2, 3)), copy.deepcopy(factorized((2, 3)))
    np.testing.assert_array_equal(copied.greedy(logits), factorized((2, 3)).greedy(logits))


@pytest.mark.parametrize(
    "space", [MultiDiscrete([2, 3]), MultiDiscrete([[2], [3]], start=[[4], [-1]])]
)
def test_a_space_of_these_choices_fits_whatever_its_shape_and_start(space):
    factorized((2, 3)).require(space, logits_of((2, 3)))
    factorized((2, 2)).require(MultiBinary((2, 1)), logits_of((2, 2)))


@pytest.mark.parametrize(
    ("space", "columns", "message"),
    [
        (
            MultiDiscrete([3, 2]),
            5,
            r"made with choices=\[2, 3\], needs .*MultiDiscrete\(\[2, 3\]\)",
        ),
        (MultiBinary(2), 5, r"made with choices=\[2, 3\], needs"),
        (Discrete(5), 5, r"made with choices=\[2, 3\], needs .*, got Discrete\(5\)"),
        (Box(0, 1, (2,)), 5, r"made with choices=\[2, 3\], needs"),
        (MultiDiscrete([2, 3]), 6, r"\[B, 5\] for MultiDiscrete\(\[2 3\]\), got \[2, 6\]"),
    ],
)
def test_spaces_and_outputs_that_do_not_belong_together_are_refused(space, columns, message):
    with pytest.raises(ValueError, match=message):
        factorized((2, 3)).require(space, np.zeros((2, columns), np.float32))


@pytest.mark.parametrize("counts", [(), (2, 0), (2, 1.5), (-1,)])
def test_counts_that_are_none_are_refused(counts):
    with pytest.raises(ValueError, match="choices"):
        factorized(counts)


def test_an_actor_that_returns_probabilities_of_each_choice_is_warned_of(caplog):
    space = MultiDiscrete([2, 3])
    factorized((2, 3)).require(space, np.full((2, 5), 0.4, np.float32))
    assert not caplog.records
    factorized((2, 3)).require(space, np.array([[0.25, 0.75, 0.5, 0.25, 0.25]] * 2, np.float32))
    assert "softmax" in caplog.text
