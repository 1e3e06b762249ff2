"""Where the native engine's arrays lie: any arrays come in, aligned ones go out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from tensor_optix.core.types import Array

CACHE_LINE = 64
"""Bytes."""


def aligned(values: Array, dtype: DTypeLike = np.float32) -> Array:
    """Return a copy that begins where a line of the cache does.

    The engine's widest vectors are such lines, and TensorFlow takes such memory as it is. NumPy aligns to 16
    bytes, with which each of them lies in two: updates take a sixth longer.
    """
    size = values.size * np.dtype(dtype).itemsize
    memory = np.empty(size + CACHE_LINE, np.uint8)
    first = -memory.ctypes.data % CACHE_LINE
    copied = memory[first : first + size].view(dtype).reshape(values.shape)
    copied[...] = values
    return copied
