"""When two environments are the same problem to an agent, and what EnvPool means by its spaces."""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

from tensor_optix.core.observation_layout import laid_out
from tensor_optix.core.problem import Problem, envpool_problem

OBSERVATIONS = Box(-1.0, 1.0, (3,), np.float32)
ACTIONS = Box(-2.0, 2.0, (2,), np.float32)
PROBLEM = Problem(OBSERVATIONS, ACTIONS, 100)
FLOAT32, FLOAT64 = np.finfo(np.float32), np.finfo(np.float64)


@pytest.mark.parametrize(
    "other",
    [
        PROBLEM,
        Problem(Box(-1.00001, 1.0, (3,), np.float32), ACTIONS, 100),
        Problem(Box(-np.inf, np.inf, (3,), np.float32), ACTIONS, 100),
        Problem(OBSERVATIONS, Box(-2.0, 2.0, (2,), np.float64), 100),
    ],
    ids=["itself", "rounded", "without bounds", "actions of another float dtype"],
)
def test_what_makes_no_difference_to_an_agent(other: Problem) -> None:
    assert PROBLEM.differences(other) == other.differences(PROBLEM) == []


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (
            Problem(Box(-1.0, 1.0, (4,), np.float32), ACTIONS, 100),
            r"observations Box\(-1, 1, \(3,\)",
        ),
        (Problem(Box(-1.0, 1.0, (3,), np.float64), ACTIONS, 100), "float32.* and not .*float64"),
        (Problem(Box(-1.0, 5.0, (3,), np.float32), ACTIONS, 100), r"and not Box\(-1, 5"),
        (Problem(Discrete(3), ACTIONS, 100), r"and not Discrete\(3\)"),
        (Problem(OBSERVATIONS, Box(-1.0, 1.0, (2,), np.float32), 100), r"actions .*not Box\(-1, 1"),
        (Problem(OBSERVATIONS, Box(-np.inf, np.inf, (2,), np.float32), 100), "actions .*not .*inf"),
        (Problem(OBSERVATIONS, Discrete(2), 100), r"actions .* and not Discrete\(2\)"),
        (Problem(OBSERVATIONS, ACTIONS, None), "a time limit of 100 and not None steps"),
    ],
)
def test_a_difference_is_said(other: Problem, said: str) -> None:
    (difference,) = PROBLEM.differences(other)
    assert re.search(said, difference), difference


def test_all_differences_are_said() -> None:
    assert len(PROBLEM.differences(Problem(Discrete(3), Discrete(2), None))) == 3


def of_envpool(observations: Any, actions: Any, limit: int = 7, players: int = 1) -> Problem:
    config = {"max_num_players": players, "max_episode_steps": limit}
    return envpool_problem(config, (observations, actions))


def test_a_count_of_steps_reaches_the_time_limit() -> None:
    parts = {"step_count": Discrete(7), "other": Discrete(7), "grid": OBSERVATIONS}
    counted = of_envpool(Dict(parts), Discrete(2)).observation_space
    assert counted == Dict(parts | {"step_count": Discrete(8)})
    assert of_envpool(Dict(parts), Discrete(2), limit=6).observation_space == Dict(parts)


def test_the_limits_of_a_dtype_are_no_bounds() -> None:
    """EnvPool writes them, the least positive number among them, where dm_control and Box2D give none."""
    vague = Box(FLOAT32.tiny, FLOAT32.max, (2,), np.float32)
    low = np.array([FLOAT64.tiny, -1.0, FLOAT64.min])
    mixed = Box(low, np.array([1.0, FLOAT64.max, FLOAT64.max]), dtype=np.float64)
    problem = of_envpool(Dict({"b": vague, "a": Tuple([mixed, OBSERVATIONS])}), vague)
    b, a = problem.observation_space["b"], problem.observation_space["a"]
    assert b == problem.action_space == Box(-np.inf, np.inf, (2,), np.float32)
    assert a[0] == Box(
        np.array([-np.inf, -1, -np.inf]), np.array([1, np.inf, np.inf]), dtype=np.float64
    )
    assert a[1] is OBSERVATIONS
    inf = np.inf
    expected = [-inf, -1, -inf, -1, -1, -1, -inf, -inf]
    assert laid_out(problem.observation_space).low.tolist() == expected
    given = Dict(OrderedDict(b=vague, a=OBSERVATIONS))
    assert list(of_envpool(given, ACTIONS).observation_space) == list(given)


def test_whole_numbers_to_act_by_are_choices() -> None:
    numbers = Box(np.array([0, 2, 5]), np.array([24, 3, 5]), dtype=np.int32)
    problem = of_envpool(Box(0, 255, (2,), np.uint8), numbers)
    assert problem.action_space == MultiDiscrete([25, 2, 1], start=[0, 2, 5])
    assert problem.observation_space == Box(0, 255, (2,), np.uint8)


def test_with_a_mask_of_all_combinations_they_are_one_choice() -> None:
    numbers = Box(np.array([0, 2]), np.array([4, 3]), dtype=np.int32)
    observations = Dict(board=OBSERVATIONS, action_mask=MultiBinary((5, 2)))
    assert of_envpool(observations, numbers).action_space == Discrete(10)
    per_choice = Dict(board=OBSERVATIONS, action_mask=MultiBinary(7))
    assert of_envpool(per_choice, numbers).action_space == MultiDiscrete([5, 2], start=[0, 2])


def test_envpools_word_for_no_time_limit_is_none() -> None:
    assert of_envpool(OBSERVATIONS, ACTIONS).max_episode_steps == 7
    assert of_envpool(OBSERVATIONS, ACTIONS, 2**31 - 1).max_episode_steps is None


def test_several_players_are_refused() -> None:
    with pytest.raises(ValueError, match="must have one player, got max_num_players=2"):
        of_envpool(OBSERVATIONS, ACTIONS, players=2)
