"""Keras's perceptrons and optimizers as the native engine reads them: in arrays of its own.

TensorFlow does not share the memory of variables: numbers come in before an update and go back after it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.adapters.native.memory import aligned
from tensor_optix.adapters.native.views import (
    Activation,
    DenseView,
    LeafView,
    NotNative,
    OptimizerSettings,
    Rule,
    Views,
)
from tensor_optix.adapters.tensorflow.graphs import SMALL_NETWORKS, TracedFunction
from tensor_optix.adapters.tensorflow.network import KerasScalar, NetworkCopy, is_plain
from tensor_optix.adapters.tensorflow.requirements import keras, tf

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tensor_optix.core.types import Array

ACTIVATIONS: dict[Any, Activation] = {
    keras.activations.linear: Activation.IDENTITY,
    keras.activations.tanh: Activation.TANH,
    keras.activations.relu: Activation.RELU,
    keras.activations.elu: Activation.ELU,
    keras.activations.silu: Activation.SILU,
}
PLAIN_RELU = {"negative_slope": 0.0, "max_value": None, "threshold": 0.0}
SLOTS = {keras.optimizers.Adam: 2, keras.optimizers.AdamW: 2, keras.optimizers.SGD: 1}
"""The optimizers that the engine knows, and how many variables they keep for each weight."""
UNKNOWN = (
    *("amsgrad", "clipnorm", "clipvalue", "global_clipnorm", "use_ema"),
    *("gradient_accumulation_steps", "loss_scale_factor"),
)
"""Settings of optimizers that the engine does not follow."""
OWN_STEPS = ("apply", "update_step")
"""What an optimizer has of its own if it does not step as others of its class."""
EXCLUDED = "_exclude_from_weight_decay"
HELD = "_trainable_variables"
"""Keras tells of weights that do not decay, and in which order an optimizer holds weights, by these names
alone."""
LEAST_RATE = 1e-30
"""What a learning rate of 0 is taken for where numbers are divided by it: products with it vanish beside any
weight."""


FIRST_CPU = "CPU:0"
"""What TensorFlow calls the memory that arrays are in."""


class KerasViews(Views):
    """Networks and optimizers of Keras in arrays that stand for their variables."""

    def __init__(self) -> None:
        self._mirrors: dict[int, _Mirror] = {}
        self._carrier: _Carrier | None = None
        self._learned = 0

    def perceptron(self, name: str, network: Any) -> KerasPerceptron:
        """Return a network as the native engine reads it.

        Raises:
            NotNative: If the engine does not know such a network.
        """
        return KerasPerceptron(name, network, self)

    def optimizer(self, name: str, optimizer: Any, networks: Mapping[str, Any]) -> KerasOptimizer:
        """Return an optimizer of networks, or of one number, as the native engine reads it.

        Raises:
            NotNative: If the engine does not know such an optimizer.
        """
        variables: list[Any] = []
        for of, network in networks.items():
            is_number = isinstance(network, KerasScalar)
            held = network.variables if is_number else self.perceptron(of, network).variables
            variables += held
        self._learned += sum(math.prod(one.shape) for one in variables)
        return KerasOptimizer(name, optimizer, variables, self)

    def require_gain(self) -> None:
        """Check that updates by the engine are faster than TensorFlow's: those of small networks are.

        Measured on one core, against XLA: PPO takes 0.45 of the time, DQN, SAC and TD3 take 0.4 to 0.9 of it,
        the most where a call makes one update of 256-256 networks, whose numbers then cross over for it
        alone. Larger networks TensorFlow computes without XLA, on all cores.

        Raises:
            NotNative: If there are more weights.
        """
        if self._learned > SMALL_NETWORKS:
            raise NotNative(
                f"{self._learned} weights are more than the {SMALL_NETWORKS} up to which the native engine "
                "is known to be faster"
            )

    def arrays(
        self, name: str, variables: Sequence[Any], unit: Callable[[], Any] | None = None
    ) -> list[Array]:
        """Return the arrays that stand for variables, all of one dtype, shaped as these.

        Args:
            name: What errors call them.
            variables: They may be known already.
            unit: Makes the tensor that numbers are divided by on their way in; None: they stay as they are.

        Raises:
            NotNative: If they are not on the CPU, or in another precision than the engine's.
        """
        for one in variables:
            if id(one) not in self._mirrors:
                _require_known_memory(name, one)
                self._mirrors[id(one)] = _Mirror(one, unit)
                self._carrier = None
        return [self._mirrors[id(one)].array for one in variables]

    def read(self) -> None:
        """Bring all arrays to what the variables are now."""
        self._carry().read()

    def write(self) -> None:
        """Bring all variables to what the arrays are now."""
        self._carry().write()

    def _carry(self) -> _Carrier:
        if self._carrier is None:
            self._carrier = _Carrier(list(self._mirrors.values()))
        return self._carrier


class _Mirror:
    """A variable, and an array that stands for it."""

    def __init__(self, variable: Any, unit: Callable[[], Any] | None) -> None:
        self._variable = variable.value
        self._unit = unit
        self.array = aligned(np.zeros(variable.shape), variable.dtype)
        self.spec = tf.TensorSpec(self.array.shape, variable.dtype)

    def found(self) -> Any:
        """Return the tensor that the array is to hold."""
        numbers = self._variable.read_value()
        return numbers if self._unit is None else numbers / self._unit()

    def assign(self, numbers: Any) -> None:
        """Give the variable what the array holds, in memory of its own."""
        numbers = tf.raw_ops.DeepCopy(x=numbers)
        self._variable.assign(numbers if self._unit is None else numbers * self._unit())


class _Carrier:
    """Moves numbers between variables and arrays, all in one call, as TensorFlow takes its time over each."""

    def __init__(self, mirrors: Sequence[_Mirror]) -> None:
        def assign(*tensors: Any) -> list[Any]:
            for mirror, tensor in zip(mirrors, tensors, strict=True):
                mirror.assign(tensor)
            return []

        self._arrays = [mirror.array for mirror in mirrors]
        # Tensors that are the memory of the arrays.
        self._tensors = [tf.experimental.dlpack.from_dlpack(a.__dlpack__()) for a in self._arrays]
        self._find = TracedFunction(lambda: [mirror.found() for mirror in mirrors], [])
        self._assign = TracedFunction(assign, [mirror.spec for mirror in mirrors])

    def read(self) -> None:
        for array, tensor in zip(self._arrays, self._find(), strict=True):
            array[...] = memoryview(tensor)

    def write(self) -> None:
        self._assign(*self._tensors)


class KerasPerceptron:
    """A Keras network of dense layers, or a copy of one: a `PerceptronSource`.

    Raises:
        NotNative: If it is anything else, or has become so.
    """

    encoding = ()

    def __init__(self, name: str, network: Any, views: KerasViews) -> None:
        self._name = name
        self.flattens = False
        self._model = network.source if isinstance(network, NetworkCopy) else network
        if not self._model.built:
            raise NotNative(f"the {name} has no variables yet")
        self._dense: list[tuple[Any, Activation]] = []
        for layer in _flat(name, self._model):
            self._add(layer)
        if not self._dense:
            raise NotNative(f"the {name} has no Dense layer")
        _require_float_input(name, self._model)
        learned = [one for layer, _ in self._dense for one in _variables_of(layer)]
        own = {id(v): o for v, o in zip(self._model.variables, network.variables, strict=True)}
        if len(own) != len(learned):
            raise NotNative(f"the {name} has other variables than those of its Dense layers")
        self.variables = [own[id(one)] for one in learned]
        """The kernel and the bias of each layer in order."""
        self._arrays = views.arrays(name, self.variables)
        self._at_first = self._parts()

    def _add(self, layer: Any) -> None:
        kind, name = type(layer), self._name
        if "call" in vars(layer):
            raise NotNative(f"the {name} has a layer with a call of its own")
        if layer.compute_dtype != "float32":
            raise NotNative(f"the {name} computes in {layer.compute_dtype}")
        if kind is keras.layers.Dense:
            self._dense.append((layer, _known(name, layer.activation)))
        elif kind is keras.layers.Flatten and not self._dense:
            if layer.data_format != "channels_last":
                raise NotNative(f"the {name} flattens in another order")
            self.flattens = True
        elif kind is not keras.layers.Identity:
            self._follow(layer, _activation(name, layer))

    def _follow(self, layer: Any, activation: Activation) -> None:
        """Let an activation follow the last dense layer."""
        if not self._dense or self._dense[-1][1] is not Activation.IDENTITY:
            kind = type(layer).__name__
            raise NotNative(f"the {self._name} has a {kind} layer where the engine knows none")
        self._dense[-1] = (self._dense[-1][0], activation)

    def places(self) -> tuple[int, ...]:
        """Return what tells the arrays apart, whose memory never moves."""
        if self._parts() != self._at_first:
            raise NotNative(f"the {self._name} was given other layers or variables")
        return tuple(map(id, self._arrays))

    def layers(self) -> list[DenseView]:
        """Return the layers in order."""
        found, arrays = [], iter(self._arrays)
        for layer, activation in self._dense:
            kernel = next(arrays)
            bias = next(arrays) if layer.use_bias else None
            found.append(DenseView(kernel, bias, activation, False))
        return found

    def _parts(self) -> list[int]:
        """Return the identities of all layers, and of what the dense ones compute with."""
        found = [id(one) for one in _within(self._model)]
        for layer, _ in self._dense:
            found += [id(layer.kernel), id(layer.bias), id(layer.activation)]
        return found


class KerasOptimizer:
    """Adam, AdamW or SGD of Keras over some variables: an `OptimizerSource`.

    Raises:
        NotNative: If it is anything else, has settings that the engine does not know, or has come to have.
    """

    is_decoupled = True

    def __init__(
        self, name: str, optimizer: Any, variables: Sequence[Any], views: KerasViews
    ) -> None:
        if type(optimizer) not in SLOTS:
            raise NotNative(f"the {name} is a {type(optimizer).__name__}")
        self._name = name
        self._optimizer = optimizer
        self._variables = list(variables)
        self._is_sgd = type(optimizer) is keras.optimizers.SGD
        self.rule = Rule.SGD if self._is_sgd else Rule.KERAS_ADAM
        self.is_nesterov = self._is_sgd and bool(optimizer.nesterov)
        self._has_momentum = not self._is_sgd or bool(optimizer.momentum)
        self._held = [id(one) for one in optimizer.variables]
        self._require_known()
        (count,) = views.arrays(name, [optimizer.iterations])
        self.step: Array | None = count.reshape(1)
        (self._rate,) = views.arrays(name, [optimizer.learning_rate])
        self._values = views.arrays(name, self._variables)
        self._slots = self._slots_in(views)

    def places(self) -> tuple[int, ...]:
        """Return nothing, as the memory of the arrays never moves."""
        self._require_known()
        return ()

    def settings(self) -> OptimizerSettings:
        """Return the settings of now, of which the learning rate was read with the weights."""
        optimizer, rate = self._optimizer, float(self._rate)
        if self._is_sgd:
            return OptimizerSettings(max(rate, LEAST_RATE), beta1=float(optimizer.momentum))
        betas = float(optimizer.beta_1), float(optimizer.beta_2)
        decay = float(optimizer.weight_decay or 0.0)
        return OptimizerSettings(rate, *betas, float(optimizer.epsilon), decay)

    def leaves(self) -> list[LeafView]:
        """Return the variables with their slots."""
        return [
            LeafView(values, *slots, *[None] * (3 - len(slots)))
            for values, slots in zip(self._values, self._slots, strict=True)
        ]

    def _slots_in(self, views: KerasViews) -> list[list[Array]]:
        """Return the arrays of what the optimizer keeps for each variable."""
        optimizer = self._optimizer
        apart = {id(optimizer.iterations), id(optimizer.learning_rate)}
        slots = [one for one in optimizer.variables if id(one) not in apart]
        order = [id(one) for one in vars(optimizer)[HELD]]
        each = SLOTS[type(optimizer)] if self._has_momentum else 0
        if len(slots) != each * len(order) or set(order) != set(map(id, self._variables)):
            raise NotNative(f"the {self._name} holds other variables than those of its networks")
        unit = self._unit if self._is_sgd else None
        arrays = views.arrays(self._name, slots, unit) if slots else []
        first = [each * order.index(id(one)) for one in self._variables]
        return [arrays[place : place + each] for place in first]

    def _unit(self) -> Any:
        """Return what turns a mean of gradients into SGD's momentum, which is one of steps in Keras."""
        return -tf.maximum(self._optimizer.learning_rate.value, LEAST_RATE)

    def _require_known(self) -> None:
        optimizer, name = self._optimizer, self._name
        for setting in UNKNOWN:
            if getattr(optimizer, setting, None):
                raise NotNative(f"the {name} has {setting}={getattr(optimizer, setting)}")
        if not isinstance(optimizer.learning_rate, keras.Variable):
            raise NotNative(f"the {name} follows a schedule that moves with every update")
        if not vars(optimizer).keys().isdisjoint(OWN_STEPS):
            raise NotNative(f"the {name} has a step of its own")
        if [id(one) for one in optimizer.variables] != self._held:
            raise NotNative(f"the {name} was given other variables")
        self._require_known_decay()
        for one in self._variables:
            if not one.trainable:
                raise NotNative(f"the {name} holds frozen variables")
            if one.constraint is not None:
                raise NotNative(f"the {name} holds variables with constraints")

    def _require_known_decay(self) -> None:
        """Check the decay of weights, and what kind of momentum there is."""
        optimizer, name = self._optimizer, self._name
        decays = bool(optimizer.weight_decay)
        if decays and (self._is_sgd or EXCLUDED in vars(optimizer)):
            raise NotNative(f"the {name} decays weights in a way of its own")
        if not self._is_sgd:
            return
        if (bool(optimizer.momentum), bool(optimizer.nesterov)) != (
            self._has_momentum,
            self.is_nesterov,
        ):
            raise NotNative(f"the {name} was given another kind of momentum")


def _flat(name: str, model: Any) -> list[Any]:
    """Return the layers of nested Sequentials, and of functional models that are chains, in order.

    Raises:
        NotNative: If layers do not follow one another.
    """
    if type(model) is keras.Sequential:
        return [layer for part in model.layers for layer in _flat(name, part)]
    if not is_plain(model):
        return [model]
    at, layers = model.inputs[0], [one for one in model.layers if not _is_input(one)]
    for layer in layers:
        if _called_with(layer) is not at:
            raise NotNative(f"the {name} has layers that do not simply follow one another")
        at = layer.output
    if at is not model.outputs[0]:
        raise NotNative(f"the {name} has layers that do not simply follow one another")
    return layers


def _called_with(layer: Any) -> Any:
    """Return what a layer was called with; None if it was called more than once."""
    try:
        return layer.input
    except (AttributeError, ValueError):
        return None


def _is_input(layer: Any) -> bool:
    return isinstance(layer, keras.layers.InputLayer)


def _within(model: Any) -> list[Any]:
    """Return all layers in a model, those of the models in it included."""
    found = []
    for layer in model.layers:
        found.append(layer)
        if isinstance(layer, keras.Model):
            found += _within(layer)
    return found


def _variables_of(layer: Any) -> list[Any]:
    """Return the kernel and the bias of a dense layer."""
    return [layer.kernel, layer.bias] if layer.use_bias else [layer.kernel]


def _activation(name: str, layer: Any) -> Activation:
    """Return what a layer is an activation of.

    Raises:
        NotNative: If the engine does not know it.
    """
    kind = type(layer)
    if kind is keras.layers.Activation:
        return _known(name, layer.activation)
    if kind is keras.layers.ReLU and all(
        getattr(layer, setting) == value for setting, value in PLAIN_RELU.items()
    ):
        return Activation.RELU
    if kind is keras.layers.ELU and layer.alpha == 1.0:
        return Activation.ELU
    raise NotNative(f"the {name} has a {kind.__name__} layer where the engine knows none")


def _known(name: str, activation: Any) -> Activation:
    """Return an activation as the engine counts.

    Raises:
        NotNative: If it does not know it.
    """
    if activation is None:
        return Activation.IDENTITY
    try:
        return ACTIVATIONS[activation]
    except (KeyError, TypeError):
        called = getattr(activation, "__name__", type(activation).__name__)
        raise NotNative(f"the {name} has the activation {called}") from None


def _require_float_input(name: str, model: Any) -> None:
    """Check what a model makes of its input first of all.

    Raises:
        NotNative: If it rounds it.
    """
    for one in model.inputs:
        if one.dtype != "float32":
            raise NotNative(f"the {name} takes {one.dtype}")


def _require_known_memory(name: str, variable: Any) -> None:
    """Check what a variable holds, and where.

    Raises:
        NotNative: If it is none of float32 or, as counts are, int64, on the CPU.
    """
    if not isinstance(variable, keras.Variable):
        raise NotNative(f"the {name} computes its weights from others")
    device = variable.value.device.rpartition("device:")[2]
    if variable.dtype not in ("float32", "int64") or device != FIRST_CPU:
        raise NotNative(f"the {name} is {variable.dtype} on {device}")
