"""The command, run in a directory of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tensor_optix.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TINY = ("--num-envs", "2", "--window-size", "64", "--ppo.n-epochs", "1", "--hidden-sizes", "8")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


@pytest.fixture
def train(here: Path) -> Callable[..., int]:
    """Run a tiny training in it; more options may be given."""

    def run(*options: str, steps: int = 2048) -> int:
        return main(["train", "CartPole-v1", *TINY, "--max-steps", str(steps), *options])

    return run


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished tiny training; not to be changed."""
    path = tmp_path_factory.mktemp("finished") / "run"
    options = [*TINY, "--max-steps", "2048", "--seed", "5", "--run-dir", str(path)]
    assert main(["train", "CartPole-v1", *options]) == 0
    return path


def files_below(path: Path) -> set[str]:
    """Everything in a directory, also empty directories."""
    return {str(found.relative_to(path)) for found in path.rglob("*")}
