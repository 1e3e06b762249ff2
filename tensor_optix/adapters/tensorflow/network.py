"""Networks as the backend sees them: Keras models, and what is made of them.

A network has `variables` and `trainable_variables`, is `built` once they exist, and is called with tensors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tensor_optix.adapters.tensorflow.requirements import keras, tf

if TYPE_CHECKING:
    from collections.abc import Mapping


class NetworkCopy:
    """A network with the architecture of another and variables of its own.

    Any Keras model can be copied so, also one that its class alone cannot make again. The variables are made
    when those of the model are there, and take no part in learning.

    Args:
        source: Any Keras model.
    """

    trainable_variables: tuple[Any, ...] = ()

    def __init__(self, source: Any) -> None:
        require_keras("network", source)
        self._source = source
        self._own: list[Any] | None = None
        if self.built:
            self._make_variables()

    @property
    def built(self) -> bool:
        """Whether the variables exist."""
        return bool(self._source.built)

    @property
    def variables(self) -> list[Any]:
        """All variables, in the order of the model's."""
        if self._own is None:
            require_built("network", self._source)
            self._make_variables()
        assert self._own is not None
        return self._own

    def __call__(self, *inputs: Any, training: bool = False) -> Any:
        """Return what the model would, had it these variables."""
        if not self._source.built:
            self._source(*inputs, training=training)
        pairs = zip(self._source.variables, self.variables, strict=True)
        with keras.StatelessScope([(theirs, own.value) for theirs, own in pairs]):
            return self._source(*inputs, training=training)

    def _make_variables(self) -> None:
        # Out of the graph that may be in the making: these outlive it.
        with tf.init_scope():
            self._own = [_copy(variable) for variable in self._source.variables]


def _copy(variable: Any) -> Any:
    """Return a variable of its own with the value of another, on the same device."""
    with tf.device(variable.value.device):
        # The array, because Keras would make a variable of a variable the very same one.
        return keras.Variable(
            variable.numpy(), trainable=False, dtype=variable.dtype, name=variable.name
        )


class TwinCritics:
    """The values `[2, B]` of two critics for observations `[B, ...]` and actions `[B, A]`.

    Args:
        first: Takes `[B, D + A]`, observation and action side by side; where observations are no
            vectors, the two as two arguments. Returns `[B, 1]` or `[B]`.
        second: Likewise.
    """

    def __init__(self, first: Any, second: Any) -> None:
        self.first = first
        self.second = second

    @property
    def built(self) -> bool:
        """Whether the variables exist."""
        return bool(self.first.built and self.second.built)

    @property
    def variables(self) -> list[Any]:
        """Those of both."""
        return [*self.first.variables, *self.second.variables]

    @property
    def trainable_variables(self) -> list[Any]:
        """Those of both."""
        return [*self.first.trainable_variables, *self.second.trainable_variables]

    def __call__(self, observations: Any, actions: Any, training: bool = False) -> Any:
        """Return `[2, B]`."""
        are_vectors = len(observations.shape) == 2
        inputs = (
            [tf.concat([observations, actions], -1)] if are_vectors else [observations, actions]
        )
        pair = [critic(*inputs, training=training) for critic in (self.first, self.second)]
        return tf.stack([tf.reshape(values, [-1]) for values in pair])


class Scalar:
    """A single number as a network without inputs."""

    built = True

    def __init__(self, value: float) -> None:
        self._value = keras.Variable(value, dtype="float32", name="value")
        self.variables = [self._value]
        self.trainable_variables = self.variables

    def __call__(self) -> Any:
        """Return the number, `[]`."""
        return self._value.value


def clone(network: Any) -> Any:
    """Return a copy of a network, with the same weights and variables of its own."""
    if isinstance(network, TwinCritics):
        return TwinCritics(NetworkCopy(network.first), NetworkCopy(network.second))
    return NetworkCopy(network)


def require_keras(name: str, network: Any) -> None:
    """Raise TypeError for what is no Keras model."""
    if isinstance(network, keras.layers.Layer):
        return
    hint = (
        ": unset the environment variable TF_USE_LEGACY_KERAS"
        if type(network).__module__.startswith("tf_keras")
        else ""
    )
    raise TypeError(
        f"the {name} must be a Keras 3 model, for example keras.Sequential([...]), got "
        f"{type(network).__module__}.{type(network).__name__}{hint}"
    )


def require_built(name: str, network: Any) -> None:
    """Raise ValueError for a network whose variables do not exist yet."""
    if not network.built:
        raise ValueError(
            f"the {name} has no variables yet: begin it with keras.Input(shape), or call it once on "
            "observations"
        )


def trainable_variables(networks: Mapping[str, Any]) -> list[Any]:
    """Return the variables of all networks that learning changes, each once."""
    for name, network in networks.items():
        require_built(name, network)
    found = {id(v): v for network in networks.values() for v in network.trainable_variables}
    if not found:
        raise ValueError(
            f"{' and '.join(networks)} must have variables that are trainable, got none"
        )
    return list(found.values())
