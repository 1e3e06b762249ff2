"""The picture of one run: its record comes in, a figure of scores, learning and decisions goes out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.core.callbacks import (
    Degradation,
    Dormant,
    Error,
    Forked,
    Forking,
    Plateau,
    Recovered,
    Rollback,
    Tuned,
)
from tensor_optix.runs import words
from tensor_optix.runs.pictures import (
    COLORS,
    INK,
    Ruler,
    house_style,
    new_figure,
    plain,
    smoothed,
    thinned,
    usual_smoothing,
    write_picture,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from tensor_optix.core.callbacks import LoopEvent
    from tensor_optix.core.types import Array
    from tensor_optix.runs.pictures import Clock
    from tensor_optix.runs.record import Decision, TrainingRecord
    from tensor_optix.runs.run_directory import RunConfig

BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, _ = COLORS
_GRAY = "#767676"
_LOSSES = ("loss", "critic_loss", "approx_kl")
_EXPLORATIONS = ("epsilon", "alpha", "entropy")
_MARKS: dict[type[LoopEvent], tuple[str, str, str]] = {
    Plateau: ("no recent gain", _GRAY, ":"),
    Degradation: ("score fell", VERMILION, "--"),
    Rollback: ("back to the best", PURPLE, "--"),
    Recovered: ("back to the best, smaller steps", PURPLE, "-."),
    Tuned: ("tuned", SKY, "-."),
    Forking: ("trying other settings", INK, ":"),
    Forked: ("settings chosen", INK, "-."),
    Dormant: ("nothing left to gain", GREEN, "-"),
    Error: ("failed", VERMILION, "-"),
}
_MANY_MARKS = 30
_NUMBER_WIDTH = 0.2
"""Of the number of a decision, in inches."""
_MOST_LEVELS = 5
WIDE, NARROW = (10.0, 6.0), (4.6, 6.4)
"""Sizes in inches: of a page or a screen, and of a telephone."""


class _NoClock:
    """Of a run whose steps alone are known."""

    def seconds_at(self, steps: Any) -> Array:
        return np.zeros_like(np.asarray(steps, np.float64))


@dataclass(frozen=True)
class RunView:
    """How a run is looked at."""

    ruler: Ruler = field(default_factory=Ruler)
    clock: Clock = field(default_factory=_NoClock)
    smooth: int | None = None
    """Over how many scores the bold line takes means; None: as many as suit their number."""
    size: tuple[float, float] = WIDE
    """Of the figure, in inches."""
    numbered: Sequence[Decision] = ()
    """Decisions that get their number, from 1, above the curve."""
    experiments: Sequence[tuple[int, int]] = ()
    """From which step to which other hyperparameters were tried."""

    def place(self, steps: Any) -> Array:
        """Return where environment steps are on the x axis."""
        return self.ruler.place(self.clock, steps)


def draw_curve(record: TrainingRecord, config: RunConfig, path: Path) -> None:
    """Write the picture of a run.

    Args:
        record: Of the run; may be empty.
        config: Of the run.
        path: The PNG, 1200 by 720 pixels; replaced at once.

    Raises:
        OSError: When the disk refuses.
    """
    write_picture(run_figure(record, config, RunView()), path, dpi=120)


def run_figure(record: TrainingRecord, config: RunConfig, view: RunView) -> Figure:
    """Draw score and best score, what learning says below, and the decisions as vertical lines.

    Args:
        record: Of the run; may be empty.
        config: Of the run.
        view: Of it.
    """
    with house_style():
        figure = new_figure(*view.size)
        axes, below = figure.subplots(2, sharex=True, height_ratios=(4, 1))
        _draw_scores(axes, record, view)
        _draw_learning(below, record, view)
        _draw_decisions(axes, record, view)
        _draw_experiments(axes, view)
        _draw_numbers(axes, view)
        learner = config.algorithm.upper() or config.agent_class
        title = f"{config.title}, {learner}, {config.origin}"
        figure.suptitle(plain(title, int(7 * view.size[0])))
        below.set_xlabel(view.ruler.label)
        view.ruler.mark(below)
        axes.set_ylabel(
            "mean reward a step"
            if record.is_per_step
            else "mean return of the episodes of a window"
        )
        entries = axes.get_legend_handles_labels()
        if entries[0]:
            columns = 4 if view.size[0] > NARROW[0] else 2
            figure.legend(*entries, loc="outside lower center", ncols=columns, fontsize=9)
    return figure


def _draw_scores(axes: Axes, record: TrainingRecord, view: RunView) -> None:
    if not record.scores:
        axes.text(0.5, 0.5, "no episode was scored", ha="center", transform=axes.transAxes)
        return
    place, scores, bests = thinned(view.place(record.steps), record.scores, record.bests)
    count = view.smooth or usual_smoothing(len(record.scores))
    few = "o" if len(scores) <= 60 else None
    pale = 0.35 if count > 1 else 0.9
    axes.plot(place, scores, color=BLUE, lw=1.0, alpha=pale, marker=few, ms=3, label="score")
    if count > 1:
        place, means = thinned(view.place(record.steps), smoothed(record.scores, count))
        axes.plot(place, means, color=BLUE, lw=1.8, label=f"mean of {count} scores")
    place = thinned(view.place(record.steps))[0]
    label = "score of the best policy"
    axes.step(place, bests, where="post", color=ORANGE, lw=2.0, label=label)
    found = record.best_decision
    if found is not None:
        axes.plot(
            view.place(found.total_steps),
            record.bests[-1],
            color=ORANGE,
            marker="*",
            markersize=15,
            markeredgecolor=INK,
            linestyle="none",
            label=f"kept: {words.number(record.bests[-1])}",
        )


def _draw_learning(axes: Axes, record: TrainingRecord, view: RunView) -> None:
    """Draw a loss or a distance on the left, how much is explored on the right."""
    sides = ((axes, _LOSSES, VERMILION), (axes.twinx(), _EXPLORATIONS, GREEN))
    for side, names, color in sides:
        name = next((name for name in names if name in record.learning), None)
        side.set_yticks([]) if name is None else side.locator_params(axis="y", nbins=3)
        if name is not None:
            place, figures = thinned(view.place(record.learning_steps), record.learning[name])
            side.plot(place, figures, color=color, lw=1.0)
            side.set_ylabel(plain(words.diagnostic(name)), color=color)
        side.grid(visible=False)
    axes.grid(visible=True, axis="x")


def _draw_decisions(axes: Axes, record: TrainingRecord, view: RunView) -> None:
    shown = [made for made in record.decisions if type(made.event) in _MARKS]
    width, alpha = (1.3, 0.8) if len(shown) <= _MANY_MARKS else (0.7, 0.4)
    named = set[str]()
    for made in shown:
        label, color, style = _MARKS[type(made.event)]
        axes.axvline(
            float(view.place(made.total_steps)),
            color=color,
            linestyle=style,
            linewidth=width,
            alpha=alpha,
            label=None if label in named else label,
        )
        named.add(label)


def _draw_experiments(axes: Axes, view: RunView) -> None:
    from matplotlib.collections import PolyCollection

    spans = [view.place(span) for span in view.experiments]
    shapes = [[(begin, 0), (begin, 1), (end, 1), (end, 0)] for begin, end in spans]
    if shapes:
        shade = PolyCollection(
            shapes,
            transform=axes.get_xaxis_transform(),
            facecolor=SKY,
            alpha=0.18,
            linewidth=0,
            label="experiments",
        )
        axes.add_collection(shade, autolim=False)


def _draw_numbers(axes: Axes, view: RunView) -> None:
    """Write the numbers of decisions above the curve, on levels, so that neighbours do not overlap."""
    places = [float(view.place(made.total_steps)) for made in view.numbered]
    low, high = axes.get_xlim()
    inches = view.size[0] * 0.85 / (high - low)
    for number, (place, level) in enumerate(zip(places, _levels(places, inches), strict=True), 1):
        axes.annotate(
            str(number),
            (place, 1.0),
            (0, 6 + 14 * level),
            xycoords=axes.get_xaxis_transform(),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=7.5,
            arrowprops={"arrowstyle": "-", "color": INK, "lw": 0.4, "alpha": 0.6},
        )


def _levels(places: Sequence[float], inches: float) -> list[int]:
    """Return for each place the lowest level on which nothing is as near as a number is wide."""
    ends = [-np.inf] * _MOST_LEVELS
    levels = []
    for place in places:
        free = [level for level, end in enumerate(ends) if place * inches - end >= _NUMBER_WIDTH]
        level = free[0] if free else int(np.argmin(ends))
        ends[level] = place * inches
        levels.append(level)
    return levels
