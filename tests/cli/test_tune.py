"""`tensor-optix tune`: what it finds, leaves behind and says, and how it ends."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest

optuna = pytest.importorskip("optuna")

from tensor_optix import trials
from tensor_optix.algorithms.frameworks import lightest_framework
from tensor_optix.cli.main import main
from tensor_optix.core.loop_controller import LoopController
from tests.cli.conftest import TINY, files_below

if TYPE_CHECKING:
    from pathlib import Path

SMALL = ("--num-envs", "2", "--window-size", "32", "--hidden-sizes", "8")

HOW_TO_GO_ON = (
    "the same command with --storage run/study.journal --study-name CartPole-v1 "
    "and another --run-dir"
)


def tune(*options: str, trials: int = 2) -> int:
    """Search with trials of two windows."""
    short = ("--trials", str(trials), "--trial-steps", "128")
    return main(["tune", "CartPole-v1", *SMALL, *short, *options])


@pytest.fixture(scope="module")
def search_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished search; not to be changed."""
    path = tmp_path_factory.mktemp("searched") / "run"
    assert tune("--seed", "5", "--ppo.gamma", "0.9", "--run-dir", str(path)) == 0
    return path


def found_in(path: Path) -> Any:
    return json.loads((path / "best_params.json").read_text())


def test_the_best_parameters_are_written_and_those_given_are_not_searched(search_dir: Path) -> None:
    assert files_below(search_dir) == {"best_params.json", "study.journal"}
    found = found_in(search_dir)
    framework = lightest_framework(sees_images=False, device="auto").name
    assert (found["algorithm"], found["framework"], found["seed"]) == ("ppo", framework, 5)
    assert set(found["best_params"]) == {
        "learning_rate",
        "clip_ratio",
        "entropy_coef",
        "gae_lambda",
        "n_epochs",
    }
    assert found["trials"] == 2


def test_the_first_trial_is_that_of_the_usual_hyperparameters(search_dir: Path) -> None:
    journal = str(search_dir / "study.journal")
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(journal))
    first, second = optuna.load_study(study_name="CartPole-v1", storage=storage).trials
    assert (first.params["learning_rate"], first.params["n_epochs"]) == (3e-4, 10)
    assert second.params["learning_rate"] != 3e-4


def test_progress_is_a_line_per_trial_and_the_command_that_is_printed_works(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune("--seed", "1", "--ppo.gamma", "0.9", "--normalize-rewards") == 0
    said = capsys.readouterr()
    assert said.err == ""
    chosen, first, second, *_ = said.out.splitlines()
    assert chosen.startswith("chose algorithm ppo: ")
    assert "seed 1; 2 trials of 128 steps, searching learning_rate, clip_ratio" in first
    assert second.startswith("00:0")
    assert "trial 1 of 2: score " in second
    (run_dir,) = (here / "runs" / "CartPole-v1").iterdir()
    assert f"in {run_dir.relative_to(here)}/best_params.json" in said.out
    (command,) = (
        line.removeprefix("train   ")
        for line in said.out.splitlines()
        if line.startswith("train   ")
    )
    program, *arguments = shlex.split(command)
    assert program == "tensor-optix"
    assert main([*arguments, "--max-steps", "128", "--run-dir", "trained"]) == 0
    trained = json.loads((here / "trained" / "run.json").read_text())
    for name, value in found_in(run_dir)["best_params"].items():
        assert trained["hyperparams"][name] == pytest.approx(value, rel=1e-5)
    assert (trained["hyperparams"]["gamma"], trained["normalize_rewards"]) == (0.9, True)
    assert (trained["num_envs"], trained["window_size"], trained["hidden_sizes"]) == (2, 32, [8])


def test_the_same_seed_finds_the_same(here: Path, search_dir: Path) -> None:
    assert tune("--seed", "5", "--ppo.gamma", "0.9", "--run-dir", "again") == 0
    assert found_in(here / "again") == found_in(search_dir)


def test_a_search_goes_on_in_its_storage(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = ("--storage", "kept/study.journal", "--study-name", "mine")
    assert tune(*kept, "--run-dir", "a", trials=1) == 0
    assert tune(*kept, "--run-dir", "b", trials=2) == 0
    assert [found_in(here / name)["trials"] for name in ("a", "b")] == [1, 2]
    assert files_below(here / "a") == {"best_params.json"}
    # The drawn seed is the study's own, so nothing is left to be trained: the scores are there.
    capsys.readouterr()
    assert tune(*kept, "--run-dir", "c", trials=2) == 0
    assert "finalist" not in capsys.readouterr().out
    assert found_in(here / "c") == found_in(here / "b")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--algo", "dqn"), "algorithm is 'ppo' there, 'dqn' here"),
        (("--ppo.gamma", "0.8"), "hyperparams is {'gamma': 0.9} there, {'gamma': 0.8} here"),
        (("--ppo.gamma", "0.9", "--hidden-sizes", "4"), "hidden_sizes is [8] there, [4] here"),
        (("--ppo.gamma", "0.9", "--trial-steps", "192"), "trial_steps is 128 there, 192 here"),
    ],
)
def test_a_study_of_another_problem_is_refused(
    options: tuple[str, ...],
    expected: str,
    search_dir: Path,
    here: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    journal = str(search_dir / "study.journal")
    assert tune("--storage", journal, "--study-name", "CartPole-v1", *options) == 2
    said = capsys.readouterr().err
    assert expected in said
    assert "choose another study_name or storage" in said
    assert files_below(here) == set()


@pytest.mark.parametrize("complete", [0, 1])
def test_ctrl_c_keeps_what_was_found(
    complete: int, here: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    begun, run = iter(range(10)), LoopController.run

    def interrupted(self: LoopController) -> None:
        if next(begun) == complete:
            os.kill(os.getpid(), signal.SIGINT)
        run(self)

    monkeypatch.setattr(LoopController, "run", interrupted)
    assert tune("--run-dir", "run", trials=3) == 130
    said = capsys.readouterr()
    if complete:
        assert found_in(here / "run")["best_params"]["learning_rate"] == 3e-4
        assert HOW_TO_GO_ON in said.out
    else:
        assert f"interrupted before a trial was complete; to go on, give {HOW_TO_GO_ON}" in said.err
        assert files_below(here / "run") == {"study.journal"}


def test_a_search_whose_trials_all_fail_says_why(
    here: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(self: LoopController) -> None:
        raise ArithmeticError("no luck")

    monkeypatch.setattr(LoopController, "run", broken)
    assert tune() == 1
    said = capsys.readouterr()
    assert "trial 2 failed (ArithmeticError: no luck)" in said.out
    assert "the search failed: none of the 2 trials" in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--max-steps", "1e5"), "steps of a trial are --trial-steps"),
        (("--trials", "0"), "--trials must be at least 1, got 0"),
        (
            ("--trial-steps", "100"),
            "at least 2 windows of --num-envs times --window-size steps = 1024",
        ),
        (("--storage", "x.journal"), "--storage needs a --study-name"),
        (("--storage", "x.txt", "--study-name", "s"), "ends in .log or .journal"),
        (
            ("--storage", "sqlite:////no/where/x.db", "--study-name", "s"),
            "cannot keep the search in",
        ),
        (("--seed", "-1"), "--seed must be at least 0"),
        (("--algo", "dqn", "--ppo.gamma", "0.9"), "--ppo.gamma is an option of ppo"),
        (
            ("--algo", "dqn", "--dqn.gamma", "0.9", "--dqn.learning-rate", "0.001"),
            "nothing is left to search",
        ),
        (("--algo", "sac"), "use 'ppo' or 'dqn'"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_leaves_nothing(
    options: tuple[str, ...], expected: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", "CartPole-v1", *TINY[:2], "--window-size", "256", *options]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("tensor-optix: error: ")
    assert said.err.count("\n") == 1
    assert expected in said.err
    assert files_below(here) == set()


def test_a_directory_with_another_search_is_refused_and_untouched(
    search_dir: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (search_dir / "study.journal").read_bytes()
    assert tune("--run-dir", str(search_dir)) == 2
    said = capsys.readouterr().err
    assert "another one is here (best_params.json); choose another --run-dir, or" in said
    assert f"--storage {search_dir}/study.journal --study-name CartPole-v1 and another" in said
    assert (search_dir / "study.journal").read_bytes() == before


def test_missing_optuna_is_named_with_its_command(
    here: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    # As if neither Optuna nor what imports it had been loaded by another test.
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "tensor_optix.trials.study", raising=False)
    monkeypatch.delattr(trials, "study", raising=False)
    assert tune() == 2
    assert "pip install 'tensor-optix[tune]'" in capsys.readouterr().err
    assert files_below(here) == set()


def test_help_fits_80_columns(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "--help"]) == 0
    text = capsys.readouterr().out
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "--trial-steps" in text


def test_a_search_may_lie_in_the_home_directory(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(here))
    assert tune("--run-dir", "~/search", trials=1) == 0
    assert files_below(here / "search") == {"best_params.json", "study.journal"}
    assert not (here / "~").exists()
