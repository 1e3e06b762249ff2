"""Which environment: an id, arguments and wrappers, and what is said of those that are none."""

from __future__ import annotations

import re
import sys

import gymnasium
import numpy as np
import pytest

from tensor_optix import BatchPipeline, VectorBatchPipeline, make_agent
from tensor_optix.core.environment_ids import spaces_of_id
from tensor_optix.core.environment_recipe import EnvironmentRecipe
from tensor_optix.pipeline.vector_env import make_vector_env
from tests.core import chosen_envs
from tests.core.chosen_envs import Half, less_one

HALL = "tests.core.chosen_envs:Hall-v0"
STAIRS = "tests.core.chosen_envs:Stairs-v0"
PLACE = "tests.core.chosen_envs"


def first_reward(env):
    env.reset(0)
    env.send(np.zeros(env.num_envs, np.int64), env.recv().env_ids)
    return env.recv().rewards.tolist()


@pytest.mark.parametrize("backend", ["auto", "sync", "async"])
def test_arguments_and_wrappers_reach_every_environment_in_their_order(backend):
    wrappers = [f"{PLACE}:Half", f"{PLACE}:less_one"]
    env = make_vector_env(
        HALL, 2, backend, env_kwargs={"size": 5, "config": {"pay": 8}}, wrappers=wrappers
    )
    assert env.observation_space.shape == (5,)
    assert first_reward(env) == [3.0, 3.0]
    env.close()
    swapped = make_vector_env(HALL, 1, "sync", wrappers=wrappers[::-1])
    assert first_reward(swapped) == [0.0]


def test_a_pipeline_an_agent_and_a_look_at_the_spaces_see_the_same_environment():
    kwargs, wrappers = {"size": 5}, [Half]
    for pipeline in (
        BatchPipeline(env_id=HALL, env_kwargs=kwargs, wrappers=wrappers),
        VectorBatchPipeline(env_id=HALL, num_envs=2, env_kwargs=kwargs, wrappers=wrappers),
    ):
        recipe = pipeline.source.recipe
        assert recipe == EnvironmentRecipe(HALL, kwargs, (f"{PLACE}:Half",))
        assert spaces_of_id(recipe)[0] == pipeline.env.observation_space
        agent = make_agent(recipe, hidden_sizes=(4,))
        agent.check_spaces(pipeline.env.observation_space, pipeline.env.action_space)
        pipeline.env.close()


def test_what_one_environment_writes_into_its_arguments_is_not_in_those_of_others():
    config = {"pay": 1, "seen": []}
    env = make_vector_env(HALL, 2, "sync", env_kwargs={"config": config})
    made = [one.unwrapped.config for one in env._env.envs]
    made[0]["seen"].append(1)
    assert made[1] == config == {"pay": 1, "seen": []}


@pytest.mark.parametrize(
    ("backend", "limit"), [("sync", 7), ("async", 7), ("vector", 7), ("envpool", 7), ("auto", 7)]
)
def test_a_time_limit_may_be_an_argument(backend, limit):
    if backend == "envpool":
        pytest.importorskip("envpool")
    env = make_vector_env("CartPole-v1", 2, backend, env_kwargs={"max_episode_steps": limit})
    assert env.max_episode_steps == limit
    assert env.name != "envpool" or backend == "envpool"
    env.close()


def test_a_time_limit_of_minus_one_is_none():
    env = make_vector_env("CartPole-v1", 2, "sync", env_kwargs={"max_episode_steps": -1})
    assert env.max_episode_steps is None


def test_the_time_limit_is_that_of_a_wrapper():
    def longer(env):
        return gymnasium.wrappers.TimeLimit(env.unwrapped, 900)

    assert make_vector_env("CartPole-v1", 2, "sync", wrappers=[longer]).max_episode_steps == 900


@pytest.mark.parametrize(
    ("env_id", "backend", "kwargs", "said"),
    [
        (HALL, "sync", {"sise": 3}, '"Hall-v0" takes no argument "sise"; did you mean "size"?'),
        (HALL, "auto", {"zzz": 3}, '"Hall-v0" takes no argument "zzz"; it takes size, length, '),
        (
            STAIRS,
            "sync",
            {"floors": 1, "lenght": 3},
            'no argument "lenght"; did you mean "length"?',
        ),
        (STAIRS, "sync", {}, "\"Stairs-v0\" cannot be made without the argument 'floors': give it"),
        (HALL, "sync", {"id": 3}, '"id" is no argument of "Hall-v0" alone'),
        ("CartPole-v1", "vector", {"sutton_barto": True}, 'did you mean "sutton_barto_reward"?'),
        ("CartPole-v1", "auto", {"sutton_barto": True}, 'did you mean "sutton_barto_reward"?'),
    ],
)
def test_arguments_that_do_not_fit_are_named(env_id, backend, kwargs, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        make_vector_env(env_id, 2, backend, env_kwargs=kwargs)


def test_an_envpool_that_cannot_be_loaded_is_not_said_to_lack_an_environment(tmp_path, monkeypatch):
    (tmp_path / "envpool.py").write_text('raise ImportError("no libbz2")\n')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "envpool", raising=False)
    with pytest.raises(ImportError, match=r"needs EnvPool, .* cannot be loaded: no lib"):
        make_vector_env("Catch-v0", 2, "envpool")


def test_of_envpools_arguments_those_are_told_that_are_left_to_choose():
    pytest.importorskip("envpool")
    with pytest.raises(ValueError, match='"qqq"; it takes max_num_players,'):
        make_vector_env("CartPole-v1", 2, "envpool", env_kwargs={"qqq": 3})


def test_arguments_of_envpool_are_its_own():
    pytest.importorskip("envpool")
    for name, said in (("max_steps", "max_episode_steps"), ("num_envs", "is no argument of")):
        with pytest.raises(ValueError, match=said):
            make_vector_env("CartPole-v1", 2, "envpool", env_kwargs={name: 3})


@pytest.mark.parametrize(
    ("wrapper", "said"),
    [
        (
            "TimeLimit",
            'as "module:Class", got "TimeLimit"; did you mean "gymnasium.wrappers:TimeLimit"?',
        ),
        (f"{PLACE}:Halv", f'there is no "Halv" in {PLACE}; did you mean "Half"?'),
        (
            "tests.core.chosen_env:Half",
            f"No module named 'tests.core.chosen_env'; did you mean \"{PLACE}\"",
        ),
        (
            "no_such_module_at_all:Half",
            "No module named 'no_such_module_at_all'; install it, or run",
        ),
        (f"{PLACE}:Hall", "is none: expected a subclass of gymnasium.Wrapper or a function"),
        (f"{PLACE}:NUMBER", "is none: expected a subclass of gymnasium.Wrapper or a function"),
        (f"{PLACE}:nothing", "is none: it made no environment, but None"),
        (f"{PLACE}:Scaled", r"needs more than an environment \(env, factor\): name a function"),
        ("gymnasium.wrappers:GrayscaleObservation", 'does not fit "Hall-v0": '),
    ],
)
def test_what_is_no_wrapper_is_refused_in_one_line(wrapper, said):
    for backend in ("sync", "auto"):
        with pytest.raises(ValueError, match=said) as caught:
            make_vector_env(HALL, 2, backend, wrappers=[wrapper])
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("backend", ["envpool", "vector"])
def test_who_makes_many_at_once_takes_no_wrappers(backend):
    with pytest.raises(ValueError, match=f'backend={backend!r} makes many .* backend="sync"'):
        make_vector_env("CartPole-v1", 2, backend, wrappers=[Half])


def test_what_a_recipe_cannot_be_is_refused_by_the_pipeline_that_is_given_it():
    for options, said in (
        ({"env_kwargs": 3}, "env_kwargs must be a dict, got 3"),
        ({"wrappers": "a:B"}, "wrappers must be a list"),
        ({"wrappers": [3]}, "a wrapper must be a class, a function or a text"),
    ):
        with pytest.raises(TypeError, match=said):
            VectorBatchPipeline(env_id=HALL, **options)
    with pytest.raises(ValueError, match="say how env_id= is made"):
        BatchPipeline(env=gymnasium.make("CartPole-v1"), env_kwargs={"size": 3})


@pytest.mark.parametrize(
    "options", [{"kwargs": {"frame": object()}}, {"wrappers": [lambda env: env]}]
)
def test_what_no_file_can_hold_is_not_recorded(options):
    assert EnvironmentRecipe(HALL, **options).recorded() is None


def test_what_has_a_name_is_recorded_by_it():
    recipe = EnvironmentRecipe(HALL, {"shape": (1, 2)}, [Half, less_one, f"{PLACE}:Half"])
    names = (f"{PLACE}:Half", f"{PLACE}:less_one", f"{PLACE}:Half")
    assert recipe.recorded() == EnvironmentRecipe(HALL, {"shape": (1, 2)}, names)
    assert recipe.title == f"{HALL}(shape=(1, 2)) in Half in less_one in Half"


# ---- ids with a module


@pytest.mark.parametrize(
    ("env_id", "said"),
    [
        (f"{PLACE}:Hal-v0", f'; did you mean "{HALL}"?'),
        (f"{PLACE}:CartPol-v1", '; did you mean "CartPole-v1"?'),
        ("json:zzz", '; "json" registers none'),
    ],
)
def test_of_an_unknown_id_the_ids_of_its_module_are_looked_through_first(env_id, said):
    assert chosen_envs.Hall is not None
    with pytest.raises(ValueError, match=f'^unknown environment "{env_id}"{re.escape(said)}$'):
        make_vector_env(env_id, 2)


@pytest.mark.parametrize(
    ("env_id", "said"),
    [
        ("gymnasum:CartPole-v1", "No module named 'gymnasum'; did you mean \"gymnasium\""),
        (
            "gymnasium.env:CartPole-v1",
            "No module named 'gymnasium.env'; did you mean \"gymnasium.envs\"",
        ),
        ("qwertyuiop:CartPole-v1", "; install it, or run where it lies"),
        (".:CartPole-v1", "is no name of a module"),
    ],
)
def test_a_module_that_is_not_there_is_an_import_error_with_a_near_name(env_id, said):
    for look_up in (spaces_of_id, lambda one: make_vector_env(one, 2)):
        with pytest.raises(ImportError, match=said):
            look_up(env_id)


def test_a_module_that_lacks_another_one_says_which(tmp_path, monkeypatch):
    (tmp_path / "lacks_another.py").write_text("import qwertyuiop\n")
    monkeypatch.syspath_prepend(tmp_path)
    said = r"""module of "lacks_another:Some-v0": No module named 'qwertyuiop'; install"""
    with pytest.raises(ImportError, match=said):
        make_vector_env("lacks_another:Some-v0", 2)
