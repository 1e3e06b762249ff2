"""The layers of ready-made networks: plans and a generator come in, Keras layers with weights go out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from tensor_optix.adapters.layer_plans import HIDDEN_GAIN
from tensor_optix.adapters.tensorflow.requirements import keras, tf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensor_optix.adapters.layer_plans import ConvolutionPlan, ImagePlan, LinearPlan

PACKAGE = "tensor_optix"
"""Under which Keras finds these classes again when it reads a model's file."""

Initializers: TypeAlias = Callable[["LinearPlan", np.random.Generator], dict[str, Any]]
"""`(plan, generator)`: return how kernel and bias begin, as `keras.layers.Dense` takes it.

Each has a seed: without one, Keras would draw it from Python's global generator.
"""


@keras.saving.register_keras_serializable(PACKAGE)
class ActionCritic(keras.Model):  # type: ignore[misc]
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
    def from_config(cls, config: dict[str, Any]) -> ActionCritic:
        """Make a critic again."""
        restore = keras.saving.deserialize_keras_object
        return cls(restore(config["encoder"]), restore(config["head"]), name=config["name"])


@keras.saving.register_keras_serializable(PACKAGE)
class OneHot(keras.layers.Layer):  # type: ignore[misc]
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


def image_encoder(
    plan: ImagePlan, divisor: float, generator: np.random.Generator
) -> list[keras.layers.Layer]:
    """Return the layers from images, divided by `divisor`, to `plan.features` features."""
    layers: list[keras.layers.Layer] = []
    if plan.has_channels_first:
        # On a CPU, TensorFlow convolves nothing else.
        layers.append(keras.layers.Permute((2, 3, 1)))
    if divisor != 1.0:
        layers.append(keras.layers.Rescaling(1.0 / divisor))
    for convolution in plan.convolutions:
        layers += _convolution(convolution, generator)
    return [*layers, keras.layers.Flatten(data_format="channels_last")]


def perceptron(
    plan: Sequence[LinearPlan],
    activation: str,
    initializers: Initializers,
    generator: np.random.Generator,
) -> list[keras.layers.Layer]:
    """Return linear layers with activations between them."""
    return [
        keras.layers.Dense(
            one.fan_out,
            activation=activation if place < len(plan) else None,
            **initializers(one, generator),
        )
        for place, one in enumerate(plan, 1)
    ]


def orthogonal(plan: LinearPlan, generator: np.random.Generator) -> dict[str, Any]:
    """Begin with an orthogonal kernel and a bias of zeros."""
    return {"kernel_initializer": _orthogonal(plan.gain, generator)}


def uniform(plan: LinearPlan, generator: np.random.Generator) -> dict[str, Any]:
    """Begin with kernel and bias uniform in +-gain / sqrt(fan-in)."""
    bound = plan.gain / plan.fan_in**0.5
    names = ("kernel_initializer", "bias_initializer")
    return {
        name: keras.initializers.RandomUniform(-bound, bound, _seed(generator)) for name in names
    }


def _convolution(plan: ConvolutionPlan, generator: np.random.Generator) -> list[keras.layers.Layer]:
    layer = keras.layers.Conv2D(
        plan.filters,
        plan.width,
        plan.stride,
        data_format="channels_last",
        activation="relu",
        kernel_initializer=_orthogonal(HIDDEN_GAIN, generator),
    )
    if not plan.padding:
        return [layer]
    # Keras's own padding would put the odd zero on the other side, where a stride leaves one over.
    return [keras.layers.ZeroPadding2D(plan.padding, data_format="channels_last"), layer]


def _orthogonal(gain: float, generator: np.random.Generator) -> keras.initializers.Initializer:
    return keras.initializers.Orthogonal(gain, _seed(generator))


def _seed(generator: np.random.Generator) -> int:
    return int(generator.integers(2**31))
