"""Learning in earnest, from the table of `benchmarks/LEARNING.md`: one seed, minutes."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from benchmarks.learning_cases import CASES
from benchmarks.learning_table import train


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cartpole-dqn-documented", "cartpole-dqn", "pendulum-sac"])
def test_the_goal_is_reached_within_the_steps(name):
    result = train(CASES[name], seed=0)
    assert result["steps"] <= CASES[name].steps
    assert result["greedy"] >= CASES[name].goal
