"""Values as JSON text can hold them: a dict of settings, metrics or numbers goes in, plain JSON comes out.

NumPy scalars become Python numbers and NumPy arrays lists of them, for good: what comes back holds no NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum
from typing import Any

import numpy as np

_TUPLE = "$tuple"
_FLOAT = "$float"
MOST_DEPTH = 100
"""How deeply lists and dicts may be nested in a file, so that no reader comes near its limit."""


def require_shallow(tree: Any) -> None:
    """Refuse JSON that is nested too deeply.

    Raises:
        ValueError: If there are more than `MOST_DEPTH` lists and dicts within one another.
    """
    level = [tree]
    for _ in range(MOST_DEPTH + 1):
        inner = (one.values() if isinstance(one, dict) else one for one in level if _is_node(one))
        level = [item for items in inner for item in items]
        if not level:
            return
    raise ValueError(f"lists and dicts may be nested {MOST_DEPTH} deep, these are nested deeper")


def to_json(value: Any, name: str) -> Any:
    """Return `value` in a form that `json.dumps(..., allow_nan=False)` accepts, and `from_json` undoes.

    JSON knows no tuple and no NaN, so these two travel as `{"$tuple": [...]}` and `{"$float": "nan"}`.

    Args:
        value: None, bool, int, float, str, NumPy scalar or array, or a list, tuple or dict
            of these.
        name: What errors call it, for instance `hyperparams`.

    Raises:
        ValueError: Naming the first key whose value JSON cannot hold.
    """
    return _converted(value, name, is_exact=True)


def to_readable_json(value: Any) -> Any:
    """Return any value in a form that `json.dumps(..., allow_nan=False)` accepts, and people like to read.

    A tuple is a list, NaN and infinities are null, a member of an Enum is its name, and whatever else JSON
    cannot hold is its text.
    """
    return _converted(value, "", is_exact=False)


def from_json(value: Any) -> Any:
    """Return what `to_json` was given, after `json.loads`."""
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {_TUPLE}:
        return tuple(from_json(item) for item in value[_TUPLE])
    if value.keys() == {_FLOAT}:
        return float(value[_FLOAT])
    return {key: from_json(item) for key, item in value.items()}


def _is_node(value: Any) -> bool:
    return isinstance(value, dict | list | tuple)


def _converted(value: Any, name: str, is_exact: bool) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, Enum) and not is_exact:
        return value.name
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | str):
        return int(value) if isinstance(value, int) else str(value)
    if isinstance(value, float):
        unknown = {_FLOAT: repr(float(value))} if is_exact else None
        return float(value) if math.isfinite(value) else unknown
    if isinstance(value, list | tuple):
        items = [_converted(item, f"{name}[{index}]", is_exact) for index, item in enumerate(value)]
        return {_TUPLE: items} if is_exact and isinstance(value, tuple) else items
    if isinstance(value, Mapping):
        return {
            _key(key, name) if is_exact else str(key): _converted(
                item, f"{name}[{key!r}]", is_exact
            )
            for key, item in value.items()
        }
    if not is_exact:
        return str(value)
    raise ValueError(
        f"{name} must be a number, string, bool, None, or a list, tuple or dict of these, "
        f"got {type(value).__name__}; convert or remove it before saving"
    )


def _key(key: Any, name: str) -> str:
    if not isinstance(key, str) or key.startswith("$"):
        raise ValueError(f"{name} must have string keys that do not begin with '$', got {key!r}")
    return str(key)
