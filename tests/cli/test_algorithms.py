"""Runs of each algorithm, and of other observations than vectors: trained, recorded and rebuilt."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from tensor_optix.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

TINY = ("--num-envs", "2", "--hidden-sizes", "8", "--backend", "sync")

IMAGE_ENV = """
import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete


class Dots(gymnasium.Env):
    observation_space = Box(0, 255, (8, 8, 1), np.uint8)
    action_space = Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.observation_space.low.copy(), {}

    def step(self, action):
        self.steps += 1
        return self.observation_space.high.copy(), float(action), self.steps == 8, False, {}


gymnasium.register("Dots-v0", Dots)
"""


def trained(env_id: str, *options: str) -> dict[str, object]:
    """Train in `run`, play the result, and return its run.json."""
    assert main(["train", env_id, *TINY, "--run-dir", "run", *options]) == 0
    assert main(["evaluate", "run", "--episodes", "2"]) == 0
    with open("run/run.json") as file:
        config: dict[str, object] = json.load(file)
    return config


def test_continuous_actions_are_trained_by_ppo_and_played(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = trained("Pendulum-v1", "--window-size", "200", "--max-steps", "800")
    assert config["algorithm"] == "ppo"
    assert "Pendulum-v1: 2 episodes, best actions" in capsys.readouterr().out


def test_dqn_says_how_much_its_replay_takes_and_how_learning_goes(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--algo", "dqn", "--window-size", "128", "--max-steps", "1024")
    config = trained("CartPole-v1", *options, "--dqn.learning-starts", "200")
    said = capsys.readouterr().out
    assert config["algorithm"] == "dqn"
    assert config["hyperparams"]["learning_starts"] == 200  # type: ignore[index]
    assert config["hyperparams"]["learning_rate"] == 1e-3  # type: ignore[index]
    assert re.search(r"replay: 100,000 rows, [\d.]+ [kMG]B", said)
    assert re.search(r"learning   loss [\d.e-]+, epsilon 0\.\d+, replay \d+", said)


def test_sac_is_trained_and_played_with_actions_of_the_environment(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--algo", "sac", "--window-size", "200", "--max-steps", "800")
    config = trained("Pendulum-v1", *options, "--sac.updates-per-step", "0.05")
    said = capsys.readouterr().out
    assert config["algorithm"] == "sac"
    assert "critic loss" in said
    assert "alpha" in said


def test_td3_is_trained_and_played_with_hyperparameters_of_its_own_group(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--algo", "td3", "--window-size", "200", "--max-steps", "800")
    own = (
        "--td3.learning-starts",
        "300",
        "--td3.updates-per-step",
        "0.05",
        "--td3.policy-delay",
        "3",
    )
    config = trained("Pendulum-v1", *options, *own)
    said = capsys.readouterr().out
    assert config["algorithm"] == "td3"
    assert config["hyperparams"]["policy_delay"] == 3  # type: ignore[index]
    assert "critic loss" in said


def test_images_are_trained_on_with_the_hyperparameters_for_images(here: Path) -> None:
    (here / "dots.py").write_text(IMAGE_ENV)
    config = trained("dots:Dots-v0", "--window-size", "32", "--max-steps", "128")
    assert config["hyperparams"]["n_epochs"] == 4  # type: ignore[index]


def test_a_run_with_normalized_observations_is_played_with_their_statistics(here: Path) -> None:
    options = ("--window-size", "64", "--max-steps", "512", "--normalize-observations")
    config = trained("CartPole-v1", *options, "--normalize-rewards")
    assert (config["normalize_observations"], config["normalize_rewards"]) == (True, True)
    assert list((here / "run").rglob("obs_normalizer.npz"))


def test_unbounded_actions_are_refused_before_anything_is_written(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "free.py").write_text(
        IMAGE_ENV.replace("Discrete(2)", "Box(-np.inf, np.inf, (1,))").replace("Dots", "Free")
    )
    assert main(["train", "free:Free-v0", "--backend", "sync"]) == 2
    assert "finite bounds" in capsys.readouterr().err
    assert not (here / "runs").exists()
