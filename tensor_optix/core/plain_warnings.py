"""Warnings of the packages that environments come from: each comes through once, without escape codes.

Gymnasium colours its own wherever they go, and several environments of a kind all say the same.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
_SAID: set[tuple[str, str]] = set()
"""Category and text of what was said in this process."""


@contextmanager
def quiet_making() -> Iterator[None]:
    """Say each warning once, and none that only the makers of packages can act upon."""
    with warnings.catch_warnings():
        # EnvPool states the limits of its float32 boxes in float64.
        warnings.filterwarnings("ignore", r".*Box (low|high)'s precision lowered", UserWarning)
        # Box2D's bindings were made by a SWIG that newer Pythons complain about.
        warnings.filterwarnings(
            "ignore", r"builtin type \w+ has no __module__ attribute", DeprecationWarning
        )
        with warnings_once():
            yield


def warnings_once() -> AbstractContextManager[None]:
    """Say each warning once in this process, without escape codes."""
    return _shown(_is_new)


def plain_warnings() -> AbstractContextManager[None]:
    """Say all warnings, without escape codes."""
    return _shown(lambda _: True)


class SharedWarnings:
    """What was said by any of several processes: by the one that makes this, and those that it is sent to.

    Args:
        directory: All of them can write there.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._said = _SAID

    def watch(self) -> None:
        """Let each warning through once, for the rest of this process, whichever of them has it."""
        _SAID.update(self._said)
        warnings.showwarning = _Plain(_show(), self._is_new)

    def _is_new(self, warning: tuple[str, str]) -> bool:
        if not _is_new(warning):
            return False
        name = hashlib.sha256(repr(warning).encode()).hexdigest()
        try:
            Path(self._directory, name).touch(exist_ok=False)
        except FileExistsError:
            return False
        except OSError:  # the directory is gone: rather twice than never
            return True
        return True


class _Plain:
    """Shows those warnings that are to be shown, without escape codes.

    Args:
        show: `warnings.showwarning`.
        is_wanted: Tells it of category and text.
    """

    def __init__(
        self, show: Callable[..., None], is_wanted: Callable[[tuple[str, str]], bool]
    ) -> None:
        self.show, self._is_wanted = show, is_wanted

    def __call__(self, message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
        """Show a warning, as `warnings.showwarning` does."""
        text = str(message)
        plain = _ESCAPES.sub("", text)
        if self._is_wanted((category.__name__, plain)):
            self.show(message if plain == text else category(plain), category, *where, **more)


@contextmanager
def _shown(is_wanted: Callable[[tuple[str, str]], bool]) -> Iterator[None]:
    # The filters stay alone: to touch them makes Python forget what it said before.
    before = warnings.showwarning
    warnings.showwarning = _Plain(_show(), is_wanted)
    try:
        yield
    finally:
        warnings.showwarning = before


def _show() -> Callable[..., None]:
    """Return what shows warnings when nobody here stands before it."""
    shown = warnings.showwarning
    return shown.show if isinstance(shown, _Plain) else shown


def _is_new(warning: tuple[str, str]) -> bool:
    is_new = warning not in _SAID
    _SAID.add(warning)
    return is_new
