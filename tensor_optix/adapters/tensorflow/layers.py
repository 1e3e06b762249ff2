"""Keras's layers for ready-made networks: the functions of `adapters.network_recipes.Layers`.

No global random state is used or changed: neither Python's, from which Keras draws the seeds of its
initializers, nor NumPy's, nor TensorFlow's.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.adapters.backend import LARGEST_BYTE, OPEN, ByteField, first_divisors
from tensor_optix.adapters.stored_networks import Features
from tensor_optix.adapters.tensorflow.requirements import keras, tf

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tensor_optix.adapters.network_recipes import Convolution, Dense
    from tensor_optix.core.types import Array

PACKAGE = "tensor_optix"
"""Under which Keras finds these classes again when it reads a model's file."""
DIVISORS = "divisors"
"""The name of the variable that bytes are divided by."""
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


def byte_scale(fields: Sequence[ByteField]) -> keras.layers.Layer:
    """Return a layer that divides bytes."""
    return KerasByteScale([tuple(field) for field in fields])


def flatten() -> keras.layers.Layer:
    """Return a layer of `[B, ...]` to `[B, F]`; numbers `[B]` become `[B, 1]`."""
    return keras.layers.Flatten(data_format="channels_last")


def features(channels: int, size: int) -> keras.layers.Layer:
    """Return a layer of what convolutions make, images with so many channels, to `[B, size]`."""
    return KerasFeatures(channels, size)


def columns(first: int, shape: Sequence[int]) -> keras.layers.Layer:
    """Return a layer of rows `[B, D]` to what their columns from `first` on hold, `[B, *shape]`."""
    return KerasColumns(first, shape)


def one_hot(sizes: Sequence[int], starts: Sequence[int]) -> keras.layers.Layer:
    """Return a layer of numbers, K for each of B, to K unit vectors side by side; others become 0."""
    return KerasOneHot(sizes, starts)


def side_by_side(
    width: int, branches: Sequence[Sequence[keras.layers.Layer]]
) -> keras.layers.Layer:
    """Return a layer of rows to what each branch makes of them, joined."""
    rows = keras.Input((width,))
    features = [sequential((width,), branch)(rows) for branch in branches]
    return keras.Model(rows, keras.layers.Concatenate()(features))


def beside(
    encoder: Sequence[keras.layers.Layer], size: int, others: int
) -> list[keras.layers.Layer]:
    """Return a layer of rows to what an encoder makes of the first columns, and the others as they are."""
    branches = [[columns(0, (size,)), *encoder], [columns(size, (others,))]]
    return [side_by_side(size + others, branches)]


def sequential(
    shape: Sequence[int], layers: Sequence[keras.layers.Layer], is_index: bool = False
) -> keras.Sequential:
    """Return a network of layers in order, for `[B, *shape]` float32, or indices `[B]` int64."""
    inputs = keras.Input(tuple(shape), dtype="int64" if is_index else "float32")
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


def features_behind(model: keras.Model) -> Iterator[tuple[keras.Variable, tuple[Features, ...]]]:
    """Yield the kernel of each dense layer behind ready-made convolutions, and what it takes first."""
    parts: tuple[Features, ...] = ()
    for layer in _steps(model):
        if isinstance(layer, keras.Model | KerasFeatures):
            parts = _parts(layer)
        elif parts and isinstance(layer, keras.layers.Dense):
            yield layer.kernel, parts
            parts = ()


def _steps(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """Yield the layers in order; what `side_by_side` makes is one."""
    for layer in model.layers:
        if isinstance(layer, keras.Sequential | KerasActionCritic):
            yield from _steps(layer)
        else:
            yield layer


def _parts(layer: keras.layers.Layer) -> tuple[Features, ...]:
    """Return of what the features lie side by side that a layer makes, where it may be of images."""
    if isinstance(layer, KerasFeatures | KerasColumns):
        return (layer.part,)
    if isinstance(layer, keras.Sequential):
        return _parts(layer.layers[-1])
    branches = layer.layers if isinstance(layer, keras.Model) else ()
    return tuple(part for branch in branches for part in _parts(branch))


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
    """K numbers for each of B, `[B]` or `[B, ...]`, as unit vectors side by side, `[B, sum(size)]` float32.

    They count from their starts on; the vectors of others are 0.

    Args:
        size: How many numbers there are, for each of the K; or an int for one.
        start: The first ones, likewise.
        settings: Of every layer.
    """

    def __init__(self, size: Any, start: Any = 0, **settings: Any) -> None:
        super().__init__(**settings)
        self.size, self.start = (tuple(np.ravel(one).tolist()) for one in (size, start))
        ranges = [np.arange(n, n + size) for n, size in zip(self.start, self.size, strict=True)]
        self._numbers = np.concatenate(ranges)
        self._places = np.repeat(np.arange(len(self.size)), self.size)

    def call(self, numbers: Any) -> Any:
        """Return the unit vectors."""
        rows = tf.reshape(numbers, [-1, len(self.size)])
        is_hot = tf.gather(rows, self._places, axis=1) == tf.constant(self._numbers, rows.dtype)
        return tf.cast(is_hot, tf.float32)

    def get_config(self) -> dict[str, Any]:
        """Return what makes this layer again."""
        return {**super().get_config(), "size": self.size, "start": self.start}


@keras.saving.register_keras_serializable(PACKAGE, "ByteScale")
class KerasByteScale(keras.layers.Layer):  # type: ignore[misc]
    """Bytes divided by what they are at most: an `adapters.backend.ByteScale`.

    Args:
        fields: Those of the observations in their order, size and highest number of each.
        settings: Of every layer.
    """

    def __init__(self, fields: Sequence[Sequence[int]], **settings: Any) -> None:
        super().__init__(**settings)
        self._fields = tuple(ByteField(*field) for field in fields)
        self.sizes = tuple(field.size for field in self._fields)
        self._places = np.repeat(np.arange(len(self.sizes)), self.sizes)
        self.divisors = self.add_weight(
            name=DIVISORS,
            shape=(len(self.sizes),),
            # TensorFlow keeps int32 on the CPU, wherever the other variables are.
            dtype="int64",
            initializer=lambda shape, dtype: tf.constant(first_divisors(self._fields), dtype),
            trainable=False,
        )

    def call(self, observations: Any) -> Any:
        """Return the quotients."""
        divisors = self.divisors.value
        known = tf.where(divisors == OPEN, tf.constant(LARGEST_BYTE, divisors.dtype), divisors)
        factors = 1.0 / tf.cast(known, observations.dtype)
        if len(self.sizes) > 1:
            factors = tf.gather(factors, self._places)
        return observations * factors

    def read(self) -> Array:
        """Return the divisors `[F]` int64."""
        return np.array(self.divisors.numpy())

    def write(self, divisors: Array) -> None:
        """Set the divisors."""
        self.divisors.assign(divisors)

    def get_config(self) -> dict[str, Any]:
        """Return what makes this layer again."""
        return {**super().get_config(), "fields": [list(field) for field in self._fields]}


@keras.saving.register_keras_serializable(PACKAGE, "Features")
class KerasFeatures(keras.layers.Flatten):  # type: ignore[misc]
    """Images with so many channels, which convolutions made, as `[B, size]`: pixel by pixel."""

    def __init__(self, channels: int, size: int, **settings: Any) -> None:
        super().__init__(**{"data_format": "channels_last", **settings})
        self.part = Features(channels, size)

    def get_config(self) -> dict[str, Any]:
        """Return what makes this layer again."""
        return {**super().get_config(), **self.part._asdict()}


@keras.saving.register_keras_serializable(PACKAGE, "Columns")
class KerasColumns(keras.layers.Layer):  # type: ignore[misc]
    """What the columns of rows `[B, D]` from `first` on hold, `[B, *shape]`."""

    def __init__(self, first: int, shape: Sequence[int], **settings: Any) -> None:
        super().__init__(**settings)
        self.first = first
        self.shape = tuple(shape)
        self.part = Features(1, math.prod(shape))

    def call(self, rows: Any) -> Any:
        """Return it."""
        held = rows[:, self.first : self.first + math.prod(self.shape)]
        return tf.reshape(held, [-1, *self.shape])

    def get_config(self) -> dict[str, Any]:
        """Return what makes this layer again."""
        return {**super().get_config(), "first": self.first, "shape": list(self.shape)}


def _orthogonal(gain: float, generator: np.random.Generator) -> keras.initializers.Initializer:
    return keras.initializers.Orthogonal(gain, _seed(generator))


def _seed(generator: np.random.Generator) -> int:
    # Without one, Keras would draw it from Python's global generator.
    return int(generator.integers(2**31))
