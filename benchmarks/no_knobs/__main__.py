"""`tensor-optix train ENV` and nothing else, against tuned settings and defaults of Stable-Baselines3.

    python -m benchmarks.no_knobs --seeds 5
    python -m benchmarks.no_knobs --table

A line for each run in results.jsonl, beside this file; a run whose line is there is not made again, so that
the suite can be ended at any time and gone on with. Lines of ours are to be removed where a change matters to
them. Everybody has the same budget of environment steps, of which ours may leave some; the final policy plays
100 fresh episodes greedily. Contenders run in processes and virtual environments of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.no_knobs.cases import CASES, CONTENDERS, EPISODES, Case
from benchmarks.peers.process import POOLS, QUIET, ROOT, installed
from tensor_optix.runs.spread import interquartile_mean, interval

Row = dict[str, Any]
GOAL = 0.95
"""The share of the tuned settings' gain over a random policy that ours is to reach."""


def variables() -> dict[str, str]:
    return {**os.environ, **QUIET, **dict.fromkeys(POOLS, "1"), "PYTHONPATH": str(ROOT)}


def asked(*command: str) -> str:
    """Return what a command prints."""
    done = subprocess.run(command, env=variables(), capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise RuntimeError(f"{' '.join(command)}: {said[-1] if said else done.returncode}")
    return done.stdout


def ours(case: Case, seed: int) -> Row:
    """Train with no option but budget and seed, and evaluate."""
    command = (sys.executable, "-m", "tensor_optix")
    with tempfile.TemporaryDirectory() as place:
        run, begun = Path(place) / "run", time.perf_counter()
        budget = ("--max-steps", str(case.steps), "--seed", str(seed))
        asked(*command, "train", case.env_id, *budget, "--run-dir", str(run), "--plain")
        seconds = time.perf_counter() - begun
        played = json.loads(
            asked(*command, "evaluate", str(run), "--episodes", str(EPISODES), "--json")
        )
        events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
        chosen = {one["option"]: one["value"] for one in events if one["kind"] == "chosen"}
        (end,) = (one for one in events if one["kind"] == "stop")
        return {
            "score": played["score"],
            "steps": end["total_steps"],
            "seconds": seconds,
            "ending": end["ending"],
            "chosen": chosen,
        }


def made(contender: str, case: Case, seed: int, venvs: Path) -> Row:
    if contender == "ours":
        return ours(case, seed)
    python = installed(venvs / "stable_baselines3", "stable_baselines3")
    words = (case.env_id, contender, str(seed))
    row: Row = json.loads(asked(str(python), "-m", "benchmarks.no_knobs.peer", *words))
    return row


def rows_of(results: Path) -> list[Row]:
    if not results.exists():
        return []
    return [json.loads(line) for line in results.read_text().splitlines()]


def run_all(arguments: argparse.Namespace) -> None:
    done = {(row["env_id"], row["contender"], row["seed"]) for row in rows_of(arguments.results)}
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        for env_id in arguments.envs:
            for contender in arguments.contenders:
                if (env_id, contender, seed) in done or (
                    contender == "tuned" and not CASES[env_id].tuned
                ):
                    continue
                about = {"env_id": env_id, "contender": contender, "seed": seed}
                try:
                    row = about | made(contender, CASES[env_id], seed, arguments.venvs)
                except RuntimeError as error:
                    row = about | {"error": str(error)}
                    print(error, file=sys.stderr)
                with arguments.results.open("a") as file:
                    print(json.dumps(row), file=file)
                score = row.get("score", float("nan"))
                told = f"{row.get('steps', 0):,} steps in {row.get('seconds', 0.0):.0f} s"
                print(f"{env_id} {contender} seed {seed}: {score:.1f}, {told}", flush=True)


def table(rows: list[Row]) -> str:
    """Return the scores, and whether ours reaches its share of the tuned settings' gain."""
    lines = [
        "| environment | steps | random | SB3, defaults | SB3, tuned | ours | of the gain | seeds |",
        "|" + "---|" * 8,
    ]
    for env_id, case in CASES.items():
        scores = {
            name: [
                row["score"]
                for row in rows
                if (row["env_id"], row["contender"]) == (env_id, name) and "score" in row
            ]
            for name in CONTENDERS
        }
        if not scores["ours"]:
            continue
        if not case.tuned:
            scores["tuned"] = scores["default"]
        share = "-"
        if scores["random"] and scores["tuned"]:
            start = float(np.median(scores["random"]))
            gain = float(np.median(scores["tuned"])) - start
            reached = (float(np.median(scores["ours"])) - start) / gain
            share = f"{reached:.0%}" + ("" if reached >= GOAL else " (missed)")
        told = [told_of(scores[name]) for name in ("random", "default", "tuned", "ours")]
        seeds = "/".join(str(len(scores[name])) for name in ("default", "tuned", "ours"))
        lines.append(f"| {env_id} | {case.steps:,} | {' | '.join(told)} | {share} | {seeds} |")
    return "\n".join(lines)


def told_of(scores: list[float]) -> str:
    if not scores:
        return "-"
    middle = f"{interquartile_mean(scores):.4g}"
    if len(scores) == 1:
        return middle
    low, high = interval(scores)
    return f"{middle} ({low:.4g} to {high:.4g})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--results", type=Path, default=Path(__file__).with_name("results.jsonl"))
    parser.add_argument("--envs", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--venvs", type=Path, default=ROOT / "build" / "peers")
    parser.add_argument("--table", action="store_true", help="only print what is known")
    arguments = parser.parse_args()
    if not arguments.table:
        run_all(arguments)
    print(table(rows_of(arguments.results)))


if __name__ == "__main__":
    main()
