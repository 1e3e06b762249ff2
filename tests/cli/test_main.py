"""The command line itself: help, version, and errors of one line that leave nothing behind."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tensor_optix import __version__
from tensor_optix.algorithms import frameworks
from tensor_optix.cli.main import main
from tests.cli.conftest import files_below

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NEEDS_NO_FRAMEWORK = """
import sys
from tensor_optix.cli.main import main
code = main(sys.argv[1:])
assert not {"torch", "tensorflow"} & set(sys.modules), "a framework was imported"
sys.exit(code)
"""


def without_framework(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", NEEDS_NO_FRAMEWORK, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"tensor-optix {__version__}\n"


def test_no_arguments_print_the_help(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    bare = capsys.readouterr().out
    assert main(["--help"]) == 0
    assert bare == capsys.readouterr().out
    assert "train" in bare
    assert "evaluate" in bare


@pytest.mark.parametrize("arguments", [[], ["train", "--help"], ["evaluate", "--help"]])
def test_help_fits_80_columns(
    arguments: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 0
    assert max(len(line) for line in capsys.readouterr().out.splitlines()) <= 80


def test_train_help_documents_the_hyperparameters_with_their_defaults(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["train", "--help"])
    text = capsys.readouterr().out
    for part in ("--ppo.gae-lambda", "Trade of bias for variance", "0.95", "0.0003; images:"):
        assert part in text


def test_train_help_documents_every_algorithm_with_what_it_chooses(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["train", "--help"])
    text = " ".join(word for word in capsys.readouterr().out.split() if word != "│")
    for part in (
        "--dqn.epsilon-decay-steps INT",
        "--sac.tau FLOAT How far the targets follow",
        "--td3.policy-delay INT Updates of the critics for one of the actor",
        "Discrete actions: ppo, dqn; continuous ones: ppo, sac, td3.",
        "(default: auto)",
        "(default: 64 64 (ppo), 120 84 (dqn), 256 256 (sac), 256 256 (td3))",
        "(default: 8 (ppo), 4 (dqn), 4 (sac), 4 (td3))",
        "--normalize-observations [True|False]",
        "--no-normalize-observations",
    ):
        assert part in text


def test_the_module_can_be_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tensor_optix", "--version"]
    assert subprocess.run(command, capture_output=True, check=True).stdout.startswith(b"tensor-")


def test_help_and_errors_import_no_framework() -> None:
    assert without_framework("train", "--help").returncode == 0
    misspelt = without_framework("train", "CartPol-v1")
    assert misspelt.returncode == 2
    assert misspelt.stderr.count("\n") == 1
    assert 'did you mean "CartPole-v1"?' in misspelt.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train", "CartPole-v1", "--num-envs", "0"], "--num-envs must be at least 1, got 0"),
        (["train", "CartPole-v1", "--window-size", "-3"], "--window-size must be at least 1"),
        (["train", "CartPole-v1", "--ppo.gamma", "1.5"], "gamma must be in [0, 1], got 1.5"),
        (["train", "CartPole-v1", "--ppo.minibatch-size", "0"], "minibatch_size must be"),
        (["train", "CartPole-v1", "--hidden-sizes", "64", "0"], "--hidden-sizes must be"),
        (["train", "CartPole-v1", "--seed", "-1"], "--seed must be at least 0"),
        (["train", "CartPole-v1", "--max-steps", "100"], "--num-envs times --window-size = 2048"),
        (["train", "CartPole-v1", "--backend", "gpu"], "backend must be one of auto, envpool"),
        (["train", "CartPole-v1", "--device", "quantum"], "for --device choose cpu or auto"),
        (["train", "CartPole-v0815"], "unknown environment"),
        (["train", "no_such_module:Some-v0"], "No module named 'no_such_module'; install"),
        (["train", "Pendulum-v1", "--algo", "dqn"], "'dqn' takes Discrete actions, got Box"),
        (["train", "CartPole-v1", "--algo", "sac"], "use 'ppo' or 'dqn'"),
        (["train", "CartPole-v1", "--algo", "dqm"], "did you mean 'dqn'?"),
        (["train", "CartPole-v1", "--framework", "tenserflow"], "did you mean 'tensorflow'?"),
        (
            ["train", "CartPole-v1", "--sac.tau", "0.005"],
            "'sac' takes Box actions, got Discrete(2); use 'ppo' or 'dqn'",
        ),
        (
            ["train", "CartPole-v1", "--sac.tau", "0.005", "--ppo.n-epochs", "3"],
            "no algorithm takes all of --n-epochs, --tau: choose one by --algo",
        ),
        (["train", "CartPole-v1", "--tau", "2"], "tau must be in [0, 1], got 2"),
        (
            ["train", "CartPole-v1", "--algo", "ppo", "--sac.tau", "0.005"],
            "--sac.tau is an option of sac, but the algorithm is ppo: leave it out, or choose --algo sac",
        ),
        (
            ["train", "CartPole-v1", "--algo", "dqn", "--ppo.n-epochs", "3"],
            "--ppo.n-epochs is an option of ppo, but the algorithm is dqn",
        ),
        (["train", "CartPole-v1", "--algo", "dqn", "--max-steps", "100"], "--window-size = 1024"),
        (["train", "FrozenLake-v1", "--normalize-observations"], "does not fit the numbers"),
        (["evaluate", "nowhere"], "nowhere is no directory"),
        (["evaluate", "."], "holds no run (no run.json)"),
        (["evaluate", ".", "--episodes", "0"], "--episodes must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_leaves_nothing(
    arguments: list[str], expected: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("tensor-optix: error: ")
    assert said.err.count("\n") == 1
    assert expected in said.err
    assert files_below(here) == set()


def test_a_misspelt_option_is_refused_and_leaves_nothing(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "CartPole-v1", "--ppo.gama", "0.9"]) == 2
    assert "--ppo.gamma" in capsys.readouterr().err
    assert files_below(here) == set()


@pytest.mark.parametrize(
    ("package", "extra", "options"),
    [
        ("tyro", "cli", ()),
        ("rich", "cli", ()),
        ("matplotlib", "cli", ()),
        ("torch", "torch", ("--framework", "torch")),
        ("tensorflow", "tensorflow", ("--framework", "tensorflow")),
    ],
)
def test_a_missing_extra_is_named_with_its_command(
    package: str,
    extra: str,
    options: tuple[str, ...],
    here: Path,
    train: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert train(*options) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"pip install 'tensor-optix[{extra}]'" in said
    assert files_below(here) == set()


def test_without_any_framework_the_commands_for_all_are_named(
    train: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in ("torch", "tensorflow"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(frameworks, "has_engine", False)
    assert train() == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "'tensor-optix[torch]'" in said
    assert "'tensor-optix[tensorflow]'" in said
