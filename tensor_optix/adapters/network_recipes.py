"""Ready-made networks, once for every framework: shapes and a seed come in, a network goes out.

All networks are complete: they have their weights. These follow from the seed; no global random state is used
or changed. The same seed gives other numbers, of the same distributions, on another framework.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from tensor_optix.adapters.backend import ByteField, Network, Optimizer

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
Channels: TypeAlias = Literal["first", "last"]
"""Which axis of an image they are; None, where it is asked for: the shorter one, the last of two alike."""


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


class Image(NamedTuple):
    """What turns an image into features."""

    has_channels_first: bool
    channels: int
    convolutions: tuple[Convolution, ...]
    features: int
    """How many come out of the last convolution."""


class Part(NamedTuple):
    """Columns of a row of numbers that lie side by side."""

    first: int
    shape: tuple[int, ...]
    """Of what they hold, row-major."""
    image: Image | None = None
    """How they become features; None: they are features as they are."""

    @property
    def size(self) -> int:
        """How many columns there are."""
        return math.prod(self.shape)

    @property
    def features(self) -> int:
        """How many features come of them."""
        return self.size if self.image is None else self.image.features


class Sight(NamedTuple):
    """What a network sees, and what it makes of it before the hidden layers."""

    shape: tuple[int, ...]
    """Of one observation; `()` is a number."""
    parts: tuple[Part, ...]
    """Of the row, or the one image, that an observation is, or becomes once it is encoded."""
    sizes: tuple[int, ...] = ()
    starts: tuple[int, ...] = ()
    """The numbers of a Discrete or a MultiDiscrete: from each start on so many. None: there are no such."""
    byte_fields: tuple[ByteField, ...] = ()
    """All of the observation, if bytes are divided."""
    is_index: bool = False
    """Whether an observation is a number of a Discrete."""

    @property
    def features(self) -> int:
        """How many numbers come before the hidden layers."""
        return sum(part.features for part in self.parts)

    @property
    def has_images(self) -> bool:
        """Whether there are convolutions."""
        return any(part.image is not None for part in self.parts)

    @property
    def is_row(self) -> bool:
        """Whether an observation is one row of numbers."""
        return len(self.shape) == 1


class Output(NamedTuple):
    """The last layer of a network."""

    size: int
    seed: int
    gain: float
    """Scale of its initial weights."""


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

    def byte_scale(self, fields: Sequence[ByteField], /) -> Layer:
        """Return a layer that divides bytes: an `adapters.backend.ByteScale`."""

    def flatten(self) -> Layer:
        """Return a layer of `[B, ...]` to `[B, F]`; numbers `[B]` become `[B, 1]`."""

    def features(self, channels: int, size: int, /) -> Layer:
        """Return a layer of what convolutions make, images with so many channels, to `[B, size]`."""

    def columns(self, first: int, shape: Sequence[int], /) -> Layer:
        """Return a layer of rows `[B, D]` to what their columns from `first` on hold, `[B, *shape]`."""

    def one_hot(self, sizes: Sequence[int], starts: Sequence[int], /) -> Layer:
        """Return a layer of numbers, K for each of B, to K unit vectors side by side, `[B, sum(sizes)]`.

        The numbers count from their starts on; others become 0.
        """

    def side_by_side(self, width: int, branches: Sequence[Sequence[Layer]], /) -> Layer:
        """Return a layer of rows `[B, width]` to what each branch, layers in order, makes of them, joined."""

    def beside(self, encoder: Sequence[Layer], size: int, others: int, /) -> list[Layer]:
        """Return the layers of rows `[B, size + others]` to what an encoder makes of the first columns.

        The others, which are those of actions, follow as they are.
        """

    def sequential(
        self, shape: Sequence[int], layers: Sequence[Layer], is_index: bool = False, /
    ) -> Network:
        """Return a network of layers in order, for `[B, *shape]` float32, or indices `[B]` int64."""

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

    def network(
        self,
        sight: Sight,
        perceptron: Perceptron,
        out_features: int,
        hidden: Sequence[int],
        seed: int,
        output_gain: float = 1.0,
    ) -> Network:
        """Build a network of observations.

        Behind convolutions, hidden layers are those of Mnih et al. 2015: ReLU, with orthogonal weights and
        zero biases.

        Args:
            sight: Of the observations.
            perceptron: The recipe of what comes behind, where there are no images.
            out_features: The length of an output.
            hidden: Widths of the hidden layers; behind images `(512,)` in the paper.
            seed: The same one gives the same weights.
            output_gain: Scale of the last layer.

        Returns:
            A network of `[B, *shape]` float32, or indices `[B]` int64, to `[B, out_features]`.

        Raises:
            ValueError: If a size is below 1.
        """
        generator = self._layers.new_generator(seed)
        encoder = self._encoder(sight, generator)
        if sight.has_images:
            plan = _plan_orthogonal(sight.features, hidden, out_features, "relu", output_gain)
            head = self._dense(plan, generator)
        else:
            network = perceptron(sight.features, out_features, hidden, seed, output_gain)
            if not encoder:
                return network
            head = [*self._layers.layers_of(network)]
        return self._layers.sequential(sight.shape, [*encoder, *head], sight.is_index)

    def networks_of_images(
        self, sight: Sight, outputs: Sequence[Output], hidden: Sequence[int]
    ) -> list[Network]:
        """Build networks that share all layers but their last, as those of Mnih et al. 2016 do.

        Args:
            sight: Of the observations, with images.
            outputs: Of each; the first's seed is that of what is shared.
            hidden: Widths of the hidden layers, as for `network`.

        Returns:
            Networks of `[B, *shape]` float32; the first is what `network` makes.

        Raises:
            ValueError: If a size is below 1.
        """
        generators = [self._layers.new_generator(one.seed) for one in outputs]
        trunk = self._encoder(sight, generators[0])
        plans = [
            _plan_orthogonal(sight.features, hidden, one.size, "relu", one.gain) for one in outputs
        ]
        trunk += self._dense(plans[0][:-1], generators[0])
        lasts = [
            self._layers.dense(plan[-1], generator)
            for plan, generator in zip(plans, generators, strict=True)
        ]
        return [self._layers.sequential(sight.shape, [*trunk, *last]) for last in lasts]

    def action_critic(
        self, sight: Sight, action_dim: int, hidden: Sequence[int], seed: int
    ) -> Network:
        """Build a critic of observations and actions: the action joins in before the hidden layers.

        Args:
            sight: Of the observations; `hidden` and `seed` are as for `network`.
            action_dim: A, the number of components of an action.
            hidden: Widths of the hidden layers.
            seed: The same one gives the same weights.

        Returns:
            A network to `[B, 1]` of rows with the action behind them, `[B, D + A]`; where observations are no
            rows, of observations and `[B, A]`.

        Raises:
            ValueError: If a size is below 1.
        """
        generator = self._layers.new_generator(seed)
        encoder = self._encoder(sight, generator)
        if sight.has_images:
            plan = _plan_orthogonal(sight.features + action_dim, hidden, 1, "relu", 1.0)
            head = self._perceptron(plan, generator)
        else:
            head = self.relu_mlp(sight.features + action_dim, 1, hidden, seed)
        if not sight.is_row:
            network = self._layers.sequential(sight.shape, encoder, sight.is_index)
            return self._layers.action_critic(network, head)
        if not encoder:
            return head
        (size,) = sight.shape
        joined = self._layers.beside(encoder, size, action_dim)
        layers = [*joined, *self._layers.layers_of(head)]
        return self._layers.sequential((size + action_dim,), layers)

    def adam(
        self, networks: Sequence[Network], learning_rate: float, epsilon: float = ADAM_EPSILON
    ) -> Optimizer:
        """Return Adam (Kingma and Ba 2015) for the weights of all networks."""
        return self._layers.adam(networks, learning_rate, epsilon)

    def number_adam(self, learning_rate: float) -> Optimizer:
        """Return Adam for one number, such as log alpha."""
        return self._layers.number_adam(learning_rate)

    def _encoder(self, sight: Sight, generator: Generator) -> list[Layer]:
        """Return the layers from observations to features; none where they are features already."""
        layers = []
        if sight.byte_fields:
            layers.append(self._layers.byte_scale(sight.byte_fields))
        if sight.sizes:
            layers.append(self._layers.one_hot(sight.sizes, sight.starts))
        elif not sight.is_row and not sight.has_images:
            layers.append(self._layers.flatten())
        if not sight.has_images:
            return layers
        branches = [self._branch(part, sight.is_row, generator) for part in sight.parts]
        if len(branches) == 1:
            return [*layers, *branches[0]]
        return [*layers, self._layers.side_by_side(sight.shape[0], branches)]

    def _branch(self, part: Part, is_row: bool, generator: Generator) -> list[Layer]:
        """Return the layers of observations to the features of a part."""
        layers = [self._layers.columns(part.first, part.shape)] if is_row else []
        if part.image is None:
            return layers
        layers += self._layers.turned(part.image.has_channels_first)
        channels = part.image.channels
        for one in part.image.convolutions:
            layers += self._layers.convolution(channels, one, HIDDEN_GAIN, generator)
            channels = one.filters
        return [*layers, self._layers.features(channels, part.image.features)]

    def _dense(self, plan: Sequence[Dense], generator: Generator) -> list[Layer]:
        return [layer for one in plan for layer in self._layers.dense(one, generator)]

    def _perceptron(self, plan: Sequence[Dense], generator: Generator) -> Network:
        return self._layers.sequential((plan[0].fan_in,), self._dense(plan, generator))


def plan_image(shape: Sequence[int], channels: Channels | None = None) -> Image:
    """Plan the convolutions of Mnih et al. 2015 for images `[C, H, W]` or `[H, W, C]`.

    Three convolutions, 32 of 8x8 with stride 4, 64 of 4x4 with stride 2, 64 of 3x3, are followed by ReLU
    layers. Where a side is shorter than 36 pixels, nothing would be left: there the convolutions are 32, 64
    and 64 of 3x3 with padding 1 and the strides 2, 2 and 1.

    Raises:
        ValueError: If the shape has not three axes, or a size is below 1.
    """
    if len(shape) != IMAGE_AXES or min(shape) < 1:
        raise ValueError(f"image_shape must be three sizes of at least 1, got {tuple(shape)}")
    is_first = shape[0] < shape[-1] if channels is None else channels == "first"
    height, width = shape[1:] if is_first else shape[:-1]
    layers = SMALL_IMAGE_LAYERS if min(height, width) < SMALLEST_NATURE_IMAGE else NATURE_LAYERS
    for layer in layers:
        height, width = (_side_after(layer, side) for side in (height, width))
    features = layers[-1].filters * height * width
    return Image(is_first, shape[0 if is_first else -1], layers, features)


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
