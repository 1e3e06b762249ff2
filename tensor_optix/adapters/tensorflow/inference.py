"""Functions of networks without gradients, traced: arrays come in, an array goes out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.adapters.tensorflow.compilation import TracedFunction
from tensor_optix.adapters.tensorflow.placement import beside
from tensor_optix.adapters.tensorflow.requirements import tf

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tensor_optix.core.types import Array

INFERENCE_ROWS = 4096
"""Rows per forward pass without gradients: bounds the memory that activations take."""


class Inference:
    """A function of tensors `[B, ...]` as one of arrays, in chunks; traced once for all B.

    Args:
        fn: Pure, over the networks.
        networks: Those that it calls.
    """

    def __init__(self, fn: Callable[..., Any], networks: Sequence[Any]) -> None:
        self._fn = fn
        self._networks = networks
        self._traced: dict[tuple[Any, ...], TracedFunction] = {}

    @property
    def trace_count(self) -> int:
        """How often the function was traced: once per combination of shapes and dtypes."""
        return len(self._traced)

    def __call__(self, *arrays: Array) -> Array:
        """Return the output for `[B, ...]` arrays."""
        signature = tuple((array.shape[1:], array.dtype) for array in arrays)
        traced = self._traced.get(signature)
        if traced is None:
            traced = self._traced[signature] = self._trace(signature)
        outputs: Array
        if len(arrays[0]) <= INFERENCE_ROWS:
            outputs = traced(*map(tf.constant, arrays))[0].numpy()
        else:
            starts = range(0, len(arrays[0]), INFERENCE_ROWS)
            chunks = ([tf.constant(a[i : i + INFERENCE_ROWS]) for a in arrays] for i in starts)
            outputs = np.concatenate([traced(*chunk)[0].numpy() for chunk in chunks])
        return outputs

    def _trace(self, signature: tuple[Any, ...]) -> TracedFunction:
        def forward(*tensors: Any) -> Any:
            with beside(self._networks):
                return self._fn(*tensors)

        specs = [tf.TensorSpec([None, *shape], dtype) for shape, dtype in signature]
        return TracedFunction(forward, specs)
