"""What a text such as "module:Class" names: the text comes in, the object goes out."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

from tensor_optix.core.argument_checks import closest

if TYPE_CHECKING:
    from collections.abc import Callable


def named_object(text: str, purpose: str, fits: Callable[[Any], bool]) -> Any:
    """Return what a text names.

    Args:
        text: "module:name"; the name may have dots in it.
        purpose: What it is named for, for the error.
        fits: Whether an object could have been meant.

    Raises:
        ValueError: If it is of another form, the module cannot be imported, or has nothing of that name;
            with a name that is near.
    """
    module, _, name = text.partition(":")
    if not (module and name):
        raise ValueError(f'{purpose} must be given as "module:name"')
    try:
        place = imported(module, purpose)
    except ImportError as error:
        # Of another kind than that which an environment's own missing packages raise.
        raise ValueError(str(error)) from error
    for part in name.split("."):
        if not hasattr(place, part):
            known = [name for name, one in getattr(place, "__dict__", {}).items() if fits(one)]
            near = closest(part, known)
            remedy = "" if near is None else f'; did you mean "{near}"?'
            raise ValueError(f'{purpose}: there is no "{part}" in {module}{remedy}')
        place = getattr(place, part)
    return place


def imported(module: str, purpose: str) -> Any:
    """Import a module.

    Args:
        module: Its full name.
        purpose: Whose module it is, for the error.

    Raises:
        ImportError: If there is none of that name, with a name that is near; or if it cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing, remedy = error.name or "", "install it, or run where it lies"
        if f"{module}.".startswith(f"{missing}.") and (near := _near_module(missing)) is not None:
            remedy = f'did you mean "{near}"?'
        raise ImportError(f"cannot import the module of {purpose}: {error}; {remedy}") from error
    except (ValueError, TypeError) as error:
        raise ImportError(f'"{module}" is no name of a module, for {purpose}: {error}') from error


def _near_module(missing: str) -> str | None:
    """Return the module beside which a missing one would lie, whose name is near; None if none is."""
    parent, _, name = missing.rpartition(".")
    path = importlib.import_module(parent).__path__ if parent else None
    near = closest(name, [found.name for found in pkgutil.iter_modules(path)], likeness=0.7)
    return None if near is None else f"{parent}.{near}" if parent else near
