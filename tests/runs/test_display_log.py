"""What the library logs, between the lines of a display."""

from __future__ import annotations

import ast
import importlib.util
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import tensor_optix
from tensor_optix.runs.display import log_shown

if TYPE_CHECKING:
    from tensor_optix.runs.display import Display

PACKAGE = Path(tensor_optix.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))


class Notes:
    """A display that keeps its notes."""

    shows_log = True

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def test_one_loggers_information_is_shown_and_the_warnings_of_all() -> None:
    told, other = (logging.getLogger(f"tensor_optix.{name}") for name in ("told", "other"))
    display: Display = Notes()  # type: ignore[assignment]
    with log_shown(display, told, logging.LogRecord.getMessage):
        told.info("shown")
        other.info("not shown")
        try:
            raise OSError("gone")
        except OSError as error:
            other.warning("a warning", exc_info=error)
    told.warning("too late")
    assert display.said == ["shown", "a warning (OSError: gone)"]  # type: ignore[attr-defined]
    assert told.level == logging.NOTSET


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_that_is_named_in_a_string_is_there(path: Path) -> None:
    """A logger's name, for instance, would fall silent without a word when its module moves."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            continue
        if re.fullmatch(r"tensor_optix(\.\w+)+", node.value):
            assert importlib.util.find_spec(node.value) is not None, node.value
