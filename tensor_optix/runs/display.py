"""Live progress: the record of a run comes in; a panel in a terminal or a notebook, or plain lines, go out,
with what the library logs between them.

Everything is drawn from within the loop's own calls, a few times a second at most: no
thread, no cost worth mentioning.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from tensor_optix.core.callbacks import Baseline, Best, Error, LoopCallback, LoopEvent, WindowReport
from tensor_optix.runs import words
from tensor_optix.runs.record import merged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import RenderableType

    from tensor_optix.runs.record import TrainingRecord
    from tensor_optix.runs.run_directory import RunConfig

logger = logging.getLogger(__name__)

PANEL_SECONDS = 1.0
LINE_SECONDS = 5.0
BEST_SECONDS = 1.0
"""New bests come in quick succession while a policy learns: a line for one of them this often."""
MAX_WIDTH = 100
SHOWN_DECISIONS = 4
_SEARCHED_DECISIONS = 200
_HINT = "Ctrl-C ends the run after this window and keeps the best; twice: at once"


class Display(LoopCallback):
    """What both displays have in common.

    Args:
        record: Of the run; is called before the display.
        config: Of the run.
        console: Where to draw.
    """

    shows_log: ClassVar[bool] = True
    """Whether what the library logs is to be shown by `note`, and not by the log's own handlers."""

    def __init__(self, record: TrainingRecord, config: RunConfig, console: Console) -> None:
        self._record = record
        self._config = config
        self._console = console
        self._shown_at = -1e9

    def note(self, text: str) -> None:
        """Show a line that is no progress: a warning, or that the run is about to stop."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """Show what one should know of also where no progress is shown."""
        self.note(text)

    def close(self) -> None:
        """Show the last state, and leave the terminal as it was found."""

    def _is_due(self, seconds: float) -> bool:
        now = time.perf_counter()
        if now - self._shown_at < seconds:
            return False
        self._shown_at = now
        return True


class PlainDisplay(Display):
    """Lines of text: one every few seconds, and one for each decision."""

    def on_loop_start(self) -> None:
        """Say what begins."""
        self.note(f"{self._config.title}: {_parts(self._config)}")

    def on_window(self, report: WindowReport) -> None:
        """Write a line, if it is time to."""
        record = self._record
        made = record.decisions[-1] if record.decisions else None
        is_new_best = (
            made is not None
            and isinstance(made.event, Best)
            and made.total_steps == report.total_steps
        )
        if self._is_due(BEST_SECONDS if is_new_best else LINE_SECONDS):
            score = record.scores[-1] if record.scores else None
            self._line(
                report.total_steps,
                f"score {words.number(score)}  best {words.number(report.best)}  "
                f"{record.steps_per_second:,.0f} steps/s  {words.STATES[report.state]}",
            )

    def on_event(self, event: LoopEvent) -> None:
        """Write a line for a decision; new bests are in the other lines."""
        made = self._record.decisions[-1] if self._record.decisions else None
        if made is None or (made.kind, made.total_steps) != (event.kind, event.total_steps):
            return
        if not isinstance(made.event, Best | Baseline | Error):
            self._line(made.total_steps, words.decision(made))

    def _line(self, steps: int, text: str) -> None:
        self.note(f"{words.clock(self._record.seconds)}  {steps:>12,} steps  {text}")


class PanelDisplay(Display):
    """A panel that is redrawn in place, where `draw` puts it."""

    def draw(self, picture: RenderableType) -> None:
        """Show a picture in place of the one before."""
        raise NotImplementedError

    def on_loop_start(self) -> None:
        """Say what is waited for: the first update may have to be compiled."""
        self.draw(Text("the first window is under way ...", "dim"))

    def on_window(self, report: WindowReport) -> None:
        """Redraw, if it is time to."""
        if self._is_due(PANEL_SECONDS):
            self.draw(self._panel())

    def close(self) -> None:
        """Draw the end."""
        self.draw(Text() if self._record.last is None else self._panel(is_over=True))

    def _panel(self, is_over: bool = False) -> Panel:
        config = self._config
        # The terminal writes ^C behind the panel: in a full line it would wrap and break the frame.
        width = min(self._console.width - 2, MAX_WIDTH)
        rows = Table.grid(padding=(0, 2))
        rows.add_column(style="dim", no_wrap=True)
        rows.add_column(overflow="ellipsis", no_wrap=True)
        for name, text in self._figures(width - 17):
            rows.add_row(name, text)
        decided = [
            Text(
                f"{words.clock(made.seconds):>8}  {words.decision(made, count)}",
                overflow="ellipsis",
                no_wrap=True,
            )
            for made, count in merged(self._record.decisions[-_SEARCHED_DECISIONS:])[
                -SHOWN_DECISIONS:
            ]
        ]
        return Panel(
            Group(rows, Text(), *decided, *([] if is_over else [Text(_HINT, "dim")])),
            title=f"[bold]{escape(config.title)}[/bold]",
            subtitle=escape(_parts(config)),
            width=width,
            border_style="cyan",
        )

    def _figures(self, width: int) -> list[tuple[str, str]]:
        record = self._record
        score = record.scores[-1] if record.scores else None
        best = record.bests[-1] if record.bests else None
        often = words.interval(record.last.interval) if record.last is not None else ""
        total, limit = f"{record.total_steps:,}", self._config.max_steps
        return [
            ("steps", total if limit is None else f"{total} of at most {limit:,}"),
            ("speed", f"{record.steps_per_second:,.0f} steps/s"),
            ("elapsed", words.clock(record.seconds)),
            ("score", words.number(score)),
            ("best", words.number(best)),
            ("state", f"{words.STATES[record.state]}, {often}"),
            ("learning", words.diagnostics(record.diagnostics)),
            ("scores", words.sparkline(record.scores, max(width, 10))),
        ]


class LiveDisplay(PanelDisplay):
    """The panel in a terminal."""

    def __init__(self, record: TrainingRecord, config: RunConfig, console: Console) -> None:
        super().__init__(record, config, console)
        self._live = Live(console=console, auto_refresh=False)
        self._live.start()

    def draw(self, picture: RenderableType) -> None:
        """Draw over the one before."""
        self._live.update(picture, refresh=True)

    def close(self) -> None:
        """Draw the end, and give the cursor back."""
        super().close()
        self._live.stop()


class NotebookDisplay(PanelDisplay):
    """The panel below the cell of a notebook."""

    def __init__(self, record: TrainingRecord, config: RunConfig, console: Console) -> None:
        super().__init__(record, config, console)
        self._shown: Any = None

    def draw(self, picture: RenderableType) -> None:
        """Put it in place of the one before; the cell's other output stays."""
        from IPython.display import HTML, display

        paper = Console(
            file=io.StringIO(), record=True, width=MAX_WIDTH, force_jupyter=False, highlight=False
        )
        paper.print(picture)
        page = HTML(paper.export_html(inline_styles=True, code_format=_CELL))  # type: ignore[no-untyped-call]
        if self._shown is None:
            self._shown = display(page, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._shown.update(page)


_CELL = '<pre style="white-space:pre;overflow-x:auto;line-height:normal;font-family:monospace">{code}</pre>'


class NoDisplay(Display):
    """Nothing, but for warnings, in the log."""

    shows_log = False

    def note(self, text: str) -> None:
        """Say nothing."""

    def warn(self, text: str) -> None:
        """Log it."""
        logger.warning(text)


def _parts(config: RunConfig) -> str:
    return ", ".join((config.learner, config.environments, config.origin))


class _Console(Console):
    """A console whose reader may go away (`tensor-optix train ... | head`): training goes on."""

    def on_broken_pipe(self) -> None:
        """Say nothing more."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def make_display(record: TrainingRecord, config: RunConfig, plain: bool) -> Display:
    """Return a panel for a terminal that can draw one, else plain lines."""
    console = _Console(highlight=False)
    kind = PlainDisplay if plain or not _can_draw(console) else LiveDisplay
    return kind(record, config, console)


def make_python_display(record: TrainingRecord, config: RunConfig, progress: bool) -> Display:
    """Return a panel for a terminal or a notebook that is to show progress; nothing elsewhere."""
    console = _Console(highlight=False)
    if progress and console.is_jupyter:
        return NotebookDisplay(record, config, console)
    kind = LiveDisplay if progress and _can_draw(console) else NoDisplay
    return kind(record, config, console)


class Progress(LoopCallback):
    """Shows the progress of a run that Python code makes, in a terminal or a notebook; piped, nothing.

    Args:
        record: Of the run; is called before.
        describe: Tells what the run is, when its first window has come.
    """

    def __init__(self, record: TrainingRecord, describe: Callable[[], RunConfig]) -> None:
        self._record = record
        self._describe = describe
        self._display: Display | None = None

    def on_window(self, report: WindowReport) -> None:
        """Draw a window."""
        if self._display is None:
            self._display = make_python_display(self._record, self._describe(), progress=True)
        self._display.on_window(report)

    def on_loop_stop(self) -> None:
        """Draw the end."""
        if self._display is not None:
            self._display.close()
            self._display = None


@contextmanager
def announced(text: str, plain: bool) -> Iterator[None]:
    """Tell who sits at a terminal what takes so long; where it can be drawn on, only meanwhile."""
    console = _Console(highlight=False)
    if not console.is_terminal:
        yield
    elif plain or not _can_draw(console):
        console.print(text)
        yield
    else:
        with Live(Text(text, "dim"), console=console, auto_refresh=False, transient=True):
            yield


def _can_draw(console: Console) -> bool:
    is_drawable = console.is_terminal and not console.is_dumb_terminal
    return is_drawable and console.encoding.lower().startswith("utf")


class _NoteHandler(logging.Handler):
    def __init__(
        self, display: Display, told: logging.Logger, form: Callable[[logging.LogRecord], str]
    ) -> None:
        super().__init__(logging.INFO)
        self._display = display
        self._told = told
        self._form = form

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.WARNING and record.name != self._told.name:
            return
        error = record.exc_info[1] if record.exc_info else None
        reason = f" ({type(error).__name__}: {error})" if error is not None else ""
        self._display.note(self._form(record) + reason)


@contextmanager
def log_shown(
    display: Display, told: logging.Logger, form: Callable[[logging.LogRecord], str]
) -> Iterator[None]:
    """Show what the library logs while the block runs, if the display does that.

    Args:
        display: Shows it as notes.
        told: The logger whose information is shown, besides the warnings of all.
        form: Makes a note of a record.
    """
    if not display.shows_log:
        yield
        return
    logger = logging.getLogger("tensor_optix")
    handler, level = _NoteHandler(display, told, form), told.level
    logger.addHandler(handler)
    told.setLevel(logging.INFO)
    try:
        yield
    finally:
        told.setLevel(level)
        logger.removeHandler(handler)
