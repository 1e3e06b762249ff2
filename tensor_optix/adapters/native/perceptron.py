"""Networks of the native engine: dense layers in plain arrays, which it trains in place.

Sizes and a seed come in, a network goes out; observations come in, outputs go out.
"""

from __future__ import annotations

import copy
import itertools
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, get_args

import numpy as np

from tensor_optix.adapters.native.encodings import NativeByteScale, variables_of
from tensor_optix.adapters.native.memory import aligned
from tensor_optix.adapters.native.views import Activation, DenseView
from tensor_optix.adapters.network_recipes import HIDDEN_GAIN
from tensor_optix.core.argument_checks import closest, whole_number

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tensor_optix.adapters.native.encodings import NativeEncoding
    from tensor_optix.core.types import Array

ActivationName: TypeAlias = Literal["tanh", "relu", "elu", "silu"]
ACTIVATION_NAMES = get_args(ActivationName)


class DenseNetwork:
    """Dense layers in order, and what observations go through before them: a `PerceptronSource`.

    Args:
        layers: Each `is_by_outputs`; their memory becomes the network's.
        encoding: From observations `[B, ...]` to rows.
    """

    flattens = True

    def __init__(
        self, layers: Sequence[DenseView], encoding: Sequence[NativeEncoding] = ()
    ) -> None:
        self._layers = tuple(layers)
        self._encoding = tuple(encoding)
        self._arrays = [array for one in layers for array in one[:2] if array is not None]

    @property
    def weights(self) -> list[Array]:
        """The weight `[outputs, inputs]` and the bias `[outputs]` of each layer in order."""
        return list(self._arrays)

    @property
    def encoding(self) -> Sequence[NativeEncoding]:
        """What observations go through before the layers, in order."""
        return self._encoding

    @property
    def scales(self) -> list[NativeByteScale]:
        """What divides bytes, if anything does."""
        return [one for one in self._encoding if isinstance(one, NativeByteScale)]

    def places(self) -> tuple[int, ...]:
        """Return what tells the arrays apart, whose memory never moves."""
        return tuple(map(id, self._arrays))

    def layers(self) -> Sequence[DenseView]:
        """Return the layers in order."""
        return self._layers

    def variables(self) -> dict[str, Array]:
        """Return all that files keep, by the names that PyTorch gives it in a Sequential."""
        found = variables_of(self._encoding)
        place = sum(one.places for one in self._encoding)
        for layer in self._layers:
            found[f"{place}.weight"] = layer.weight
            if layer.bias is not None:
                found[f"{place}.bias"] = layer.bias
            place += 2 if layer.activation else 1
        return found

    def __call__(self, observations: Array, *others: Array) -> Array:
        """Return the outputs `[B, outputs]` for observations `[B, ...]`.

        A critic of actions takes them behind the observations, in the same rows or as a second argument.
        """
        values = observations
        for encode in self._encoding:
            values = encode(values)
        columns = [one.reshape(len(one), -1) for one in (values, *others)]
        values = np.concatenate(columns, axis=1, dtype=np.float32)
        for layer in self._layers:
            values = values @ layer.weight.T
            if layer.bias is not None:
                values += layer.bias
            values = FUNCTIONS[layer.activation](values)
        return values

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        copied = copy.copy(self)
        others = {name: value for name, value in vars(self).items() if name != "_layers"}
        for array in self._arrays:
            memo.setdefault(id(array), aligned(array))
        layers = [
            one._replace(
                weight=memo[id(one.weight)], bias=None if one.bias is None else memo[id(one.bias)]
            )
            for one in self._layers
        ]
        vars(copied).update(copy.deepcopy(others, memo), _layers=tuple(layers))
        return copied

    def __repr__(self) -> str:
        first = [self._layers[0].weight.shape[1]]
        sizes = first + [one.weight.shape[0] for one in self._layers]
        return f"{type(self).__name__}({' -> '.join(map(str, sizes))})"


class Perceptron(DenseNetwork):
    """A perceptron that needs no framework: `[B, inputs]` observations to `[B, outputs]` float32.

    Initial weights are orthogonal (Saxe et al. 2014) with biases of 0. Each layer's weight is `[outputs,
    inputs]`, as in PyTorch, so that files of both are the same and no weight is turned on its way.

    The engine computes in float32 on the CPU, in the memory of `weights`; whatever is written there holds.

    Args:
        inputs: D, how many numbers an observation has.
        outputs: How many numbers it returns.
        hidden: Widths of the hidden layers; empty makes a linear map.
        activation: What follows each hidden layer: `"tanh"`, `"relu"`, `"elu"` or `"silu"`.
        seed: The same one gives the same weights. None: they differ each time.
        output_gain: Scale of the last layer's weights. A small one, such as 0.01, makes a policy that starts
            out almost uniform.

    Raises:
        ValueError: If a size is below 1, or there is no such activation.

    Examples:
        >>> import numpy as np
        >>> from tensor_optix import Perceptron
        >>> network = Perceptron(4, 2, hidden=(32,), activation="relu", seed=0)
        >>> network(np.zeros((3, 4), np.float32)).shape
        (3, 2)
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        hidden: Sequence[int] = (64, 64),
        activation: ActivationName = "tanh",
        seed: int | None = None,
        output_gain: float = 1.0,
    ) -> None:
        sizes = [
            whole_number("inputs", inputs),
            *(whole_number("hidden", size) for size in hidden),
            whole_number("outputs", outputs),
        ]
        kind = _activation(activation)
        rng = np.random.default_rng(seed)
        pairs = list(itertools.pairwise(sizes))
        layers = [
            DenseView(orthogonal(*pair, HIDDEN_GAIN, rng), _zeros(pair[1]), kind, True)
            for pair in pairs[:-1]
        ]
        last = orthogonal(*pairs[-1], output_gain, rng)
        super().__init__([*layers, DenseView(last, _zeros(sizes[-1]), Activation.IDENTITY, True)])


def _elu(x: Array) -> Array:
    return np.where(x > 0.0, x, np.expm1(np.minimum(x, 0.0)))


def _silu(x: Array) -> Array:
    # Of -|x|, so that nothing overflows.
    decayed = np.exp(-np.abs(x))
    return x * np.where(x < 0.0, decayed, 1.0) / (1.0 + decayed)


FUNCTIONS: dict[Activation, Callable[[Array], Array]] = {
    Activation.IDENTITY: lambda x: x,
    Activation.TANH: np.tanh,
    Activation.RELU: lambda x: np.maximum(x, 0.0),
    Activation.ELU: _elu,
    Activation.SILU: _silu,
}


class NativeScalar:
    """A single number as a network without inputs; `number` `[1]` float32 is its memory."""

    def __init__(self, value: float) -> None:
        self.number: Array = np.full(1, value, np.float32)

    @property
    def weights(self) -> list[Array]:
        """The number `[1]`."""
        return [self.number]

    @property
    def scales(self) -> list[NativeByteScale]:
        """None."""
        return []

    def variables(self) -> dict[str, Array]:
        """Return the number by its name."""
        return {"value": self.number}

    def __call__(self) -> Array:
        """Return the number, `[]`."""
        return self.number.reshape(())


class NativeTwinCritics:
    """The values `[2, B]` of two critics for observations `[B, ...]` and actions `[B, A]`."""

    def __init__(self, first: DenseNetwork, second: DenseNetwork) -> None:
        self.first = first
        self.second = second

    @property
    def weights(self) -> list[Array]:
        """Those of both."""
        return [*self.first.weights, *self.second.weights]

    @property
    def scales(self) -> list[NativeByteScale]:
        """Those of both."""
        return [*self.first.scales, *self.second.scales]

    def variables(self) -> dict[str, Array]:
        """Return those of both."""
        pairs = (("first", self.first), ("second", self.second))
        return {f"{of}.{name}": v for of, one in pairs for name, v in one.variables().items()}

    def __call__(self, observations: Array, actions: Array) -> Array:
        """Return `[2, B]`."""
        pair = [critic(observations, actions) for critic in (self.first, self.second)]
        return np.stack([values.reshape(-1) for values in pair])


NativeNetwork: TypeAlias = DenseNetwork | NativeScalar | NativeTwinCritics


def orthogonal(inputs: int, outputs: int, gain: float, rng: np.random.Generator) -> Array:
    """Return weights `[outputs, inputs]` whose rows or columns, the fewer, are orthogonal and `gain` long.

    They are uniform among such (Saxe et al. 2014; Mezzadri 2007 for the signs).
    """
    most, fewest = max(inputs, outputs), min(inputs, outputs)
    q, r = np.linalg.qr(rng.standard_normal((most, fewest)))
    q *= np.where(np.diag(r) < 0.0, -1.0, 1.0)
    return aligned(gain * (q if outputs == most else q.T))


def _zeros(size: int) -> Array:
    return aligned(np.zeros(size))


def _activation(name: str) -> Activation:
    if name not in ACTIVATION_NAMES:
        near = closest(str(name), ACTIVATION_NAMES)
        hint = f"; did you mean {near!r}?" if near else ""
        known = ", ".join(map(repr, ACTIVATION_NAMES))
        raise ValueError(f"activation must be one of {known}, got {name!r}{hint}")
    return Activation[name.upper()]
