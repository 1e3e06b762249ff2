"""`tensor-optix plot`: where pictures go, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.image
import pytest

from tensor_optix.cli.main import main
from tests.runs.made_runs import made_run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def runs(here: Path) -> list[str]:
    return [str(made_run(here / "runs" / str(seed), [1.0, 2.0], seed=seed)) for seed in (1, 2)]


def test_the_picture_of_one_run_is_in_its_directory(
    runs: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plot", "runs/1"]) == 0
    assert capsys.readouterr().out == "runs/1/plot.png\n"
    assert matplotlib.image.imread(here / "runs/1/plot.png").shape[:2] == (900, 1500)


def test_that_of_several_is_here_and_named_by_its_kind(
    runs: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("curves", "profile", "hyperparams"):
        assert main(["plot", *runs, "--kind", kind]) == 0
    assert capsys.readouterr().out.split() == ["plot.png", "profile.png", "hyperparams.png"]
    assert (here / "profile.png").stat().st_size > 1000


def test_or_wherever_it_was_asked_for_in_place_of_what_is_there(
    runs: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "two.svg").write_text("an earlier one")
    assert main(["plot", *runs, "--out", "two.svg", "--x", "time", "--smooth", "2"]) == 0
    assert capsys.readouterr().out == "two.svg\n"
    assert "PPO (2 runs)" in (here / "two.svg").read_text()


def test_a_finished_training_is_drawn(finished_run: Path, here: Path) -> None:
    assert main(["plot", str(finished_run), "--out", "real.svg"]) == 0
    text = (here / "real.svg").read_text()
    assert "CartPole-v1, PPO, seed 5" in text
    assert "kept: " in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give at least one run directory, such as runs/CartPole-v1/*"),
        (["runs"], "runs holds no run (no run.json)"),
        (["runs/1", "runs/3"], "runs/3 is no directory; give that of a run"),
        (["runs/1", "--out", "a.gif"], "--out must end in .png, .svg, .pdf, got a.gif"),
        (["runs/1", "--out", "no/a.png"], "cannot write no/a.png: No such file or directory"),
        (["runs/1", "--smooth", "0"], "--smooth must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(
    arguments: list[str], message: str, runs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plot", *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_a_run_without_scores_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made_run(here / "run", [None])
    assert main(["plot", "run"]) == 2
    assert "nothing was scored so far in run; wait until" in capsys.readouterr().err
    assert not (here / "run" / "plot.png").exists()
