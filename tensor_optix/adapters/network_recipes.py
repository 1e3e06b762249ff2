"""Ready-made networks, once for every framework: shapes and a seed come in, a network goes out.

All networks are complete: they have their weights. These follow from the seed; no global random state is used
or changed. The same seed gives other numbers, of the same distributions, on another framework.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from tensor_optix.adapters.backend import Network, Optimizer

Layer: TypeAlias = Any
Generator: TypeAlias = Any
"""Of a framework's random numbers."""
Activation: TypeAlias = Literal["tanh", "relu"]
Distribution: TypeAlias = Literal["orthogonal", "uniform"]
"""Of initial weights: orthogonal (Saxe et al. 2014) with biases of 0; or weights and biases uniform in
+-gain / sqrt(fan-in)."""
Perceptron: TypeAlias = Callable[..., "Network"]
"""`(in_features, out_features, hidden, seed, output_gain) -> network`: a method of `NetworkRecipes`."""

HIDDEN_GAIN = 2.0**0.5
"""Gain of the hidden layers, usual for policy gradients (Huang et al. 2022, "The 37 implementation
details of PPO")."""
ADAM_EPSILON = 1e-5
"""Usual for policy gradients (Huang et al. 2022); the frameworks' own, 1e-8 and 1e-7, make the first steps
jumpy."""
SMALLEST_NATURE_IMAGE = 36
"""Pixels of the shorter side, below which nothing is left after the Nature layers."""
IMAGE_AXES = 3


class Dense(NamedTuple):
    """A linear layer, and what follows it."""

    fan_in: int
    fan_out: int
    activation: Activation | None
    distribution: Distribution
    gain: float
    """Scale of its initial weights."""


class Convolution(NamedTuple):
    """A square convolution; ReLU follows, and the initial weights are orthogonal."""

    filters: int
    width: int
    stride: int
    padding: int
    """Zeros on each side."""


NATURE_LAYERS = (Convolution(32, 8, 4, 0), Convolution(64, 4, 2, 0), Convolution(64, 3, 1, 0))
"""Those of Mnih et al. 2015."""
SMALL_IMAGE_LAYERS = (Convolution(32, 3, 2, 1), Convolution(64, 3, 2, 1), Convolution(64, 3, 1, 1))
"""The same for images that the Nature layers would use up."""


class Layers(Protocol):
    """What a framework brings: layers with initial weights, and Adam. A module of plain functions."""

    def new_generator(self, seed: int, /) -> Generator:
        """Return what initial weights are drawn from."""

    def dense(self, layer: Dense, generator: Generator, /) -> list[Layer]:
        """Return the layers of `[B, fan_in]` to `[B, fan_out]`."""

    def convolution(
        self, channels: int, layer: Convolution, gain: float, generator: Generator, /
    ) -> list[Layer]:
        """Return the layers of images with so many channels to those with `filters`."""

    def turned(self, has_channels_first: bool, /) -> list[Layer]:
        """Return what turns images to the order of axes that `convolution` takes: one layer, or none."""

    def divide(self, divisor: float, /) -> Layer:
        """Return a layer that divides by a number."""

    def flatten(self) -> Layer:
        """Return a layer of `[B, ...]` to `[B, F]`."""

    def one_hot(self, size: int, start: int, /) -> Layer:
        """Return a layer of numbers `[B]` from `start` on to unit vectors `[B, size]`; others become 0."""

    def sequential(self, shape: Sequence[int], layers: Sequence[Layer], /) -> Network:
        """Return a network of layers in order, for `[B, *shape]` float32, or numbers `[B]` int64."""

    def layers_of(self, network: Network, /) -> Sequence[Layer]:
        """Return the layers of what `sequential` made."""

    def action_critic(self, encoder: Network, head: Network, /) -> Network:
        """Return a network of `(observations [B, ...], actions [B, A]) -> [B, 1]`.

        `encoder` turns the observations into features `[B, F]`, `head` takes `[B, F + A]`: features and
        action side by side.
        """

    def adam(
        self, networks: Sequence[Network], learning_rate: float, epsilon: float, /
    ) -> Optimizer:
        """Return Adam (Kingma and Ba 2015) for the weights of all networks."""

    def number_adam(self, learning_rate: float, /) -> Optimizer:
        """Return Adam for one number."""


class NetworkRecipes:
    """Networks made of a framework's layers, and their optimizers.

    Args:
        layers: The framework's.
    """

    def __init__(self, layers: Layers) -> None:
        self._layers = layers

    def mlp(
        self,
        in_features: int,
        out_features: int,
        hidden: Sequence[int],
        seed: int,
        output_gain: float = 1.0,
    ) -> Network:
        """Build a tanh perceptron with orthogonal weights (Saxe et al. 2014) and zero biases.

        Args:
            in_features: D, the length of an observation.
            out_features: The length of an output.
            hidden: Widths of the hidden layers; empty makes a linear map.
            seed: The same one gives the same weights.
            output_gain: Scale of the last layer. A small one, such as 0.01, makes a policy that starts
                out almost uniform.

        Returns:
            A network of `[B, D]` float32 to `[B, out_features]`.

        Raises:
            ValueError: If a size is below 1.
        """
        plan = _plan_orthogonal(in_features, hidden, out_features, "tanh", output_gain)
        return self._perceptron(plan, self._layers.new_generator(seed))

    def relu_mlp(
        self,
        in_features: int,
        out_features: int,
        hidden: Sequence[int],
        seed: int,
        output_gain: float = 1.0,
    ) -> Network:
        """Build a ReLU perceptron with weights and biases uniform in +-1 / sqrt(fan-in), PyTorch's default.

        The arguments are those of `mlp`.

        Returns:
            A network of `[B, D]` float32 to `[B, out_features]`.

        Raises:
            ValueError: If a size is below 1.
        """
        sizes = [in_features, *hidden, out_features]
        plan = _plan_perceptron(sizes, "relu", "uniform", (1.0, output_gain))
        return self._perceptron(plan, self._layers.new_generator(seed))

    def nature_cnn(
        self,
        image_shape: Sequence[int],
        out_features: int,
        hidden: Sequence[int],
        seed: int,
        output_gain: float = 1.0,
        divisor: float = 1.0,
    ) -> Network:
        """Build the convolutional network of Mnih et al. 2015, with orthogonal weights and zero biases.

        The channels are the first axis where that is shorter than the last, else the last. Three
        convolutions, 32 of 8x8 with stride 4, 64 of 4x4 with stride 2, 64 of 3x3, are followed by ReLU
        layers. Where a side is shorter than 36 pixels, nothing would be left: there the convolutions are
        32, 64 and 64 of 3x3 with padding 1 and the strides 2, 2 and 1.

        Args:
            image_shape: `[C, H, W]` or `[H, W, C]`.
            out_features: The length of an output.
            hidden: Widths of the layers behind the convolutions; `(512,)` in the paper.
            seed: The same one gives the same weights.
            output_gain: Scale of the last layer.
            divisor: What pixels are divided by; 255 for bytes.

        Returns:
            A network of `[B, *image_shape]` float32 to `[B, out_features]`.

        Raises:
            ValueError: If a size is below 1, or the shape has not three axes.
        """
        image = _plan_image(image_shape)
        plan = _plan_orthogonal(image.features, hidden, out_features, "relu", output_gain)
        generator = self._layers.new_generator(seed)
        encoder = self._encoder(image, divisor, generator)
        return self._layers.sequential(image_shape, [*encoder, *self._dense(plan, generator)])

    def image_critic(
        self,
        image_shape: Sequence[int],
        action_dim: int,
        hidden: Sequence[int],
        seed: int,
        divisor: float = 1.0,
    ) -> Network:
        """Build a critic of images and actions: the action joins in behind the convolutions.

        Args:
            image_shape: As for `nature_cnn`, and so are `hidden`, `seed` and `divisor`.
            action_dim: A, the number of components of an action.
            hidden: Widths of the layers behind the convolutions.
            seed: The same one gives the same weights.
            divisor: What pixels are divided by.

        Returns:
            A network of `[B, *image_shape]` and `[B, A]` float32 to `[B, 1]`.

        Raises:
            ValueError: If a size is below 1, or the shape has not three axes.
        """
        image = _plan_image(image_shape)
        plan = _plan_orthogonal(image.features + action_dim, hidden, 1, "relu", 1.0)
        generator = self._layers.new_generator(seed)
        layers = self._encoder(image, divisor, generator)
        encoder = self._layers.sequential(image_shape, layers)
        return self._layers.action_critic(encoder, self._perceptron(plan, generator))

    def number_critic(
        self, size: int, start: int, action_dim: int, hidden: Sequence[int], seed: int
    ) -> Network:
        """Build a critic of the numbers of a Discrete space and actions: a `relu_mlp` of both.

        Args:
            size: How many numbers there are.
            start: The first of them.
            action_dim: A, the number of components of an action.
            hidden: Widths of the hidden layers.
            seed: The same one gives the same weights.

        Returns:
            A network of `[B]` int64 and `[B, A]` float32 to `[B, 1]`.

        Raises:
            ValueError: If a size is below 1.
        """
        encoder = self._layers.sequential((), [self._layers.one_hot(size, start)])
        head = self.relu_mlp(size + action_dim, 1, hidden, seed)
        return self._layers.action_critic(encoder, head)

    def of_numbers(self, network: Network, size: int, start: int) -> Network:
        """Put a one-hot code in front: numbers `[B]` int64 from `start` on, instead of `[B, size]`."""
        one_hot = self._layers.one_hot(size, start)
        return self._layers.sequential((), [one_hot, *self._layers.layers_of(network)])

    def adam(
        self, networks: Sequence[Network], learning_rate: float, epsilon: float = ADAM_EPSILON
    ) -> Optimizer:
        """Return Adam (Kingma and Ba 2015) for the weights of all networks."""
        return self._layers.adam(networks, learning_rate, epsilon)

    def number_adam(self, learning_rate: float) -> Optimizer:
        """Return Adam for one number, such as log alpha."""
        return self._layers.number_adam(learning_rate)

    def _encoder(self, image: _ImagePlan, divisor: float, generator: Generator) -> list[Layer]:
        """Return the layers from images, divided by `divisor`, to features."""
        layers = [*self._layers.turned(image.has_channels_first)]
        if divisor != 1.0:
            layers.append(self._layers.divide(divisor))
        channels = image.channels
        for one in image.convolutions:
            layers += self._layers.convolution(channels, one, HIDDEN_GAIN, generator)
            channels = one.filters
        return [*layers, self._layers.flatten()]

    def _dense(self, plan: Sequence[Dense], generator: Generator) -> list[Layer]:
        return [layer for one in plan for layer in self._layers.dense(one, generator)]

    def _perceptron(self, plan: Sequence[Dense], generator: Generator) -> Network:
        return self._layers.sequential((plan[0].fan_in,), self._dense(plan, generator))


class _ImagePlan(NamedTuple):
    """What turns an image into features."""

    has_channels_first: bool
    channels: int
    convolutions: tuple[Convolution, ...]
    features: int
    """How many come out of the last convolution."""


def _plan_image(shape: Sequence[int]) -> _ImagePlan:
    """Plan the convolutions for images `[C, H, W]`, where C is less than W, or `[H, W, C]`."""
    if len(shape) != IMAGE_AXES or min(shape) < 1:
        raise ValueError(f"image_shape must be three sizes of at least 1, got {tuple(shape)}")
    has_channels_first = shape[0] < shape[-1]
    channels = shape[0 if has_channels_first else -1]
    height, width = shape[1:] if has_channels_first else shape[:-1]
    layers = SMALL_IMAGE_LAYERS if min(height, width) < SMALLEST_NATURE_IMAGE else NATURE_LAYERS
    for layer in layers:
        height, width = (_side_after(layer, side) for side in (height, width))
    return _ImagePlan(has_channels_first, channels, layers, layers[-1].filters * height * width)


def _side_after(layer: Convolution, side: int) -> int:
    return (side + 2 * layer.padding - layer.width) // layer.stride + 1


def _plan_orthogonal(
    in_features: int,
    hidden: Sequence[int],
    out_features: int,
    activation: Activation,
    output_gain: float,
) -> list[Dense]:
    sizes = [in_features, *hidden, out_features]
    return _plan_perceptron(sizes, activation, "orthogonal", (HIDDEN_GAIN, output_gain))


def _plan_perceptron(
    sizes: Sequence[int],
    activation: Activation,
    distribution: Distribution,
    gains: tuple[float, float],
) -> list[Dense]:
    """Plan the layers from each size to the next; `gains` are those of the hidden ones and of the last."""
    if min(sizes) < 1:
        raise ValueError(f"the sizes of a network must be at least 1, got {[*sizes]}")
    *hidden, last = itertools.pairwise(sizes)
    layers = [Dense(*pair, activation, distribution, gains[0]) for pair in hidden]
    return [*layers, Dense(*last, None, distribution, gains[1])]
