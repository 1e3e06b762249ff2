"""Checks of arguments: a name and a value come in, the value goes out, or an error says what was wanted."""

from __future__ import annotations

import math
from difflib import get_close_matches
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


def finite_number(name: str, value: Any) -> float:
    """Return a finite number. Raises ValueError for anything else, a bool included."""
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {value!r}")
    return float(value)


def integer(name: str, value: Any) -> int:
    """Return an integer. Raises ValueError for anything else, a bool or 2.0 included."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ValueError(f"{name} must be an integer, got {value!r}")
    return int(value)


def whole_number(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """Return a whole number in its range as an int; 2.0 is one, True is not. Raises ValueError for others."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    ceiling = math.inf if most is None else most
    if not is_number or not least <= value <= ceiling or value % 1 != 0:
        wanted = f"of at least {least}" if most is None else f"in [{least}, {most}]"
        raise ValueError(f"{name} must be a whole number {wanted}, got {value!r}")
    return int(value)


def at_least(name: str, value: Any, least: float) -> Any:
    """Return a value that is not below `least`. Raises ValueError otherwise."""
    if not value >= least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return value


def in_unit_interval(name: str, value: Any) -> float:
    """Return a number in [0, 1]. Raises ValueError for others."""
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} must be in [0, 1], got {value}")
    return float(value)


def share(name: str, value: Any) -> float:
    """Return a number in (0, 1]. Raises ValueError for others."""
    if not 0.0 < value <= 1.0:
        raise ValueError(f"{name} must be in (0, 1], got {value}")
    return float(value)


def above(name: str, value: Any, bound: float) -> Any:
    """Return a finite value above `bound`. Raises ValueError for others."""
    if not bound < value < math.inf:
        raise ValueError(f"{name} must be above {bound}, got {value}")
    return value


def positive(name: str, value: Any) -> Any:
    """Return a finite value above 0. Raises ValueError for others."""
    if not 0.0 < value < math.inf:
        raise ValueError(f"{name} must be positive, got {value}")
    return value


def not_negative(name: str, value: Any) -> Any:
    """Return a finite value of at least 0. Raises ValueError for others."""
    if not 0.0 <= value < math.inf:
        raise ValueError(f"{name} must not be negative, got {value}")
    return value


def instance_of(name: str, value: Any, kind: type) -> Any:
    """Return a value of a kind. Raises TypeError for others, a class in place of an instance included."""
    if isinstance(value, kind):
        return value
    raise TypeError(f"{name} must be a {kind.__name__}, got {kind_of(value)}")


def with_method(name: str, value: Any, method: str) -> Any:
    """Return an object that has a method. Raises TypeError for others, a class in place of one included."""
    if not isinstance(value, type) and callable(getattr(value, method, None)):
        return value
    raise TypeError(f"{name} must be an object with the method {method}, got {kind_of(value)}")


def kind_of(value: Any) -> str:
    """Say what was given in place of an object of another kind; of a class, that an instance is wanted."""
    is_class = isinstance(value, type)
    return f"the class {value.__name__}; give an instance" if is_class else type(value).__name__


def function(name: str, value: Any) -> Any:
    """Return a value that can be called. Raises TypeError for others."""
    if not callable(value):
        raise TypeError(f"{name} must be a function, got {value!r}")
    return value


def closest(name: Any, known: Iterable[str], likeness: float = 0.6) -> str | None:
    """Return the known name that a misspelt one may stand for; None if none is near. Case does not matter.

    Args:
        name: What the user wrote.
        known: What there is.
        likeness: How alike two names must be, from 0 to 1, the same but for case.
    """
    by_lower = {one.lower(): one for one in known}
    found = get_close_matches(str(name).lower(), by_lower, 1, likeness)
    return by_lower[found[0]] if found else None
