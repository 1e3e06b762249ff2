"""One look-up of an environment id: the spaces, and what is said where there are none."""

from __future__ import annotations

import sys

import gymnasium
import pytest
from gymnasium.spaces import Discrete

from tensor_optix.core.environment_ids import spaces_of_id
from tensor_optix.pipeline.vector_env import make_vector_env


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
