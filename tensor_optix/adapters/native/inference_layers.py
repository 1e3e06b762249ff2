"""Layers of networks that only act, those of images included: the functions of `network_recipes.Layers`.

Weights are 0 until `InferenceNetwork.read` takes them from a file, which PyTorch, TensorFlow or the native
engine wrote.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from safetensors import SafetensorError, safe_open

from tensor_optix.adapters.backend import LARGEST_BYTE
from tensor_optix.adapters.native.encodings import NativeEncoding, variables_of
from tensor_optix.adapters.native.layers import ACTIVATIONS
from tensor_optix.adapters.native.layers import byte_scale as byte_scale
from tensor_optix.adapters.native.layers import flatten as flatten
from tensor_optix.adapters.native.layers import layers_of as layers_of
from tensor_optix.adapters.native.layers import one_hot as one_hot
from tensor_optix.adapters.native.memory import aligned
from tensor_optix.adapters.native.perceptron import DenseNetwork
from tensor_optix.adapters.native.views import BoundPerceptron, DenseView
from tensor_optix.adapters.stored_networks import CONVOLUTION_AXES, Features, by_own_names
from tensor_optix.kernels import engine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tensor_optix.adapters.native.layers import Layer
    from tensor_optix.adapters.network_recipes import Convolution, Dense
    from tensor_optix.core.types import Array, PathLike

DIVISORS = "divisors"
DTYPES = ("F32", "I64")
"""Of weights and of divisors, as safetensors spells them."""


class InferenceNetwork(DenseNetwork):
    """What observations go through, and dense layers; nothing in it learns.

    Called with observations `[B, ...]`, of bytes, whole numbers or floats, it returns `[B, outputs]` float32.
    Perceptrons are the engine's, where it is built.
    """

    def __init__(self, layers: Sequence[DenseView], encoding: Sequence[NativeEncoding]) -> None:
        super().__init__(layers, encoding)
        self._sees_images = any(
            array.ndim == CONVOLUTION_AXES for array in variables_of(encoding).values()
        )
        self._perceptron = None
        # One image's features are too many for the engine: measured, NumPy takes two thirds of its time.
        if engine.has_engine and not self._sees_images:
            self._bound = BoundPerceptron(self)
            self._perceptron = self._bound.engine()
            self._workspace = engine.Workspace(1)

    def __call__(self, observations: Array, *others: Array) -> Array:
        """Return the outputs `[B, outputs]` for observations `[B, ...]`; a critic takes actions as well."""
        if self._perceptron is None or others:
            return super().__call__(observations, *others)
        rows = self._bound.rows(observations)
        outputs = np.empty((len(rows), self._bound.outputs), np.float32)
        engine.forward(self._perceptron, rows, outputs, self._workspace)
        return outputs

    def read(self, path: PathLike) -> None:
        """Take the weights of `path`.safetensors, as an agent of any framework stored them.

        Raises:
            ValueError: If the file is damaged, or holds other variables; nothing has changed then.
            OSError: If there is no such file.
        """
        own = self.variables()
        stored = self._by_own_names(_read(path, own), own)
        for name in sorted(own.keys() | stored.keys()):
            found, expected = _facts(stored.get(name)), _facts(own.get(name))
            if found != expected:
                raise ValueError(
                    f"{path}.safetensors holds the variables of another network: {name} is {found}, expected "
                    f"{expected}"
                )
        for name, array in own.items():
            array[...] = stored[name]

    def _by_own_names(
        self, stored: dict[str, Array], own: Mapping[str, Array]
    ) -> Mapping[str, Array]:
        """Return the arrays of a file by the names of these variables."""
        missing = {}
        if self._sees_images and not any(name.endswith(DIVISORS) for name in stored):
            # Earlier versions divided every image by this, and kept no divisors.
            divisors = {name: array for name, array in own.items() if name.endswith(DIVISORS)}
            missing = {name: np.full_like(one, LARGEST_BYTE) for name, one in divisors.items()}
        shapes = {name: one.shape for name, one in own.items() if name not in missing}
        return {**by_own_names(stored, shapes, self._features()), **missing}

    def _features(self) -> dict[str, tuple[Features, ...]]:
        """Return what the first dense layer takes of convolutions, by the name of its weight."""
        place = sum(one.places for one in self.encoding)
        return {f"{place}.weight": _parts(self.encoding)} if self._sees_images else {}


class NativeConvolution(NativeEncoding):
    """A convolution of images `[B, C, H, W]` to `[B, filters, H', W']`, and ReLU.

    Each image is one product of a matrix, so that it comes to the same among others as alone.

    Args:
        channels: C.
        layer: The convolution.
    """

    places = 2

    def __init__(self, channels: int, layer: Convolution) -> None:
        self.stride, self.padding = layer.stride, layer.padding
        self._kernel = aligned(np.zeros((layer.width, layer.width, channels, layer.filters)))
        self._bias = aligned(np.zeros(layer.filters))

    def __call__(self, images: Array) -> Array:
        """Return the same, with as many channels as there are filters; channels lie last in its memory."""
        width, *_, filters = self._kernel.shape
        step = self.stride
        # Views: only one image's windows at a time are copied, which are up to nine times its size.
        windows = sliding_window_view(self._padded(images), (width, width), (1, 2))
        windows = windows[:, ::step, ::step].transpose(0, 1, 2, 4, 5, 3)
        batch, height, breadth = windows.shape[:3]
        matrix = self._kernel.reshape(-1, filters)
        found = np.empty((batch, height * breadth, filters), np.float32)
        for one, rows in zip(found, windows, strict=True):
            np.matmul(rows.reshape(height * breadth, -1), matrix, out=one)
            one += self._bias
            np.maximum(one, 0.0, out=one)
        return found.reshape(batch, height, breadth, filters).transpose(0, 3, 1, 2)

    def _padded(self, images: Array) -> Array:
        """Return images `[B, H, W, C]` with zeros around."""
        turned = images.transpose(0, 2, 3, 1)
        if not self.padding:
            return np.ascontiguousarray(turned, np.float32)
        batch, height, breadth, channels = turned.shape
        both = 2 * self.padding
        padded = np.zeros((batch, height + both, breadth + both, channels), np.float32)
        inside = slice(self.padding, -self.padding)
        padded[:, inside, inside] = turned
        return padded

    def variables(self) -> dict[str, Array]:
        """Return the weight `[filters, C, width, width]`, and the bias."""
        return {"weight": self._kernel.transpose(3, 2, 0, 1), "bias": self._bias}


class NativeTurned(NativeEncoding):
    """Images `[B, H, W, C]` as `[B, C, H, W]`."""

    def __call__(self, images: Array) -> Array:
        """Return a view."""
        return images.transpose(0, 3, 1, 2)


class NativeFeatures(NativeEncoding):
    """Images with so many channels, which convolutions made, as `[B, size]`: channel by channel."""

    def __init__(self, channels: int, size: int) -> None:
        self.part = Features(channels, size)

    def __call__(self, images: Array) -> Array:
        """Return them."""
        return images.reshape(len(images), self.part.size)


class NativeColumns(NativeEncoding):
    """What the columns of rows `[B, D]` from `first` on hold, `[B, *shape]`."""

    def __init__(self, first: int, shape: Sequence[int]) -> None:
        self.part = Features(1, math.prod(shape))
        self.first, self.shape = first, tuple(shape)

    def __call__(self, rows: Array) -> Array:
        """Return it."""
        columns = slice(self.first, self.first + self.part.size)
        return rows[:, columns].reshape(len(rows), *self.shape)


class NativeSideBySide(NativeEncoding):
    """The features `[B, F]` that several branches, encodings in order, make of the same rows, joined."""

    def __init__(self, branches: Sequence[Sequence[NativeEncoding]]) -> None:
        self.branches = branches

    def __call__(self, rows: Array) -> Array:
        """Return them, float32."""
        features = [
            functools.reduce(lambda values, encode: encode(values), branch, rows)
            for branch in self.branches
        ]
        return np.concatenate(features, axis=1, dtype=np.float32)

    def variables(self) -> dict[str, Array]:
        """Return those of the branches."""
        return {
            f"branches.{place}.{name}": array
            for place, branch in enumerate(self.branches)
            for name, array in variables_of(branch).items()
        }


def new_generator(seed: int) -> None:
    """Return None: nothing is drawn."""
    return


def dense(layer: Dense, generator: None) -> list[DenseView]:
    """Return a linear layer with its activation."""
    weight = aligned(np.zeros((layer.fan_out, layer.fan_in)))
    return [
        DenseView(weight, aligned(np.zeros(layer.fan_out)), ACTIVATIONS[layer.activation], True)
    ]


def convolution(
    channels: int, layer: Convolution, gain: float, generator: None
) -> list[NativeConvolution]:
    """Return a convolution of images `[B, C, H, W]` with its activation."""
    return [NativeConvolution(channels, layer)]


def turned(has_channels_first: bool) -> list[NativeTurned]:
    """Return what puts the channels of images first."""
    return [] if has_channels_first else [NativeTurned()]


def features(channels: int, size: int) -> NativeFeatures:
    """Return a layer of what convolutions make, images with so many channels, to `[B, size]`."""
    return NativeFeatures(channels, size)


def columns(first: int, shape: Sequence[int]) -> NativeColumns:
    """Return a layer of rows `[B, D]` to what their columns from `first` on hold, `[B, *shape]`."""
    return NativeColumns(first, shape)


def side_by_side(width: int, branches: Sequence[Sequence[NativeEncoding]]) -> NativeSideBySide:
    """Return a layer of rows to what each branch makes of them, joined."""
    return NativeSideBySide(branches)


def sequential(
    shape: Sequence[int], layers: Sequence[Layer], is_index: bool = False
) -> InferenceNetwork:
    """Return a network of encodings and layers in order."""
    dense = [one for one in layers if isinstance(one, DenseView)]
    encoding = [one for one in layers if not isinstance(one, DenseView)]
    return InferenceNetwork(dense, encoding)


def beside(encoder: Sequence[NativeEncoding], size: int, others: int) -> list[NativeSideBySide]:
    """Return a layer of rows to what an encoder makes of the first columns, and the others as they are."""
    branches: list[list[NativeEncoding]] = [
        [columns(0, (size,)), *encoder],
        [columns(size, (others,))],
    ]
    return [side_by_side(size + others, branches)]


def action_critic(encoder: InferenceNetwork, head: InferenceNetwork) -> InferenceNetwork:
    """Return a critic of `(observations [B, ...], actions [B, A]) -> [B, 1]`."""
    return InferenceNetwork(head.layers(), encoder.encoding)


def adam(networks: Sequence[InferenceNetwork], learning_rate: float, epsilon: float) -> None:
    """Return None: nothing learns."""
    return


def number_adam(learning_rate: float) -> None:
    """Return None, as `adam` does."""
    return


def _parts(encoding: Sequence[NativeEncoding]) -> tuple[Features, ...]:
    """Return of what the features lie side by side that an encoder of images makes."""
    last = encoding[-1]
    if isinstance(last, NativeSideBySide):
        return tuple(part for branch in last.branches for part in _parts(branch))
    return (last.part,) if isinstance(last, NativeFeatures | NativeColumns) else ()


def _read(path: PathLike, own: Mapping[str, Array]) -> dict[str, Array]:
    """Return the arrays of a file, no more of them and none larger than those of a network."""
    try:
        with safe_open(f"{path}.safetensors", "numpy") as stored:
            names = list(stored.keys())
            if len(names) > len(own):
                raise ValueError(
                    f"{path}.safetensors holds the {len(names)} variables of another network, expected "
                    f"{len(own)}: {', '.join(own)}"
                )
            for name in names:
                _require_size(f"{path}.safetensors", name, stored.get_slice(name), own)
            return {name: stored.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise ValueError(f"{path}.safetensors is damaged: {error}") from error


def _require_size(file: str, name: str, stored: Any, own: Mapping[str, Array]) -> None:
    """Refuse a variable of a file, before it is read, that can be none of a network's."""
    most = max(array.size for array in own.values())
    dtype, shape = stored.get_dtype(), tuple(stored.get_shape())
    if dtype not in DTYPES or math.prod(shape) > most:
        raise ValueError(
            f"{file} holds the variables of another network: {name} is {dtype} of {shape}, expected "
            f"{' or '.join(DTYPES)} of at most {most} numbers"
        )


def _facts(array: Array | None) -> str:
    return "missing" if array is None else f"{array.dtype} of {array.shape}"
