"""Trains, evaluates and plays by hand every environment of `cases.py`, by the command line; prints a table.

    python -m benchmarks.environments > benchmarks/ENVIRONMENTS.md
    python -m benchmarks.environments --venv PATH --only minigrid panda

Makes a virtual environment with what the environments need, unless it is there; a case that is in the results
is not run again. A case may fail: the table says why.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.environments.cases import CASES, Case
from benchmarks.environments.table import table

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
EXTRAS = "cli,envpool,torch"
SEED = 0
QUIET = {"SDL_VIDEODRIVER": "dummy", "MUJOCO_GL": "egl", "OMP_NUM_THREADS": "1"}


class Failure(Exception):
    """A command that did not end well."""


@dataclass(frozen=True)
class Place:
    """Where commands run."""

    python: Path
    runs: Path
    seconds: float
    """That each command may take."""

    def output(self, *words: str) -> str:
        """Run a module, and return what it printed."""
        environment = {**os.environ, **QUIET, "PYTHONPATH": str(ROOT)}
        command = [str(self.python), "-m", *words]
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=environment,
                capture_output=True,
                text=True,
                timeout=self.seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as expired:
            raise Failure(f"{words[1]} took more than {self.seconds:g} s") from expired
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise Failure(lines[-1])
        return done.stdout


def installed(path: Path) -> Path:
    """Return the Python of a virtual environment, which is made and filled if it is not there."""
    python = path / "bin" / "python"
    if not python.exists():
        venv.create(path, with_pip=True)
        install = [str(python), "-m", "pip", "install", "--quiet"]
        # Editable: what is measured is what lies here.
        project = ["--editable", f"{ROOT}[{EXTRAS}]"]
        requirements = ["--requirement", str(HERE / "requirements.txt"), *project]
        subprocess.run([*install, *requirements], check=True, stdout=sys.stderr)
    return python


def measured(case: Case, run: Path, place: Place) -> dict[str, Any]:
    """Train, evaluate, and play by hand; what was trained stays, should a later step fail."""
    if not stop_of(run):
        shutil.rmtree(run, ignore_errors=True)
        options = ["--seed", str(SEED), "--run-dir", str(run), "--plain"]
        place.output("tensor_optix", "train", *case.words, *options)
    stop, settings = stop_of(run), json.loads((run / "run.json").read_text())
    episodes = ["--episodes", str(case.episodes)]
    printed = place.output("tensor_optix", "evaluate", str(run), *episodes, "--json")
    (run / "evaluation.json").write_text(printed)
    files = [str(run / "evaluation.json"), str(run / "by_hand.json")]
    place.output(f"{__package__}.hand_loop", str(run), *files)
    evaluation, by_hand = json.loads(printed), json.loads(Path(files[1]).read_text())
    return {
        "steps": stop["total_steps"],
        "algorithm": settings["algorithm"],
        "backend": settings["backend"],
        "versions": settings["versions"],
        "training_score": evaluation["training_score"],
        "score": evaluation["score"],
        "is_per_step": evaluation["score_is_per_step"],
        "by_hand": by_hand["score"],
        "largest_difference": largest_difference(evaluation, by_hand),
    }


def stop_of(run: Path) -> dict[str, Any]:
    """Return the event by which a run ended, nothing where it did not."""
    log = run / "events.jsonl"
    events = map(json.loads, log.read_text().splitlines() if log.exists() else [])
    return next((event for event in events if event["kind"] == "stop"), {})


def largest_difference(evaluation: dict[str, Any], by_hand: dict[str, Any]) -> float | None:
    """Return the largest difference of two scores, of any episode's too; None where other episodes ended."""
    if evaluation["lengths"] != by_hand["lengths"]:
        return None
    pairs = [*zip(evaluation["returns"], by_hand["returns"], strict=True)]
    pairs.append((evaluation["score"], by_hand["score"]))
    return max(abs(one - other) / max(1.0, abs(other)) for one, other in pairs)


def read(path: Path) -> dict[str, dict[str, Any]]:
    """Return what was measured before, by command."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {result["command"]: result for result in map(json.loads, lines)}


def add(path: Path, result: dict[str, Any]) -> None:
    """Write down what was measured."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as results:
        results.write(json.dumps(result) + "\n")


def main() -> None:
    """Run the cases that are asked for and not there yet; print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--venv", type=Path, default=Path("runs/environments/venv"))
    parser.add_argument("--runs", type=Path, default=Path("runs/environments"))
    parser.add_argument("--results", type=Path, default=Path("runs/environments/results.jsonl"))
    parser.add_argument("--only", nargs="*", default=[], help="words that commands contain")
    parser.add_argument("--seconds", type=float, default=1800, help="that a command may take")
    chosen = parser.parse_args()
    place = Place(installed(chosen.venv.absolute()), chosen.runs.absolute(), chosen.seconds)
    for number, case in enumerate(CASES):
        is_asked_for = not chosen.only or any(word in case.command for word in chosen.only)
        if not is_asked_for or case.command in read(chosen.results):
            continue
        print(f"{number + 1} of {len(CASES)}: {case.command}", file=sys.stderr, flush=True)
        try:
            result = measured(case, place.runs / directory(case), place)
        except Failure as failure:
            result = {"failure": str(failure)}
        add(chosen.results, {"command": case.command, **result})
    if not chosen.only and "rows" not in read(chosen.results):
        printed = place.output(f"{__package__}.rows")
        lines = [line for line in printed.splitlines() if line.startswith("| ")]
        add(chosen.results, {"command": "rows", "table": "\n".join(lines)})
    print(table(read(chosen.results)))


def directory(case: Case) -> str:
    """Return a name that a run of a case is found by."""
    return "".join(one if one.isalnum() else "-" for one in " ".join(case.words))


if __name__ == "__main__":
    main()
