"""`tensor-optix export`: what is written, what is said of it, and what is said when it cannot be."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import tensor_optix
from tensor_optix.cli.main import main
from tests.cli.conftest import files_below


@pytest.fixture
def copied_run(finished_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_run, tmp_path / "copy"))


def test_onnx_lies_in_the_run_directory(
    copied_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime = pytest.importorskip("onnxruntime")
    before = files_below(copied_run)
    assert main(["export", str(copied_run)]) == 0
    assert files_below(copied_run) - before == {"policy.onnx"}
    said = capsys.readouterr().out
    path = copied_run / "policy.onnx"
    assert f"wrote    {path}, " in said
    assert "inputs   observation [batch, 4] float32\n" in said
    assert "outputs  action [batch] int64\n         logits [batch, 2] float32\n" in said
    assert "agrees with predict on 1,000 observations, largest difference" in said
    policy, observation = (
        tensor_optix.load(copied_run),
        np.array([0.1, 0.5, -0.1, -0.5], np.float32),
    )
    # The two lines that are printed.
    *_, first, second = said.splitlines()
    names = {"onnxruntime": runtime, "numpy": np, "observation": observation}
    exec(f"{first.removeprefix('use').strip()}\n{second.strip()}", names)
    assert names["action"] == [policy.predict(observation)]  # type: ignore[comparison-overlap]


@pytest.mark.parametrize(
    ("options", "written"),
    [
        (["--to", "c"], "policy.h"),
        (["--to=safetensors"], "policy.safetensors"),
        (["--out", "deep/er/mine.h"], "deep/er/mine.h"),
        (["--to", "c", "--out", "mine"], "mine"),
    ],
)
def test_format_and_place_are_chosen(
    options: list[str], written: str, copied_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copied_run)
    assert main(["export", str(copied_run), *options]) == 0
    assert (copied_run / written).is_file()


def test_a_second_export_replaces_the_first(copied_run: Path) -> None:
    command = ["export", str(copied_run), "--to", "safetensors"]
    assert main(command) == 0
    before = files_below(copied_run), (copied_run / "policy.safetensors").read_bytes()
    assert main(command) == 0
    assert (files_below(copied_run), (copied_run / "policy.safetensors").read_bytes()) == before


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["export", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    return printed.err


def test_what_cannot_be_exported_is_said_in_one_line(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(finished_run)
    before = files_below(finished_run)
    assert "holds no run" in refused(capsys, str(tmp_path / "none"))
    assert "--to must be one of onnx, " in refused(capsys, run, "--to", "onx")
    assert "did you mean 'onnx'?" in refused(capsys, run, "--to", "onx")
    assert "policy.txt says no format" in refused(capsys, run, "--out", "policy.txt")
    assert "is a directory" in refused(capsys, run, "--to", "c", "--out", str(tmp_path))
    blocked = str(finished_run / "run.json" / "policy.h")
    assert "cannot write" in refused(capsys, run, "--out", blocked)
    checkpoints = str(finished_run / "checkpoints")
    assert "is no run directory (no run.json)" in refused(capsys, checkpoints)
    assert files_below(finished_run) == before


def test_a_missing_package_is_named(
    finished_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "onnx" else find(name, *a)
    )
    said = refused(capsys, str(finished_run))
    assert said.endswith("onnx is not installed: pip install 'tensor-optix[onnx]'\n")
    assert not (finished_run / "policy.onnx").exists()


def test_a_damaged_run_is_not_exported(
    copied_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in copied_run.glob("checkpoints/snapshot_*/weights/policy.json"):
        path.write_text(json.dumps({"format": 1}))
    assert "holds no policy that is sound" in refused(capsys, str(copied_run)).splitlines()[-1]
