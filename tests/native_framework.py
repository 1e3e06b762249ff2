"""The native engine's own networks, as tests see them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tensor_optix.adapters.backend import ByteField
from tensor_optix.adapters.native.encodings import NativeByteScale
from tensor_optix.adapters.native.optimizers import NativeAdam, NativeSGD
from tensor_optix.adapters.native.perceptron import DenseNetwork, Perceptron
from tests.frameworks import Framework, single

if TYPE_CHECKING:
    from collections.abc import Sequence


class NativeFramework(Framework):
    """The native engine without a framework."""

    name, adapter, prefix, classes = "native", "native", "native", "Native"

    def two_headed(self, inputs: int, actions: int) -> Any:
        pytest.skip("perceptrons have one output")

    def with_trunk(self, *arguments: Any, **named: Any) -> Any:
        pytest.skip("perceptrons share no layers")

    def adam(self, rate: float, *networks: Any) -> Any:
        return NativeAdam(rate)

    def sgd(self, rate: float, *networks: Any) -> Any:
        return NativeSGD(rate)

    def number_adam(self, rate: float) -> Any:
        return NativeAdam(rate)

    def number_sgd(self, rate: float) -> Any:
        return NativeSGD(rate)

    def weights(self, network: Any) -> list[np.ndarray]:
        return [(a.T if a.ndim == 2 else a).copy() for a in network.weights]

    def set_weights(self, network: Any, arrays: Sequence[np.ndarray]) -> None:
        for own, array in zip(network.weights, arrays, strict=True):
            own[...] = array.T if array.ndim == 2 else array

    def batch_norm(self, features: int) -> Any:
        pytest.skip("perceptrons have no running statistics")

    def set_running_mean(self, network: Any, value: float) -> None:
        raise NotImplementedError

    def running_mean(self, network: Any) -> np.ndarray:
        raise NotImplementedError

    def tensor(self, array: Any) -> Any:
        return single(array).reshape(np.shape(array))

    def array(self, tensor: Any) -> np.ndarray:
        return np.array(tensor)

    def _layers(self, sizes: Sequence[int], obs_shape: Any, scale: float) -> Any:
        return self._network(sizes, obs_shape, scale)

    def _critic_of_two(self, sizes: Sequence[int], scale: float) -> Any:
        # The size of what is no action is of no account.
        return self._network(sizes, (1,), scale)

    def _network(self, sizes: Sequence[int], obs_shape: Any, scale: float) -> DenseNetwork:
        inputs, *hidden, outputs = sizes
        layers = Perceptron(inputs, outputs, hidden, seed=0).layers()
        if obs_shape is None or scale == 1.0:
            return DenseNetwork(layers)
        scaled = NativeByteScale((ByteField(int(np.prod(obs_shape)), round(1.0 / scale)),))
        return DenseNetwork(layers, [scaled])


FRAMEWORK = NativeFramework
