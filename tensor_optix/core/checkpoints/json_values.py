"""Values as JSON text can hold them: a dict of settings or metrics goes in, plain JSON comes out.

JSON knows no tuple and no NaN, so these two travel as `{"$tuple": [...]}` and `{"$float": "nan"}`.
NumPy scalars become Python numbers and NumPy arrays lists of them, for good: what comes back holds
no NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

_TUPLE = "$tuple"
_FLOAT = "$float"


def to_json(value: Any, name: str) -> Any:
    """Return `value` in the form that `json.dumps(..., allow_nan=False)` accepts.

    Args:
        value: None, bool, int, float, str, NumPy scalar or array, or a list, tuple or dict
            of these.
        name: What errors call it, for instance `hyperparams`.

    Raises:
        ValueError: Naming the first key whose value JSON cannot hold.
    """
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | str):
        return int(value) if isinstance(value, int) else str(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {_FLOAT: repr(float(value))}
    if isinstance(value, list | tuple):
        items = [to_json(item, f"{name}[{index}]") for index, item in enumerate(value)]
        return items if isinstance(value, list) else {_TUPLE: items}
    if isinstance(value, Mapping):
        return {_key(key, name): to_json(item, f"{name}[{key!r}]") for key, item in value.items()}
    raise ValueError(
        f"{name} must be a number, string, bool, None, or a list, tuple or dict of these, "
        f"got {type(value).__name__}; convert or remove it before saving"
    )


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


def _key(key: Any, name: str) -> str:
    if not isinstance(key, str) or key.startswith("$"):
        raise ValueError(f"{name} must have string keys that do not begin with '$', got {key!r}")
    return str(key)
