"""Ctrl-C and SIGTERM during a training: the best policy, the curve and the report are kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import matplotlib.image
import pytest

from tensor_optix.cli.main import main
from tensor_optix.runs.interruption import Interruption
from tests.frameworks import require

if TYPE_CHECKING:
    from pathlib import Path

DEADLINE_SECONDS = 60.0


def start_training(run_dir: Path, framework: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tensor_optix", "train", "CartPole-v1"]
    command += ["--framework", framework]
    # TensorFlow's own default level, and a setting of Keras for other work of the user's.
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    process = subprocess.Popen(
        [*command, "--num-envs", "2", "--window-size", "64", "--run-dir", str(run_dir)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
    )
    metrics, begun = run_dir / "metrics.jsonl", time.monotonic()
    while not (metrics.exists() and metrics.read_text().count("\n") >= 5):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() - begun < DEADLINE_SECONDS
        time.sleep(0.05)
    return process


@pytest.mark.parametrize(
    ("framework", "number", "code", "said"),
    [
        ("native", signal.SIGINT, 130, "Ctrl-C ended it"),
        ("tensorflow", signal.SIGTERM, 143, "SIGTERM ended it"),
    ],
)
def test_a_signal_ends_the_run_and_keeps_the_best(
    framework: str,
    number: signal.Signals,
    code: int,
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    require(framework)
    run = tmp_path / "run"
    process = start_training(run, framework)
    process.send_signal(number)
    out, err = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == code
    assert err == ""
    assert said in out
    assert out.index("once more ends at once") < out.index(said)
    assert said in (run / "report.txt").read_text()
    # The window under way was finished: nothing was torn.
    kinds = [json.loads(line)["kind"] for line in (run / "events.jsonl").read_text().splitlines()]
    assert kinds[-1] == "stop"
    assert "error" not in kinds
    assert matplotlib.image.imread(run / "learning_curve.png").shape[:2] == (720, 1200)
    assert main(["evaluate", str(run), "--episodes", "2"]) == 0


def test_the_first_signal_asks_and_the_second_insists() -> None:
    asked = list[int]()
    with Interruption() as interruption:
        interruption.stop = lambda reason: asked.append(1)
        os.kill(os.getpid(), signal.SIGINT)
        assert asked == [1]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert interruption.exit_code == 130


def test_the_first_signal_is_acknowledged_at_once() -> None:
    said = list[str]()
    with Interruption() as interruption:
        interruption.stop, interruption.acknowledge = lambda reason: None, said.append
        signal.raise_signal(signal.SIGINT)
        assert said == [
            "Ctrl-C: the window under way is ended, then the best is kept; once more ends at once"
        ]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert len(said) == 1


def test_a_signal_before_there_is_anything_to_stop_interrupts() -> None:
    with Interruption() as interruption, pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)
    assert interruption.exit_code == 143


def test_the_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Interruption():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
