"""The learning curve: the record of a run comes in, a PNG goes out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from tensor_optix.cli import words
from tensor_optix.core.durable_files import sync_directory

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from tensor_optix.cli.record import TrainingRecord
    from tensor_optix.cli.run_directory import RunConfig

_LOSSES = ("loss", "critic_loss", "approx_kl")
_EXPLORATIONS = ("epsilon", "alpha", "entropy")
_MARKS = {
    "plateau": ("no recent gain", "tab:gray", ":"),
    "degradation": ("score fell", "tab:red", "--"),
    "rollback": ("back to the best", "tab:purple", "--"),
    "tuned": ("tuned", "tab:olive", ":"),
    "dormant": ("nothing left to gain", "tab:green", "-"),
    "error": ("failed", "black", "-"),
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
    # Not pyplot: it would choose a window system.
    figure = Figure(figsize=(10, 6), dpi=120, layout="constrained")
    axes, below = figure.subplots(2, sharex=True, height_ratios=(4, 1))
    _draw_scores(axes, record)
    _draw_learning(below, record)
    _draw_decisions(axes, record)
    axes.set_title(f"{config.env_id}, {config.algorithm.upper()}, seed {config.seed}")
    below.set_xlabel("environment steps")
    axes.set_ylabel("mean return of the episodes of a window")
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
        if made.kind not in _MARKS:
            continue
        label, color, style = _MARKS[made.kind]
        axes.axvline(
            made.total_steps,
            color=color,
            linestyle=style,
            linewidth=1.2,
            alpha=0.7,
            label=None if made.kind in named else label,
        )
        named.add(made.kind)
