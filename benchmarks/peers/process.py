"""Contenders as processes: virtual environments are made, workers started, asked and ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.peers.cases import CONTENDERS
from benchmarks.peers.worker import STARTED

if TYPE_CHECKING:
    from benchmarks.peers.cases import Contender

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
GRACE = 300.0
"""Seconds that a run may take beyond its cap: evaluations do not count, and a piece of training is ended."""
POOLS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)
QUIET = {
    "SDL_VIDEODRIVER": "dummy",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "JAX_PLATFORMS": "cpu",
    "CUDA_VISIBLE_DEVICES": "",
}


class Failure(Exception):
    """A contender that did not do what it was asked."""


@dataclass(frozen=True)
class Place:
    """Where contenders run."""

    venvs: Path
    threads: int
    """Of each: its pools are of this size, and it is bound to so many processors, the last ones."""

    def command(self, contender: Contender, *words: str) -> list[str]:
        python = installed(self.venvs / contender.requirements, contender.requirements)
        return [str(python), "-m", "benchmarks.peers.worker", *words]

    def variables(self) -> dict[str, str]:
        pools = dict.fromkeys(POOLS, str(self.threads))
        eigen = f"--xla_cpu_multi_thread_eigen={str(self.threads > 1).lower()}"
        started = {STARTED: repr(time.time()), "PYTHONPATH": str(ROOT), "XLA_FLAGS": eigen}
        return {**os.environ, **QUIET, **pools, **started}

    def bind(self) -> None:
        """Bind this process to so many processors."""
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-self.threads :])


def installed(path: Path, requirements: str) -> Path:
    """Return the Python of a virtual environment, which is made and filled if it is not there."""
    python, done = path / "bin" / "python", path / "installed"
    if not done.exists():
        print(f"making {path}", file=sys.stderr, flush=True)
        venv.create(path, with_pip=True)
        listed = ["--requirement", str(HERE / "requirements" / f"{requirements}.txt")]
        install = [str(python), "-m", "pip", "install", "--quiet", *listed]
        subprocess.run(install, check=True, stdout=sys.stderr)
        # What is compiled at the first import would count as the first run's time.
        subprocess.run([str(python), "-m", "compileall", "-q", str(path / "lib")], check=False)
        done.touch()
    return python


class Worker:
    """A contender that waits, warmed up, for its next round.

    Args:
        name: Of the contender.
        case: Of `SPEED`.
        place: Where it runs.

    Raises:
        Failure: If it does not come so far.
    """

    def __init__(self, name: str, case: str, place: Place) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (lives as long as the process)
        command = place.command(CONTENDERS[name], "speed", name, case)
        self._process = subprocess.Popen(
            command,
            cwd=place.venvs,
            env=place.variables(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            preexec_fn=place.bind,
        )
        self.ready = self._read()

    def round(self) -> float:
        """Train a round; return its steps per second."""
        assert self._process.stdin is not None
        print("round", file=self._process.stdin, flush=True)
        return float(self._read()["steps_per_second"])

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.wait()
        self._errors.close()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            message = last_line(self._errors.read())
            self._errors.close()
            raise Failure(message)
        row: dict[str, Any] = json.loads(line)
        return row


def time_to_score(
    name: str, case: str, algorithm: str, seed: int, cap: float, place: Place
) -> dict[str, Any]:
    """Return what a run came to.

    Raises:
        Failure: If it came to nothing.
    """
    words = ["score", name, case, algorithm, str(seed), str(cap)]
    command = place.command(CONTENDERS[name], *words)
    try:
        done = subprocess.run(
            command,
            cwd=place.venvs,
            env=place.variables(),
            capture_output=True,
            text=True,
            timeout=cap + GRACE,
            check=False,
            preexec_fn=place.bind,
        )
    except subprocess.TimeoutExpired:
        return {"reached": False, "seconds": cap}
    if done.returncode or not done.stdout.strip():
        raise Failure(last_line(done.stderr))
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def last_line(text: str) -> str:
    """Return the last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it ended without a word"
