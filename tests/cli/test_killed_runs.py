"""Real training runs, killed without warning."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time

import pytest

from tensor_optix.cli.main import main
from tensor_optix.core.checkpoint_registry import CheckpointRegistry

KILLS = 50


@pytest.mark.slow
def test_a_run_killed_at_any_moment_leaves_a_best_policy_that_verifies_and_plays(tmp_path):
    moments = random.Random(0)
    for number in range(KILLS):
        run_dir = tmp_path / f"run{number}"
        command = ["train", "CartPole-v1", "--run-dir", str(run_dir), "--seed", str(number)]
        process = subprocess.Popen(
            [sys.executable, "-m", "tensor_optix", *command, "--plain"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60.0
        while not (run_dir / "checkpoints" / "manifest.json").exists():
            assert time.monotonic() < deadline, "the run did not save a policy within a minute"
            assert process.poll() is None, "the run ended by itself"
            time.sleep(0.01)
        time.sleep(moments.uniform(0.0, 4.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert CheckpointRegistry(run_dir / "checkpoints").best is not None
        assert main(["evaluate", str(run_dir), "--episodes", "1"]) == 0
