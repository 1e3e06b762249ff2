"""Gymnasium spaces in files: a space goes in, plain JSON comes out; and an equal space of it again.

Files may be damaged or hostile: what is read back is checked, and small, before anything is made of it.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Tuple

from tensor_optix.core.discrete_spaces import DiscreteSpace, choice_counts
from tensor_optix.core.json_values import from_json, to_json
from tensor_optix.core.observation_layout import FlatSpace, MaskedSpace, seen_space

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tensor_optix.core.observation_layout import AnySpace, ObservationField
    from tensor_optix.core.types import Array

DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
)
MOST_NUMBERS = 2**26
"""That an element, or all the choices of a space, may have."""
MOST_AXES = 32
MOST_DEPTH = 32
"""Of Dicts and Tuples in each other."""
UNKNOWN = "unknown"
"""The type of what is not recorded: Text, Sequence, Graph, spaces of the user's, and spaces too large."""


def space_to_json(space: AnySpace) -> dict[str, Any]:
    """Return a space as `json.dumps` takes it.

    The rows of a Dict or a Tuple are recorded as that; of what agents cannot see in numbers only the text is.
    """
    if isinstance(space, MaskedSpace):
        observations = space_to_json(space.plain)
        return {"type": "Masked", "observations": observations, "mask_size": space.mask_size}
    if isinstance(space, FlatSpace):
        return space_to_json(whole_space(space))
    if isinstance(space, Dict) and all(isinstance(key, str) for key in space.spaces):
        parts = [[key, space_to_json(part)] for key, part in space.spaces.items()]
        return {"type": "Dict", "parts": parts}
    if isinstance(space, Tuple):
        return {"type": "Tuple", "parts": [space_to_json(part) for part in space.spaces]}
    if isinstance(space, Box | DiscreteSpace) and _is_usual(space):
        return _array_space_to_json(space)
    return {"type": UNKNOWN, "text": str(space)[:200]}


def space_from_json(tree: Any) -> AnySpace:
    """Return the space that `space_to_json` was given; what was not recorded is a bare `Space`.

    Raises:
        ValueError: If the JSON says no space.
    """
    try:
        return _read(tree, MOST_DEPTH)
    except (LookupError, TypeError, AttributeError, ArithmeticError, AssertionError) as error:
        raise ValueError(f"no space is said by {str(tree)[:200]}: {error}") from error


def whole_space(space: AnySpace) -> AnySpace:
    """Return the space that an environment has, given that of the rows that an agent sees, without masks."""
    if isinstance(space, MaskedSpace):
        space = space.plain
    return _whole(space.layout.fields) if isinstance(space, FlatSpace) else space


def _is_usual(space: Box | DiscreteSpace) -> bool:
    if str(space.dtype) not in DTYPES or math.prod(space.shape or ()) > MOST_NUMBERS:
        return False
    return isinstance(space, Box) or sum(choice_counts(space)) <= MOST_NUMBERS


def _array_space_to_json(space: Box | DiscreteSpace) -> dict[str, Any]:
    dtype = str(space.dtype)
    if isinstance(space, Discrete):
        return {"type": "Discrete", "n": int(space.n), "start": int(space.start), "dtype": dtype}
    shape = {"shape": list(space.shape or ()), "dtype": dtype}
    if isinstance(space, MultiBinary):
        return {"type": "MultiBinary"} | shape
    if isinstance(space, MultiDiscrete):
        numbers = {"nvec": _compact(space.nvec), "start": _compact(np.asarray(space.start))}
        return {"type": "MultiDiscrete"} | shape | numbers
    return {"type": "Box"} | shape | {"low": _compact(space.low), "high": _compact(space.high)}


def _compact(numbers: Array) -> Any:
    """Return numbers row-major, or the one that all of them are."""
    flat = numbers.reshape(-1)
    is_one = flat.size > 0 and bool((flat == flat[0]).all())
    return to_json(flat[0] if is_one else flat.tolist(), "bounds")


def _whole(fields: Sequence[ObservationField], depth: int = 0) -> AnySpace:
    """Return the Dict or the Tuple that the fields of a row are the parts of."""
    if len(fields) == 1 and len(fields[0].path) == depth:
        return fields[0].space
    parts = {
        key: _whole(list(group), depth + 1)
        for key, group in groupby(fields, lambda field: field.path[depth])
    }
    if isinstance(fields[0].path[depth], int):
        # Parts that are no numbers were left out.
        return Tuple([parts.get(place, Space()) for place in range(max(parts) + 1)])
    return Dict(OrderedDict(parts))


def _read(tree: Any, depth: int) -> AnySpace:
    if depth == 0:
        raise ValueError(f"spaces lie in each other at most {MOST_DEPTH} deep")
    kind = tree["type"]
    if kind == UNKNOWN:
        return Space()
    if kind == "Masked":
        plain = seen_space(_read(tree["observations"], depth - 1))
        return MaskedSpace(plain, _count(tree["mask_size"], 1))
    if kind == "Dict":
        parts = [(str(key), _read(part, depth - 1)) for key, part in tree["parts"]]
        return Dict(OrderedDict(parts))
    if kind == "Tuple":
        return Tuple([_read(part, depth - 1) for part in tree["parts"]])
    if kind not in _READERS:
        raise ValueError(f"the type of a space must be one of {', '.join(_READERS)}, got {kind!r}")
    return _READERS[kind](tree)


def _box(tree: Any) -> AnySpace:
    shape, dtype = _shape(tree["shape"]), _dtype(tree["dtype"])
    low, high = (_numbers(tree[end], shape, dtype) for end in ("low", "high"))
    if not (low <= high).all():
        raise ValueError("the bounds of a Box must not cross")
    return Box(low, high, shape, dtype.type)


def _discrete(tree: Any) -> AnySpace:
    start, dtype = tree["start"], _dtype(tree["dtype"])
    if type(start) is not int:
        raise ValueError(f"the start of a Discrete must be a whole number, got {start!r}")
    # Gymnasium 1.0 knows no other dtype.
    named: dict[str, Any] = {} if dtype == np.int64 else {"dtype": dtype.type}
    return Discrete(_count(tree["n"], 1), start=int(dtype.type(start)), **named)


def _multi_discrete(tree: Any) -> AnySpace:
    shape, dtype = _shape(tree["shape"]), _dtype(tree["dtype"])
    nvec, start = (_numbers(tree[name], shape, dtype) for name in ("nvec", "start"))
    _count(int(nvec.sum(dtype=object)), 1)
    return MultiDiscrete(nvec, dtype.type, start=start)


def _multi_binary(tree: Any) -> AnySpace:
    shape = _shape(tree["shape"])
    return MultiBinary(shape if len(shape) != 1 else shape[0])


_READERS: dict[str, Callable[[Any], AnySpace]] = {
    "Box": _box,
    "Discrete": _discrete,
    "MultiDiscrete": _multi_discrete,
    "MultiBinary": _multi_binary,
}


def _numbers(stored: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    value = from_json(stored)
    if isinstance(value, list):
        return np.array(value, dtype).reshape(shape)
    return np.full(shape, value, dtype)


def _shape(stored: Any) -> tuple[int, ...]:
    if not isinstance(stored, list) or len(stored) > MOST_AXES:
        raise ValueError(f"a shape must be a list of at most {MOST_AXES} sizes, got {stored!r}")
    shape = tuple(_count(size, 0) for size in stored)
    _count(math.prod(shape), 0)
    return shape


def _count(stored: Any, least: int) -> int:
    if type(stored) is not int or not least <= stored <= MOST_NUMBERS:
        raise ValueError(f"expected a whole number from {least} to {MOST_NUMBERS}, got {stored!r}")
    return stored


def _dtype(stored: Any) -> np.dtype[Any]:
    if stored not in DTYPES:
        raise ValueError(f"a dtype must be one of {', '.join(DTYPES)}, got {stored!r}")
    return np.dtype(str(stored))
