"""What was measured comes in, rows and Markdown go out."""

from __future__ import annotations

import os
import platform
import statistics
from typing import TYPE_CHECKING, Any

from benchmarks.environments.table import processor
from benchmarks.peers.cases import CONTENDERS, SCORES, SPEED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Row = dict[str, Any]

OURS = [name for name, contender in CONTENDERS.items() if contender.is_ours]
SPEED_HEADS = ("contender", "steps/s, median", "least to most", "rounds", "warm-up, s")
SCORE_HEADS = ("contender", "algorithm", "seconds, median", "each seed", "steps, median")


def schedule(
    contenders: Sequence[str], rounds: int, done: Iterable[tuple[str, int]]
) -> list[tuple[int, str]]:
    """Return the rounds that are left, each with its contender: A B C A B C ...

    Args:
        contenders: Who takes part.
        rounds: Of each.
        done: Contenders and rounds that were measured before.
    """
    measured = set(done)
    return [
        (number, name)
        for number in range(rounds)
        for name in contenders
        if (name, number) not in measured
    ]


def speed_rows(results: Sequence[Row]) -> list[Row]:
    """Return a row for each contender in each case at each number of threads."""
    rows: list[Row] = []
    speeds = [one for one in results if "steps_per_second" in one]
    for threads in sorted({one["threads"] for one in speeds}):
        for suite, cases in SPEED.items():
            for case in cases:
                mine = [one for one in speeds if (one["case"], one["threads"]) == (case, threads)]
                rows += _case_rows(suite, case, threads, mine)
    return rows


def _case_rows(suite: str, case: str, threads: int, results: Sequence[Row]) -> list[Row]:
    rows = []
    for name in CONTENDERS:
        mine = [one for one in results if one["contender"] == name]
        if mine:
            speeds = [one["steps_per_second"] for one in mine]
            rows.append(
                {
                    "suite": suite,
                    "case": case,
                    "threads": threads,
                    "contender": name,
                    "median": statistics.median(speeds),
                    "least": min(speeds),
                    "most": max(speeds),
                    "rounds": len(speeds),
                    "warm_up": statistics.median(one["warm_up"] for one in mine),
                }
            )
    medians = {row["contender"]: row["median"] for row in rows}
    for row in rows:
        row["times_as_fast"] = ratios(medians, row["median"])
    return rows


def ratios(medians: dict[str, float], one: float) -> dict[str, float]:
    """Return how many times as much as `one` each of ours does, by name."""
    return {name: medians[name] / one for name in OURS if name in medians}


def score_rows(results: Sequence[Row]) -> list[Row]:
    """Return a row for each contender and algorithm in each case of time to a score.

    A seed that did not reach the score in time counts as infinitely long; `each` says None of it.
    """
    rows = []
    for case in SCORES:
        for name in CONTENDERS:
            mine = [
                one
                for one in results
                if (one["case"], one["contender"]) == (case, name) and "seed" in one
            ]
            for algorithm in dict.fromkeys(one["algorithm"] for one in mine):
                runs = sorted(
                    (one for one in mine if one["algorithm"] == algorithm),
                    key=lambda one: one["seed"],
                )
                rows.append(_score_row(case, name, algorithm, runs))
    return rows


def _score_row(case: str, name: str, algorithm: str, runs: Sequence[Row]) -> Row:
    seconds = [one["seconds"] if one["reached"] else float("inf") for one in runs]
    median = statistics.median(seconds)
    return {
        "case": case,
        "contender": name,
        "algorithm": algorithm,
        "median": None if median == float("inf") else median,
        "each": [None if one == float("inf") else one for one in seconds],
        "cap": max(one["cap"] for one in runs),
        "steps": statistics.median(one.get("steps", 0) for one in runs),
    }


def best_peer(rows: Sequence[Row], case: str) -> float | None:
    """Return the least median of all that are not ours; None where nobody reached the score."""
    medians = [
        row["median"]
        for row in rows
        if row["case"] == case and row["contender"] not in OURS and row["median"] is not None
    ]
    return min(medians, default=None)


def table(results: Sequence[Row]) -> str:
    """Return everything as Markdown."""
    speeds, scores = speed_rows(results), score_rows(results)
    parts = ["# Peers side by side\n", INTRODUCTION]
    for suite, cases in SPEED.items():
        for name, case in cases.items():
            for threads in sorted({row["threads"] for row in speeds}):
                rows = [row for row in speeds if (row["case"], row["threads"]) == (name, threads)]
                if rows:
                    title = f"## {case.title}, {threads} thread{'s' * (threads > 1)} ({suite})\n"
                    parts += [title, _speed_table(rows)]
    if scores:
        parts += ["## Time to score\n", SCORES_INTRODUCTION]
    for name, case in SCORES.items():
        rows = [row for row in scores if row["case"] == name]
        if rows:
            parts += [f"### {case.env_id}, {case.score:g}\n", _score_table(rows, scores)]
    failed = [one for one in results if "failure" in one]
    parts += [
        f"{CONTENDERS[one['contender']].title} in {one['case']}: {one['failure']}\n"
        for one in failed
    ]
    return "\n".join([*parts, machine(results)])


def _speed_table(rows: Sequence[Row]) -> str:
    ours = [name for name in OURS if name in rows[0]["times_as_fast"]]
    heads = [*SPEED_HEADS, *(f"{name} / it" for name in ours)]
    cells = [
        [
            CONTENDERS[row["contender"]].title,
            f"{row['median']:,.0f}",
            f"{row['least']:,.0f} to {row['most']:,.0f}",
            str(row["rounds"]),
            f"{row['warm_up']:.1f}",
            *(f"{row['times_as_fast'][name]:.2f}" for name in ours),
        ]
        for row in rows
    ]
    return markdown(heads, cells)


def _score_table(rows: Sequence[Row], scores: Sequence[Row]) -> str:
    best = best_peer(scores, rows[0]["case"])
    cells = []
    for row in rows:
        late = f"> {row['cap']:,.0f}"
        each = ", ".join(late if one is None else f"{one:,.1f}" for one in row["each"])
        median = late if row["median"] is None else f"{row['median']:,.1f}"
        share = f"{row['median'] / best:.2f}" if best and row["median"] is not None else ""
        title = CONTENDERS[row["contender"]].title
        cells.append([title, row["algorithm"], median, each, f"{row['steps']:,.0f}", share])
    return markdown([*SCORE_HEADS, "of the best peer's"], cells)


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def machine(results: Sequence[Row]) -> str:
    """Return on what this was measured."""
    known: dict[str, str] = {}
    for one in results:
        known |= one.get("versions", {})
    said = ", ".join(f"{name} {version}" for name, version in sorted(known.items()))
    return f"{os.cpu_count()} cores of {processor()}; Python {platform.python_version()}; {said}."


INTRODUCTION = """Made by `python -m benchmarks.peers`, which installs every contender in a virtual
environment with nothing else, and runs it in a process of its own, bound to as many processors as it has
threads. All have the same networks, batches and numbers of updates. Imports, compiling and the first
steps are the warm-up; then come rounds of a fixed number of steps, one contender after the other. Quote
ratios: they are of medians.

What differs: ours collect and learn by `pipeline.episodes()` and `agent.learn`, without the log and the
decisions of a run, and step EnvPool's environments where `backend="auto"` finds them; the peers step
Gymnasium's, as they do by default. With continuous actions our PPO's policy is a squashed Gaussian whose
deviation is an output of the network, that of the peers a plain one whose deviation is a weight. With a
replay, Stable-Baselines3 and SBX copy into the target network after so many steps, the others after so
many updates.
"""
SCORES_INTRODUCTION = """Seconds from the start of the process, imports included, to the first evaluation,
10 greedy episodes, that reaches the score; the evaluations themselves are taken out of everybody's time.
Ours is `tensor-optix train ENV_ID` as it stands, evaluated after each window. The peers have the settings
that their authors publish: those of RL Baselines3 Zoo for Stable-Baselines3 and SBX, CleanRL's defaults
for the single file, those of its own tests and examples for Tianshou.
"""
