"""`tensor-optix report`: the report of a run again, from its log alone."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import pytest

from tensor_optix.cli.main import main
from tests.cli.conftest import files_below
from tests.runs.made_runs import made_run

if TYPE_CHECKING:
    from pathlib import Path


def timeless(report: str) -> str:
    """A report without what took how long: the log ends before the report is written."""
    report = re.sub(r"\d\d:\d\d \([\d,]+ steps/s\)", "TIME", report)
    return re.sub(r"^ +\d\d:\d\d", "TIME", report, flags=re.MULTILINE)


def test_it_is_the_report_that_the_training_left(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_below(finished_run)
    assert main(["report", str(finished_run)]) == 0
    told = capsys.readouterr().out
    assert timeless(told) == timeless((finished_run / "report.txt").read_text())
    assert files_below(finished_run) == before


def test_a_killed_run_has_one_too(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = made_run(here / "run", [1.0, 2.0], ending=None)
    (path / "state").mkdir()
    with (path / "metrics.jsonl").open("a") as file:
        file.write('{"episode')
    assert main(["report", "run"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("Cart-v1: training is under way, or was killed\n")
    assert "steps      2,000 in 00:01" in told.out
    assert "go on      tensor-optix train --resume run\n" in told.out
    assert told.err == "warning: 1 line of the log cannot be read, and is left out\n"


def test_the_page_tells_of_the_training(
    finished_run: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(finished_run, here / "run")
    assert main(["report", "run", "--html"]) == 0
    assert capsys.readouterr().out == "run/report.html\n"
    text = (copy / "report.html").read_text()
    assert "<title>CartPole-v1: training reached its limit</title>" in text
    assert "tensor-optix evaluate run" in text
    best = re.search(r"best +(\S+) after ([\d,]+) steps", (copy / "report.txt").read_text())
    assert best is not None
    assert f"<dt>best score</dt><dd>{best[1]}</dd><dd class=more>after {best[2]} steps" in text


def test_the_page_may_be_anywhere(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made_run(here / "run", [1.0])
    (here / "page.html").write_text("an earlier one")
    assert main(["report", "run", "--html", "--out", "page.html"]) == 0
    assert (here / "page.html").read_text().startswith("<!doctype html>")
    assert not (here / "run" / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere is no directory; give that of a run"),
        (["."], "holds no run (no run.json)"),
        (["run", "--out", "a.html"], "--out is the file of the page: give --html as well"),
        (["run", "--html", "--out", "no/a.html"], "cannot write no/a.html: No such file"),
    ],
)
def test_what_cannot_be_reported_is_one_line(
    arguments: list[str], message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made_run(here / "run", [1.0])
    assert main(["report", *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
