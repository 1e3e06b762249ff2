"""Peers side by side: steps a second, and time to a score; prints Markdown or JSON.

    python -m benchmarks.peers --suite classic mujoco > benchmarks/RESULTS.md
    python -m benchmarks.peers --cases cartpole-ppo --contenders sb3 torch --rounds 3 --json
    python -m benchmarks.peers --suite classic --what scores --seeds 3 --cap 600

Virtual environments are made once. What was measured is a line of the results file and is not measured
again, so that an interrupted run goes on; failures are tried again.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.peers.cases import CONTENDERS, SCORES, SPEED
from benchmarks.peers.process import Failure, Place, Worker, time_to_score
from benchmarks.peers.table import schedule, score_rows, speed_rows, table

WHAT = ("speed", "scores")
BY_DEFAULT = "train"
"""The algorithm of ours where a score counts: what the command chooses."""


class Results:
    """What was measured, a line each.

    Args:
        path: Of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in lines]

    @property
    def measured(self) -> list[dict[str, Any]]:
        """Those that are no failures, and the failures that were not made good."""
        good = [row for row in self.rows if "failure" not in row]
        known = {(row["case"], row["contender"]) for row in good}
        bad = {(row["case"], row["contender"]): row for row in self.rows if "failure" in row}
        return [*good, *(row for key, row in bad.items() if key not in known)]

    def add(self, row: dict[str, Any]) -> None:
        """Write down what was measured."""
        self.rows.append(row)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def measure_speed(case: str, contenders: list[str], rounds: int, place: Place, to: Results) -> None:
    """Measure the rounds of a case that are not there yet."""
    done = [
        (row["contender"], row["round"])
        for row in to.rows
        if (row["case"], row["threads"]) == (case, place.threads) and "round" in row
    ]
    workers: dict[str, Worker | None] = {}
    try:
        for number, name in schedule(contenders, rounds, done):
            what = {"case": case, "contender": name, "threads": place.threads}
            try:
                if name not in workers:
                    say(f"{case}: {name} warms up")
                    workers[name] = None
                    workers[name] = Worker(name, case, place)
                worker = workers[name]
                if worker is not None:
                    speed = worker.round()
                    to.add({**what, "round": number, "steps_per_second": speed, **worker.ready})
            except Failure as failure:
                workers[name] = None
                to.add({**what, "failure": str(failure)})
    finally:
        for worker in workers.values():
            if worker is not None:
                worker.close()


def measure_scores(
    case: str, contenders: list[str], seeds: int, cap: float, place: Place, to: Results
) -> None:
    """Make the runs of a case that are not there yet."""
    for seed in range(seeds):
        for name in contenders:
            settings = SCORES[case].settings
            for algorithm in [BY_DEFAULT] if CONTENDERS[name].is_ours else settings[name]:
                run = {"case": case, "contender": name, "algorithm": algorithm, "seed": seed}
                run |= {"threads": place.threads, "cap": cap}
                if any(run.items() <= row.items() and "failure" not in row for row in to.rows):
                    continue
                say(f"{case}: {name} {algorithm}, seed {seed}")
                try:
                    to.add({**run, **time_to_score(name, case, algorithm, seed, cap, place)})
                except Failure as failure:
                    to.add({**run, "failure": str(failure)})


def say(text: str) -> None:
    """Tell how far things are."""
    print(text, file=sys.stderr, flush=True)


def parsed() -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--suite", nargs="+", choices=list(SPEED), default=list(SPEED))
    parser.add_argument("--what", nargs="+", choices=WHAT, default=list(WHAT))
    known = [*SCORES, *(name for cases in SPEED.values() for name in cases)]
    parser.add_argument("--cases", nargs="+", choices=known, metavar="CASE", default=known)
    parser.add_argument(
        "--contenders", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS)
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cap", type=float, default=900, help="seconds of a run to a score")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--venvs", type=Path, default=Path("runs/peers/venvs"))
    parser.add_argument("--results", type=Path, default=Path("runs/peers/results.jsonl"))
    parser.add_argument("--json", action="store_true", help="print rows instead of Markdown")
    return parser.parse_args()


def main() -> None:
    """Measure what is asked for and not there yet; print everything that is."""
    chosen = parsed()
    place, results = Place(chosen.venvs.absolute(), chosen.threads), Results(chosen.results)
    for suite in chosen.suite:
        for case in SPEED[suite]:
            if "speed" in chosen.what and case in chosen.cases:
                measure_speed(case, chosen.contenders, chosen.rounds, place, results)
    if "classic" in chosen.suite and "scores" in chosen.what:
        for case in SCORES:
            if case in chosen.cases:
                measure_scores(case, chosen.contenders, chosen.seeds, chosen.cap, place, results)
    measured = results.measured
    if chosen.json:
        rows = {"speed": speed_rows(measured), "scores": score_rows(measured)}
        print(json.dumps(rows, indent=1))
    else:
        print(table(measured))


if __name__ == "__main__":
    main()
