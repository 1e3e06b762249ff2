"""Progress of runs that Python code makes: a panel in terminals and notebooks, nothing where it is piped."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

import gymnasium
import pytest

from tensor_optix import BatchPipeline, FixedHyperparams, RLOptimizer, make_agent
from tensor_optix.runs import display as displays

if TYPE_CHECKING:
    from pathlib import Path


def run(tmp_path: Path, **options: Any) -> None:
    agent = make_agent("CartPole-v1", "ppo", "native", hidden_sizes=[8], seed=0)
    pipeline = BatchPipeline(env=gymnasium.make("CartPole-v1"), window_size=64)
    RLOptimizer(
        agent,
        pipeline,
        optimizer=FixedHyperparams(),
        checkpoint_dir=tmp_path / "checkpoints",
        max_steps=256,
        seed=0,
        **options,
    ).run()


class Terminal(displays._Console):
    """A console that takes its file for a terminal."""

    def __init__(self, **options: Any) -> None:
        super().__init__(force_terminal=True, width=90, color_system=None, **options)

    @property
    def encoding(self) -> str:
        return "utf-8"


class Notebook(Terminal):
    """A console that believes to be in a notebook."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.is_jupyter = True


class Cell:
    """What lies below the cell of a notebook."""

    def __init__(self) -> None:
        self.pages: list[str] = []

    def display(self, page: Any, display_id: bool) -> Cell:
        assert display_id
        self.pages.append(page.data)
        return self

    def update(self, page: Any) -> None:
        self.pages[-1] = page.data


def test_in_a_terminal_there_is_a_panel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(displays, "_Console", Terminal)
    run(tmp_path, progress=True)
    shown = capsys.readouterr().out
    for part in ("CartPole-v1", "256 of at most 256", "1 environment", "seed 0", "first score"):
        assert part in shown


def test_in_a_notebook_one_panel_is_redrawn_below_the_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = pytest.importorskip("IPython.display")
    cell = Cell()
    monkeypatch.setattr(shown, "display", cell.display)
    monkeypatch.setattr(displays, "_Console", Notebook)
    monkeypatch.setattr(displays, "PANEL_SECONDS", 0.0)
    run(tmp_path, progress=True)
    (page,) = cell.pages
    text = re.sub(r"<[^>]+>", "", page)
    assert "256 of at most 256" in text
    assert page.startswith("<pre ")
    assert capsys.readouterr().out == ""


def test_piped_it_is_quiet_with_and_without_a_run_directory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path / "one", progress=True)
    run(tmp_path / "two", progress=True, run_dir=tmp_path / "two" / "run")
    assert capsys.readouterr().out == ""


def test_progress_needs_rich(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensor_optix.runs.display", None)
    with pytest.raises(
        ImportError, match=r"progress needs rich: pip install 'tensor-optix\[cli\]'"
    ):
        run(tmp_path, progress=True)
