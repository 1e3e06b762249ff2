"""Atari games from the command line: what the standard preprocessing stands for, and a run with it."""

from __future__ import annotations

import json

import pytest

from tensor_optix.cli.main import main
from tensor_optix.cli.parsing import parse

pytest.importorskip("envpool")

PREPROCESSED = "tensor_optix.pipeline.atari:preprocessed"


def options_of(*words):
    options = parse(["train", *words])
    options.check()
    return options.in_full()


@pytest.mark.parametrize("said", [[], ["--atari"]])
def test_games_of_envpool_are_learned_life_by_life_with_clipped_rewards(said):
    options = options_of("Pong-v5", *said)
    assert options.environment.kwargs == {"episodic_life": True, "reward_clip": True}
    assert (options.backend, options.wrapper) == ("envpool", ())


def test_games_of_ale_py_get_wrappers():
    options = options_of("ALE/Pong-v5", "--wrapper", "gymnasium.wrappers:Autoreset")
    assert options.environment.kwargs == {"frameskip": 1}
    assert options.backend == "auto"
    assert options.wrapper == (PREPROCESSED, "gymnasium.wrappers:Autoreset")


def test_what_is_said_of_the_game_goes_before():
    words = ("--env-kwargs", "reward_clip=False", "stack_num=2", "--backend", "envpool-async")
    options = options_of("Pong-v5", *words)
    given = {"episodic_life": True, "reward_clip": False, "stack_num": 2}
    assert options.environment.kwargs == given
    assert options.backend == "envpool-async"


@pytest.mark.parametrize("words", [["Pong-v5", "--no-atari"], ["CartPole-v1"], ["no-such-id"]])
def test_all_else_stays_as_it_is(words):
    options = options_of(*words)
    assert options.environment.is_plain
    assert options.backend == "auto"


def test_a_run_is_evaluated_in_the_games_that_it_was_trained_in(tmp_path, capsys):
    pytest.importorskip("torch")
    sizes = ["--num-envs", "2", "--window-size", "160", "--max-steps", "320", "--ppo.n-epochs", "1"]
    path = tmp_path / "run"
    words = ["Breakout-v5", *sizes, "--seed", "1", "--plain", "--run-dir", str(path)]
    assert main(["train", *words]) == 0
    config = json.loads((path / "run.json").read_text())
    assert config["env_kwargs"] == {"episodic_life": True, "reward_clip": True}
    assert config["backend"] == "envpool"
    capsys.readouterr()
    assert main(["evaluate", str(path), "--episodes", "2", "--json"]) == 0
    played = json.loads(capsys.readouterr().out)
    # Whole games: a life of Breakout is over in about 24 steps, where nothing is hit.
    assert played["episodes"] == 2
    assert min(played["lengths"]) >= 100
