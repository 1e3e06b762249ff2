"""Files of perceptrons and of who wrote them: arrays by a framework's names come in, by another's go out.

A layer has the variables `2.weight`, `[outputs, inputs]`, and `2.bias` on PyTorch and the native engine,
and `2.kernel`, `[inputs, outputs]`, and `3.bias` on TensorFlow.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import safe_open

from tensor_optix.core.checkpoints.durable_files import regular_file
from tensor_optix.core.checkpoints.saved_state import reading

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tensor_optix.core.types import PathLike

KINDS = {"divisors": 0, "weight": 1, "kernel": 1, "bias": 2, "value": 3}
"""By the last words of the names, in the order of the variables of a layer."""
NAME = re.compile(rf"(?:(?:\d+|branches|encoder|head|first|second)\.)*(?:{'|'.join(KINDS)})")
"""What variables of ready-made networks, and of layers in sequence, are called: numbers tell their order."""
MATRIX_AXES = 2
STEP = "step"
"""What the native engine's optimizers call their count of steps; others number all that they write."""


def by_own_names(stored: Mapping[str, Any], own: Mapping[str, Sequence[int]]) -> Mapping[str, Any]:
    """Return the arrays of a file by the names that a framework gives the variables of its network.

    Args:
        stored: Arrays, of NumPy or PyTorch, by the names in the file.
        own: The shapes of the variables by their names.

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
    if any(array.ndim > MATRIX_AXES for array in stored.values()):
        # Features come out of convolutions in another order, and the next weights would have to follow.
        return stored
    return {
        name: _as_own(stored[other], _word(other) == _word(name), own[name])
        for name, other in zip(ours, theirs, strict=True)
    }


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


def _as_own(array: Any, is_own_way: bool, shape: Sequence[int]) -> Any:
    if array.ndim == MATRIX_AXES:
        return array if is_own_way else array.T
    # One number, which is [] or [1].
    return array.reshape(tuple(shape)) if tuple(array.shape) in ((), (1,)) else array


def _word(name: str) -> str:
    return name.rpartition(".")[2]


def _kind(name: str) -> int:
    return KINDS[_word(name)]


def _place(name: str) -> tuple[Any, ...]:
    """Return what puts names in order."""
    path = name.split(".")[:-1]
    places = tuple((not part.isdigit(), int(part) if part.isdigit() else part) for part in path)
    return (places, _kind(name))
