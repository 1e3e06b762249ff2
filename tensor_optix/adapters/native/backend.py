"""The native engine as a backend: the functions of `adapters.backend.Backend`, on NumPy arrays.

It makes updates by itself. There are no gradients of anything else, so that losses of one's own need PyTorch
or TensorFlow.
"""

from __future__ import annotations

import copy
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

import numpy as np
from safetensors import numpy as safetensors

from tensor_optix.adapters.backend import given_instead, require_same_values
from tensor_optix.adapters.native.optimizers import NativeOptimizer
from tensor_optix.adapters.native.perceptron import DenseNetwork, NativeScalar, NativeTwinCritics
from tensor_optix.adapters.native.views import Views
from tensor_optix.adapters.stored_networks import by_own_names, is_native_optimizer
from tensor_optix.core.checkpoints.saved_state import read_safetensors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from tensor_optix.adapters.backend import Backend, ByteScale, LossFn, Update, UpdateLoop
    from tensor_optix.adapters.native.perceptron import NativeNetwork
    from tensor_optix.core.types import Array, PathLike

DEVICES = ("auto", "cpu")

title = "the native engine"
exp = np.exp
square = np.square
absolute = np.abs
mean = np.mean
log = np.log
tanh = np.tanh
minimum = np.minimum
clip = np.clip
where = np.where
twin_critics = NativeTwinCritics


def makes_gradients() -> bool:
    """Return False: the engine's own updates are all that there are."""
    return False


def placed_on(device: str) -> AbstractContextManager[None]:
    """Return a context that does nothing: there is one device."""
    return nullcontext()


def prepare(networks: Mapping[str, DenseNetwork], device: str, compile: bool) -> Backend:
    """Refuse networks of others, and other devices; return the functions to compute with.

    Raises:
        TypeError: If a network is none of the native engine.
        ValueError: If the device is not the CPU.
    """
    require_device(device)
    for name, network in networks.items():
        if not isinstance(network, DenseNetwork):
            raise TypeError(
                f"the {name} must be a Perceptron, for example Perceptron(4, 2), got "
                f"{given_instead(network)}"
            )
    return cast("Backend", sys.modules[__name__])


def require_device(device: str) -> None:
    """Refuse a device other than the CPU.

    Raises:
        ValueError: If it is one.
    """
    if device not in DEVICES:
        raise ValueError(
            f"device {device!r} cannot be used: the native engine computes on the CPU; choose cpu or auto, "
            "or another framework"
        )


def sum_last(x: Array) -> Array:
    """Sum over the last axis."""
    return np.asarray(x.sum(axis=-1))


def max_last(x: Array) -> Array:
    """Take the largest along the last axis."""
    return np.asarray(x.max(axis=-1))


def split_last(x: Array) -> tuple[Array, Array]:
    """Split the last axis into two halves."""
    first, second = np.split(x, 2, axis=-1)
    return first, second


def pair_last(x: Array, y: Array) -> Array:
    """Lay two arrays of one shape side by side: `[B]`, `[B]` -> `[B, 2]`."""
    return np.stack([x, y], axis=-1)


def fold_last(x: Array, size: int) -> Array:
    """Fold the last axis into rows of one size: `[B, K * size]` -> `[B, K, size]`."""
    return x.reshape(len(x), x.shape[-1] // size, size)


def log_softmax(logits: Array) -> Array:
    """Normalise `[..., A]` logits to log-probabilities."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def take_along(x: Array, index: Array) -> Array:
    """Pick `x[b, index[b]]`: `[B, A]`, `[B]` -> `[B]`; likewise `[B, K, A]`, `[B, K]` -> `[B, K]`."""
    return np.take_along_axis(x, index[..., None], axis=-1)[..., 0]


def flatten_values(values: Array) -> Array:
    """Turn a critic's `[B, 1]` or `[B]` into `[B]`."""
    return values.reshape(-1)


def forward(network: Callable[..., Array], observations: Array, *others: Array) -> Array:
    """Return what a network makes of observations: float32, as they are but for indices `[B]`, int64."""
    is_index = observations.ndim == 1 and observations.dtype.kind != "f"
    return network(observations.astype(np.int64 if is_index else np.float32), *others)


def shared(first: DenseNetwork, second: DenseNetwork) -> None:
    """Return None: perceptrons share no layers."""
    return


def without_gradient(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function as it is."""
    return fn


def number(fn: Callable[[], Array]) -> Callable[[], float]:
    """Return a function of one scalar array as one of a number."""
    return lambda: float(fn())


def clone(network: NativeNetwork) -> NativeNetwork:
    """Return a copy of a network, with the same weights and memory of its own."""
    return copy.deepcopy(network)


def copied(
    networks: Mapping[str, DenseNetwork], optimizers: Mapping[str, NativeOptimizer]
) -> tuple[dict[str, DenseNetwork], dict[str, NativeOptimizer]]:
    """Return copies of networks, and fresh optimizers of the same settings."""
    return copy.deepcopy(dict(networks)), {name: one.fresh() for name, one in optimizers.items()}


def blend(targets: NativeNetwork, networks: NativeNetwork, rate: Array | float) -> None:
    """Move weights: `target += rate * (network - target)`; 1 copies. Divisors of bytes are copied."""
    for target, source in zip(targets.weights, networks.weights, strict=True):
        if float(rate) == 1.0:
            # By the formula, a target that is not finite would stay so.
            target[...] = source
        else:
            target += np.float32(rate) * (source - target)
    for scale, other in zip(targets.scales, networks.scales, strict=True):
        scale.write(other.read())


def num_weights(network: NativeNetwork) -> int:
    """Return how many numbers of a network are learned."""
    return sum(array.size for array in network.weights)


def all_finite(network: NativeNetwork) -> bool:
    """Return whether no weight is NaN or infinite."""
    return all(bool(np.isfinite(array).all()) for array in network.weights)


def byte_scale(network: NativeNetwork) -> ByteScale | None:
    """Return what divides the bytes in a network that was made ready; None where nothing does."""
    return next(iter(network.scales), None)


def scalar(value: float, optimizer: NativeOptimizer, network: DenseNetwork) -> NativeScalar:
    """Return a network without inputs whose output is a number that `optimizer` will hold."""
    require_optimizer(optimizer, "a single number")
    return NativeScalar(value)


class NativeViews(Views):
    """The engine's own networks and optimizers, which are what it reads."""

    def perceptron(self, name: str, network: DenseNetwork) -> DenseNetwork:
        """Return a network as it is."""
        return network

    def optimizer(
        self, name: str, optimizer: NativeOptimizer, networks: Mapping[str, NativeNetwork]
    ) -> NativeOptimizer:
        """Return an optimizer: that of these networks from now on.

        Raises:
            ValueError: If it is that of others already, or networks share weights.
        """
        weights = [array for network in networks.values() for array in network.weights]
        if len({id(array) for array in weights}) < len(weights):
            raise ValueError(
                f"{' and '.join(networks)} must be different networks, got one and the same"
            )
        optimizer.bind(name, weights)
        return optimizer


engine_views = NativeViews


def resident(fields: Mapping[str, Array]) -> None:
    """Return None: the engine takes arrays."""


def update_loop(
    update: Update, networks: Sequence[NativeNetwork], is_pure: bool = True
) -> UpdateLoop:
    """Return what refuses to make updates of functions of arrays: the engine makes its own."""
    return _refuse_gradients


def inference(fn: Callable[..., Array], networks: Sequence[NativeNetwork]) -> Callable[..., Array]:
    """Return a function of arrays `[B, ...]` as it is."""
    return fn


class NoDescent:
    """What stands where frameworks have gradient descent: the check of the optimizer, and a refusal.

    Raises:
        TypeError: If the optimizer is none of the native engine.
    """

    def __init__(
        self, loss_fn: LossFn, networks: Mapping[str, NativeNetwork], optimizer: NativeOptimizer
    ) -> None:
        require_optimizer(optimizer, " and ".join(networks))

    def step(self, batch: Mapping[str, Array], scalars: Mapping[str, Array]) -> NoReturn:
        """Refuse.

        Raises:
            NotImplementedError: Always.
        """
        _refuse_gradients()


gradient_descent = NoDescent


def _refuse_gradients(*arguments: object) -> NoReturn:
    raise NotImplementedError(
        "the native engine has no gradients but those of its own updates: losses and updates of your own "
        "need PyTorch or TensorFlow"
    )


def require_optimizer(optimizer: object, of: str) -> None:
    """Raise TypeError for what is no optimizer; `of` names what it is to minimise over."""
    if not isinstance(optimizer, NativeOptimizer):
        raise TypeError(
            f"the optimizer of {of} must be a NativeAdam or a NativeSGD, for example NativeAdam(3e-4), got "
            f"{given_instead(optimizer)}"
        )


def learning_rate(optimizer: NativeOptimizer) -> float:
    """Read the learning rate in force back from the optimizer."""
    return optimizer.learning_rate


def set_learning_rate(optimizer: NativeOptimizer, value: float) -> None:
    """Put a learning rate in force."""
    optimizer.learning_rate = float(value)


def schedule_step(optimizer: NativeOptimizer) -> None:
    """Return None: such an optimizer follows no schedule."""
    return


def set_schedule_step(optimizer: NativeOptimizer, step: int) -> None:
    """Do nothing, as there is no such step."""


def random_state() -> dict[str, Array]:
    """Return nothing: there is no generator beside the agents' own."""
    return {}


def set_random_state(state: Mapping[str, Array]) -> None:
    """Do nothing, as there is no such generator."""


def save_network(network: NativeNetwork, path: PathLike) -> None:
    """Write every variable of a network to `path`.safetensors, as PyTorch's are written."""
    _write(path, network.variables())


def load_network(network: NativeNetwork, path: PathLike) -> None:
    """Read what `save_network` wrote, of this framework or of another, into the same variables.

    Raises:
        ValueError: If it holds others, or of other shapes; nothing has changed then.
    """
    read_network(network, path)()


def read_network(network: NativeNetwork, path: PathLike) -> Callable[[], None]:
    """Read what `save_network` wrote, and return what puts it into the network's variables.

    Raises:
        CheckpointError: If the file is missing or damaged.
        ValueError: If it holds others, or of other shapes.
    """
    variables = network.variables()
    stored = _read(path, variables)

    def put() -> None:
        for name, array in variables.items():
            array[...] = stored[name]

    return put


def require_same_shared(networks: Mapping[str, NativeNetwork], directory: Path) -> None:
    """Refuse files that disagree about variables which the networks of their names share.

    Raises:
        ValueError: If they do.
    """
    variables = {name: network.variables() for name, network in networks.items()}
    require_same_values(variables, lambda name: _read(directory / name, networks[name].variables()))


def save_optimizer(optimizer: NativeOptimizer, path: PathLike) -> None:
    """Write the optimizer's moments, its count of steps and its rate."""
    _write(path, optimizer.state())


def load_optimizer(optimizer: NativeOptimizer, path: PathLike) -> bool:
    """Read what `save_optimizer` wrote; False where there is nothing to read, or another framework's.

    Raises:
        ValueError: If it is of another kind, or of other networks; nothing has changed then.
    """
    if not is_native_optimizer(path):
        return False
    optimizer.take_on(_read(path, optimizer.state()))
    return True


def average_networks(network: NativeNetwork, paths: Sequence[PathLike]) -> None:
    """Set a network to the mean of stored ones; divisors of bytes are the first's."""
    variables = network.variables()
    stored = [_read(path, variables) for path in paths]
    for name, array in variables.items():
        each = [one[name] for one in stored]
        array[...] = np.mean(each, axis=0, dtype=np.float64) if array.dtype.kind == "f" else each[0]


def perturb_network(
    network: NativeNetwork, scale: float, seed: int, others: Sequence[NativeNetwork] = ()
) -> None:
    """Multiply every weight, but those that `others` hold as well, by `1 + scale * N(0, 1)`."""
    rng = np.random.default_rng(seed)
    held = {id(array) for other in others for array in other.weights}
    for array in network.weights:
        if id(array) not in held:
            array *= 1.0 + np.float32(scale) * rng.standard_normal(array.shape, np.float32)


def _write(path: PathLike, arrays: Mapping[str, Array]) -> None:
    Path(f"{path}.safetensors").write_bytes(safetensors.save(dict(arrays)))


def _read(path: PathLike, own: Mapping[str, Array]) -> Mapping[str, Array]:
    """Return the arrays of a file by the names of variables.

    Raises:
        CheckpointError: If the file is missing or damaged.
        ValueError: If they are others, or of other shapes.
    """
    expected = {name: list(array.shape) for name, array in own.items()}
    stored = by_own_names(read_safetensors(Path(f"{path}.safetensors")), expected)
    found = {name: list(array.shape) for name, array in stored.items()}
    if found != expected:
        differing = sorted(n for n in found | expected if found.get(n) != expected.get(n))[:3]
        raise ValueError(
            f"{path}.safetensors holds other variables: of {', '.join(differing)} it has "
            f"{[found.get(name) for name in differing]}, expected "
            f"{[expected.get(name) for name in differing]}"
        )
    return stored
