"""One look-up of an environment id: the spaces, and what is said where there are none."""

from __future__ import annotations

import functools
import logging
import re
import sys
from collections import namedtuple
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from tensor_optix.algorithms.agent_factory import make_agent
from tensor_optix.core.environment_ids import (
    envpool_difference,
    is_envpools,
    plain_id,
    say_once,
    spaces_of_id,
)
from tensor_optix.core.environment_recipe import EnvironmentRecipe
from tensor_optix.core.problem import Problem
from tensor_optix.pipeline.batch_pipeline import BatchPipeline
from tensor_optix.pipeline.vector_env import make_vector_env, wrap_env
from tensor_optix.pipeline.vector_pipeline import VectorBatchPipeline

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.mark.parametrize("uses_envpool", [True, False])
def test_the_spaces_are_those_of_the_environments_that_pipelines_make(uses_envpool, monkeypatch):
    if uses_envpool:
        pytest.importorskip("envpool")
    else:
        monkeypatch.setitem(sys.modules, "envpool", None)
    env = make_vector_env("CartPole-v1", 1)
    assert env.name == ("envpool" if uses_envpool else "sync")
    assert spaces_of_id("CartPole-v1") == (env.observation_space, env.action_space)
    env.close()


def test_a_module_before_the_colon_is_imported():
    assert spaces_of_id("tests.pipeline.row_envs:RowScript-v0")[1] == Discrete(3)


@pytest.mark.parametrize("env_id", ["CartPol-v1", "CartPole", "qqqqq"])
def test_agents_and_pipelines_say_the_same_of_an_unknown_id(env_id):
    messages = []
    for look_up in (spaces_of_id, lambda name: make_vector_env(name, 2)):
        with pytest.raises(ValueError, match=f'^unknown environment "{env_id}"; ') as caught:
            look_up(env_id)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_the_case_of_an_id_does_not_keep_it_from_being_recognised():
    with pytest.raises(ValueError, match=r'did you mean "CartPole-v1"\?$'):
        spaces_of_id("CARTPOLE-v1")


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "Box2D", None)
    monkeypatch.delitem(sys.modules, "gymnasium.envs.box2d.lunar_lander", raising=False)
    monkeypatch.setitem(sys.modules, "envpool", None)
    with pytest.raises(ImportError, match=r'Box2D is not.*pip install "gymnasium\[box2d\]"'):
        spaces_of_id("LunarLander-v3")


def test_atari_games_are_registered_when_one_is_asked_for(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ale_py", None)
    needed = r'^"ALE/Invented-v5" needs ale-py: pip install "tensor-optix\[atari\]"$'
    with pytest.raises(ImportError, match=needed):
        spaces_of_id("ALE/Invented-v5")
    registers = "gymnasium.register('ALE/Invented-v5', 'tests.pipeline.row_envs:ScriptedEnv')"
    (tmp_path / "ale_py.py").write_text(f"import gymnasium\n{registers}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "ale_py")
    try:
        assert spaces_of_id("ALE/Invented-v5")[1] == Discrete(3)
    finally:
        gymnasium.registry.pop("ALE/Invented-v5", None)
        sys.modules.pop("ale_py", None)


class OneStep(gymnasium.Env[Any, Any]):
    """An environment of the user's, unlike any of EnvPool's."""

    observation_space = Box(-1.0, 1.0, (4,), np.float32)
    action_space = Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(4, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return np.zeros(4, np.float32), 1.0, True, False, {}


class FakeEnvPool:
    """Has one environment, and tells spaces and time limit of it that are given."""

    def __init__(self, env_id: str, problem: Problem | Exception) -> None:
        self.env_id = env_id
        self.problem = problem

    def list_all_envs(self) -> list[str]:
        return [self.env_id]

    def make_spec(self, env_id: str) -> Any:
        assert env_id == self.env_id
        if isinstance(self.problem, Exception):
            raise self.problem
        config = namedtuple("Config", ["max_num_players", "max_episode_steps"])
        return SimpleNamespace(
            gymnasium_observation_space=self.problem.observation_space,
            gymnasium_action_space=self.problem.action_space,
            config=config(1, self.problem.max_episode_steps),
            state_array_spec={"obs": None, "info:lives": None},
        )


@pytest.fixture
def has_in_envpool(monkeypatch: pytest.MonkeyPatch) -> Any:
    say_once.cache_clear()
    return lambda *own: monkeypatch.setitem(sys.modules, "envpool", FakeEnvPool(*own))


@pytest.fixture
def registered() -> Iterator[Any]:
    """Register an environment for the length of a test, under a name that is free."""
    before = set(gymnasium.registry)
    yield gymnasium.register
    for env_id in set(gymnasium.registry) - before:
        del gymnasium.registry[env_id]


CART = Problem(Box(-np.inf, np.inf, (4,), np.float32), Discrete(2), 500)


@pytest.mark.parametrize("name", ["Catch-v0", "Basic-v1"])
def test_a_users_registration_wins_over_envpools_namesake_in_every_door(
    name: str, registered: Any, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("envpool")
    say_once.cache_clear()
    registered(name, OneStep)
    for look_up in (VectorBatchPipeline, BatchPipeline):
        pipeline = look_up(env_id=name)
        assert pipeline.env.observation_space == OneStep.observation_space
        twin = pipeline.twin()
        assert twin.env.observation_space == OneStep.observation_space
        pipeline.teardown()
        twin.teardown()
    make_agent(name).check_spaces(OneStep.observation_space, OneStep.action_space)
    (said,) = [one for one in caplog.records if "EnvPool's" in one.getMessage()]
    assert said.levelno == logging.WARNING
    expected = rf'"{name}": taking the .* with Gymnasium.*registered for tests.*:OneStep.*"envpool"'
    assert re.search(expected, said.getMessage())


def test_envpools_namesake_is_taken_when_it_is_asked_for(
    registered: Any, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("envpool")
    say_once.cache_clear()
    registered("Catch-v0", OneStep)
    for _ in range(2):
        env = make_vector_env("Catch-v0", 2, "envpool")
        assert (env.name, env.observation_space.shape) == ("envpool", (10, 5))
        env.close()
    (said,) = caplog.records
    assert "EnvPool's is another problem than that of gymnasium.make" in said.getMessage()


@pytest.mark.parametrize(
    "entry_point",
    [OneStep, functools.partial(OneStep), "tests.core.test_environment_ids:OneStep"],
    ids=["class", "function", "text"],
)
def test_every_way_to_register_is_somebodys(
    entry_point: Any, registered: Any, has_in_envpool: Any
) -> None:
    has_in_envpool("Nova-v0", CART)
    registered("Nova-v0", entry_point)
    assert not is_envpools("Nova-v0")
    assert spaces_of_id("Nova-v0")[0] == OneStep.observation_space


def test_gymnasiums_own_environment_is_envpools_where_it_is_the_same(has_in_envpool: Any) -> None:
    has_in_envpool("CartPole-v1", CART)
    assert is_envpools("CartPole-v1")
    assert spaces_of_id("CartPole-v1") == CART.spaces


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (replace(CART, observation_space=Box(0, 255, (4, 84, 84), np.uint8)), "observations Box"),
        (replace(CART, action_space=Discrete(3)), r"actions Discrete\(3\) and not Discrete\(2\)"),
        (replace(CART, max_episode_steps=200), "a time limit of 200 and not 500 steps"),
        (RuntimeError("no assets"), "EnvPool cannot tell its spaces: no assets"),
    ],
    ids=["observations", "actions", "time limit", "no spec"],
)
def test_another_problem_of_envpools_is_left_alone(
    other: Any, said: str, has_in_envpool: Any, caplog: pytest.LogCaptureFixture
) -> None:
    has_in_envpool("CartPole-v1", other)
    with caplog.at_level(logging.INFO):
        assert not is_envpools("CartPole-v1")
        observations, _ = spaces_of_id("CartPole-v1")
        env = make_vector_env("CartPole-v1", 1)
    assert (observations.shape, env.observation_space.shape) == ((4,), (4,))
    env.close()
    (record,) = [one for one in caplog.records if "EnvPool's" in one.getMessage()]
    assert record.levelno == logging.INFO
    assert re.search(said, record.getMessage())


def test_masks_of_actions_are_a_part_of_the_problem(has_in_envpool: Any) -> None:
    taxi = max(one for one in gymnasium.registry if one.startswith("Taxi-v"))
    with gymnasium.make(taxi) as env:
        limit = env.spec.max_episode_steps
        has_in_envpool(taxi, Problem(env.observation_space, env.action_space, limit))
    assert envpool_difference(taxi) == "no masks of the actions"


def test_envpool_stands_in_where_gymnasium_misses_a_package(
    monkeypatch: pytest.MonkeyPatch, has_in_envpool: Any
) -> None:
    monkeypatch.setitem(sys.modules, "Box2D", None)
    monkeypatch.delitem(sys.modules, "gymnasium.envs.box2d.lunar_lander", raising=False)
    has_in_envpool("LunarLander-v3", CART)
    assert is_envpools("LunarLander-v3")
    assert spaces_of_id("LunarLander-v3") == CART.spaces


@pytest.mark.parametrize("env_id", ["CartPole-v1", "MountainCarContinuous-v0", "FrozenLake-v1"])
def test_where_gymnasium_has_the_id_agents_and_pipelines_see_one_problem(env_id: str) -> None:
    theirs = gymnasium.make(env_id)
    observations, actions = spaces_of_id(env_id)
    for backend in ("auto", "sync"):
        env = make_vector_env(env_id, 2, backend)
        found = Problem(env.observation_space, env.action_space, env.max_episode_steps)
        assert (
            found.differences(Problem(observations, actions, theirs.spec.max_episode_steps)) == []
        )
        env.close()


def test_what_only_envpool_has_keeps_its_reason(has_in_envpool: Any) -> None:
    has_in_envpool("Nova-v0", RuntimeError("no assets"))
    with pytest.raises(RuntimeError, match="no assets"):
        spaces_of_id("Nova-v0")


def test_blackjack_of_envpool_is_another_problem() -> None:
    """A row of three numbers, where Gymnasium's is a Tuple of three choices."""
    pytest.importorskip("envpool")
    assert not is_envpools("Blackjack-v1")
    assert "observations" in envpool_difference("Blackjack-v1")
    assert is_envpools("CliffWalking-v1"), "neither has a time limit"


class Prices(gymnasium.Env):
    """Takes arrays and tables as arguments, as environments of trading do."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, prices, frames=()):
        self.prices, self.frames = prices, frames


PRICES = {"prices": np.arange(3.0), "frames": {"first": np.eye(2)}}
gymnasium.register("Prices-v0", Prices, kwargs=PRICES)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({}, "Prices-v0"),
        ({"prices": np.arange(3.0)}, "Prices-v0"),
        ({"prices": np.arange(3.0) + 1}, ""),
        ({"prices": np.arange(4.0)}, ""),
        ({"frames": {"first": np.eye(2), "second": 1}}, ""),
        ({"frames": [np.eye(2), np.eye(2)]}, ""),
    ],
)
def test_an_environment_that_was_registered_with_arrays_is_known_by_its_id(given, named):
    env = gymnasium.make("Prices-v0", **given)
    assert plain_id(env.spec) == named
    assert (wrap_env(env).recipe is not None) == bool(named)


def test_environments_that_were_registered_with_arrays_are_made():
    env = make_vector_env("Prices-v0", 2, "sync")
    assert env.recipe == EnvironmentRecipe("Prices-v0")
    env.close()
