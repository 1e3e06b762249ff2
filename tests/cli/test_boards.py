"""Boards that a run of the command logs to."""

from __future__ import annotations

import csv
import json
import sys
from typing import TYPE_CHECKING

import pytest

from tensor_optix.cli.main import main
from tests.cli.conftest import TINY

if TYPE_CHECKING:
    from pathlib import Path

CART = ("train", "CartPole-v1", *TINY, "--seed", "1")


def test_a_run_is_on_tensorboard_and_in_a_table_and_goes_on_there(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    limits = ("--max-steps", "512", "--run-dir", "run")
    assert main([*CART, *limits, "--tensorboard", "--csv"]) == 0
    assert "tensorboard --logdir run" in capsys.readouterr().out
    assert main(["train", "--resume", "run", "--max-steps", "1024"]) == 0
    windows = [json.loads(one) for one in (here / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [one["total_steps"] for one in windows]
    assert len(steps) == 8

    read = accumulator.EventAccumulator(str(here / "run" / "tensorboard"))
    read.Reload()
    assert [one.step for one in read.Scalars("train/approx_kl")] == steps
    assert len(read.Images("learning_curve")) == 2
    with (here / "run" / "progress.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [float(one["time/total_timesteps"]) for one in table] == steps


@pytest.mark.parametrize(
    ("option", "module", "extra"),
    [
        (["--tensorboard"], "tensorboard.compat.proto", "tensorboard"),
        (["--wandb", "cart"], "wandb", "wandb"),
        (["--mlflow", "cart"], "mlflow.entities", "mlflow"),
    ],
)
def test_a_board_that_is_not_installed_is_refused_before_anything_is_written(
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    option: list[str],
    module: str,
    extra: str,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert main([*CART, "--max-steps", "512", *option]) == 2
    assert f"pip install 'tensor-optix[{extra}]'" in capsys.readouterr().err
    assert list(here.iterdir()) == []
