"""How all pictures look, and their files: figures come in, a PNG, SVG, PDF or SVG within a page goes out.

Matplotlib is imported where it is used: it takes longer to load than the rest of the command, and a run
without it is a run without pictures. Not pyplot, which would choose a window system.
"""

from __future__ import annotations

import io
import re
import textwrap
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import numpy as np

from tensor_optix.core.checkpoints.durable_files import sync_directory
from tensor_optix.core.checkpoints.staging import private_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from tensor_optix.core.types import Array

Abscissa: TypeAlias = Literal["steps", "time"]
"""What a curve stands over: environment steps, or the time that the training took."""
ABSCISSAE = ("steps", "time")
Kind: TypeAlias = Literal["curves", "profile", "hyperparams"]
"""What is shown of runs."""
KINDS = ("curves", "profile", "hyperparams")

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Told apart also by the colour-blind (Okabe and Ito 2008); their yellow is too pale for lines."""
STYLES = ("-", "--", "-.", ":")
"""Beside the colours, for prints without any; the pairs repeat after 28 lines."""
SUFFIXES = (".png", ".svg", ".pdf")
"""The files that a picture can be."""
DPI = 150
"""Of a PNG."""
INK = "#1f2328"
"""Text and axes. Within a page they take the page's own colour."""
MOST_POINTS = 2_000
"""Of a line: more are thinned out, as nobody sees them."""

_STYLE: Any = {
    "axes.edgecolor": INK,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.formatter.limits": (-4, 6),
    "font.family": "sans-serif",
    "font.size": 10,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "tensor_optix",
    "text.color": INK,
    "text.usetex": False,
    "xtick.color": INK,
    "ytick.color": INK,
}


@contextmanager
def house_style() -> Iterator[None]:
    """Let what is drawn and written within look alike, whatever the user's own settings are.

    Raises:
        ImportError: If Matplotlib is not installed; the message has the command that installs it.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("Matplotlib is not installed: pip install 'tensor-optix[cli]'") from error
    with matplotlib.rc_context(_STYLE):
        yield


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of so many inches that leaves room for all its labels."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def write_picture(figure: Figure, path: Path, dpi: float = DPI) -> None:
    """Write a picture as its file's name says, in place of one that is there.

    Args:
        figure: To be written.
        path: Ends in one of `SUFFIXES`.
        dpi: Of a PNG.

    Raises:
        OSError: If the disk refuses; a file that was there is untouched.
    """
    unfinished = private_path(path.parent)
    kind = path.suffix.lower().removeprefix(".")
    # Without the time of writing, so that the same picture is the same file.
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    try:
        with house_style():
            figure.savefig(unfinished, format=kind, dpi=dpi, metadata=dates.get(kind, {}))
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    sync_directory(path.parent)


def inline_svg(figure: Figure, title: str) -> str:
    """Return a picture as an element of a page, in the page's own ink; it refers to nothing outside.

    The page may have a colour of its own in place of each of `COLORS`, as `--line-0` and so on.

    Args:
        figure: To be written.
        title: What it shows, for those who cannot see it; unique within the page.
    """
    import matplotlib

    file = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    # What a picture defines has names of its own: one that is hidden must not lend it to another.
    with house_style(), matplotlib.rc_context({"svg.hashsalt": title}):
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    element = file.getvalue()
    element = element[element.index("<svg") :].replace(INK, "currentColor")
    for number, color in enumerate(COLORS):
        element = element.replace(color.lower(), f"var(--line-{number}, {color})")
    element = _LEFT_OUT_OF_PAGES.sub("", element).replace("xlink:href", "href")
    return element.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1)


_LEFT_OUT_OF_PAGES = re.compile(
    r' id="[^"]*_\d+"| xmlns(:xlink)?="[^"]*"|<style.*?</style>', re.DOTALL
)
"""Names that several pictures would share, and what HTML has no use for."""


def plain(text: str, width: int = 60) -> str:
    """Return a text as a picture shows it word for word, in lines of so many characters."""
    # Dollars would begin a formula, and what begins with _ is in no legend.
    lines = textwrap.wrap(text.lstrip("_"), width, break_on_hyphens=False) or [""]
    return "\n".join(lines).replace("$", r"\$")


def line_look(number: int) -> dict[str, Any]:
    """Return colour and style of the line of this number."""
    return {"color": COLORS[number % len(COLORS)], "linestyle": STYLES[number % len(STYLES)]}


def thinned(*series: Sequence[float] | Array) -> list[Array]:
    """Return series of one length with at most `MOST_POINTS` points, the first and the last among them."""
    count = len(series[0])
    if count <= MOST_POINTS:
        return [np.asarray(one) for one in series]
    kept = np.linspace(0, count - 1, MOST_POINTS).round().astype(int)
    return [np.asarray(one)[kept] for one in series]


def smoothed(scores: Sequence[float] | Array, count: int) -> Array:
    """Return the mean of each score and the `count - 1` before it, or of as many as there are."""
    values = np.asarray(scores, np.float64)
    sums = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.arange(1, len(values) + 1)
    begins = np.maximum(ends - count, 0)
    return np.asarray((sums[ends] - sums[begins]) / (ends - begins))


def usual_smoothing(count: int) -> int:
    """Return over how many of so many scores to take means where nobody says: about 50 differ then."""
    return max(1, count // 50)


class Ruler:
    """An x axis: says where on it an environment step of a run is.

    Args:
        x: What it measures.
        longest: Of the runs that are to be on it, in seconds; chooses the unit of time.
    """

    def __init__(self, x: Abscissa = "steps", longest: float = 0.0) -> None:
        self._is_time = x == "time"
        units = ((172_800.0, 86_400.0, "days"), (7200.0, 3600.0, "hours"), (120.0, 60.0, "minutes"))
        found = (unit for unit in units if longest > unit[0])
        _, self._seconds, self._unit = next(found, (0.0, 1.0, "seconds"))

    def place(self, clock: Clock, steps: Any) -> Array:
        """Return where a number of steps, or an array of them, is for a run that kept this time."""
        if self._is_time:
            return clock.seconds_at(steps) / self._seconds
        return np.asarray(steps, np.float64)

    @property
    def label(self) -> str:
        """What it measures, in words."""
        return f"{self._unit} of training" if self._is_time else "environment steps"

    def mark(self, axes: Axes) -> None:
        """Number the x axis: steps such as 1.2M."""
        from matplotlib.ticker import EngFormatter, MaxNLocator

        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=not self._is_time))
        if not self._is_time:
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))


class Clock(Protocol):
    """Knows how long a run took to a step."""

    def seconds_at(self, steps: Any) -> Array:
        """Return the seconds of training when so many environment steps were made."""
