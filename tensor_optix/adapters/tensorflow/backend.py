"""TensorFlow as a backend: the functions of `adapters.backend.Backend`."""

from __future__ import annotations

import functools
import itertools
import math
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
from safetensors import numpy as safetensors

from tensor_optix.adapters.backend import LARGEST_BYTE, require_same_values
from tensor_optix.adapters.stored_networks import by_own_names, is_native_optimizer
from tensor_optix.adapters.tensorflow.gradient_descent import (
    TFGradientDescent,
    bind,
    rate_variables,
    require_optimizer,
)
from tensor_optix.adapters.tensorflow.gradient_descent import learning_rate as learning_rate
from tensor_optix.adapters.tensorflow.gradient_descent import schedule_step as schedule_step
from tensor_optix.adapters.tensorflow.gradient_descent import set_learning_rate as set_learning_rate
from tensor_optix.adapters.tensorflow.gradient_descent import set_schedule_step as set_schedule_step
from tensor_optix.adapters.tensorflow.graphs import CompiledUpdates, Inference, PlainUpdates
from tensor_optix.adapters.tensorflow.layers import DIVISORS, KerasByteScale, features_behind
from tensor_optix.adapters.tensorflow.network import (
    KerasScalar,
    KerasTwinCritics,
    NetworkCopy,
    cloned_together,
    joined,
    layers_within,
    require_built,
    require_keras,
)
from tensor_optix.adapters.tensorflow.network import beside as beside
from tensor_optix.adapters.tensorflow.network import clone as clone
from tensor_optix.adapters.tensorflow.network import placed_on as placed_on
from tensor_optix.adapters.tensorflow.network import require_device as require_device
from tensor_optix.adapters.tensorflow.network import resolve_device as resolve_device
from tensor_optix.adapters.tensorflow.requirements import keras, tf
from tensor_optix.adapters.tensorflow.views import KerasViews
from tensor_optix.core.checkpoints.saved_state import read_safetensors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tensor_optix.adapters.backend import Backend, ByteScale, Tensor, Update, UpdateLoop
    from tensor_optix.adapters.stored_networks import Features
    from tensor_optix.core.types import Array, PathLike

CONVOLUTION_AXES = 4
"""Of a kernel."""
FeaturesByPlace: TypeAlias = "Mapping[int, Sequence[Features]]"
"""What dense layers behind convolutions take first, by the places of their kernels among the variables."""

title = "TensorFlow"
exp = tf.exp
square = tf.square
absolute = tf.abs
mean = tf.reduce_mean
log = tf.math.log
tanh = tf.tanh
minimum = tf.minimum
clip = tf.clip_by_value
where = tf.where
log_softmax = tf.nn.log_softmax
twin_critics = KerasTwinCritics
inference = Inference
gradient_descent = TFGradientDescent
engine_views = KerasViews


def makes_gradients() -> bool:
    """Return True."""
    return True


def prepare(networks: Mapping[str, Any], device: str, compile: bool) -> Backend:
    """Refuse networks that are on another device; return the functions to compute with.

    A Keras model stays where it was made, and is called as in inference. Updates are always compiled.

    Raises:
        TypeError: If a network is none of Keras 3.
        ValueError: If the device cannot be used, or a network is not there.
    """
    for name, network in networks.items():
        require_keras(name, network)
    require_device(networks, device)
    return cast("Backend", sys.modules[__name__])


def sum_last(x: Tensor) -> Tensor:
    """Sum over the last axis."""
    return tf.reduce_sum(x, axis=-1)


def max_last(x: Tensor) -> Tensor:
    """Take the largest along the last axis."""
    return tf.reduce_max(x, axis=-1)


def split_last(x: Tensor) -> tuple[Tensor, Tensor]:
    """Split the last axis into two halves."""
    first, second = tf.split(x, 2, axis=-1)
    return first, second


def pair_last(x: Tensor, y: Tensor) -> Tensor:
    """Lay two tensors of one shape side by side: `[B]`, `[B]` -> `[B, 2]`."""
    return tf.stack([x, y], axis=-1)


def fold_last(x: Tensor, size: int) -> Tensor:
    """Fold the last axis into rows of one size: `[B, K * size]` -> `[B, K, size]`."""
    return tf.reshape(x, [-1, x.shape[-1] // size, size])


def take_along(x: Tensor, index: Tensor) -> Tensor:
    """Pick `x[b, index[b]]`: `[B, A]`, `[B]` -> `[B]`; likewise `[B, K, A]`, `[B, K]` -> `[B, K]`.

    It is NaN for an index that is out of range.
    """
    # XLA would take the nearest one that there is, and learn from it.
    is_known = (index >= 0) & (index < tf.shape(x, index.dtype)[-1])
    picked = tf.gather(x, tf.where(is_known, index, 0), batch_dims=index.shape.rank)
    return picked * tf.where(is_known, tf.ones([], x.dtype), tf.constant(np.nan, x.dtype))


def flatten_values(values: Tensor) -> Tensor:
    """Turn a critic's `[B, 1]` or `[B]` into `[B]`."""
    return tf.reshape(values, [-1])


def forward(network: Any, observations: Tensor, *others: Tensor) -> Tensor:
    """Return what a network makes of observations, as in inference: float32, whatever it computes in.

    It receives the observations as float32, but indices `[B]` as int64; and `others` as they are.
    """
    return _float(network(_shown(observations), *others, training=False))


def shared(first: Any, second: Any) -> Callable[[Tensor], tuple[Tensor, Tensor]] | None:
    """Return a function of observations to what two models make of them, their common layers called once.

    None: there are none such.
    """
    seen = {id(layer) for layer in layers_within(first)}
    if not any(id(layer) in seen for layer in layers_within(second)):
        return None
    # Not before the first call, because it may be what gives them their variables.
    joint = functools.cache(lambda: joined(first, second))

    def outputs(observations: Tensor) -> tuple[Tensor, Tensor]:
        if not (first.built and second.built) or joint() is None:
            return forward(first, observations), forward(second, observations)
        ours, theirs = joint()(_shown(observations), training=False)
        return _float(ours), _float(theirs)

    return outputs


def _shown(observations: Tensor) -> Tensor:
    """Return observations as a network receives them."""
    is_index = len(observations.shape) == 1 and not observations.dtype.is_floating
    return tf.cast(observations, tf.int64 if is_index else tf.float32)


def _float(outputs: Any) -> Tensor:
    if not tf.is_tensor(outputs):
        raise TypeError(f"a network must return one tensor, got {type(outputs).__name__}")
    return tf.cast(outputs, tf.float32)


def without_gradient(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of tensors that no gradient flows through."""

    def stopped(*arguments: Any) -> Any:
        return tf.nest.map_structure(tf.stop_gradient, fn(*arguments))

    return stopped


def number(fn: Callable[[], Tensor]) -> Callable[[], float]:
    """Return a function of one scalar tensor as one of a number."""
    return lambda: float(fn())


def copied(
    networks: Mapping[str, Any], optimizers: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return networks of the same architecture, whose weights are fresh, and optimizers of the same settings.

    Raises:
        TypeError: If Keras cannot make a model again.
        ValueError: If networks share variables that copies would not.
    """
    models = cloned_together(networks)
    made = {name: type(one).from_config(one.get_config()) for name, one in optimizers.items()}
    return models, made


def blend(targets: Any, networks: Any, rate: Tensor | float) -> None:
    """Move weights: `target += rate * (network - target)`; 1 copies. Buffers are copied."""
    learned = {id(variable) for variable in networks.trainable_variables}
    for target, source in zip(targets.variables, networks.variables, strict=True):
        if id(source) in learned and not (isinstance(rate, float) and rate == 1.0):
            step = tf.cast(rate, target.dtype) * (source.value - target.value)
            target.assign(target.value + step)
        else:
            target.assign(source.value)


def num_weights(network: Any) -> int:
    """Return how many numbers of a network are learned; 0 before there are any."""
    return sum(math.prod(weights.shape) for weights in network.trainable_variables)


def all_finite(network: Any) -> bool:
    """Return whether no weight and no buffer is NaN or infinite; True before there are any."""
    if not network.built:
        return True
    values = [variable.value for variable in network.variables if "float" in variable.dtype]
    parts = [tf.reduce_all(tf.math.is_finite(value)) for value in values]
    return not parts or bool(tf.reduce_all(tf.stack(parts)))


def byte_scale(network: Any) -> ByteScale | None:
    """Return what divides the bytes in a network that was made ready; None where nothing does."""
    return next((one for one in layers_within(network) if isinstance(one, KerasByteScale)), None)


def scalar(value: float, optimizer: Any, network: Any) -> KerasScalar:
    """Return a network without inputs whose output is a number that `optimizer` will hold.

    It is on the device of `network`.
    """
    require_optimizer(optimizer, "a single number")
    with beside([network]):
        return KerasScalar(value)


def resident(fields: Mapping[str, Array]) -> None:
    """Return None: a loop takes arrays, and the graph moves them."""


def update_loop(update: Update, networks: Sequence[Any], is_pure: bool = True) -> UpdateLoop:
    """Return a function that makes updates with consecutive minibatches; the last may be short."""
    return CompiledUpdates(update, networks) if is_pure else PlainUpdates(update, networks)


def random_state() -> dict[str, Array]:
    """Return the state of TensorFlow's global generator. That of single operations cannot be had."""
    return {"global": tf.random.get_global_generator().state.numpy()}


def set_random_state(state: Mapping[str, Array]) -> None:
    """Let TensorFlow's global generator go on from what `random_state` returned.

    Raises:
        ValueError: If it is no such state.
    """
    try:
        tf.random.get_global_generator().state.assign(state["global"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the state is none of TensorFlow's generator: {error}") from error


def save_network(network: Any, path: PathLike) -> None:
    """Write every variable of a network to `path`.safetensors."""
    require_built(Path(path).name, network)
    _save_variables(network.variables, path)


def load_network(network: Any, path: PathLike) -> None:
    """Read what `save_network` wrote, into the same variables."""
    read_network(network, path)()


def read_network(network: Any, path: PathLike) -> Callable[[], None]:
    """Read what `save_network` wrote, and return what puts it into the network's variables.

    Raises:
        CheckpointError: If the file is missing or damaged.
        ValueError: If it holds others, or of other shapes.
    """
    require_built(Path(path).name, network)
    return functools.partial(_assign, network.variables, _read_network(network, path))


def require_same_shared(networks: Mapping[str, Any], directory: Path) -> None:
    """Refuse files that disagree about variables which the networks of their names share.

    Raises:
        ValueError: If they do.
    """
    named = {
        name: dict(zip(_names(network.variables), network.variables, strict=True))
        for name, network in networks.items()
    }

    def read(name: str) -> dict[str, Array]:
        arrays = _read_network(networks[name], directory / name)
        return dict(zip(named[name], arrays, strict=True))

    require_same_values(named, read)


def save_optimizer(optimizer: Any, path: PathLike) -> None:
    """Write every variable of an optimizer: moments, step count, learning rate."""
    bind(optimizer)
    _save_variables([*optimizer.variables, *rate_variables(optimizer)], path)


def load_optimizer(optimizer: Any, path: PathLike) -> bool:
    """Read what `save_optimizer` wrote; False where there is nothing to read, or another framework's."""
    of_torch = Path(f"{path}.json").exists()
    if of_torch or is_native_optimizer(path) or not Path(f"{path}.safetensors").exists():
        return False
    bind(optimizer)
    _load_variables([*optimizer.variables, *rate_variables(optimizer)], path)
    return True


def average_networks(network: Any, paths: Sequence[PathLike]) -> None:
    """Set a network to the mean of stored ones; variables that are not floating take the first's."""
    require_built("network", network)
    stored = [_read_network(network, path) for path in paths]
    means: list[Array] = [
        np.asarray(np.mean(arrays, axis=0, dtype=np.float64))
        if "float" in variable.dtype
        else arrays[0]
        for variable, arrays in zip(network.variables, zip(*stored, strict=True), strict=True)
    ]
    _assign(network.variables, means)


def perturb_network(network: Any, scale: float, seed: int, others: Sequence[Any] = ()) -> None:
    """Multiply every floating weight, but those that `others` hold as well, by `1 + scale * N(0, 1)`."""
    rng = np.random.default_rng(seed)
    held = {id(variable) for other in others for variable in other.trainable_variables}
    for variable in network.trainable_variables:
        if id(variable) in held:
            continue
        noise = rng.standard_normal(tuple(variable.shape), np.float32)
        variable.assign(variable.value * tf.cast(1.0 + scale * noise, variable.dtype))


def _save_variables(variables: Sequence[Any], path: PathLike) -> None:
    """Write every variable to `path`.safetensors."""
    arrays = (np.asarray(v.numpy()) for v in variables)
    content = safetensors.save(dict(zip(_names(variables), arrays, strict=True)))
    Path(f"{path}.safetensors").write_bytes(content)


def _load_variables(variables: Sequence[Any], path: PathLike) -> None:
    """Read what `_save_variables` wrote, into the same variables.

    Raises:
        ValueError: If they are others, or of other shapes; nothing has changed then.
    """
    _assign(variables, _read_variables(variables, path, {}))


def _read_network(network: Any, path: PathLike) -> list[Array]:
    """Return what `save_network` wrote, of this framework or of another, in the order of the variables.

    Raises:
        ValueError: If they are others, or of other shapes.
    """
    return _read_variables(network.variables, path, _features(network))


def _read_variables(
    variables: Sequence[Any], path: PathLike, features: FeaturesByPlace
) -> list[Array]:
    """Return what `_save_variables` wrote, in the order of the variables.

    Raises:
        CheckpointError: If the file is missing or damaged.
        ValueError: If they are others, or of other shapes.
    """
    stored = read_safetensors(Path(f"{path}.safetensors"))
    names = _names(variables)
    expected = {name: list(v.shape) for name, v in zip(names, variables, strict=True)}
    if _is_of_earlier_version(stored, expected):
        for name in expected.keys() - stored.keys():
            stored[name] = np.full(expected[name], LARGEST_BYTE)
    named = by_own_names(stored, expected, {names[at]: one for at, one in features.items()})
    found = {name: list(array.shape) for name, array in named.items()}
    if found != expected:
        differing = sorted(
            name for name in found | expected if found.get(name) != expected.get(name)
        )
        raise ValueError(
            f"{path}.safetensors holds other variables: of {', '.join(differing[:3])} it has "
            f"{[found.get(name) for name in differing[:3]]}, expected "
            f"{[expected.get(name) for name in differing[:3]]}"
        )
    return [named[name] for name in expected]


def _is_of_earlier_version(stored: Mapping[str, Array], expected: Mapping[str, Any]) -> bool:
    """Whether nothing is missing but divisors: earlier versions divided every image by the largest byte."""
    sees_images = any(array.ndim == CONVOLUTION_AXES for array in stored.values())
    missing = expected.keys() - stored.keys()
    is_part = stored.keys() <= expected.keys()
    return sees_images and is_part and all(name.endswith(DIVISORS) for name in missing)


def _features(network: Any) -> FeaturesByPlace:
    """Return what each dense layer behind ready-made convolutions takes first."""
    if isinstance(network, KerasTwinCritics):
        count = len(network.first.variables)
        second = {count + place: parts for place, parts in _features(network.second).items()}
        return {**_features(network.first), **second}
    if isinstance(network, NetworkCopy):
        return _features(network.source)
    if not isinstance(network, keras.Model):
        return {}
    places = {id(variable): place for place, variable in enumerate(network.variables)}
    return {places[id(kernel)]: parts for kernel, parts in features_behind(network)}


def _assign(variables: Sequence[Any], arrays: Sequence[Array]) -> None:
    """Put arrays into variables."""
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def _names(variables: Sequence[Any]) -> list[str]:
    """Return names that are the same in every process."""
    # Only the last word of Keras's own, because it numbers layers, and variables, as they are made.
    found = [re.findall(r"[a-z]+", v.name.lower()) for v in variables]
    words = [one[-1] if one else "variable" for one in found]
    # Divisors are not counted, so that the others are called what earlier versions called them.
    places = itertools.accumulate((word != DIVISORS for word in words), initial=0)
    return [f"{place}.{word}" for place, word in zip(places, words, strict=False)]
