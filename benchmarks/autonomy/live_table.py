"""Statistics of the live runs: scores and result lines come in, numbers and Markdown tables go out.

Behind a median over the seeds stands its bootstrap interval of 95 % (percentiles; Efron 1979), in brackets:
with five seeds, their range.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import bootstrap

from benchmarks.autonomy.live_cases import LIVE_CASES, TUNERS, LiveCase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Run = dict[str, Any]

GOAL_SCORES = 5
FINAL_SCORES = 10
LEGEND = (
    "Medians over the seeds, with 95 % bootstrap intervals. Trained to it: the mean of five evaluated "
    "training scores in a row reached the goal; a run that never did counts with all its steps. Final score: "
    "the mean of the last ten. Reached: the greedy score of the returned policy, in fresh episodes, did."
)


def steps_to_goal(steps: Sequence[int], scores: Sequence[float], goal: float) -> int | None:
    """Return the steps at the first evaluation where the mean of the last five scores reaches the goal."""
    for end in range(GOAL_SCORES, len(scores) + 1):
        if statistics.fmean(scores[end - GOAL_SCORES : end]) >= goal:
            return steps[end - 1]
    return None


def final_score(scores: Sequence[float]) -> float | None:
    """Return the mean of the last ten scores; None if there are none."""
    return round(statistics.fmean(scores[-FINAL_SCORES:]), 1) if scores else None


def interval(values: Iterable[float], form: str = ",.1f") -> str:
    """Return the median and its interval as text."""
    sample = list(values)
    if not sample:
        return "none"
    median = format(statistics.median(sample), form)
    if len(sample) < 2:
        return median
    bounds = bootstrap((sample,), np.median, method="percentile", rng=0).confidence_interval
    return f"{median} [{bounds.low:{form}}, {bounds.high:{form}}]"


def count(flags: Iterable[bool]) -> str:
    """Return how many of them are true, as text."""
    known = list(flags)
    return f"{sum(known)} of {len(known)}"


def tables(runs: list[Run]) -> str:
    """Return the results as Markdown: what the columns are, and a table per group that has runs."""
    parts = [LEGEND]
    for group in TITLES:
        mine = [run for run in runs if _is_current(run) and _case(run).group == group]
        if mine:
            parts.append("\n".join([f"## {group}", "", *_table(group, mine)]))
    return "\n\n".join(parts)


def _table(group: str, runs: list[Run]) -> list[str]:
    """Return a row per arm, and what tuners and off differ by where good settings are compared."""
    columns = {title: COLUMNS[title] for title in TITLES[group]}
    lines = _head(*columns)
    lines += [_row(name, *(make(mine) for make in columns.values())) for name, mine in _arms(runs)]
    differences = _difference_table(runs) if group == "good" else []
    return [*lines, "", "Minus off, seed by seed:", "", *differences] if differences else lines


def _difference_table(runs: list[Run]) -> list[str]:
    """Compare tuners and off where both were run with the same seed; without any pair, nothing."""
    pairs: dict[tuple[str, str, str], list[tuple[Run, Run]]] = {}
    off = {(r["case"], r["framework"], r["seed"]): r for r in runs if r["tuner"] == "off"}
    for run in runs:
        key = (run["case"], run["framework"], run["seed"])
        if run["tuner"] != "off" and key in off:
            pairs.setdefault((*key[:2], run["tuner"]), []).append((run, off[key]))
    if not pairs:
        return []
    titles = ["case", "framework", "tuner", "pairs", "steps to the goal", "final score"]
    titles += ["greedy score", "steps until the stop, ratio"]
    lines = [_line(titles), _line(["---"] * len(titles))]
    for (name, framework, tuner), mine in pairs.items():
        finals = [(a["final"], b["final"]) for a, b in mine]
        lines.append(
            _line(
                [
                    name,
                    framework,
                    tuner,
                    str(len(mine)),
                    interval((_spent(a) - _spent(b) for a, b in mine), "+,.0f"),
                    interval((a - b for a, b in finals if None not in (a, b)), "+,.1f"),
                    interval((a["greedy"] - b["greedy"] for a, b in mine), "+,.1f"),
                    interval((a["steps"] / b["steps"] for a, b in mine), ".2f"),
                ]
            )
        )
    return lines


def _arms(runs: list[Run]) -> Iterable[tuple[list[str], list[Run]]]:
    """Yield the runs that differ by nothing but the seed, under their names, in the cases' order."""
    for case in LIVE_CASES:
        for framework in sorted({run["framework"] for run in runs}):
            for tuner in TUNERS:
                wanted = {"case": case, "framework": framework, "tuner": tuner}
                mine = [run for run in runs if wanted.items() <= run.items()]
                if mine:
                    yield [case, framework, tuner], mine


def _case(run: Run) -> LiveCase:
    return LIVE_CASES[run["case"]]


def _is_current(run: Run) -> bool:
    """Whether the case is still there, with the same budget: other runs must not be mixed in."""
    return run["case"] in LIVE_CASES and _case(run).setting.steps == run["budget"]


def _goal(runs: list[Run]) -> float:
    return _case(runs[0]).setting.goal


def _spent(run: Run) -> int:
    """Return the steps to the goal; where it was not reached, all of them, which is too few."""
    return int(run["steps"] if run["steps_to_goal"] is None else run["steps_to_goal"])


def _finals(runs: list[Run]) -> list[float]:
    return [run["final"] for run in runs if run["final"] is not None]


def _end(runs: list[Run]) -> str:
    """Return the medians of the hyperparameters that are not what they were at the beginning."""
    begin = runs[0]["begins_with"]
    changed = [name for name in begin if any(run["ends_with"][name] != begin[name] for run in runs)]
    middles = {name: statistics.median(run["ends_with"][name] for run in runs) for name in changed}
    return (
        ", ".join(f"{name} {begin[name]:.3g} → {middles[name]:.3g}" for name in changed)
        or "as begun"
    )


def _head(*titles: str) -> list[str]:
    names = ["case", "framework", "tuner", *titles]
    return [_line(names), _line(["---"] * len(names))]


def _row(names: list[str], *cells: str) -> str:
    return _line([*names, *cells])


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


COLUMNS: dict[str, Callable[[list[Run]], str]] = {
    "stopped by itself": lambda runs: count(run["stopped_by_itself"] for run in runs),
    "steps at most": lambda runs: f"{runs[0]['budget']:,}",
    "goal": lambda runs: f"{_goal(runs):g}",
    "reached": lambda runs: count(run["reached"] for run in runs),
    "trained to it": lambda runs: count(run["steps_to_goal"] is not None for run in runs),
    "steps to it": lambda runs: interval((_spent(run) for run in runs), ",.0f"),
    "final score": lambda runs: interval(_finals(runs)),
    "greedy score": lambda runs: interval(run["greedy"] for run in runs),
    "steps": lambda runs: interval((run["steps"] for run in runs), ",.0f"),
    "seconds": lambda runs: interval((run["seconds"] for run in runs), ",.0f"),
    "changes": lambda runs: f"{statistics.median(run['changes'] for run in runs):g}",
    "forked": lambda runs: f"{statistics.median(run['forked'] for run in runs):g}",
    "recoveries": lambda runs: f"{statistics.median(run['recoveries'] for run in runs):g}",
    "at the end": lambda runs: _end(runs),
}
TITLES = {
    "defaults": ("stopped by itself", "goal", "reached", "greedy score", "steps", "seconds"),
    "good": (
        *("steps at most", "goal", "trained to it", "steps to it", "final score"),
        *("greedy score", "stopped by itself", "steps", "changes", "forked", "at the end"),
    ),
    "bad": (
        *("steps at most", "goal", "reached", "greedy score", "trained to it", "final score"),
        *("steps", "changes", "forked", "recoveries", "at the end"),
    ),
}
"""The columns of each group's table."""
