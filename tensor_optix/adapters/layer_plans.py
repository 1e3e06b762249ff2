"""Which layers ready-made networks have, whatever the framework: shapes come in, sizes and gains go out."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

HIDDEN_GAIN = 2.0**0.5
"""Gain of the hidden layers, usual for policy gradients (Huang et al. 2022, "The 37 implementation
details of PPO")."""
ADAM_EPSILON = 1e-5
"""Usual for policy gradients (Huang et al. 2022); the frameworks' own, 1e-8 and 1e-7, make the first steps
jumpy."""
SMALLEST_NATURE_IMAGE = 36
"""Pixels of the shorter side, below which nothing is left after the Nature layers."""
IMAGE_AXES = 3


class LinearPlan(NamedTuple):
    """A linear layer."""

    fan_in: int
    fan_out: int
    gain: float
    """Scale of its initial weights."""


class ConvolutionPlan(NamedTuple):
    """A square convolution."""

    filters: int
    width: int
    stride: int
    padding: int
    """Zeros on each side."""


NATURE_LAYERS = (
    ConvolutionPlan(32, 8, 4, 0),
    ConvolutionPlan(64, 4, 2, 0),
    ConvolutionPlan(64, 3, 1, 0),
)
"""Those of Mnih et al. 2015."""
SMALL_IMAGE_LAYERS = (
    ConvolutionPlan(32, 3, 2, 1),
    ConvolutionPlan(64, 3, 2, 1),
    ConvolutionPlan(64, 3, 1, 1),
)
"""The same for images that the Nature layers would use up."""


class ImagePlan(NamedTuple):
    """What turns an image into features."""

    has_channels_first: bool
    channels: int
    convolutions: tuple[ConvolutionPlan, ...]
    features: int
    """How many come out of the last convolution."""


def plan_image_encoder(image_shape: Sequence[int]) -> ImagePlan:
    """Plan the convolutions for images `[C, H, W]`, where that axis is shorter than the last, or `[H, W, C]`.

    Raises:
        ValueError: If a size is below 1, or the shape has not three axes.
    """
    if len(image_shape) != IMAGE_AXES or min(image_shape) < 1:
        raise ValueError(f"image_shape must be three sizes of at least 1, got {tuple(image_shape)}")
    has_channels_first = image_shape[0] < image_shape[-1]
    channels = image_shape[0 if has_channels_first else -1]
    height, width = image_shape[1:] if has_channels_first else image_shape[:-1]
    is_small = min(height, width) < SMALLEST_NATURE_IMAGE
    layers = SMALL_IMAGE_LAYERS if is_small else NATURE_LAYERS
    for layer in layers:
        height, width = (_side_after(layer, side) for side in (height, width))
    features = layers[-1].filters * height * width
    return ImagePlan(has_channels_first, channels, layers, features)


def plan_perceptron(
    in_features: int,
    hidden: Sequence[int],
    out_features: int,
    hidden_gain: float,
    output_gain: float,
) -> list[LinearPlan]:
    """Plan the linear layers from `in_features` over the widths in `hidden` to `out_features`.

    Raises:
        ValueError: If a size is below 1.
    """
    sizes = [in_features, *hidden, out_features]
    if min(sizes) < 1:
        raise ValueError(f"the sizes of a network must be at least 1, got {sizes}")
    gains = [*[hidden_gain] * len(hidden), output_gain]
    pairs = itertools.pairwise(sizes)
    return [LinearPlan(*pair, gain) for pair, gain in zip(pairs, gains, strict=True)]


def _side_after(layer: ConvolutionPlan, side: int) -> int:
    return (side + 2 * layer.padding - layer.width) // layer.stride + 1
