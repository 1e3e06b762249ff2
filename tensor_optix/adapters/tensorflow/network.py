"""Networks as the backend sees them: Keras models, what is made of them, and the devices they are on."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from functools import singledispatch
from typing import TYPE_CHECKING, Any

from tensor_optix.adapters.backend import given_instead
from tensor_optix.adapters.tensorflow.requirements import keras, tf

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager


class DerivedNetwork(ABC):
    """A network that the backend makes of others; it is called with tensors, as a Keras model is."""

    @property
    @abstractmethod
    def built(self) -> bool:
        """Whether the variables exist."""

    @property
    @abstractmethod
    def variables(self) -> list[Any]:
        """All variables."""

    @property
    @abstractmethod
    def trainable_variables(self) -> list[Any]:
        """Those that learning changes."""


class NetworkCopy(DerivedNetwork):
    """A network with the architecture of another and variables of its own.

    Any Keras model can be copied so, also one that its class alone cannot make again. The variables are made
    when those of the model are there, and take no part in learning.

    Args:
        source: Any Keras model.
    """

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

    @property
    def trainable_variables(self) -> list[Any]:
        """None."""
        return []

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


class KerasTwinCritics(DerivedNetwork):
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


@singledispatch
def clone(network: Any) -> DerivedNetwork:
    """Return a copy of a network, with the same weights and variables of its own."""
    return NetworkCopy(network)


@clone.register
def _clone_twins(critics: KerasTwinCritics) -> DerivedNetwork:
    return KerasTwinCritics(NetworkCopy(critics.first), NetworkCopy(critics.second))


def joined(first: Any, second: Any) -> Any:
    """Return a model of the outputs of two: layers that both call with the same are called once.

    None where they have none such with variables, or are no models whose layers Keras knows, from one input
    to one output.
    """
    if not (_is_plain(first) and _is_plain(second)):
        return None
    ours, theirs = first.inputs[0], second.inputs[0]
    if (ours.shape[1:], ours.dtype) != (theirs.shape[1:], theirs.dtype):
        return None
    inputs, once = keras.Input(ours.shape[1:], dtype=ours.dtype), _CalledOnce()
    outputs = [once.call_all(model, inputs) for model in (first, second)]
    return keras.Model(inputs, outputs) if once.has_shared else None


def _is_plain(model: Any) -> bool:
    """Whether a model is one of layers that Keras knows, with one input and one output; no class of users."""
    if not isinstance(model, keras.Model) or type(model).__module__.partition(".")[0] != "keras":
        return False
    # A sequence that Keras could not build from shapes alone has none.
    return len(getattr(model, "inputs", ())) == len(getattr(model, "outputs", ())) == 1


class _CalledOnce:
    """Calls layers with symbolic tensors, but none twice with the same ones.

    Attributes:
        has_shared: Whether one with variables was to be called again.
    """

    def __init__(self) -> None:
        self.has_shared = False
        self._calls: dict[tuple[int, ...], tuple[Any, Any]] = {}

    def __call__(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        """Return what a layer makes of its arguments."""
        key = (id(layer), *map(id, keras.tree.flatten((args, kwargs))))
        if key in self._calls:
            self.has_shared |= isinstance(layer, keras.layers.Layer) and bool(layer.variables)
        else:
            # The arguments are kept, so that no others get their ids.
            self._calls[key] = (layer(*args, **kwargs), (args, kwargs))
        return self._calls[key][0]

    def call_all(self, model: Any, inputs: Any) -> Any:
        """Return what the layers of a plain model make of an input."""
        if isinstance(model, keras.Sequential):
            for layer in model.layers:
                inputs = self(layer, inputs)
            return inputs
        again = keras.models.clone_model(
            model,
            input_tensors=keras.tree.map_structure(lambda _: inputs, model.input),
            clone_function=lambda layer: layer,
            call_function=self,
        )
        return again.outputs[0]


def cloned_together(networks: Mapping[str, Any]) -> dict[str, Any]:
    """Return models of the same architectures with fresh weights, which share what the given ones share.

    Raises:
        TypeError: If Keras cannot make a model again.
        ValueError: If copies would not share it.
    """
    copies: dict[int, Any] = {}

    def copy_of(layer: Any) -> Any:
        if id(layer) not in copies:
            copies[id(layer)] = type(layer).from_config(layer.get_config())
        return copies[id(layer)]

    pattern = _repetitions(networks)
    shares = len(set(pattern)) < len(pattern)
    clone_function = copy_of if shares else None
    models = {
        name: keras.models.clone_model(network, clone_function=clone_function)
        for name, network in networks.items()
    }
    if shares and _repetitions(models) != pattern:
        raise ValueError("models that share layers in this way cannot be copied apart")
    return models


def _repetitions(networks: Mapping[str, Any]) -> list[int]:
    """Return for each variable of each network the place at which it is found first."""
    held = [id(variable) for network in networks.values() for variable in network.variables]
    return [held.index(one) for one in held]


def layers_within(network: Any) -> Iterator[Any]:
    """Yield a network and all layers of the models in it."""
    yield network
    for layer in network.layers if isinstance(network, keras.Model) else ():
        if not isinstance(layer, keras.layers.InputLayer):
            yield from layers_within(layer)


class KerasScalar(DerivedNetwork):
    """A single number as a network without inputs."""

    built = True

    def __init__(self, value: float) -> None:
        self._value = keras.Variable(value, dtype="float32", name="value")

    @property
    def variables(self) -> list[Any]:
        """The number's."""
        return [self._value]

    trainable_variables = variables

    def __call__(self) -> Any:
        """Return the number, `[]`."""
        return self._value.value


def require_keras(name: str, network: Any) -> None:
    """Raise TypeError for what is no Keras model, nor made of some."""
    if isinstance(network, keras.layers.Layer | DerivedNetwork):
        return
    hint = (
        ": unset the environment variable TF_USE_LEGACY_KERAS"
        if type(network).__module__.startswith("tf_keras")
        else ""
    )
    raise TypeError(
        f"the {name} must be a Keras 3 model, for example keras.Sequential([...]), got "
        f"{given_instead(network)}{hint}"
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


def resolve_device(device: str) -> str | None:
    """Return TensorFlow's name of a device; None for "auto", where TensorFlow chooses: a GPU if there is one.

    Args:
        device: "auto", "cpu", "cuda" or "gpu", "cuda:1", or a name of TensorFlow's, such as "/GPU:1".

    Raises:
        ValueError: If this machine or this build of TensorFlow has none of that name.
    """
    if device == "auto":
        return None
    match = re.fullmatch(r"/?(?:device:)?(\w+?)(?::(\d+))?", device)
    kind, number = (match[1].upper(), match[2] or "0") if match else ("", "")
    name = f"/device:{'GPU' if kind == 'CUDA' else kind}:{number}"
    known = [one.name for one in tf.config.list_logical_devices()]
    if name not in known:
        there = ", ".join(one.removeprefix("/device:").lower() for one in known)
        raise ValueError(f"device {device!r} cannot be used: there are {there}; choose one or auto")
    return name


def placed_on(device: str) -> AbstractContextManager[Any]:
    """Return a context in which networks are made on a device; `device` as in `resolve_device`.

    Raises:
        ValueError: If this machine or this build of TensorFlow has none of that name.
    """
    context: AbstractContextManager[Any] = tf.device(resolve_device(device))
    return context


def device_of(networks: Sequence[Any]) -> str | None:
    """Return the device that holds the variables of networks; None where there are none yet."""
    for network in networks:
        if network.built and network.variables:
            return str(network.variables[0].value.device)
    return None


def beside(networks: Sequence[Any]) -> AbstractContextManager[Any]:
    """Return a context that computes, and makes variables, where those of networks are."""
    context: AbstractContextManager[Any] = tf.device(device_of(networks))
    return context


def require_device(networks: Mapping[str, Any], device: str) -> None:
    """Refuse networks whose variables are on another device than the one asked for.

    Raises:
        ValueError: If they are, or do not exist yet: a Keras model stays where it was made.
    """
    place = resolve_device(device)
    if place is None:
        return
    for name, network in networks.items():
        require_built(name, network)
        found = device_of([network])
        if found is not None and not found.endswith(place):
            raise ValueError(
                f"the {name} must be on {device}, got {found}: make it within "
                f'"with tf.device({place!r}):"'
            )
