"""The native engine's layers for ready-made networks: the functions of `adapters.network_recipes.Layers`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, TypeAlias

import numpy as np

from tensor_optix.adapters.native.encodings import NativeByteScale, NativeFlatten, NativeOneHot
from tensor_optix.adapters.native.memory import aligned
from tensor_optix.adapters.native.optimizers import NativeAdam
from tensor_optix.adapters.native.perceptron import DenseNetwork, orthogonal
from tensor_optix.adapters.native.views import Activation, DenseView

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensor_optix.adapters.backend import ByteField
    from tensor_optix.adapters.native.encodings import NativeEncoding
    from tensor_optix.adapters.network_recipes import Convolution, Dense

Layer: TypeAlias = "NativeEncoding | DenseView"
ACTIVATIONS = {None: Activation.IDENTITY, "tanh": Activation.TANH, "relu": Activation.RELU}


def new_generator(seed: int) -> np.random.Generator:
    """Return what initial weights are drawn from."""
    return np.random.default_rng(seed)


def dense(layer: Dense, generator: np.random.Generator) -> list[DenseView]:
    """Return a linear layer with its activation."""
    inputs, outputs, activation, distribution, gain = layer
    if distribution == "orthogonal":
        weight, bias = orthogonal(inputs, outputs, gain, generator), aligned(np.zeros(outputs))
    else:
        bound = gain / inputs**0.5
        weight, bias = (
            aligned(generator.uniform(-bound, bound, shape))
            for shape in ((outputs, inputs), outputs)
        )
    return [DenseView(weight, bias, ACTIVATIONS[activation], True)]


def convolution(
    channels: int, layer: Convolution, gain: float, generator: np.random.Generator
) -> NoReturn:
    """Refuse, as the engine has none.

    Raises:
        ValueError: Always.
    """
    _refuse_images()


def turned(has_channels_first: bool) -> NoReturn:
    """Refuse, as `convolution` does."""
    _refuse_images()


def features(channels: int, size: int) -> NoReturn:
    """Refuse, as `convolution` does."""
    _refuse_images()


def columns(first: int, shape: Sequence[int]) -> NoReturn:
    """Refuse, as `convolution` does: only rows with images are taken apart."""
    _refuse_images()


def side_by_side(width: int, branches: Sequence[Sequence[Layer]]) -> NoReturn:
    """Refuse, as `convolution` does."""
    _refuse_images()


def _refuse_images() -> NoReturn:
    raise ValueError(
        "framework 'native' trains no convolutions, which images need: pip install 'tensor-optix[torch]', "
        "and take framework 'torch' or 'tensorflow'; policies that they trained act natively"
    )


def byte_scale(fields: Sequence[ByteField]) -> NativeByteScale:
    """Return what divides bytes."""
    return NativeByteScale(tuple(fields))


def flatten() -> NativeFlatten:
    """Return what makes rows of arrays `[B, ...]`."""
    return NativeFlatten()


def one_hot(sizes: Sequence[int], starts: Sequence[int]) -> NativeOneHot:
    """Return what makes K unit vectors side by side of K numbers for each of B; others become 0."""
    return NativeOneHot(tuple(sizes), tuple(starts))


def beside(encoder: Sequence[NativeEncoding], size: int, others: int) -> list[NativeEncoding]:
    """Return an encoder of rows whose last columns stay what they are, as all encodings leave them."""
    return list(encoder)


def sequential(
    shape: Sequence[int], layers: Sequence[Layer], is_index: bool = False
) -> DenseNetwork:
    """Return a network of encodings and layers in order."""
    dense = [one for one in layers if isinstance(one, DenseView)]
    encoding = [one for one in layers if not isinstance(one, DenseView)]
    return DenseNetwork(dense, encoding)


def layers_of(network: DenseNetwork) -> list[Layer]:
    """Return the encodings and layers of a network in order."""
    return [*network.encoding, *network.layers()]


def action_critic(encoder: DenseNetwork, head: DenseNetwork) -> DenseNetwork:
    """Return a critic of `(observations [B, ...], actions [B, A]) -> [B, 1]`."""
    return DenseNetwork(head.layers(), encoder.encoding)


def adam(networks: Sequence[DenseNetwork], learning_rate: float, epsilon: float) -> NativeAdam:
    """Return Adam, which becomes that of the networks as the agent is made."""
    return NativeAdam(learning_rate, epsilon=epsilon)


def number_adam(learning_rate: float) -> NativeAdam:
    """Return Adam for one number."""
    return NativeAdam(learning_rate)
