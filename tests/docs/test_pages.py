"""Every block of code in the pages runs, in order, only shorter."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.printed_code import BLOCK, blocks, run_page, skip_what_needs_more

FOLDER = Path(__file__).parent.parent.parent / "docs"
PAGES = sorted(path for path in FOLDER.rglob("*.md") if blocks(path.read_text()))


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """An empty directory, whose modules can be imported while the test runs."""
    before = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    yield
    for path in tmp_path.glob("*.py"):
        if path.stem not in before:
            sys.modules.pop(path.stem, None)


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_the_code_of_a_page_runs(path):
    found = blocks(path.read_text())
    skip_what_needs_more("".join(one.code for one in found))
    run_page(found)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_no_block_is_overlooked(path):
    text = path.read_text()
    fences = re.findall(r"^\s*```", text, re.MULTILINE)
    assert len(fences) == 2 * len(BLOCK.findall(text))
    known = {"python", "sh", "text", "json", "toml"}
    assert {one.language for one in blocks(text)} <= known
