"""`tensor-optix doctor`: what is printed, in both forms, and what the exit codes tell."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import gymnasium
import pytest

from tensor_optix.algorithms import frameworks
from tensor_optix.cli.main import main
from tests.cli.conftest import files_below

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

QUICK = ("--seconds", "0.5", "--backend", "sync")
ENVS = "tests.pipeline.examination.planted_envs"


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    for name in ("WalkEnv", "ForceEnv", "PartsEnv", "MaskEnv", "NanRewards", "OldStep"):
        gymnasium.register(f"{name}-v0", f"{ENVS}:{name}", max_episode_steps=100)
    yield
    for name in ("WalkEnv", "ForceEnv", "PartsEnv", "MaskEnv", "NanRewards", "OldStep"):
        del gymnasium.registry[f"{name}-v0"]


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    main(["doctor", *arguments, *QUICK, "--json"])
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def grades(result: dict[str, Any]) -> dict[str, str]:
    return {one["check"]: one["grade"] for one in result["findings"]}


def test_a_sound_environment_is_told_in_a_few_lines(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "WalkEnv-v0", *QUICK]) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0] == "WalkEnv-v0"
    named = [line.split()[0] for line in lines if line[:1].strip()]
    assert named[1:5] == ["observations", "actions", "episodes", "rewards"]
    assert len(lines) < 20
    assert max(map(len, lines)) <= 80
    assert not any(line.startswith(("note", "problem")) for line in lines)
    assert all(line == line.rstrip() for line in lines)
    assert said.err == ""
    assert files_below(here) == set()


def test_a_problem_is_the_last_line_and_the_exit_code(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "NanRewards-v0", *QUICK]) == 1
    said = capsys.readouterr()
    assert "\nproblem       " in said.out
    assert "rewards were not finite" in said.out.split("\nproblem")[1]
    assert said.err == ""


def test_what_cannot_be_stepped_is_a_problem_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "OldStep-v0", *QUICK]) == 1
    assert "gym before 0.26" in " ".join(capsys.readouterr().out.split())
    result = told(capsys, "OldStep-v0")
    assert result["played"] is None
    assert result["fits"] == result["speeds"] == []


def test_the_object_says_what_becomes_of_the_spaces_and_which_algorithms_fit(
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = told(capsys, "PartsEnv-v0")
    assert [one["name"] for one in result["observation_layout"]] == ["place", "speed", "side"]
    assert result["time_limit"] == 100
    fits = {one["algorithm"]: not one["refusal"] for one in result["fits"]}
    assert fits == {"ppo": True, "dqn": True, "sac": False, "td3": False}
    assert result["algorithm"] == "ppo"
    (dqn,) = (one for one in result["fits"] if one["algorithm"] == "dqn")
    assert dqn["replay_rows"] == 100_000
    assert dqn["replay_bytes"] > 100_000 * 4 * 4
    assert dqn["updates_by"].startswith(("the native engine (", "PyTorch, as "))
    assert result["speeds"][0]["backend"] == "sync"
    assert result["speeds"][0]["steps_per_second"] > 0


@pytest.mark.parametrize(
    ("env_id", "algorithm"),
    [("CartPole-v1", "ppo"), ("Pendulum-v1", "sac"), ("MountainCar-v0", "dqn")],
)
def test_the_algorithm_is_the_one_that_training_would_choose(
    env_id: str, algorithm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # A busy machine is to see a few episodes all the same; of options that come twice the last one holds.
    main(["doctor", env_id, *QUICK, "--seconds", "5", "--json"])
    assert json.loads(capsys.readouterr().out)["algorithm"] == algorithm
    assert told(capsys, env_id, "--algo", "ppo")["algorithm"] == "ppo"


@pytest.mark.parametrize("option", ["--agent", "--algo"])
def test_an_algorithm_that_does_not_fit_is_a_problem(
    option: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "WalkEnv-v0", option, "sac", *QUICK]) == 1
    assert "use 'ppo' or 'dqn'" in " ".join(capsys.readouterr().out.split())
    assert main(["doctor", "ForceEnv-v0", option, "sac", *QUICK]) == 0
    assert "sac: 2" in capsys.readouterr().out


def test_arguments_and_wrappers_make_the_environment_that_is_looked_at(
    capsys: pytest.CaptureFixture[str],
) -> None:
    wrapper = ("--wrapper", "gymnasium.wrappers:TimeAwareObservation")
    result = told(capsys, "WalkEnv-v0", "--env-kwargs", "max_episode_steps=7", *wrapper)
    assert result["time_limit"] == 7
    assert "(3,)" in result["observation_space"]
    assert result["environment"] == "WalkEnv-v0(max_episode_steps=7) in TimeAwareObservation"


def test_masks_are_obeyed_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert grades(told(capsys, "MaskEnv-v0"))["masks"] == "ok"


def test_environments_of_envpools_own_are_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("envpool")
    main(["doctor", "Catch-v0", "--seconds", "0.5", "--json"])
    result = json.loads(capsys.readouterr().out)
    assert result["played"]["steps"] > 0
    assert [one["backend"] for one in result["speeds"]] == ["envpool"]
    assert grades(result)["seed"] == "ok"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["CartPol-v1"], 'did you mean "CartPole-v1"?'),
        (["WalkEnv-v0", "--seconds", "0"], "--seconds must be a number above 0, got 0.0"),
        (["WalkEnv-v0", "--algo", "dqm"], "did you mean 'dqn'?"),
        (["CartPole-v1", "--env-kwargs", "size=3"], 'takes no argument "size"'),
        (["no_such_module:Some-v0"], "cannot import the module"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    arguments: list[str], expected: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert expected in said.err


def test_help_fits_80_columns(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--help"]) == 0
    text = capsys.readouterr().out
    assert "--seconds" in text
    assert max(map(len, text.splitlines())) <= 80


def test_without_a_framework_the_rest_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in ("torch", "tensorflow"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(frameworks, "has_engine", False)
    result = told(capsys, "WalkEnv-v0")
    assert grades(result)["algorithm"] == "note"
    assert result["fits"] == []
    assert result["played"]["steps"] > 0
