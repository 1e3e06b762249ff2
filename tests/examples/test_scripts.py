"""Every example runs with a small budget, and ends with a sentence."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

from tests.printed_code import skip_what_needs_more

FOLDER = Path(__file__).parent.parent.parent / "examples"
SCRIPTS = sorted(FOLDER.glob("*.py"))
MOST_LINES = 60
BUDGETS = {
    "continuous_control": "--max-steps 1600 --width 8",
    "crash_and_rollback": "--max-steps 12000",
    "images": "--max-steps 512",
    "keras_networks": "--max-steps 1024",
    "resume": "--max-steps 4096",
    "trials": "--max-steps 2048 --trials 2",
}
"""What is not enough, or too much, with the usual budget."""
USUAL = "--max-steps 4096"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run a script in an empty directory; return what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(path: Path, arguments: str) -> str:
        skip_what_needs_more(path.read_text())
        monkeypatch.setattr(sys, "argv", [path.name, *arguments.split()])
        runpy.run_path(str(path), run_name="__main__")
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_runs_and_ends_with_a_sentence(path, run):
    last = run(path, BUDGETS.get(path.stem, USUAL)).rstrip().splitlines()[-1]
    assert re.search(r"\d", last)
    assert "nan" not in last


def test_the_second_sitting_goes_on(run):
    path = FOLDER / "resume.py"
    assert "first sitting" in run(path, "--max-steps 4096")
    assert "second sitting" in run(path, "--max-steps 4096")


def test_the_ruined_policy_comes_back(run):
    assert "rollback" in run(FOLDER / "crash_and_rollback.py", "--max-steps 24000")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_is_short_and_says_what_it_shows_and_how_it_is_run(path):
    text = path.read_text()
    assert len(text.splitlines()) <= MOST_LINES
    assert text.startswith('"""')
    assert f"    python examples/{path.name}\n" in text
    assert '"--max-steps"' in text


def test_the_table_lists_every_script():
    listed = re.findall(r"^\| \[(\w+)\.py\]", (FOLDER / "README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == [path.stem for path in SCRIPTS]
