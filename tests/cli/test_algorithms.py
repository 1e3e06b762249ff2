"""Runs of each algorithm, and of other observations than vectors: trained, recorded and rebuilt."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from tensor_optix.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

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


@pytest.mark.parametrize("algorithm", ["ppo", "sac"])
def test_continuous_actions_are_trained_and_played(
    algorithm: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [] if algorithm == "sac" else ["--algo", algorithm]
    config = trained("Pendulum-v1", "--window-size", "200", "--max-steps", "800", *asked)
    assert config["algorithm"] == algorithm
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


def test_unbounded_actions_are_trained_as_they_are_and_that_is_said_once(
    here: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    unbounded = IMAGE_ENV.replace("Discrete(2)", "Box(-np.inf, np.inf, (1, 1))")
    unbounded = unbounded.replace("float(action)", "float(action[0, 0])").replace("Dots", "Free")
    (here / "free.py").write_text(unbounded)
    trained("free:Free-v0", "--window-size", "64", "--max-steps", "256")
    said = [record for record in caplog.records if "are not stretched" in record.getMessage()]
    assert len(said) == 1


CHOICES_ENV = """
import gymnasium
import numpy as np
from gymnasium.spaces import Box, MultiDiscrete


class Locks(gymnasium.Env):
    observation_space = Box(-1, 1, (2,), np.float32)
    action_space = MultiDiscrete([[2, 3]], start=[[1, -1]])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.observation_space.low.copy(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.steps += 1
        reward = float(action[0, 0] == 2) + float(action[0, 1] == -1)
        return self.observation_space.high.copy(), reward, self.steps == 8, False, {}


gymnasium.register("Locks-v0", Locks)
"""


def test_several_choices_are_trained_by_ppo_and_played(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every step of every episode takes an element of the action space, in training and in play."""
    (here / "locks.py").write_text(CHOICES_ENV)
    options = ("--window-size", "128", "--max-steps", "5120", "--ppo.learning-rate", "0.01")
    config = trained("locks:Locks-v0", *options, "--seed", "0")
    assert config["algorithm"] == "ppo"
    capsys.readouterr()
    assert main(["evaluate", "run", "--episodes", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["returns"] == [16.0] * 3


def test_algorithms_of_one_choice_name_the_one_that_takes_several(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "locks.py").write_text(CHOICES_ENV)
    assert main(["train", "locks:Locks-v0", *TINY, "--algo", "dqn"]) != 0
    assert "'dqn' takes Discrete actions" in (said := " ".join(capsys.readouterr().err.split()))
    assert "use 'ppo'" in said
