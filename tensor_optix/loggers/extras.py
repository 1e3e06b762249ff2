"""Packages that only loggers need: a name comes in, an error that says how to install it goes out."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def importing(extra: str) -> Iterator[None]:
    """Name the extra that brings what the block imports, where it is not installed.

    Raises:
        ImportError: With the command that installs it.
    """
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f"{error.name or extra} is not installed: pip install 'tensor-optix[{extra}]'"
        ) from error
