"""What the library logs, between the lines of a display: warnings, and one logger's messages."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tensor_optix.cli.display import Display


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
    """Show what the library logs while the block runs.

    Args:
        display: Shows it as notes.
        told: The logger whose information is shown, besides the warnings of all.
        form: Makes a note of a record.
    """
    logger = logging.getLogger("tensor_optix")
    handler, level = _NoteHandler(display, told, form), told.level
    logger.addHandler(handler)
    told.setLevel(logging.INFO)
    try:
        yield
    finally:
        told.setLevel(level)
        logger.removeHandler(handler)
