"""Functions of networks without gradients, traced: arrays come in, an array goes out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.adapters.tensorflow.compilation import CompiledFunction, pays
from tensor_optix.adapters.tensorflow.placement import beside
from tensor_optix.adapters.tensorflow.requirements import tf

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tensor_optix.core.types import Array

INFERENCE_ROWS = 4096
"""Rows per forward pass without gradients: bounds the memory that activations take."""


SMALL_BATCH = 64
"""Rows up to which XLA is used, which takes half the time there: one step of many environments."""


class Inference:
    """A function of tensors `[B, ...]` as one of arrays `[B, ...]`, in chunks.

    It is traced once for all B, and once more for the small ones of acting. XLA compiles these for fixed B
    only: they are filled up with zeros to a power of two.

    Args:
        fn: Pure, over the networks; row by row.
        networks: Those that it calls.
        acts: Whether small B come often enough to compile for.
    """

    def __init__(self, fn: Callable[..., Any], networks: Sequence[Any], acts: bool = False) -> None:
        self._fn = fn
        self._acts = acts
        self._networks = networks
        self._traced: dict[tuple[Any, ...], CompiledFunction] = {}

    @property
    def trace_count(self) -> int:
        """How often the function was traced."""
        return sum(traced.trace_count for traced in self._traced.values())

    def __call__(self, *arrays: Array) -> Array:
        """Return the output for `[B, ...]` arrays."""
        rows = len(arrays[0])
        is_small = self._acts and rows <= SMALL_BATCH
        signature = (is_small, *((array.shape[1:], array.dtype) for array in arrays))
        traced = self._traced.get(signature)
        if traced is None:
            traced = self._traced[signature] = self._trace(signature)
        outputs: Array
        if is_small and traced.is_compiled:
            capacity = 1 << (rows - 1).bit_length()
            outputs = traced(*(_filled(array, capacity) for array in arrays)).numpy()[:rows]
        elif rows <= INFERENCE_ROWS:
            outputs = traced(*map(tf.constant, arrays)).numpy()
        else:
            starts = range(0, rows, INFERENCE_ROWS)
            chunks = ([tf.constant(a[i : i + INFERENCE_ROWS]) for a in arrays] for i in starts)
            outputs = np.concatenate([traced(*chunk).numpy() for chunk in chunks])
        return outputs

    def _trace(self, signature: tuple[Any, ...]) -> CompiledFunction:
        def forward(*tensors: Any) -> Any:
            with beside(self._networks):
                return self._fn(*tensors)

        is_small, *kinds = signature
        # What networks without variables are, only their first call tells.
        is_compiled = is_small and all(n.built for n in self._networks) and pays(self._networks)
        specs = [tf.TensorSpec([None, *shape], dtype) for shape, dtype in kinds]
        return CompiledFunction(forward, specs, self._networks, is_compiled)


def _filled(array: Array, capacity: int) -> Any:
    """Return rows as a tensor `[capacity, ...]`; zeros follow them."""
    if len(array) < capacity:
        filled = np.zeros((capacity, *array.shape[1:]), array.dtype)
        filled[: len(array)] = array
        array = filled
    return tf.constant(array)
