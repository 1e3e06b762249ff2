"""Networks for those who bring none: shapes and a seed come in, a Keras model with its variables goes out.

No global random state is used or changed: neither Python's, from which Keras draws the seeds of its
initializers, nor NumPy's, nor TensorFlow's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.adapters.layer_plans import (
    ADAM_EPSILON,
    HIDDEN_GAIN,
    plan_image_encoder,
    plan_perceptron,
)
from tensor_optix.adapters.tensorflow.layers import (
    ActionCritic,
    OneHot,
    image_encoder,
    orthogonal,
    perceptron,
    uniform,
)
from tensor_optix.adapters.tensorflow.placement import resolve_device
from tensor_optix.adapters.tensorflow.requirements import keras, tf

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

NUMBER_ADAM_EPSILON = 1e-8
"""As on PyTorch; Keras's own is 1e-7."""


def placed_on(device: str) -> AbstractContextManager[Any]:
    """Return a context in which networks are made on a device; `device` as in `resolve_device`.

    Raises:
        ValueError: If this machine or this build of TensorFlow has none of that name.
    """
    context: AbstractContextManager[Any] = tf.device(resolve_device(device))
    return context


def adam(
    networks: Sequence[keras.Model], learning_rate: float, epsilon: float = ADAM_EPSILON
) -> keras.optimizers.Adam:
    """Return Adam for the variables of all networks, which the agent binds it to.

    Keras adds epsilon to a root of the second moment that is not yet corrected for its start at 0, PyTorch
    to the corrected one: in the first steps the same number weighs more here (Kingma and Ba 2015, end of
    section 2).
    """
    return keras.optimizers.Adam(learning_rate, epsilon=epsilon)


def number_adam(learning_rate: float) -> keras.optimizers.Adam:
    """Return Adam for one number."""
    return keras.optimizers.Adam(learning_rate, epsilon=NUMBER_ADAM_EPSILON)


def mlp(
    in_features: int,
    out_features: int,
    hidden: Sequence[int],
    seed: int,
    output_gain: float = 1.0,
) -> keras.Sequential:
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
    plan = plan_perceptron(in_features, hidden, out_features, HIDDEN_GAIN, output_gain)
    layers = perceptron(plan, "tanh", orthogonal, np.random.default_rng(seed))
    return keras.Sequential([keras.Input((in_features,)), *layers])


def relu_mlp(
    in_features: int,
    out_features: int,
    hidden: Sequence[int],
    seed: int,
    output_gain: float = 1.0,
) -> keras.Sequential:
    """Build a ReLU perceptron with weights and biases uniform in +-1 / sqrt(fan-in).

    The arguments are those of `mlp`.

    Returns:
        A network of `[B, D]` float32 to `[B, out_features]`.

    Raises:
        ValueError: If a size is below 1.
    """
    plan = plan_perceptron(in_features, hidden, out_features, 1.0, output_gain)
    layers = perceptron(plan, "relu", uniform, np.random.default_rng(seed))
    return keras.Sequential([keras.Input((in_features,)), *layers])


def nature_cnn(
    image_shape: Sequence[int],
    out_features: int,
    hidden: Sequence[int],
    seed: int,
    output_gain: float = 1.0,
    divisor: float = 1.0,
) -> keras.Sequential:
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
    image = plan_image_encoder(image_shape)
    head = plan_perceptron(image.features, hidden, out_features, HIDDEN_GAIN, output_gain)
    generator = np.random.default_rng(seed)
    encoder = image_encoder(image, divisor, generator)
    layers = perceptron(head, "relu", orthogonal, generator)
    return keras.Sequential([keras.Input(tuple(image_shape)), *encoder, *layers])


def image_critic(
    image_shape: Sequence[int],
    action_dim: int,
    hidden: Sequence[int],
    seed: int,
    divisor: float = 1.0,
) -> ActionCritic:
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
    image = plan_image_encoder(image_shape)
    plan = plan_perceptron(image.features + action_dim, hidden, 1, HIDDEN_GAIN, 1.0)
    generator = np.random.default_rng(seed)
    layers = image_encoder(image, divisor, generator)
    encoder = keras.Sequential([keras.Input(tuple(image_shape)), *layers])
    head = keras.Sequential(
        [keras.Input((plan[0].fan_in,)), *perceptron(plan, "relu", orthogonal, generator)]
    )
    return ActionCritic(encoder, head)


def number_critic(
    size: int, start: int, action_dim: int, hidden: Sequence[int], seed: int
) -> ActionCritic:
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
    encoder = keras.Sequential([keras.Input((), dtype="int64"), OneHot(size, start)])
    return ActionCritic(encoder, relu_mlp(size + action_dim, 1, hidden, seed))


def of_numbers(network: keras.Sequential, size: int, start: int) -> keras.Sequential:
    """Return a network of numbers `[B]`, as unit vectors, from one of vectors `[B, size]`."""
    return keras.Sequential([keras.Input((), dtype="int64"), OneHot(size, start), *network.layers])
