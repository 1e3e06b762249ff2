"""Signals to a program that trains: the first keeps the run, the second ends the process, wherever it is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults.lasting_run import make_run

ROOT = Path(__file__).parents[2]
DEADLINE_SECONDS = 60.0
HELD_UP = """
import hashlib, sys, threading
import gymnasium
from tensor_optix import BatchPipeline, RLOptimizer, make_agent
from tensor_optix.runs import interruption

interruption.GRACE_SECONDS = 0.5


class HeldUp(gymnasium.Wrapper):
    steps = 0

    def step(self, action):
        self.steps += 1
        if self.steps == 100:
            print("held up", flush=True)
            hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
        return super().step(action)


agent = make_agent("CartPole-v1", "ppo", "native")
pipeline = BatchPipeline(env=HeldUp(gymnasium.make("CartPole-v1")), window_size=64)
RLOptimizer(agent, pipeline, run_dir=sys.argv[1]).run()
"""


def begin(*command: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, -2), (signal.SIGTERM, 143)])
def test_the_first_signal_keeps_the_run_and_ends_the_program(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = begin("-m", "tests.faults.lasting_run", str(run), "ppo", "native")
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not list(run.glob("state/ckpt_*")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate(timeout=DEADLINE_SECONDS)
    # Python ends itself by SIGINT after a KeyboardInterrupt: 130 to a shell.
    assert process.returncode == code, err
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    assert [one["kind"] for one in events].count("stop") == 1
    assert events[-1]["ending"] == "INTERRUPTED"
    assert "finals" not in [one["kind"] for one in events]
    name = "Ctrl-C" if number is signal.SIGINT else "SIGTERM"
    assert f"{name} ended it" in (run / "report.txt").read_text()
    windows = len((run / "metrics.jsonl").read_text().splitlines())
    resumed = make_run(str(run), "ppo", "native", max_episodes=windows + 2)
    resumed.run()
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["episode_id"] for row in rows] == list(range(windows + 2))
    assert "went on after the run was interrupted" in (run / "report.txt").read_text()


def test_the_second_signal_ends_a_process_that_is_held_up_in_compiled_code(tmp_path: Path) -> None:
    process = begin("-c", HELD_UP, str(tmp_path / "run"))
    assert process.stdout is not None
    assert process.stdout.readline() == "held up\n"
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
    process.communicate(timeout=20.0)
    assert process.returncode == 130
