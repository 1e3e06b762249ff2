"""The table of environments: what was measured comes in, Markdown goes out."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from benchmarks.environments.cases import CASES, Case

REQUIREMENTS = Path(__file__).parent / "requirements.txt"
TOLERANCE = 1e-6
"""Of a score, or of its share: rewards are float32 in the one loop, float64 in the other."""
HEADS = ("package", "command", "what was trained", "training score", "evaluated", "by hand", "same")
INTRODUCTION = """# Environments

Made by `python -m benchmarks.environments`, which installs the packages in a virtual environment of its own.
Each command was run as it stands, with `--seed 0` and a `--run-dir`. Its best policy was then played by
`tensor-optix evaluate`, and once more by a loop as one writes it by hand, of `gymnasium.make` or
`envpool.make`, with an episode in each environment from the seeds that `evaluate --json` prints
([hand_loop.py](environments/hand_loop.py)). They are the same where every episode had the same length, and
the same return but for 1e-6 of it. Nothing was tuned: 20,000 steps are a first look, fewer where a simulator
is slow or images are large. A policy's best actions may do worse than its sampled ones, which the training
score is of: in a maze they turn in circles.
"""
ROWS = """
## Rows

What a pipeline delivered to an agent that acts at random in two environments, against a loop by hand that
takes the same actions ([rows.py](environments/rows.py)): observations as they are laid out in a row, rewards,
flags, the true last observation of each episode, and resets, which are no rows.
"""


def is_same(result: dict[str, Any]) -> bool:
    """Whether the loop by hand played the same episodes, for the same returns."""
    difference = result["largest_difference"]
    return difference is not None and difference <= TOLERANCE


def row(case: Case, result: dict[str, Any]) -> list[str]:
    """Return the cells of a case."""
    command = f"`{case.command}`"
    if "failure" in result:
        return [case.family, command, "", "", "", "", result["failure"].replace("|", "/")]
    unit, difference = " a step" if result["is_per_step"] else "", result["largest_difference"]
    said = "other episodes" if difference is None else f"differs by {difference:.2g}"
    training = result["training_score"]
    return [
        case.family,
        command,
        f"{result['algorithm']} on {result['backend']}, {result['steps']:,} steps",
        "none" if training is None else f"{training:.4g}",
        f"{result['score']:.6g}{unit}",
        f"{result['by_hand']:.6g}{unit}",
        "yes" if is_same(result) else said,
    ]


def table(results: dict[str, dict[str, Any]]) -> str:
    """Return the results as Markdown."""
    found = [(case, results[case.command]) for case in CASES if case.command in results]
    rows = [HEADS, ["---"] * len(HEADS), *(row(case, result) for case, result in found)]
    good = [(case, result) for case, result in found if "failure" not in result]
    families = {case.family for case, _ in good}
    same = sum(is_same(result) for _, result in good)
    lines = [
        INTRODUCTION,
        f"{len(good)} environments of {len(families)} families, those of EnvPool counted one by one; "
        f"the score by hand is the evaluated one in {same} of them.\n",
        *(f"| {' | '.join(cells)} |" for cells in rows),
        f"\n{versions(good)}",
        ROWS,
        results.get("rows", {}).get("table", ""),
    ]
    return "\n".join(lines)


def versions(found: list[tuple[Case, dict[str, Any]]]) -> str:
    """Return on what this was measured."""
    known: dict[str, str] = {}
    for _, result in found:
        known |= result.get("versions", {})
    pinned = [
        line.replace("==", " ") for line in REQUIREMENTS.read_text().splitlines() if "==" in line
    ]
    said = ", ".join(f"{name} {version}" for name, version in known.items() if name != "gymnasium")
    return f"{os.cpu_count()} cores of {processor()}; {said}, {', '.join(pinned)}."


def processor() -> str:
    """Return the name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
