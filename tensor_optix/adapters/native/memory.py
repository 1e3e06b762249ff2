"""Where the native engine's arrays lie: any arrays come in, aligned ones go out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tensor_optix.core.types import Array

CACHE_LINE = 64
"""Bytes."""


def aligned(values: Array) -> Array:
    """Return a float32 copy that begins where a line of the cache does.

    The engine's widest vectors are such lines. NumPy aligns to 16 bytes, with which each of them lies in two:
    updates take a sixth longer.
    """
    memory = np.empty(4 * values.size + CACHE_LINE, np.uint8)
    first = -memory.ctypes.data % CACHE_LINE
    copied = memory[first : first + 4 * values.size].view(np.float32).reshape(values.shape)
    copied[...] = values
    return copied
