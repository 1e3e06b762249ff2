"""The notebooks run from top to bottom, with a small budget, and are kept without what they printed."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent.parent / "examples" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SECONDS = 120


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, monkeypatch):
    pytest.importorskip("nbmake")
    runner = importlib.import_module("nbmake.nb_run")
    monkeypatch.setenv("MAX_STEPS", "3000")
    result = runner.NotebookRun(path, SECONDS).execute()
    assert result.error is None, result.error


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path):
    cells = json.loads(path.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)


def test_there_are_two_notebooks():
    assert [path.stem for path in NOTEBOOKS] == ["first_run", "reading_a_run"]
