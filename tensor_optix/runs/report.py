"""The closing report: the record of a run and its end come in, plain words and a learning curve go out."""

from __future__ import annotations

import shlex
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tensor_optix.core.callbacks import (
    Degradation,
    Dormant,
    Ending,
    Error,
    Forked,
    Forking,
    Plateau,
    Rollback,
    Tuned,
)
from tensor_optix.core.checkpoints.durable_files import sync_directory
from tensor_optix.runs import words
from tensor_optix.runs.record import merged

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from tensor_optix.core.callbacks import LoopEvent
    from tensor_optix.core.types import PolicySnapshot
    from tensor_optix.runs.record import Decision, TrainingRecord
    from tensor_optix.runs.run_directory import RunConfig, RunDirectory

WIDTH = 79
MAX_DECISIONS = 40
"""More of them are left out in the middle; events.jsonl has them all."""


@dataclass(frozen=True)
class Outcome:
    """The end of a training."""

    ending: Ending
    snapshot: PolicySnapshot | None
    """The best policy."""
    reason: str = ""
    """Why it ended there."""
    signal: str = ""
    """The name of the signal."""


def closing_report(
    record: TrainingRecord, config: RunConfig, directory: RunDirectory, outcome: Outcome
) -> str:
    """Return how the training went, in lines of at most 79 characters where paths allow."""
    seconds = record.seconds
    speed = record.total_steps / seconds if seconds > 0 else 0.0
    lines = [
        f"{config.title}: {_TITLES[outcome.ending]}",
        "",
        *_paragraph("why", _why(record, config, outcome)),
        *_paragraph(
            "steps", f"{record.total_steps:,} in {words.clock(seconds)} ({speed:,.0f} steps/s)"
        ),
        *_paragraph("run", f"{config.learner}, {config.environments}, {config.origin}"),
        *_learning(record),
        *_best(record, directory, outcome),
        *_decisions(record.decisions),
        "",
    ]
    if outcome.snapshot is not None and config.is_rebuildable:
        lines.append(f"evaluate   tensor-optix evaluate {shlex.quote(str(directory.path))}")
    if config.tensorboard:
        lines.append(f"watch      tensorboard --logdir {shlex.quote(str(directory.path))}")
    return "\n".join([*lines, *_files(directory)]) + "\n"


_TITLES = {
    Ending.FINISHED: "training is done",
    Ending.CAPPED: "training reached its limit",
    Ending.INTERRUPTED: "training was interrupted",
    Ending.CRASHED: "training crashed",
}


def _why(record: TrainingRecord, config: RunConfig, outcome: Outcome) -> str:
    match outcome.ending:
        case Ending.INTERRUPTED:
            return f"{outcome.signal} ended it. What was learned until then is kept."
        case Ending.CRASHED:
            return f"{outcome.reason}. What was learned before is kept."
        case Ending.CAPPED:
            return (
                f"{outcome.reason} (state: {words.STATES[record.state]}); "
                "more steps may give a better policy."
            )
    dormant = [made.event for made in record.decisions if isinstance(made.event, Dormant)]
    if not dormant:
        return f"{outcome.reason}."
    return f"nothing is left to gain. {words.plateau(dormant[-1])}"


def _learning(record: TrainingRecord) -> list[str]:
    text = words.diagnostics(record.diagnostics)
    return _paragraph("learning", f"{text} at the end") if text else []


def _best(record: TrainingRecord, directory: RunDirectory, outcome: Outcome) -> list[str]:
    snapshot = outcome.snapshot
    if snapshot is None:
        return _paragraph("best", "no policy was scored, so none was kept")
    kept = f"           {directory.checkpoints / Path(snapshot.weights_path).parent.name}"
    if snapshot.eval_metrics.never_scored:
        unknown = (
            "no policy was ever scored, as no episode ended in time: the last weights, of which"
        )
        return [*_paragraph("best", f"{unknown} nothing is known, are kept in"), kept]
    found = record.best_decision
    when = f" after {found.total_steps:,} steps" if found is not None else ""
    score = words.number(snapshot.eval_metrics.primary_score)
    episodes = snapshot.eval_metrics.score_count
    plural = "" if episodes == 1 else "s"
    basis = f", the mean return of {episodes} episode{plural}" if episodes else ""
    if snapshot.eval_metrics.is_per_step:
        basis = ", the mean reward a step, as no episode ends"
    return [*_paragraph("best", f"{score}{when}{basis}; kept in"), kept]


def _decisions(decisions: list[Decision]) -> list[str]:
    if not decisions:
        return []
    rows = [line for made, count in merged(decisions) for line in _row(made, count)]
    if len(rows) > MAX_DECISIONS:
        half = MAX_DECISIONS // 2
        left_out = f"           ... {len(rows) - MAX_DECISIONS} more, see events.jsonl ..."
        rows = [*rows[:half], left_out, *rows[-half:]]
    return ["", "decisions      time         steps", *rows]


def _row(made: Decision, count: int) -> list[str]:
    head = f"{words.clock(made.seconds):>19}  {made.total_steps:>12,}  "
    return textwrap.wrap(
        words.decision(made, count), WIDTH, initial_indent=head, subsequent_indent=" " * len(head)
    )


def _files(directory: RunDirectory) -> list[str]:
    kept = [directory.curve, directory.report, directory.metrics, directory.events]
    maybe = [directory.progress, directory.traceback]
    names = [path.name for path in [*kept, *maybe] if path.exists()]
    return [f"files      {directory.path}", *_paragraph("", ", ".join(names))]


def _paragraph(name: str, text: str) -> list[str]:
    text = " ".join(text.split())
    return textwrap.wrap(text, WIDTH, initial_indent=f"{name:<11}", subsequent_indent=" " * 11)


_LOSSES = ("loss", "critic_loss", "approx_kl")
_EXPLORATIONS = ("epsilon", "alpha", "entropy")
_MARKS: dict[type[LoopEvent], tuple[str, str, str]] = {
    Plateau: ("no recent gain", "tab:gray", ":"),
    Degradation: ("score fell", "tab:red", "--"),
    Rollback: ("back to the best", "tab:purple", "--"),
    Tuned: ("tuned", "tab:olive", ":"),
    Forking: ("trying other settings", "tab:brown", "-."),
    Forked: ("settings chosen", "tab:brown", "-"),
    Dormant: ("nothing left to gain", "tab:green", "-"),
    Error: ("failed", "black", "-"),
}


def draw_curve(record: TrainingRecord, config: RunConfig, path: Path) -> None:
    """Draw score and best score over environment steps, with the decisions as vertical lines.

    Args:
        record: Of the run; may be empty.
        config: Of the run.
        path: The PNG, 1200 by 720 pixels; replaced at once.

    Raises:
        OSError: When the disk refuses.
    """
    # It takes longer to import than the rest of the command, and is needed at the end of a run.
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    # Not pyplot: it would choose a window system.
    figure = Figure(figsize=(10, 6), dpi=120, layout="constrained")
    axes, below = figure.subplots(2, sharex=True, height_ratios=(4, 1))
    _draw_scores(axes, record)
    _draw_learning(below, record)
    _draw_decisions(axes, record)
    learner = config.algorithm.upper() or config.agent_class
    axes.set_title(f"{config.title}, {learner}, {config.origin}")
    below.set_xlabel("environment steps")
    axes.set_ylabel(
        "mean reward a step" if record.is_per_step else "mean return of the episodes of a window"
    )
    below.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="best", framealpha=0.85)
    unfinished = path.with_name(f".{path.name}.tmp")
    figure.savefig(unfinished, format="png")
    unfinished.replace(path)
    sync_directory(path.parent)


def _draw_scores(axes: Axes, record: TrainingRecord) -> None:
    if not record.scores:
        axes.text(0.5, 0.5, "no episode was scored", ha="center", transform=axes.transAxes)
        return
    few = len(record.scores) <= 60
    axes.plot(
        record.steps,
        record.scores,
        color="tab:blue",
        linewidth=1.0,
        alpha=0.8,
        marker="o" if few else None,
        markersize=3,
        label="score",
    )
    axes.step(
        record.steps,
        record.bests,
        where="post",
        color="tab:orange",
        linewidth=2.0,
        label="score of the best policy",
    )
    best = record.best_decision
    if best is not None:
        kept = f"kept: {record.bests[-1]:,.4g}"
        axes.plot(
            best.total_steps,
            record.bests[-1],
            color="tab:orange",
            marker="*",
            markersize=15,
            markeredgecolor="black",
            linestyle="none",
            label=kept,
        )


def _draw_learning(axes: Axes, record: TrainingRecord) -> None:
    """Draw a loss or a distance on the left, how much is explored on the right."""
    sides = ((axes, _LOSSES, "tab:red"), (axes.twinx(), _EXPLORATIONS, "tab:green"))
    for side, names, color in sides:
        name = next((name for name in names if name in record.learning), None)
        side.set_yticks([]) if name is None else side.locator_params(axis="y", nbins=3)
        if name is not None:
            side.plot(record.learning_steps, record.learning[name], color=color, linewidth=1.0)
            side.set_ylabel(words.diagnostic(name), color=color)
        side.spines["top"].set_visible(False)


def _draw_decisions(axes: Axes, record: TrainingRecord) -> None:
    named: set[str] = set()
    for made in record.decisions:
        if type(made.event) not in _MARKS:
            continue
        label, color, style = _MARKS[type(made.event)]
        axes.axvline(
            made.total_steps,
            color=color,
            linestyle=style,
            linewidth=1.2,
            alpha=0.7,
            label=None if label in named else label,
        )
        named.add(label)
