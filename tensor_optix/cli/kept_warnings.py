"""What the library warns of while a block runs: kept back, to be told after what matters more."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def kept_warnings() -> Iterator[list[str]]:
    """Give a list to which the messages of warnings and errors are added until the block ends."""
    handler, logger = _Keeper(), logging.getLogger("tensor_optix")
    logger.addHandler(handler)
    try:
        yield handler.messages
    finally:
        logger.removeHandler(handler)


class _Keeper(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
