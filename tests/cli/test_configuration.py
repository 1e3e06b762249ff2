"""Options in files: read for a run, saved from one, and overridden by what is typed."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tensor_optix.cli.configuration import options_of, read_options, save_options
from tensor_optix.cli.main import main
from tensor_optix.cli.options import TrainOptions, TuneOptions
from tensor_optix.cli.parsing import parse
from tensor_optix.runs.run_directory import RunDirectory

if TYPE_CHECKING:
    from collections.abc import Callable

CART = """
env_id = "CartPole-v1"
algo = "ppo"
num-envs = 2
window_size = 64
hidden_sizes = [8]
env_kwargs = {sutton_barto_reward = true}
lr = 1e-3

[ppo]
n_epochs = 1
"""


@pytest.fixture
def cart(here: Path) -> Path:
    path = here / "cart.toml"
    path.write_text(CART)
    return path


def said_of(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


def test_a_file_says_what_options_say(cart: Path) -> None:
    typed = ["--algo", "ppo", "--n-envs", "2", "--window-size", "64", "--hidden-sizes", "8"]
    more = ["--lr", "1e-3", "--n-epochs", "1", "--env-kwargs", "sutton_barto_reward=True"]
    assert parse(["train", "--config", str(cart)]) == parse(["train", "CartPole-v1", *typed, *more])


def test_what_is_typed_wins(cart: Path) -> None:
    typed = [
        "Acrobot-v1",
        "--lr",
        "0.5",
        "--env-kwargs",
        "sutton_barto_reward=False",
        "--seed",
        "3",
    ]
    options = parse(["train", *typed, f"--config={cart}"])
    assert isinstance(options, TrainOptions)
    assert (options.env_id, options.seed, options.envs) == ("Acrobot-v1", 3, 2)
    assert options.hyperparams == {"learning_rate": 0.5, "n_epochs": 1}
    assert options.environment.kwargs == {"sutton_barto_reward": False}


def test_without_an_algorithm_a_hyperparameter_is_of_all_that_have_it(here: Path) -> None:
    Path("any.yaml").write_text("env_id: CartPole-v1\nlearning_rate: 1e-3\n")
    options = parse(["train", "--config", "any.yaml", "--algo", "SAC"])
    assert isinstance(options, TrainOptions)
    assert options.hyperparams == {"learning_rate": 1e-3}
    options = parse(["train", "--config", "any.yaml"])
    assert isinstance(options, TrainOptions)
    assert [one.name for one in options.candidates] == ["ppo", "dqn", "sac", "td3"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            'env_id = "CartPole-v1"\nlearning_rat = 0.1',
            'no option "learning_rat"; did you mean "learning_rate"',
        ),
        ('algo = "sac"\nclip_ratio = 0.1', 'no option of sac "clip_ratio"'),
        ("[ppo]\ngama = 0.1", 'no option of ppo "gama"; did you mean "gamma"'),
        ('seed = "three"', "seed must be a whole number, got 'three'"),
        ("seed = true", "seed must be a whole number, got True"),
        ("seed = 1.5", "seed must be a whole number, got 1.5"),
        ("hidden_sizes = [8, 0.5]", "hidden_sizes must be a list of whole numbers, got [8, 0.5]"),
        ("tune = 1", "tune must be true or false, got 1"),
        ('engine = "fast"', "engine must be one of auto, native, framework, got 'fast'"),
        ("env_kwargs = 3", "env_kwargs must be a table of names and values, got 3"),
        ("ppo = 3", "ppo must be a table of hyperparameters, got 3"),
        ("learning_rate = false", "learning_rate must be a number, got False"),
        ('resume = "run"', 'no option "resume"'),
        ("seed = ", "is no TOML: Invalid value"),
        ("seed = 1", "there is no ENV_ID"),
        ('env_id = "CartPole-v1"\nnum_envs = 0', "--num-envs must be at least 1, got 0"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_in_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    Path("wrong.toml").write_text(text)
    assert main(["train", "--config", "wrong.toml"]) == 2
    assert said in said_of(capsys)
    assert [one.name for one in here.iterdir()] == ["wrong.toml"]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--config", "nothing.toml"], "cannot read nothing.toml: No such file"),
        (["--config", "cart.txt"], "can read options in .toml, .yaml, .yml, .json files"),
        (["--config"], "--config takes one file"),
        (["--config", "cart.toml", "--config", "cart.toml"], "--config takes one file"),
        (["--config", "."], "holds no run (no run.json)"),
        (["--config", "list.json"], "list.json must hold options by name, got [1]"),
        (["--resume", "run", "--config", "cart.toml"], "--config cannot be given with --resume"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(
    cart: Path, capsys: pytest.CaptureFixture[str], typed: list[str], said: str
) -> None:
    Path("list.json").write_text("[1]")
    assert main(["train", *typed]) == 2
    assert said in said_of(capsys)


@pytest.mark.parametrize("name", ["all.toml", "all.yaml", "all.json"])
def test_saved_options_are_read_as_they_were(here: Path, finished_run: Path, name: str) -> None:
    config = replace(
        RunDirectory(finished_run).read_config(),
        env_kwargs={"size": 3, "ratio": 0.5, "names": ["a"]},
        wrappers=("gymnasium.wrappers:FlattenObservation",),
        target_score=400.0,
        hidden_sizes=(),
    )
    save_options(config, Path(name))
    options = read_options(TrainOptions, Path(name), None)
    assert options.environment == config.environment
    assert options.algorithm.name == config.algorithm
    assert options.hyperparams == config.hyperparams
    alike = ("seed", "num_envs", "window_size", "max_steps", "target_score", "backend")
    assert [getattr(options, one) for one in alike] == [getattr(config, one) for one in alike]
    assert options.hidden_sizes == ()


def test_the_directory_of_a_run_is_such_a_file(here: Path, finished_run: Path) -> None:
    by_directory = read_options(TrainOptions, finished_run, None)
    assert by_directory == read_options(TrainOptions, finished_run / "run.json", None)
    assert by_directory.seed == 5
    assert not by_directory.atari
    assert read_options(TuneOptions, finished_run, None).hyperparams == by_directory.hyperparams


def test_a_run_from_saved_options_is_the_same_run(
    train: Callable[..., int], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--run-dir", "first", "--save-config", "saved.toml", steps=512) == 0
    assert main(["train", "--config", "saved.toml", "--run-dir", "second"]) == 0

    def learned(name: str) -> list[Any]:
        lines = (here / name / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line)["diagnostics"] for line in lines]

    assert learned("first") == learned("second")
    assert len(learned("first")) == 4


def test_saved_options_never_replace_a_file(cart: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--config", "cart.toml", "--save-config", "cart.toml"]) == 2
    assert "cart.toml exists; remove it, or choose another --save-config" in said_of(capsys)
    assert cart.read_text() == CART
    assert main(["train", "CartPole-v1", "--save-config", "no/where.toml"]) == 2
    assert "there is no directory no" in said_of(capsys)


def test_a_dry_run_shows_the_plan_and_writes_only_what_was_asked_for(
    cart: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = ["--config", "cart.toml", "--target-score", "400", "--dry-run"]
    assert main(["train", *typed, "--save-config", "all.yaml"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for one in (
        "nothing is trained",
        "environments 2 on ",
        "episodes of at most 500 steps",
        "action Discrete(2)",
        "hidden layers 8",
        "64 steps of each environment, 128 in all",
        "when nothing is left to gain, or score 400; no limit of steps",
        "learning_rate 0.001, gamma 0.99",
        "would be in runs/CartPole-v1/",
    ):
        assert one in shown
    assert sorted(one.name for one in here.iterdir()) == ["all.yaml", "cart.toml"]
    assert yaml.safe_load(Path("all.yaml").read_text())["target_score"] == 400.0


def test_a_dry_run_tells_what_was_chosen_and_why(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "CartPole-v1", "--dry-run", "--save-config", "chosen.toml"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "choices looked at " in shown
    assert "chose algorithm " in shown
    assert tomllib.loads(Path("chosen.toml").read_text())["algo"] in ("ppo", "dqn")


def test_a_run_stops_at_its_target_score(train: Callable[..., int], here: Path) -> None:
    assert train("--target-score", "5", "--run-dir", "run", steps=20_000) == 0
    lines = (here / "run" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["total_steps"] < 10_000
    assert RunDirectory(here / "run").read_config().target_score == 5.0


def test_a_target_that_is_no_number_is_refused(
    train: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--target-score", "nan") == 2
    assert "--target-score must be a finite number, got nan" in said_of(capsys)


LISTENERS = """
from tensor_optix import LoopCallback

class Counter(LoopCallback):
    def on_window(self, report):
        with open("heard.txt", "a") as file:
            file.write(f"{report.total_steps}\\n")

class Needy(LoopCallback):
    def __init__(self, path):
        pass

def made():
    return Counter()

number = 3
"""


def test_a_callback_hears_of_every_window_also_when_the_run_goes_on(
    train: Callable[..., int], here: Path
) -> None:
    Path("listeners_of_mine.py").write_text(LISTENERS)
    named = ("--callback", "listeners_of_mine:Counter", "--callback", "listeners_of_mine:made")
    assert train(*named, "--run-dir", "run", steps=256) == 0
    assert main(["train", "--resume", "run", "--max-steps", "512"]) == 0
    heard = [int(line) for line in Path("heard.txt").read_text().splitlines()]
    lines = (here / "run" / "metrics.jsonl").read_text().splitlines()
    windows = [json.loads(line)["total_steps"] for line in lines]
    assert len(windows) == 4
    assert heard == [steps for steps in windows for _ in range(2)]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Counter", 'callback "Counter" must be given as "module:name"'),
        (
            "listeners_of_mine:Countr",
            'there is no "Countr" in listeners_of_mine; did you mean "Counter"?',
        ),
        ("listener_of_mine:Counter", 'did you mean "listeners_of_mine"?'),
        ("listeners_of_mine:Needy", "cannot be made without arguments: TypeError"),
        ("listeners_of_mine:number", "expected a subclass of tensor_optix.LoopCallback"),
    ],
)
def test_a_callback_that_is_none_is_refused_before_anything_is_written(
    train: Callable[..., int], here: Path, capsys: pytest.CaptureFixture[str], name: str, said: str
) -> None:
    Path("listeners_of_mine.py").write_text(LISTENERS)
    assert train("--callback", name) == 2
    assert said in said_of(capsys)
    assert not (here / "runs").exists()


def test_options_come_from_python_values_as_well() -> None:
    options = options_of(
        TrainOptions,
        {
            "env_id": "CartPole-v1",
            "hidden_sizes": 32,
            "timesteps": 1e5,
            "run_dir": Path("x"),
            "seed": None,
        },
        "train",
    )
    assert (options.hidden_sizes, options.max_steps, options.run_dir) == ((32,), 100_000, Path("x"))
