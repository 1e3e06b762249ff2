"""Variables in files: those of networks and optimizers, by their place and name, in one safetensors file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import numpy as safetensors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensor_optix.core.types import Array, PathLike


def save_variables(variables: Sequence[Any], path: PathLike) -> None:
    """Write every variable to `path`.safetensors."""
    arrays = (np.asarray(v.numpy()) for v in variables)
    safetensors.save_file(dict(zip(_names(variables), arrays, strict=True)), f"{path}.safetensors")


def load_variables(variables: Sequence[Any], path: PathLike) -> None:
    """Read what `save_variables` wrote, into the same variables.

    Raises:
        ValueError: If they are others, or of other shapes; nothing has changed then.
    """
    assign(variables, read_variables(variables, path))


def read_variables(variables: Sequence[Any], path: PathLike) -> list[Array]:
    """Return what `save_variables` wrote, in the order of the variables.

    Raises:
        ValueError: If they are others, or of other shapes.
    """
    stored = safetensors.load_file(f"{path}.safetensors")
    expected = {name: list(v.shape) for name, v in zip(_names(variables), variables, strict=True)}
    found = {name: list(array.shape) for name, array in stored.items()}
    if found != expected:
        differing = sorted(
            name for name in found | expected if found.get(name) != expected.get(name)
        )
        raise ValueError(
            f"{path}.safetensors holds other variables: of {', '.join(differing[:3])} it has "
            f"{[found.get(name) for name in differing[:3]]}, expected "
            f"{[expected.get(name) for name in differing[:3]]}"
        )
    return [stored[name] for name in expected]


def assign(variables: Sequence[Any], arrays: Sequence[Array]) -> None:
    """Put arrays into variables."""
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def _names(variables: Sequence[Any]) -> list[str]:
    """Return names that are the same in every process."""
    # Only the last word of Keras's own, because it numbers layers, and variables, as they are made.
    words = (re.findall(r"[a-z]+", v.name.lower()) for v in variables)
    return [f"{place}.{found[-1] if found else 'variable'}" for place, found in enumerate(words)]
