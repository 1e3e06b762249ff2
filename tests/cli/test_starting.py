"""What `train` and `tune` choose where nothing is said, and what of it an option overrides."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tensor_optix.cli.errors import CommandError
from tensor_optix.cli.main import main
from tensor_optix.cli.options import LearnerOptions, TrainOptions, TuneOptions
from tensor_optix.cli.parsing import parse
from tensor_optix.cli.starting import settled

if TYPE_CHECKING:
    from pathlib import Path


def options_of(*arguments: str) -> LearnerOptions:
    options = parse(list(arguments))
    assert isinstance(options, TrainOptions | TuneOptions)
    options.check()
    return options.in_full()


def chosen(*arguments: str) -> tuple[LearnerOptions, dict[str, Any]]:
    """Return complete options, and what was chosen by its name."""
    warned: list[str] = []
    found = settled(options_of(*arguments), warned.append)
    assert warned == []
    assert all(one.reason for one in found.choices)
    return found.options, {one.option: one.value for one in found.choices}


def events(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]


def test_everything_is_chosen_where_nothing_is_said() -> None:
    options, choices = chosen("train", "Pendulum-v1")
    assert choices == {
        "algorithm": "sac",
        "hidden_sizes": (64, 64),
        "hyperparams.learning_rate": 1e-3,
    }
    assert options.algorithm.name == "sac"
    assert options.hidden_sizes == (64, 64)
    assert options.hyperparams == {"learning_rate": 1e-3}
    long = ("--env-kwargs", "max_episode_steps=1000", "--max-steps", "12000")
    _, choices = chosen("train", "Pendulum-v1", *long)
    assert choices["hyperparams.learning_starts"] == 1_200
    options, choices = chosen("train", "MountainCar-v0")
    assert choices == {
        "algorithm": "dqn",
        "normalize_observations": True,
        "hyperparams.gamma": 0.995,
        "hyperparams.noise_memory": 50,
        "hyperparams.epsilon_decay_steps": 30_000,
        "hyperparams.updates_per_step": 1.0,
    }
    assert options.normalize_observations


def test_an_option_overrides_each_choice() -> None:
    options, choices = chosen(
        "train", "MountainCar-v0", "--no-normalize-observations", "--gamma=0.9", "--clip-ratio=0.3"
    )
    assert choices == {"algorithm": "ppo"}
    assert options.normalize_observations is False
    assert options.hyperparams == {"gamma": 0.9, "clip_ratio": 0.3}
    given = ("--hidden-sizes", "32", "--learning-starts", "100")
    options, choices = chosen("train", "Pendulum-v1", *given)
    assert choices == {"algorithm": "sac"}
    assert options.hidden_sizes == (32,)
    _, choices = chosen("train", "MountainCarContinuous-v0", "--noise-memory", "0")
    assert "hyperparams.gamma" in choices
    assert "hyperparams.noise_memory" not in choices
    _, choices = chosen("train", "Pendulum-v1", "--td3.policy-delay", "3")
    assert choices["algorithm"] == "td3"


def test_with_an_algorithm_by_name_its_documented_defaults_hold() -> None:
    options, choices = chosen("train", "MountainCar-v0", "--algo", "ppo")
    assert choices == {}
    assert options == options_of("train", "MountainCar-v0", "--algo", "ppo")


def test_a_search_is_left_all_hyperparameters() -> None:
    options, choices = chosen("tune", "Pendulum-v1")
    assert choices == {"algorithm": "sac", "hidden_sizes": (64, 64)}
    assert options.hyperparams == {}


def test_complete_options_are_checked_again() -> None:
    with pytest.raises(
        CommandError, match=r"--max-steps must be at least one window.*= 1024, got 500"
    ):
        chosen("train", "Pendulum-v1", "--max-steps", "500")


def test_choices_are_events_and_in_the_report(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--num-envs", "2", "--window-size", "32", "--seed", "1", "--run-dir", "run"]
    assert main(["train", "MountainCar-v0", *options, "--max-steps", "200"]) == 0
    kinds = [one["kind"] for one in events(here / "run")]
    assert kinds[:8] == ["start", "looked", *["chosen"] * 6]
    _, looked, *chosen_events = events(here / "run")[:8]
    assert 4000 <= looked["steps"] < 4002
    assert looked["step_seconds"] > 0.0
    made = {one["option"]: one["value"] for one in chosen_events}
    assert made == {
        "algorithm": "dqn",
        "normalize_observations": True,
        "hyperparams.gamma": 0.995,
        "hyperparams.noise_memory": 50,
        "hyperparams.epsilon_decay_steps": 30_000,
        "hyperparams.updates_per_step": 1.0,
    }
    config = json.loads((here / "run" / "run.json").read_text())
    assert (config["algorithm"], config["normalize_observations"]) == ("dqn", True)
    assert config["hyperparams"]["gamma"] == 0.995
    report = (here / "run" / "report.txt").read_text()
    assert "looked at 4,0" in report
    assert "chose gamma 0.995" in report
    assert "chose normalize observations" in report

    assert main(["train", "--resume", "run", "--max-steps", "400"]) == 0
    assert [one["kind"] for one in events(here / "run")].count("chosen") == 6
    assert "chose gamma 0.995" in (here / "run" / "report.txt").read_text()


def test_an_environment_that_fails_when_looked_at_fails_in_training_in_full(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "breaks.py").write_text(
        "import gymnasium\n"
        "from gymnasium.spaces import Box, Discrete\n"
        "class Breaks(gymnasium.Env):\n"
        "    observation_space, action_space = Box(-1, 1, (2,)), Discrete(2)\n"
        "    def reset(self, seed=None, options=None):\n"
        "        super().reset(seed=seed)\n"
        "        return self.observation_space.sample(), {}\n"
        "    def step(self, action):\n"
        "        raise OSError('the cable is out')\n"
        'gymnasium.register("Breaks-v0", Breaks)\n'
    )
    options = ["--backend", "sync", "--num-envs", "1", "--run-dir", "run"]
    assert main(["train", "breaks:Breaks-v0", *options]) == 1
    assert "the cable is out" in capsys.readouterr().err
    assert (here / "run" / "traceback.txt").exists()
