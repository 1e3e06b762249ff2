"""Learning in earnest, from the table of `benchmarks/LEARNING.md`: one seed, minutes."""

from __future__ import annotations

import pytest

from benchmarks.learning_cases import CASES
from benchmarks.learning_table import train


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["torch", "tensorflow"])
@pytest.mark.parametrize("name", ["cartpole-ppo", "cartpole-dqn", "pendulum-ppo", "pendulum-sac"])
def test_the_goal_is_reached_within_the_steps(name, framework):
    pytest.importorskip(framework)
    result = train(CASES[name], seed=0, framework=framework)
    assert result["steps"] <= CASES[name].steps
    assert result["greedy"] >= CASES[name].goal
