"""PyTorch as a backend: the functions of `adapters.backend.Backend`, and where they compute."""

from __future__ import annotations

import copy
import itertools
import json
import sys
import textwrap
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

try:
    import torch
except ImportError as error:
    raise ImportError("this needs PyTorch: pip install 'tensor-optix[torch]'") from error
from safetensors.torch import load_file, save
from torch import Tensor, nn

from tensor_optix.adapters.backend import LARGEST_BYTE, UpdateTally, require_same_values
from tensor_optix.adapters.native.views import Views
from tensor_optix.adapters.pytorch.compilation import compiled_backend
from tensor_optix.adapters.pytorch.cuda import CudaPlace, cuda_backend
from tensor_optix.adapters.pytorch.gradient_descent import (
    TorchGradientDescent,
    TorchTwinCritics,
    has_hooks,
    leaves_of,
    require_network,
    require_optimizer,
)
from tensor_optix.adapters.pytorch.layers import DIVISORS, TorchByteScale, features_behind
from tensor_optix.adapters.pytorch.views import TorchOptimizer, TorchPerceptron
from tensor_optix.adapters.stored_networks import CONVOLUTION_AXES, by_own_names
from tensor_optix.core.checkpoints.durable_files import regular_file
from tensor_optix.core.checkpoints.saved_state import MOST_SMALL_JSON, read_json, reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from tensor_optix.adapters.backend import Backend, ByteScale, LossFn, Update, UpdateLoop
    from tensor_optix.core.types import Array, PathLike

MOMENTS = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "square_avg"}
"""What PyTorch's optimizers keep that has the shape of the parameter."""
INFERENCE_ROWS = 4096
"""Rows per forward pass without gradients: bounds the memory that activations take."""
SMALL_NETWORK = 300_000
"""Below this many parameters one thread is used: the work is dispatch, not arithmetic.

The 256-256 networks of SAC are below it, because there several threads gain little and lose much: an
update took 14 ms with one thread and 60 to 270 ms with two on two cores that other processes shared.
"""

title = "PyTorch"
exp = torch.exp
square = torch.square
absolute = torch.abs
mean = torch.mean
log = torch.log
tanh = torch.tanh
minimum = torch.minimum
clip = torch.clip
where = torch.where


def makes_gradients() -> bool:
    """Return True."""
    return True


def placed_on(device: str) -> AbstractContextManager[None]:
    """Return a context that does nothing: `prepare` moves networks to their device."""
    return nullcontext()


def prepare(networks: Mapping[str, nn.Module], device: str, compile: bool) -> Backend:
    """Move an agent's networks to a device, in evaluation mode; return the functions to compute with.

    Raises:
        TypeError: If a network is none of PyTorch's.
        ValueError: If the device cannot be used.
    """
    place = resolve_device(device)
    for name, network in networks.items():
        require_network(name, network)
    for network in networks.values():
        network.to(place).eval()
    ops = cast("Backend", sys.modules[__name__])
    if place.type == "cuda":
        ops = cuda_backend(ops, CudaPlace(place))
    return compiled_backend(ops) if compile else ops


def sum_last(x: Tensor) -> Tensor:
    """Sum over the last axis."""
    return x.sum(dim=-1)


def max_last(x: Tensor) -> Tensor:
    """Take the largest along the last axis."""
    return x.amax(dim=-1)


def split_last(x: Tensor) -> tuple[Tensor, Tensor]:
    """Split the last axis into two halves."""
    first, second = x.chunk(2, dim=-1)
    return first, second


def pair_last(x: Tensor, y: Tensor) -> Tensor:
    """Lay two tensors of one shape side by side: `[B]`, `[B]` -> `[B, 2]`."""
    return torch.stack([x, y], dim=-1)


def fold_last(x: Tensor, size: int) -> Tensor:
    """Fold the last axis into rows of one size: `[B, K * size]` -> `[B, K, size]`."""
    return x.reshape(x.shape[0], x.shape[-1] // size, size)


def log_softmax(logits: Tensor) -> Tensor:
    """Normalise `[..., A]` logits to log-probabilities."""
    return torch.log_softmax(logits, dim=-1)


def take_along(x: Tensor, index: Tensor) -> Tensor:
    """Pick `x[b, index[b]]`: `[B, A]`, `[B]` -> `[B]`; likewise `[B, K, A]`, `[B, K]` -> `[B, K]`."""
    return x.gather(-1, index.unsqueeze(-1)).squeeze(-1)


def flatten_values(values: Tensor) -> Tensor:
    """Turn a critic's `[B, 1]` or `[B]` into `[B]`."""
    return values.reshape(-1)


def forward(network: nn.Module, observations: Tensor, *others: Tensor) -> Tensor:
    """Return what a network makes of observations: float32, whatever it computes in.

    It receives the observations in the dtype of its weights, but indices `[B]` as int64; and `others` as they
    are.
    """
    return _float(network(_shown(network, observations), *others))


def shared(first: nn.Module, second: nn.Module) -> Callable[[Tensor], tuple[Tensor, Tensor]] | None:
    """Return a function of observations to what two networks make of them, their common layers called once.

    Common are the same objects that both begin with, be they in a `Sequential` of their own or not. None:
    there are none such, or nothing of them is learned.
    """
    layers, others = list(_layers(first)), list(_layers(second))
    pairs = zip(layers, others, strict=False)
    count = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] is pair[1], pairs))
    if not any(True for layer in layers[:count] for _ in layer.parameters()):
        return None

    def outputs(observations: Tensor) -> tuple[Tensor, Tensor]:
        hidden = _through(layers[:count], _shown(first, observations))
        # A copy, because what follows in the one network may work in place.
        own = hidden.clone() if isinstance(hidden, Tensor) else hidden
        return _float(_through(layers[count:], own)), _float(_through(others[count:], hidden))

    return outputs


def _layers(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the layers of plain sequences, in order; what has hooks, or more to it, is one layer."""
    if type(network) is not nn.Sequential or has_hooks(network):
        yield network
        return
    for layer in network:
        yield from _layers(layer)


def _through(layers: Sequence[nn.Module], values: Any) -> Any:
    for layer in layers:
        values = layer(values)
    return values


def _shown(network: nn.Module, observations: Tensor) -> Tensor:
    """Return observations as a network receives them."""
    is_index = observations.dim() == 1 and not observations.is_floating_point()
    return observations.long() if is_index else observations.to(_dtype_of(network))


def _float(outputs: Any) -> Tensor:
    if not isinstance(outputs, Tensor):
        raise TypeError(f"a network must return one tensor, got {type(outputs).__name__}")
    return outputs.float()


def _dtype_of(network: nn.Module) -> torch.dtype:
    """Return the dtype that a network computes in, by its first weight; float32 for one without."""
    parameter = next(network.parameters(), None) if isinstance(network, nn.Module) else None
    is_float = parameter is not None and parameter.is_floating_point()
    return parameter.dtype if parameter is not None and is_float else torch.float32


def without_gradient(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of tensors that no gradient flows through."""
    return torch.no_grad()(fn)


def number(fn: Callable[[], Tensor]) -> Callable[[], float]:
    """Return a function of one scalar tensor as one of a number."""

    def read() -> float:
        with torch.no_grad():
            return float(fn())

    return read


def clone(network: nn.Module) -> nn.Module:
    """Return a copy of a network, with the same weights and variables of its own."""
    return copy.deepcopy(network).requires_grad_(False)


def copied(
    networks: Mapping[str, nn.Module], optimizers: Mapping[str, torch.optim.Optimizer]
) -> tuple[dict[str, nn.Module], dict[str, torch.optim.Optimizer]]:
    """Return copies of networks and of their optimizers."""
    # At once, so that the parameters of the ones are those of the others.
    return copy.deepcopy((dict(networks), dict(optimizers)))


def blend(targets: nn.Module, networks: nn.Module, rate: Tensor | float) -> None:
    """Move weights: `target += rate * (network - target)`; 1 copies. Buffers are copied."""
    with torch.no_grad():
        slow, fast = ([leaf.tensor for leaf in leaves_of(net)] for net in (targets, networks))
        if float(rate) == 1.0:
            # By the formula, a target that is not finite would stay so.
            torch._foreach_copy_(slow, fast)
        else:
            torch._foreach_lerp_(slow, fast, float(rate))
        for target, source in zip(targets.buffers(), networks.buffers(), strict=True):
            target.copy_(source)


def num_weights(network: nn.Module) -> int:
    """Return how many numbers of a network are learned."""
    return sum(weights.numel() for weights in network.parameters() if weights.requires_grad)


def all_finite(network: nn.Module) -> bool:
    """Return whether no weight and no buffer is NaN or infinite."""
    tensors = [*network.parameters(), *network.buffers()]
    with threads_for([network])():
        # One answer for all of them, because each takes a round trip to a GPU.
        parts = [torch.isfinite(tensor.detach()).all() for tensor in tensors]
        return not parts or bool(torch.stack(parts).all())


def byte_scale(network: nn.Module) -> ByteScale | None:
    """Return what divides the bytes in a network that was made ready; None where nothing does."""
    return next((one for one in network.modules() if isinstance(one, TorchByteScale)), None)


def scalar(value: float, optimizer: torch.optim.Optimizer, network: nn.Module) -> nn.Module:
    """Return a network without inputs whose output is the one variable that `optimizer` holds.

    It is on the device of `network`.

    Raises:
        ValueError: If it holds anything but a single number.
    """
    require_optimizer(optimizer, "a single number")
    held = [p for group in optimizer.param_groups for p in group["params"]]
    if len(held) != 1 or held[0].numel() != 1 or not held[0].requires_grad:
        shapes = [list(p.shape) for p in held]
        raise ValueError(
            "the optimizer of a single number must hold one parameter of one element, for example "
            f"Adam([torch.zeros(1, requires_grad=True)]), got shapes {shapes}"
        )
    held[0].data = held[0].data.to(device_of(network))
    parameter = held[0] if isinstance(held[0], nn.Parameter) else nn.Parameter(held[0].detach())
    optimizer.param_groups[0]["params"] = [parameter]
    return TorchScalar(parameter, value)


class TorchViews(Views):
    """PyTorch's networks and optimizers, whose own memory the engine works in."""

    def perceptron(self, name: str, network: nn.Module) -> TorchPerceptron:
        """Return a network as the native engine reads it.

        Raises:
            NotNative: If the engine does not know such a network.
        """
        return TorchPerceptron(name, network)

    def optimizer(
        self, name: str, optimizer: torch.optim.Optimizer, networks: Mapping[str, nn.Module]
    ) -> TorchOptimizer:
        """Return an optimizer of networks, or of one number, as the native engine reads it.

        Raises:
            NotNative: If the engine does not know such an optimizer.
        """
        parameters: list[nn.Parameter] = []
        for of, network in networks.items():
            is_number = isinstance(network, TorchScalar)
            parameters += (
                network.parameters() if is_number else TorchPerceptron(of, network).parameters
            )
        return TorchOptimizer(name, optimizer, parameters)


engine_views = TorchViews


def twin_critics(first: nn.Module, second: nn.Module) -> nn.Module:
    """Return a network of `(observations [B, ...], actions [B, A]) -> [2, B]`, the values of two critics."""
    return TorchTwinCritics(first, second)


def resident(fields: Mapping[str, Array]) -> None:
    """Return None: arrays are where updates are made."""


def update_loop(update: Update, networks: Sequence[nn.Module], is_pure: bool = True) -> UpdateLoop:
    """Return a function that makes updates with consecutive minibatches; the last may be short.

    They are eager and need not be pure.
    """
    device = device_of(networks[0])
    threads = threads_for(networks)

    def run(
        fields: Mapping[str, Array], minibatch_size: int, scalars: Mapping[str, float]
    ) -> tuple[dict[str, float], dict[str, Array]]:
        tensors = {name: to_tensor(field, device) for name, field in fields.items()}
        constants = {name: torch.tensor(value) for name, value in scalars.items()}
        starts = range(0, len(next(iter(tensors.values()))), minibatch_size)
        tally = UpdateTally()
        rows: dict[str, list[Tensor]] = {}
        with threads():
            for start in starts:
                batch = {n: t[start : start + minibatch_size] for n, t in tensors.items()}
                diagnostics, outputs = update(batch, constants)
                tally.add_sums(diagnostics)
                for name, value in outputs.items():
                    rows.setdefault(name, []).append(value)
        outputs = {name: torch.cat(parts).cpu().numpy() for name, parts in rows.items()}
        return tally.means(), outputs

    return run


def inference(fn: Callable[..., Tensor], networks: Sequence[nn.Module]) -> Callable[..., Array]:
    """Return a function of tensors `[B, ...]` as one of arrays, without gradients, in chunks."""
    device = device_of(networks[0])
    threads = threads_for(networks)

    def forward(*arrays: Array) -> Array:
        outputs: Array
        with torch.inference_mode(), threads():
            if len(arrays[0]) <= INFERENCE_ROWS:
                outputs = fn(*(to_tensor(array, device) for array in arrays)).cpu().numpy()
            else:
                parts = (
                    (to_tensor(array[i : i + INFERENCE_ROWS], device) for array in arrays)
                    for i in range(0, len(arrays[0]), INFERENCE_ROWS)
                )
                outputs = np.concatenate([fn(*part).cpu().numpy() for part in parts])
        return outputs

    return forward


def gradient_descent(
    loss_fn: LossFn, networks: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer
) -> TorchGradientDescent:
    """Bind a loss to the networks it trains and the user's optimizer.

    Raises:
        ValueError: If the optimizer does not hold exactly the networks' trainable parameters.
    """
    return TorchGradientDescent(loss_fn, networks, optimizer)


def learning_rate(optimizer: torch.optim.Optimizer) -> float:
    """Read the learning rate in force back from the optimizer."""
    return float(optimizer.param_groups[0]["lr"])


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Put a learning rate in force: that of the first parameter group; the others keep their ratio."""
    before = learning_rate(optimizer)
    for group in optimizer.param_groups:
        # Where a schedule has come down to 0 there is no ratio to keep.
        rate = float(group["lr"]) / before * value if before else value
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def schedule_step(optimizer: torch.optim.Optimizer) -> int | None:
    """Return None: schedules of PyTorch are objects beside the optimizer, which their owner steps."""
    return None


def set_schedule_step(optimizer: torch.optim.Optimizer, step: int) -> None:
    """Do nothing, as there is no such step."""


def random_state() -> dict[str, Array]:
    """Return the states of PyTorch's own generators: the CPU's, and those of GPUs that are in use."""
    states = {"cpu": torch.get_rng_state().numpy()}
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        gpus = enumerate(torch.cuda.get_rng_state_all())
        states |= {f"cuda{number}": state.numpy() for number, state in gpus}
    return states


def set_random_state(state: Mapping[str, Array]) -> None:
    """Let PyTorch's own generators go on from what `random_state` returned.

    Raises:
        ValueError: If it is no such state.
    """
    try:
        torch.set_rng_state(torch.from_numpy(state["cpu"].copy()))
        for number in range(torch.cuda.device_count()):
            if f"cuda{number}" in state:
                torch.cuda.set_rng_state(torch.from_numpy(state[f"cuda{number}"].copy()), number)
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"the state is none of PyTorch's generators: {error}") from error


def save_network(network: nn.Module, path: PathLike) -> None:
    """Write every parameter and buffer of a network to `path`.safetensors."""
    Path(f"{path}.safetensors").write_bytes(save(_state(network)))


def load_network(network: nn.Module, path: PathLike) -> None:
    """Read what `save_network` wrote, into the same variables."""
    read_network(network, path)()


def read_network(network: nn.Module, path: PathLike) -> Callable[[], None]:
    """Read what `save_network` wrote, and return what puts it into the network's variables.

    Raises:
        CheckpointError: If the file is missing or damaged.
        RuntimeError: If it holds others, or of other shapes.
    """
    return partial(_load_state, network, _read_state(network, path))


def require_same_shared(networks: Mapping[str, nn.Module], directory: Path) -> None:
    """Refuse files that disagree about variables which the networks of their names share.

    Raises:
        ValueError: If they do.
    """
    variables = {
        name: {_plain_name(n): v for n, v in network.state_dict(keep_vars=True).items()}
        for name, network in networks.items()
    }
    require_same_values(variables, lambda name: _read_state(networks[name], directory / name))


def save_optimizer(optimizer: torch.optim.Optimizer, path: PathLike) -> None:
    """Write the optimizer's moments and step counts (safetensors) and its settings (JSON)."""
    state = optimizer.state_dict()
    tensors, numbers = {}, {}
    for index, entries in state["state"].items():
        for name, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{name}"] = value.detach().cpu().contiguous().clone()
            else:
                numbers[f"{index}.{name}"] = value
    groups = [{k: _plain(v) for k, v in group.items()} for group in state["param_groups"]]
    Path(f"{path}.safetensors").write_bytes(save(tensors))
    Path(f"{path}.json").write_text(json.dumps({"numbers": numbers, "param_groups": groups}))


def load_optimizer(optimizer: torch.optim.Optimizer, path: PathLike) -> bool:
    """Read what `save_optimizer` wrote; False where there is nothing to read, or another framework's.

    Raises:
        CheckpointError: If it is damaged; nothing has changed then.
        ValueError: If it is of other groups of parameters; nothing has changed then.
    """
    file = Path(f"{path}.json")
    if not file.exists():
        return False
    stored = read_json(file, MOST_SMALL_JSON)
    tensors = _read_tensors(Path(f"{path}.safetensors"))
    with reading(file.name):
        state: dict[int, dict[str, Any]] = {}
        for key, value in {**tensors, **stored["numbers"]}.items():
            index, name = key.split(".", 1)
            state.setdefault(int(index), {})[name] = value
        for group in stored["param_groups"]:
            # Earlier versions kept twice what two networks share.
            group["params"] = list(dict.fromkeys(group["params"]))
        _require_fitting(optimizer, state, stored["param_groups"])
    optimizer.load_state_dict({"state": state, "param_groups": stored["param_groups"]})
    return True


def average_networks(network: nn.Module, paths: Sequence[PathLike]) -> None:
    """Set a network to the mean of stored ones; variables that are not floating take the first's."""
    states = [_read_state(network, path) for path in paths]
    mean_state = {
        name: torch.stack([state[name] for state in states]).mean(dim=0)
        if value.is_floating_point()
        else value
        for name, value in states[0].items()
    }
    _load_state(network, mean_state)


def perturb_network(
    network: nn.Module, scale: float, seed: int, others: Sequence[nn.Module] = ()
) -> None:
    """Multiply every floating weight, but those that `others` hold as well, by `1 + scale * N(0, 1)`."""
    rng = np.random.default_rng(seed)
    held = {id(parameter) for other in others for parameter in other.parameters()}
    with torch.no_grad():
        for parameter in network.parameters():
            if id(parameter) in held:
                continue
            noise = rng.standard_normal(tuple(parameter.shape), np.float32)
            parameter.mul_(1.0 + scale * torch.from_numpy(noise).to(parameter.device))


def resolve_device(device: str) -> torch.device:
    """Return the device named, or for "auto" the GPU where there is one.

    Raises:
        ValueError: If this machine or this build of PyTorch cannot use it.
    """
    # TensorFlow's name for it.
    device = device.replace("gpu", "cuda")
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = textwrap.shorten(str(error), 80) or type(error).__name__
        message = f"device {device!r} cannot be used: {reason}; choose cpu or auto"
        raise ValueError(message) from error
    return torch.device(device)


def to_tensor(array: Array, device: torch.device) -> Tensor:
    """Return an array as a tensor; on the CPU they share their memory."""
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)


def device_of(network: nn.Module) -> torch.device:
    """Return the device of a network's parameters."""
    parameter = next(network.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def threads_for(networks: Sequence[nn.Module]) -> Callable[[], Any]:
    """Return a context that runs small networks on the CPU with a single thread."""
    size = sum(p.numel() for network in networks for p in network.parameters())
    on_cpu = all(device_of(network).type == "cpu" for network in networks)

    @contextmanager
    def single_thread() -> Iterator[None]:
        before = torch.get_num_threads()
        if before == 1:
            yield
            return
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    @contextmanager
    def unchanged() -> Iterator[None]:
        yield

    return single_thread if on_cpu and size < SMALL_NETWORK else unchanged


class TorchScalar(nn.Module):
    """A single number as a network without inputs."""

    def __init__(self, parameter: nn.Parameter, value: float) -> None:
        super().__init__()
        self.value = parameter
        with torch.no_grad():
            self.value.fill_(value)

    def forward(self) -> Tensor:
        """Return the number, `[]`."""
        return self.value.reshape(())


def _state(network: nn.Module) -> dict[str, Tensor]:
    # Cloned, because safetensors refuses variables that share memory.
    return {
        _plain_name(name): value.detach().cpu().contiguous().clone()
        for name, value in network.state_dict().items()
    }


def _read_state(network: nn.Module, path: PathLike) -> Mapping[str, Tensor]:
    """Return the variables in a file, be it one of another framework.

    Raises:
        CheckpointError: If the file is missing or damaged.
        RuntimeError: If they are others, or of other shapes.
    """
    file = Path(f"{path}.safetensors")
    shapes = {_plain_name(name): value.shape for name, value in network.state_dict().items()}
    tensors = {_plain_name(n): v for n, v in _read_tensors(file).items()}
    sees_images = any(value.ndim == CONVOLUTION_AXES for value in tensors.values())
    missing = shapes.keys() - tensors.keys() if tensors.keys() <= shapes.keys() else set()
    if sees_images and all(name.endswith(DIVISORS) for name in missing):
        # Earlier versions divided every image by this, and kept no divisors.
        tensors |= {name: torch.full(shapes[name], LARGEST_BYTE) for name in missing}
    features = {_plain_name(name): parts for name, parts in features_behind(network).items()}
    stored = by_own_names(tensors, shapes, features)
    # One number is [] or [1].
    found, expected = (
        {name: tuple(shape) or (1,) for name, shape in one.items()}
        for one in ({name: value.shape for name, value in stored.items()}, shapes)
    )
    if found != expected:
        differing = sorted(n for n in found | expected if found.get(n) != expected.get(n))[:3]
        raise RuntimeError(
            f"{file} holds other variables (a size mismatch): of {', '.join(differing)} it has "
            f"{[found.get(name) for name in differing]}, expected "
            f"{[expected.get(name) for name in differing]}"
        )
    return stored


def _read_tensors(file: Path) -> dict[str, Tensor]:
    with reading(file.name):
        return load_file(regular_file(file.parent, file.name))


def _require_fitting(
    optimizer: torch.optim.Optimizer,
    state: Mapping[int, Mapping[str, Any]],
    groups: Sequence[Mapping[str, Any]],
) -> None:
    """Refuse an optimizer's state with moments of other shapes or settings of other types; ValueError."""
    for own, group in zip(optimizer.param_groups, groups, strict=False):
        for name in (own.keys() & group.keys()) - {"params"}:
            kinds = [_kind(_plain(one[name])) for one in (own, group)]
            if None not in kinds and kinds[0] is not kinds[1]:
                raise ValueError(f"{name} must be of {kinds[0]}, got {group[name]!r}")
        for number, parameter in zip(group["params"], own["params"], strict=False):
            for name in MOMENTS & state.get(number, {}).keys():
                shape = state[number][name].shape
                if shape != parameter.shape:
                    raise ValueError(f"{name} must have shape {parameter.shape}, got {shape}")


def _kind(value: Any) -> type | None:
    """Return what stands for the type of a setting, as it is in JSON; None where it may be any."""
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float
    return list if isinstance(value, tuple) else type(value)


def _load_state(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    own = {_plain_name(name): name for name in network.state_dict()}
    network.load_state_dict({own.get(name, name): value for name, value in state.items()})


def _plain_name(name: str) -> str:
    """Return what a variable is called where no part of its network is compiled by `torch.compile`."""
    return name.replace("_orig_mod.", "")


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor) else value
