"""A small network in NumPy: batches go in, embeddings come out, and gradient steps move it."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensor_optix.core.types import Array

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class SmallNetwork:
    """Linear layers with ReLU between them, trained by Adam (Kingma and Ba 2015).

    Args:
        sizes: Of the input, of each hidden layer, and of the output.
        rng: Draws the weights, normal with the variance `2 / inputs` of He et al. 2015.
    """

    def __init__(self, sizes: Sequence[int], rng: np.random.Generator) -> None:
        self._weights: list[Array] = []
        for inputs, outputs in pairwise(sizes):
            scale = np.sqrt(2.0 / inputs)
            self._weights.append((scale * rng.standard_normal((inputs, outputs))).astype("f4"))
            self._weights.append(np.zeros(outputs, np.float32))
        self._first = [np.zeros_like(weight) for weight in self._weights]
        self._second = [np.zeros_like(weight) for weight in self._weights]
        self._steps = 0

    def __call__(self, inputs: Array) -> Array:
        """Return the outputs `[B, E]` for `[B, D]`, float32."""
        return self._layers(inputs)[-1]

    def descend(self, inputs: Array, targets: Array, learning_rate: float) -> None:
        """Make one Adam step down the mean squared distance to `targets` `[B, E]`."""
        layers = self._layers(inputs)
        slope = 2.0 * (layers[-1] - targets) / targets.size
        gradients: list[Array] = []
        for k in range(len(layers) - 2, -1, -1):
            gradients += [slope.sum(axis=0), layers[k].T @ slope]
            if k:
                slope = (slope @ self._weights[2 * k].T) * (layers[k] > 0)
        self._adam(gradients[::-1], learning_rate)

    def _layers(self, inputs: Array) -> list[Array]:
        layers = [inputs]
        for k in range(0, len(self._weights), 2):
            after = layers[-1] @ self._weights[k] + self._weights[k + 1]
            is_last = k + 2 == len(self._weights)
            layers.append(after if is_last else np.maximum(after, 0.0))
        return layers

    def _adam(self, gradients: list[Array], learning_rate: float) -> None:
        self._steps += 1
        corrected = learning_rate * np.sqrt(1 - BETA2**self._steps) / (1 - BETA1**self._steps)
        parts = zip(self._weights, gradients, self._first, self._second, strict=True)
        for weight, gradient, first, second in parts:
            first += (1 - BETA1) * (gradient - first)
            second += (1 - BETA2) * (gradient * gradient - second)
            weight -= np.float32(corrected) * first / (np.sqrt(second) + np.float32(EPSILON))
