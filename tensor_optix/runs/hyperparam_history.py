"""The hyperparameters of runs over their training: logs come in, a figure of small panels goes out."""

from __future__ import annotations

import math
from numbers import Real
from typing import TYPE_CHECKING, Any

from tensor_optix.core.callbacks import Forked, Recovered, Tuned
from tensor_optix.runs import words
from tensor_optix.runs.groups import grouped, labels_of
from tensor_optix.runs.pictures import INK, house_style, line_look, new_figure, plain
from tensor_optix.runs.run_directory import RunDirectoryError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from tensor_optix.runs.groups import Panel, RunGroup
    from tensor_optix.runs.logged_run import LoggedRun
    from tensor_optix.runs.pictures import Ruler

MARKS = {"tuned": "o", "chosen among forks": "s", "smaller steps after a failure": "v"}
"""How a change by a decision looks; experiments, which come before, have no mark."""
_SMALL = 0.01
_FACTOR = 3.0
"""A hyperparameter above 0 has a logarithmic axis where it is as small, or changed by as much."""
_MOST_COLUMNS = 4
_PANEL_WIDTH = 2.9
_PANEL_HEIGHT = 2.0


class HyperparamHistory:
    """What was in force in a run, and when.

    Args:
        run: With at least one window.
    """

    def __init__(self, run: LoggedRun) -> None:
        self.lines: dict[str, tuple[list[int], list[float]]] = {}
        """Steps and values of each hyperparameter that is a number; each value holds until the next step."""
        self.changes: list[tuple[str, str, int, float]] = []
        """Name, kind of `MARKS`, steps and value of what decisions changed."""
        self._take(0, run.config.hyperparams)
        for made in run.decisions:
            for params in _in_force(made.event):
                self._take(made.total_steps, params)
        self._mark(run)
        for steps, values in self.lines.values():
            steps.append(max(run.record.total_steps, steps[-1]))
            values.append(values[-1])

    def _take(self, at: int, params: Mapping[str, Any]) -> None:
        for name, value in params.items():
            if isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value):
                steps, values = self.lines.setdefault(name, ([], []))
                if not values or values[-1] != value:
                    steps.append(at)
                    values.append(float(value))

    def _mark(self, run: LoggedRun) -> None:
        accepted = run.config.hyperparams
        for made in run.record.decisions:
            match made.event:
                case Tuned(effective=after):
                    kind = "tuned"
                case Forked(hyperparams=after):
                    kind = "chosen among forks"
                case Recovered(hyperparams=after):
                    kind = "smaller steps after a failure"
                case _:
                    continue
            self.changes += [
                (name, kind, made.total_steps, float(value))
                for name, value in after.items()
                if name in self.lines and value != accepted.get(name)
            ]
            accepted = after


def _in_force(event: object) -> Iterator[Mapping[str, Any]]:
    """Give what an event says was in force before and after it."""
    match event:
        case Tuned(before=before, effective=effective):
            # A rollback puts others in force, and does not say which.
            yield before
            yield effective
        case Forked(hyperparams=params) | Recovered(hyperparams=params):
            yield params


def draw_hyperparams(runs: Sequence[LoggedRun], ruler: Ruler, width: float | None = None) -> Figure:
    """Draw each hyperparameter that changed in a panel of its own, or all where none did; name the others.

    Args:
        runs: With at least one window.
        ruler: The x axis.
        width: Of the figure, in inches; None: as many panels side by side as suit their number.

    Raises:
        RunDirectoryError: If no hyperparameter is known.
    """
    histories = [HyperparamHistory(run) for run in runs]
    names = list(dict.fromkeys(name for one in histories for name in one.lines))
    if not names:
        raise RunDirectoryError("nothing is known of the hyperparameters of these runs")
    drawn = [name for name in names if len(_values(name, histories)) > 1] or names
    panels = grouped(runs)
    with house_style():
        figure, all_axes = _axes(len(drawn), width)
        looks = _looks(panels)
        for axes, name in zip(all_axes, drawn, strict=True):
            for run, history in zip(runs, histories, strict=True):
                _draw(axes, name, run, history, ruler, looks[id(run)][1])
            _finish(axes, name, histories)
            ruler.mark(axes)
        for axes in all_axes[-_columns(all_axes) :]:
            # Also where the last line has no panel below it.
            axes.tick_params(labelbottom=True)
            axes.set_xlabel(ruler.label, fontsize=9)
        titles = list(dict.fromkeys(one.title for one in panels))
        title = titles[0] if len(titles) == 1 else f"{len(titles)} environments"
        figure.suptitle(plain(title, int(8 * figure.get_figwidth())))
        constant = {name: histories for name in names if name not in drawn}
        note = _constants(constant, int(14 * figure.get_figwidth()))
        _legend(figure, histories, dict(looks.values()) if len(runs) > 1 else {}, note)
    return figure


def _axes(count: int, width: float | None) -> tuple[Figure, list[Axes]]:
    """Return a figure of so many panels."""
    columns = min(_MOST_COLUMNS, count) if width is None else min(count, int(width // 2.2))
    lines = math.ceil(count / columns)
    size = (width or max(5.0, columns * _PANEL_WIDTH), 1.2 + lines * _PANEL_HEIGHT)
    figure = new_figure(*size)
    all_axes = list(figure.subplots(lines, columns, squeeze=False, sharex=True).flat)
    for axes in all_axes[count:]:
        axes.remove()
    return figure, all_axes[:count]


def _columns(all_axes: Sequence[Axes]) -> int:
    """Return how many panels are side by side."""
    spec = all_axes[0].get_subplotspec()
    assert spec is not None
    return int(spec.get_gridspec().ncols)


def _constants(names: Mapping[str, Sequence[HyperparamHistory]], width: int) -> str:
    """Say what did not change."""
    told = [
        f"{name.replace('_', ' ')} {words.number(next(iter(_values(name, histories))))}"
        for name, histories in names.items()
    ]
    return plain(f"unchanged: {', '.join(told)}", width) if told else ""


def _looks(panels: dict[Panel, list[RunGroup]]) -> dict[int, tuple[str, dict[str, Any]]]:
    """Return name and look of the group of each run, by the run's identity."""
    labels = labels_of(panels)
    return {
        id(run): (group.label, line_look(labels.index(group.label)))
        for groups in panels.values()
        for group in groups
        for run in group.runs
    }


def _values(name: str, histories: Sequence[HyperparamHistory]) -> set[float]:
    return {value for one in histories if name in one.lines for value in one.lines[name][1]}


def _draw(
    axes: Axes,
    name: str,
    run: LoggedRun,
    history: HyperparamHistory,
    ruler: Ruler,
    look: dict[str, Any],
) -> None:
    if name not in history.lines:
        return
    steps, values = history.lines[name]
    axes.step(ruler.place(run, steps), values, where="post", linewidth=1.4, **look)
    for changed, kind, at, value in history.changes:
        if changed == name:
            place = float(ruler.place(run, at))
            axes.plot(place, value, MARKS[kind], color=look["color"], ms=5, mec=INK, mew=0.6)


def _finish(axes: Axes, name: str, histories: Sequence[HyperparamHistory]) -> None:
    values = _values(name, histories)
    if min(values) > 0 and (min(values) < _SMALL or max(values) > _FACTOR * min(values)):
        axes.set_yscale("log")
    else:
        axes.locator_params(axis="y", nbins=4)
    axes.set_title(plain(name.replace("_", " "), 30), fontsize=10)
    axes.tick_params(labelsize=8)
    axes.tick_params(which="minor", labelsize=7)


def _legend(
    figure: Figure,
    histories: Sequence[HyperparamHistory],
    looks: dict[str, dict[str, Any]],
    note: str,
) -> None:
    """Name groups and marks below the panels, as far as there are any, and what has no panel."""
    from matplotlib.lines import Line2D

    entries = [
        (Line2D([], [], linewidth=2.0, **look), plain(label)) for label, look in looks.items()
    ]
    kinds = {change[1] for one in histories for change in one.changes}
    for kind, marker in MARKS.items():
        if kind in kinds:
            shape = Line2D([], [], linestyle="none", marker=marker, color="none", mec=INK)
            entries.append((shape, kind))
    columns = max(1, int(figure.get_figwidth() // 3))
    figure.legend(
        [handle for handle, _ in entries],
        [label for _, label in entries],
        loc="outside lower center",
        ncols=columns,
        fontsize=9,
        title=note or None,
        title_fontsize=8,
    )
