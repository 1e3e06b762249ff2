"""TensorFlow, with Keras 3, as tests see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from tests.frameworks import Framework, single

if TYPE_CHECKING:
    from collections.abc import Sequence


class TensorFlowFramework(Framework):
    """TensorFlow, with Keras 3."""

    name, adapter, prefix, classes = "tensorflow", "tensorflow", "tf", "TF"

    def with_trunk(
        self, sizes: tuple[int, int], outputs: Sequence[int], form: str = "nested", seed: int = 0
    ) -> list[Any]:
        keras.utils.set_random_seed(seed)
        heads = [keras.layers.Dense(size) for size in outputs]
        layers = [keras.layers.Dense(sizes[1]), keras.layers.Activation("tanh")]
        inputs = keras.Input((sizes[0],))
        trunk = [keras.Sequential([inputs, *layers])] if form == "nested" else [inputs, *layers]
        models = [keras.Sequential([*trunk, head]) for head in heads]
        hidden = layers[1](layers[0](inputs))
        count = {"graph": len(heads), "mixed": 1}.get(form, 0)
        return [keras.Model(inputs, head(hidden)) for head in heads[:count]] + models[count:]

    def two_headed(self, inputs: int, actions: int) -> Any:
        observations, dense = keras.Input((inputs,)), keras.layers.Dense
        hidden = dense(8, activation="tanh")(observations)
        return keras.Model(observations, [dense(actions)(hidden), dense(1)(hidden)])

    def adam(self, rate: float, *networks: Any) -> Any:
        # The epsilon of PyTorch: that of Keras is ten times as large.
        return keras.optimizers.Adam(rate, epsilon=1e-8)

    def sgd(self, rate: float, *networks: Any) -> Any:
        return keras.optimizers.SGD(rate)

    def number_adam(self, rate: float) -> Any:
        return self.adam(rate)

    def number_sgd(self, rate: float) -> Any:
        return self.sgd(rate)

    def weights(self, network: Any) -> list[np.ndarray]:
        return [np.array(v.numpy()) for v in network.variables]

    def set_weights(self, network: Any, arrays: Sequence[np.ndarray]) -> None:
        for variable, array in zip(network.variables, arrays, strict=True):
            variable.assign(array)

    def batch_norm(self, features: int) -> Any:
        layers = keras.layers
        return keras.Sequential([keras.Input((features,)), layers.BatchNormalization()])

    def set_running_mean(self, network: Any, value: float) -> None:
        mean = _named(network, "moving_mean")
        mean.assign(np.full(mean.shape, value))

    def running_mean(self, network: Any) -> np.ndarray:
        return np.array(_named(network, "moving_mean").numpy())

    def tensor(self, array: Any) -> Any:
        return tf.constant(single(array))

    def array(self, tensor: Any) -> np.ndarray:
        return np.array(tensor.numpy())

    def _layers(self, sizes: Sequence[int], obs_shape: Any, scale: float) -> Any:
        layers = keras.layers
        found: list[Any] = [keras.Input(obs_shape or (sizes[0],))]
        if obs_shape is not None:
            found.append(layers.Flatten())
        if scale != 1.0:
            found.append(layers.Rescaling(scale))
        for place, outputs in enumerate(sizes[1:], 1):
            last = place == len(sizes) - 1
            found.append(layers.Dense(outputs, activation=None if last else "tanh"))
        return keras.Sequential(found)

    def _critic_of_two(self, sizes: Sequence[int], scale: float) -> Any:
        layers = self._layers(sizes, None, 1.0)

        class ImageCritic(keras.Model):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.value = layers
                self.built = True

            def call(self, observations: Any, actions: Any) -> Any:
                size = int(np.prod(observations.shape[1:]))
                pixels = tf.reshape(observations, [-1, size]) * scale
                return self.value(tf.concat([pixels, actions], axis=-1))

        return ImageCritic()


def _named(network: Any, name: str) -> Any:
    return next(variable for variable in network.variables if variable.name == name)


FRAMEWORK = TensorFlowFramework
