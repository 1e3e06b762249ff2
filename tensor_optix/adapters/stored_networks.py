"""Files of networks and of who wrote them: arrays by a framework's names come in, by another's go out.

A layer has the variables `2.weight`, `[outputs, inputs]`, and `2.bias` on PyTorch and the native engine,
and `2.kernel`, `[inputs, outputs]`, and `3.bias` on TensorFlow. A convolution's are `[filters, channels,
height, width]` there and `[height, width, channels, filters]` here; its features follow one another channel
by channel there, pixel by pixel here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from safetensors import safe_open

from tensor_optix.core.checkpoints.durable_files import regular_file
from tensor_optix.core.checkpoints.saved_state import reading

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tensor_optix.core.types import Array, PathLike

KINDS = {"divisors": 0, "weight": 1, "kernel": 1, "bias": 2, "value": 3}
"""By the last words of the names, in the order of the variables of a layer."""
NAME = re.compile(rf"(?:(?:\d+|branches|encoder|head|first|second)\.)*(?:{'|'.join(KINDS)})")
"""What variables of ready-made networks, and of layers in sequence, are called: numbers tell their order."""
WEIGHT = "weight"
MATRIX_AXES = 2
CONVOLUTION_AXES = 4
NUMBER_SHAPES = {(), (1,)}
TURNS = ((0, 3), (1, 2), (2, 3))
"""The pairs of axes that are swapped, one after the other, to make a weight of a convolution's kernel."""
STEP = "step"
"""What the native engine's optimizers call their count of steps; others number all that they write."""


class Features(NamedTuple):
    """Inputs of a dense layer, side by side, that come out of one convolution, or of none."""

    channels: int
    """1: their order is the same everywhere."""
    size: int
    """How many they are."""


def by_own_names(
    stored: Mapping[str, Any],
    own: Mapping[str, Sequence[int]],
    features: Mapping[str, Sequence[Features]] | None = None,
) -> Mapping[str, Any]:
    """Return the arrays of a file by the names that a framework gives the variables of its network.

    Args:
        stored: Arrays, of NumPy or PyTorch, by the names in the file.
        own: The shapes of the variables by their names.
        features: The first inputs of each dense layer behind convolutions, by the name of its weight; other
            inputs may follow. None: it is not known where there are such.

    Returns:
        They as they are, where they have these names, or where it cannot be told which is which.
    """
    if stored.keys() == own.keys():
        return stored
    if not all(map(NAME.fullmatch, [*stored, *own])):
        return stored
    theirs, ours = sorted(stored, key=_place), sorted(own, key=_place)
    if [_kind(name) for name in theirs] != [_kind(name) for name in ours]:
        return stored
    if not features and any(array.ndim > MATRIX_AXES for array in stored.values()):
        # Features come out of convolutions in another order, and the next weights would have to follow.
        return stored
    behind = features or {}
    found = {}
    for name, other in zip(ours, theirs, strict=True):
        array = stored[other]
        if _word(other) != _word(name):
            array = _turned(array, _word(name) == WEIGHT, behind.get(name, ()))
        is_number = {tuple(array.shape), tuple(own[name])} <= NUMBER_SHAPES
        found[name] = array.reshape(tuple(own[name])) if is_number else array
    return found


def is_native_optimizer(path: PathLike) -> bool:
    """Whether there is an optimizer's state that the native engine's `save_optimizer` wrote.

    Raises:
        CheckpointError: If the file is damaged.
    """
    file = Path(f"{path}.safetensors")
    if not file.exists():
        return False
    with reading(file.name), safe_open(regular_file(file.parent, file.name), "numpy") as stored:
        return STEP in stored.keys()  # noqa: SIM118


def _turned(array: Any, is_weight: bool, features: Sequence[Features]) -> Any:
    """Return what a kernel is as a weight, if it is to be one, or a weight as a kernel."""
    if array.ndim == CONVOLUTION_AXES:
        for pair in TURNS if is_weight else reversed(TURNS):
            array = array.swapaxes(*pair)
        return array
    if array.ndim != MATRIX_AXES:
        return array
    if is_weight:
        array = array.T
    if 0 < sum(one.size for one in features) <= array.shape[1]:
        array = array[:, _order(features, array.shape[1], is_weight)]
    return array if is_weight else array.T


def _order(features: Sequence[Features], size: int, is_by_channels: bool) -> Array:
    """Return which of so many inputs is the first, the second, ... where features are in the other order."""
    parts, first = [], 0
    for channels, count in features:
        pixels = count // channels
        places = first + np.arange(count)
        shape = (pixels, channels) if is_by_channels else (channels, pixels)
        parts.append(places.reshape(shape).T.reshape(-1))
        first += count
    return np.concatenate([*parts, np.arange(first, size)])


def _word(name: str) -> str:
    return name.rpartition(".")[2]


def _kind(name: str) -> int:
    return KINDS[_word(name)]


def _place(name: str) -> tuple[Any, ...]:
    """Return what puts names in order."""
    path = name.split(".")[:-1]
    places = tuple((not part.isdigit(), int(part) if part.isdigit() else part) for part in path)
    return (places, _kind(name))
