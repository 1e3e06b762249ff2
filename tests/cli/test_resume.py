"""`tensor-optix train --resume RUN_DIR`: a run goes on as it was begun."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tensor_optix.cli.main import main
from tensor_optix.core.checkpoints.saved_state import read_json

if TYPE_CHECKING:
    from pathlib import Path

SMALL = ["--num-envs", "4", "--window-size", "32", "--plain", "--backend", "sync"]
WINDOW = 128


def train(*arguments: str) -> int:
    return main(["train", *arguments])


def windows(run: Path) -> list[int]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["episode_id"] for line in lines]


def kinds(run: Path) -> list[str]:
    return [json.loads(one)["kind"] for one in (run / "events.jsonl").read_text().splitlines()]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A run of ten windows."""
    path = tmp_path / "run"
    steps = str(10 * WINDOW)
    assert train("CartPole-v1", *SMALL, "--max-steps", steps, "--run-dir", str(path)) == 0
    capsys.readouterr()
    return path


def test_a_run_goes_on_with_more_steps(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    began = len(windows(run))
    assert train("--resume", str(run), "--timesteps", str(20 * WINDOW), "--plain") == 0
    assert windows(run) == list(range(len(windows(run))))
    assert len(windows(run)) > began
    assert kinds(run).count("resumed") == 1
    out = capsys.readouterr().out
    assert "went on after the run was capped" in out
    assert "went on after the run was capped" in (run / "report.txt").read_text()
    assert main(["evaluate", str(run), "--episodes", "2"]) == 0


def test_a_limit_holds_until_another_is_given(run: Path) -> None:
    began = json.loads((run / "run.json").read_text())["started"]
    assert train("--resume", str(run), "--max-steps", str(15 * WINDOW), "--plain") == 0
    reached = len(windows(run))
    assert train("--resume", str(run), "--plain") == 0
    assert len(windows(run)) == reached > 10
    described = json.loads((run / "run.json").read_text())
    assert described["max_steps"] == 15 * WINDOW
    assert described["started"] == began


def test_a_run_that_has_used_its_steps_says_so(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = windows(run)
    assert train("--resume", str(run), "--plain") == 0
    assert windows(run) == before
    out = capsys.readouterr().out
    assert "another window would exceed the limit" in out
    steps = next(line for line in out.splitlines() if line.strip().startswith("steps"))
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["total_steps"] > 9 * WINDOW
    assert f"{last['total_steps']:,} in " in steps


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--num-envs", "8"], "--num-envs cannot be given with --resume"),
        (["--lr", "0.1"], "--lr cannot be given with --resume"),
        (["--max-steps", "0"], "--max-steps must be at least 1, got 0"),
        (["CartPole-v1"], "CartPole-v1"),
    ],
)
def test_what_does_not_go_with_a_run_that_goes_on_is_refused(
    run: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--resume", str(run), *arguments) == 2
    assert said in capsys.readouterr().err


def test_a_directory_without_a_checkpoint_is_refused(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(run / "state")
    before = (run / "events.jsonl").read_bytes()
    assert train("--resume", str(run)) == 2
    assert "holds no checkpoint to go on from" in capsys.readouterr().err
    assert train("--resume", str(run / "nowhere")) == 2
    assert "holds no run" in capsys.readouterr().err
    assert (run / "events.jsonl").read_bytes() == before


def test_a_run_whose_checkpoints_are_damaged_is_refused_and_left_as_it_is(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (run / "state").glob("*/loop.json"):
        path.write_bytes(path.read_bytes()[:-9])
    before = (run / "events.jsonl").read_bytes()
    assert train("--resume", str(run), "--plain") == 2
    assert "is sound" in capsys.readouterr().err
    assert (run / "events.jsonl").read_bytes() == before


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tensor_optix", "train", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_checkpoint(process: subprocess.Popen[str], run: Path) -> None:
    deadline = time.monotonic() + 60.0
    while not list((run / "state").glob("ckpt_*")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_run_that_was_killed_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    process = start("CartPole-v1", *SMALL, "--run-dir", str(run))
    wait_for_checkpoint(process, run)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert train("--resume", str(run), "--max-steps", str(40 * WINDOW), "--plain") == 0
    assert windows(run) == list(range(len(windows(run))))
    assert "went on after the run was killed" in capsys.readouterr().out


def test_a_signal_keeps_the_last_window_without_finals(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start("CartPole-v1", *SMALL, "--run-dir", str(run))
    wait_for_checkpoint(process, run)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert "finals" not in kinds(run)
    newest = max((run / "state").glob("ckpt_*"))
    manifest = read_json(newest / "manifest.json")["manifest"]
    assert manifest["windows"] == len(windows(run))
    assert manifest["ending"] == "interrupted"
