"""Pictures of runs, side by side: run directories come in, a figure goes out."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.core.argument_checks import at_least
from tensor_optix.runs.curve import RunView, run_figure
from tensor_optix.runs.groups import counted, grouped, labels_of
from tensor_optix.runs.hyperparam_history import draw_hyperparams
from tensor_optix.runs.logged_run import read_run
from tensor_optix.runs.pictures import (
    ABSCISSAE,
    KINDS,
    Ruler,
    house_style,
    line_look,
    new_figure,
    plain,
    smoothed,
    thinned,
    usual_smoothing,
)
from tensor_optix.runs.run_directory import RunDirectoryError
from tensor_optix.runs.spread import LEVEL, interquartile_mean, interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from tensor_optix.core.types import Array, PathLike
    from tensor_optix.runs.groups import Panel, RunGroup
    from tensor_optix.runs.logged_run import LoggedRun
    from tensor_optix.runs.pictures import Abscissa, Kind

logger = logging.getLogger(__name__)

MOST_COLUMNS = 3
_GRID = 300
"""Points at which the curves of several runs are compared."""
_NEAR = 0.01
"""Runs that end within such a share of the axis end together."""
_BAND = 0.2
"""How opaque an interval is."""


def plot(
    runs: PathLike | Sequence[PathLike],
    kind: Kind = "curves",
    x: Abscissa = "steps",
    smooth: int | None = None,
) -> Figure:
    """Draw runs from their directories.

    Runs that differ only in their seed are one line: the interquartile mean, with its 95 % interval by a
    bootstrap over the runs as a band (Agarwal et al. 2021). A run that ended before the others counts on with
    its last score; a tick on the line says where. Each environment has a panel.

    Args:
        runs: One run directory, or several.
        kind: "curves": scores over the training; of a single run with its decisions. "profile": the share of
            the runs whose kept policy scored so much or more. "hyperparams": those in force over the
            training.
        x: "steps", of the environment, or "time".
        smooth: Curves show the mean of so many scores; 1: the scores as they are; None: about a fiftieth of
            all.

    Returns:
        A Matplotlib figure, of no window.

    Raises:
        ValueError: If an argument is none of these, a directory holds no run, or no run has a score.
        ImportError: If Matplotlib is not installed.

    Examples:
        >>> import tensor_optix
        >>> policy = tensor_optix.train("CartPole-v1", max_steps=4096, run_dir="run", progress=False)
        >>> figure = tensor_optix.plot("run")
        >>> figure.savefig("run.png")
    """
    _require("kind", kind, KINDS)
    _require("x", x, ABSCISSAE)
    if smooth is not None:
        at_least("smooth", smooth, 1)
    paths = [runs] if isinstance(runs, str | Path) else list(runs)
    found = _read(paths, needs_scores=kind != "hyperparams")
    ruler = Ruler(x, max(run.record.seconds for run in found))
    with house_style():
        if kind == "hyperparams":
            return draw_hyperparams(found, ruler)
        if kind == "profile":
            return _profile_figure(grouped(found))
        if len(found) == 1:
            (run,) = found
            return run_figure(
                run.record, run.config, RunView(ruler, run, smooth, experiments=run.experiments)
            )
        return _curves_figure(grouped(found), ruler, smooth)


def _require(name: str, value: Any, known: Sequence[str]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")


def _read(paths: Sequence[PathLike], needs_scores: bool) -> list[LoggedRun]:
    """Return the runs, each once, without those that were not scored."""
    if not paths:
        raise ValueError("runs must be at least one run directory, got none")
    places = {Path(path).expanduser().resolve(): Path(path) for path in paths}
    found = []
    for path in places.values():
        run = read_run(path)
        if run.damage:
            logger.warning("%s: %s", path, run.damage)
        if run.has_scores or (not needs_scores and run.window_steps):
            found.append(run)
        elif len(places) > 1:
            logger.warning("%s: nothing was scored so far, so it is left out", path)
    if not found:
        raise RunDirectoryError(
            f"nothing was scored so far in {', '.join(map(str, places.values()))}; wait until a first "
            "episode has ended"
        )
    return found


def _panels(panels: dict[Panel, list[RunGroup]]) -> tuple[Figure, list[Axes]]:
    """Return a figure with axes for each panel, and its title."""
    columns = min(MOST_COLUMNS, len(panels))
    lines = math.ceil(len(panels) / columns)
    width, height = (10.0, 6.0) if columns == 1 else (1.0 + 4.5 * columns, 0.8 + 3.6 * lines)
    figure = new_figure(width, height)
    all_axes = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axes in all_axes[len(panels) :]:
        axes.remove()
    for axes, panel in zip(all_axes, panels, strict=False):
        axes.set_title(plain(panel.title, 60 if columns == 1 else 40))
    return figure, all_axes[: len(panels)]


def _legend(figure: Figure, panels: dict[Panel, list[RunGroup]], note: str) -> None:
    """Name the groups below the panels, with a note on their intervals where there are some."""
    from matplotlib.lines import Line2D

    labels = labels_of(panels)
    lines = [Line2D([], [], linewidth=2.0, **line_look(number)) for number in range(len(labels))]
    told = [plain(counted(label, panels), 70) for label in labels]
    columns = max(1, min(len(told), int(figure.get_figwidth() * 11 / (8 + max(map(len, told))))))
    has_band = any(len(group.runs) > 1 for groups in panels.values() for group in groups)
    note = note if has_band else ""
    figure.legend(
        lines, told, loc="outside lower center", ncols=columns, title=note, title_fontsize=9
    )


def _curves_figure(panels: dict[Panel, list[RunGroup]], ruler: Ruler, smooth: int | None) -> Figure:
    figure, all_axes = _panels(panels)
    labels = labels_of(panels)
    for axes, (panel, groups) in zip(all_axes, panels.items(), strict=True):
        for group in groups:
            _draw_group(axes, group, ruler, smooth, line_look(labels.index(group.label)))
        axes.set_xlabel(ruler.label)
        ruler.mark(axes)
        axes.set_ylabel("mean reward a step" if panel.is_per_step else "mean episode return")
    _legend(figure, panels, f"interquartile mean of the runs, and its {LEVEL:.0%} interval")
    return figure


def _draw_group(
    axes: Axes, group: RunGroup, ruler: Ruler, smooth: int | None, look: dict[str, Any]
) -> None:
    curves = [_curve(run, ruler, smooth) for run in group.runs]
    if len(curves) == 1:
        place, scores = thinned(*curves[0])
        axes.plot(place, scores, linewidth=1.8, marker="o" if len(place) == 1 else None, **look)
        return
    begin, ends = max(place[0] for place, _ in curves), [place[-1] for place, _ in curves]
    grid = np.linspace(min(begin, max(ends)), max(ends), _GRID)
    scores = np.stack([np.interp(grid, *curve) for curve in curves], axis=-1)
    middle = interquartile_mean(scores)
    axes.fill_between(grid, *interval(scores), color=look["color"], alpha=_BAND, linewidth=0)
    axes.plot(grid, middle, linewidth=1.8, **look)
    early = [end for end in ends if end < max(ends) - _NEAR * (max(ends) - grid[0])]
    if early:
        axes.plot(early, np.interp(early, grid, middle), "|", color=look["color"], ms=9)


def _curve(run: LoggedRun, ruler: Ruler, smooth: int | None) -> tuple[Array, Array]:
    scores = run.record.scores
    means = smoothed(scores, smooth or usual_smoothing(len(scores)))
    return ruler.place(run, run.record.steps), means


def _profile_figure(panels: dict[Panel, list[RunGroup]]) -> Figure:
    """Draw how many of the runs reached how much."""
    figure, all_axes = _panels(panels)
    labels = labels_of(panels)
    for axes, (panel, groups) in zip(all_axes, panels.items(), strict=True):
        finals = [run.final_score for group in groups for run in group.runs]
        margin = 0.05 * (max(finals) - min(finals)) or 0.05 * abs(finals[0]) or 1.0
        around = np.linspace(min(finals) - margin, max(finals) + margin, _GRID)
        levels = np.unique([*around, *finals, *np.nextafter(finals, np.inf)])
        for group in groups:
            look = line_look(labels.index(group.label))
            reached = _reached(group, levels)
            axes.plot(levels, reached.mean(axis=-1), linewidth=1.8, **look)
            if len(group.runs) > 1:
                band = interval(reached, np.mean)
                axes.fill_between(levels, *band, color=look["color"], alpha=_BAND, linewidth=0)
        score = "mean reward a step" if panel.is_per_step else "score"
        axes.set_xlabel(f"{score} of the policy that a run kept")
        axes.set_ylabel("share of the runs with that or more")
        axes.set_ylim(-0.03, 1.03)
    _legend(figure, panels, f"with {LEVEL:.0%} intervals of the shares")
    return figure


def _reached(group: RunGroup, levels: Array) -> Array:
    """Return `[levels, runs]`: 1.0 where the kept policy of a run scored so much or more."""
    finals = np.array([run.final_score for run in group.runs])
    return np.asarray(finals >= levels[:, None], np.float64)
