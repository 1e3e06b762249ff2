"""Keras's layers for ready-made networks: the functions of `adapters.network_recipes.Layers`.

No global random state is used or changed: neither Python's, from which Keras draws the seeds of its
initializers, nor NumPy's, nor TensorFlow's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.adapters.tensorflow.requirements import keras, tf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensor_optix.adapters.network_recipes import Convolution, Dense

PACKAGE = "tensor_optix"
"""Under which Keras finds these classes again when it reads a model's file."""
NUMBER_ADAM_EPSILON = 1e-8
"""As on PyTorch; Keras's own is 1e-7."""


def new_generator(seed: int) -> np.random.Generator:
    """Return what the seeds of initializers are drawn from."""
    return np.random.default_rng(seed)


def dense(layer: Dense, generator: np.random.Generator) -> list[keras.layers.Layer]:
    """Return a linear layer with its activation."""
    if layer.distribution == "orthogonal":
        initializers = {"kernel_initializer": _orthogonal(layer.gain, generator)}
    else:
        bound = layer.gain / layer.fan_in**0.5
        initializers = {
            name: keras.initializers.RandomUniform(-bound, bound, _seed(generator))
            for name in ("kernel_initializer", "bias_initializer")
        }
    return [keras.layers.Dense(layer.fan_out, layer.activation, **initializers)]


def convolution(
    channels: int, layer: Convolution, gain: float, generator: np.random.Generator
) -> list[keras.layers.Layer]:
    """Return a convolution of images `[B, H, W, C]` with its activation, and what pads them."""
    convolved = keras.layers.Conv2D(
        layer.filters,
        layer.width,
        layer.stride,
        data_format="channels_last",
        activation="relu",
        kernel_initializer=_orthogonal(gain, generator),
    )
    if not layer.padding:
        return [convolved]
    # Keras's own padding would put the odd zero on the other side, where a stride leaves one over.
    return [keras.layers.ZeroPadding2D(layer.padding, data_format="channels_last"), convolved]


def turned(has_channels_first: bool) -> list[keras.layers.Layer]:
    """Return what puts the channels of images last."""
    # On a CPU, TensorFlow convolves nothing else.
    return [keras.layers.Permute((2, 3, 1))] if has_channels_first else []


def divide(divisor: float) -> keras.layers.Layer:
    """Return a layer that divides by a number."""
    return keras.layers.Rescaling(1.0 / divisor)


def flatten() -> keras.layers.Layer:
    """Return a layer of `[B, ...]` to `[B, F]`."""
    return keras.layers.Flatten(data_format="channels_last")


def one_hot(size: int, start: int = 0) -> keras.layers.Layer:
    """Return a layer of numbers `[B]` from `start` on to unit vectors `[B, size]` float32; others to 0."""
    return KerasOneHot(size, start)


def sequential(shape: Sequence[int], layers: Sequence[keras.layers.Layer]) -> keras.Sequential:
    """Return a network of layers in order, for `[B, *shape]` float32, or numbers `[B]` int64."""
    inputs = keras.Input(tuple(shape)) if shape else keras.Input((), dtype="int64")
    return keras.Sequential([inputs, *layers])


def layers_of(network: keras.Sequential) -> list[keras.layers.Layer]:
    """Return the layers of a network in order."""
    return list(network.layers)


def action_critic(encoder: keras.Model, head: keras.Model) -> keras.Model:
    """Return a critic of `(observations [B, ...], actions [B, A]) -> [B, 1]`."""
    return KerasActionCritic(encoder, head)


def adam(
    networks: Sequence[keras.Model], learning_rate: float, epsilon: float
) -> keras.optimizers.Optimizer:
    """Return Adam for the variables of all networks, which the agent binds it to.

    Keras adds epsilon to a root of the second moment that is not yet corrected for its start at 0, PyTorch
    to the corrected one: in the first steps the same number weighs more here (Kingma and Ba 2015, end of
    section 2).
    """
    return keras.optimizers.Adam(learning_rate, epsilon=epsilon)


def number_adam(learning_rate: float) -> keras.optimizers.Optimizer:
    """Return Adam for one number."""
    return keras.optimizers.Adam(learning_rate, epsilon=NUMBER_ADAM_EPSILON)


# The names that models were stored under.
@keras.saving.register_keras_serializable(PACKAGE, "ActionCritic")
class KerasActionCritic(keras.Model):  # type: ignore[misc]
    """A critic of `(observations, actions [B, A]) -> [B, 1]`, for observations that are no vectors.

    Args:
        encoder: `[B, ...]` observations to features `[B, F]`, with its input's shape.
        head: `[B, F + A]`, features and action side by side, to `[B, 1]`, with its input's shape.
    """

    def __init__(self, encoder: keras.Model, head: keras.Model, **settings: Any) -> None:
        super().__init__(**settings)
        self.encoder = encoder
        self.head = head
        action_dim = head.input_shape[-1] - encoder.output_shape[-1]
        self(keras.Input(batch_shape=encoder.input_shape), keras.Input((action_dim,)))

    def call(self, observations: Any, actions: Any) -> Any:
        """Return the values, `[B, 1]`."""
        return self.head(tf.concat([self.encoder(observations), actions], axis=-1))

    def get_config(self) -> dict[str, Any]:
        """Return what makes this critic again."""
        parts = {"encoder": self.encoder, "head": self.head}
        stored = {name: keras.saving.serialize_keras_object(part) for name, part in parts.items()}
        return {"name": self.name, **stored}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> KerasActionCritic:
        """Make a critic again."""
        restore = keras.saving.deserialize_keras_object
        return cls(restore(config["encoder"]), restore(config["head"]), name=config["name"])


@keras.saving.register_keras_serializable(PACKAGE, "OneHot")
class KerasOneHot(keras.layers.Layer):  # type: ignore[misc]
    """Numbers `[B]` from `start` to `start + size - 1` as unit vectors `[B, size]` float32; others as 0."""

    def __init__(self, size: int, start: int = 0, **settings: Any) -> None:
        super().__init__(**settings)
        self.size = size
        self.start = start

    def call(self, numbers: Any) -> Any:
        """Return the unit vectors."""
        return tf.one_hot(numbers - self.start, self.size)

    def get_config(self) -> dict[str, Any]:
        """Return what makes this layer again."""
        return {**super().get_config(), "size": self.size, "start": self.start}


def _orthogonal(gain: float, generator: np.random.Generator) -> keras.initializers.Initializer:
    return keras.initializers.Orthogonal(gain, _seed(generator))


def _seed(generator: np.random.Generator) -> int:
    # Without one, Keras would draw it from Python's global generator.
    return int(generator.integers(2**31))
