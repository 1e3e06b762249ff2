"""PyTorch as a backend: the functions of `adapters.backend.Backend`, and the gradient step."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

try:
    import torch
except ImportError as error:
    raise ImportError("this needs PyTorch: pip install 'tensor-optix[torch]'") from error
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tensor_optix.adapters.backend import LossFn
from tensor_optix.core.types import Array, PathLike

INFERENCE_ROWS = 4096
"""Rows per forward pass without gradients: bounds the memory that activations take."""

SMALL_NETWORK = 200_000
"""Below this many parameters one thread is faster than several: the work is dispatch, not arithmetic."""

exp = torch.exp
square = torch.square
mean = torch.mean
minimum = torch.minimum
clip = torch.clip


def sum_last(x: Tensor) -> Tensor:
    """Sum over the last axis."""
    return x.sum(dim=-1)


def log_softmax(logits: Tensor) -> Tensor:
    """Normalise `[B, A]` logits to log-probabilities."""
    return torch.log_softmax(logits, dim=-1)


def take_along(x: Tensor, index: Tensor) -> Tensor:
    """Pick `x[b, index[b]]`: `[B, A]`, `[B]` -> `[B]`."""
    return x.gather(-1, index.unsqueeze(-1)).squeeze(-1)


def flatten_values(values: Tensor) -> Tensor:
    """Turn a critic's `[B, 1]` or `[B]` into `[B]`."""
    return values.reshape(values.shape[0])


def resolve_device(device: str) -> torch.device:
    """Return the device named, or for "auto" the GPU where there is one."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


def network_input(observations: Tensor) -> Tensor:
    """Return observations as networks take them: bytes, booleans and doubles become float32."""
    if observations.dtype in (torch.uint8, torch.float64, torch.bool):
        return observations.float()
    return observations


def inference(fn: Callable[..., Tensor], networks: Sequence[nn.Module]) -> Callable[..., Array]:
    """Return a function of tensors `[B, ...]` as one of arrays, without gradients, in chunks."""
    device = _device(networks[0])
    threads = _threads(networks)

    def forward(*arrays: Array) -> Array:
        outputs: Array
        with torch.inference_mode(), threads():
            if len(arrays[0]) <= INFERENCE_ROWS:
                outputs = fn(*(_to_tensor(array, device) for array in arrays)).cpu().numpy()
            else:
                parts = (
                    (_to_tensor(array[i : i + INFERENCE_ROWS], device) for array in arrays)
                    for i in range(0, len(arrays[0]), INFERENCE_ROWS)
                )
                outputs = np.concatenate([fn(*part).cpu().numpy() for part in parts])
        return outputs

    return forward


class _GradientDescent:
    """Backward pass, clipping and the user's optimizer, one minibatch after the other."""

    def __init__(
        self, loss_fn: LossFn, networks: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer
    ) -> None:
        _require_same_parameters(networks, optimizer)
        self._loss_fn = loss_fn
        self._optimizer = optimizer
        self._parameters = [p for p in _parameters(networks).values() if p.requires_grad]
        self._device = _device(next(iter(networks.values())))
        self._threads = _threads(list(networks.values()))
        _prefer_fused(optimizer)

    def run_epoch(
        self,
        fields: Mapping[str, Array],
        minibatch_size: int,
        max_grad_norm: float,
        scalars: Mapping[str, float],
    ) -> dict[str, float]:
        """Make one update per minibatch of consecutive rows; the last one may be short."""
        tensors = {name: _to_tensor(field, self._device) for name, field in fields.items()}
        constants = {name: torch.tensor(value) for name, value in scalars.items()}
        length = len(next(iter(tensors.values())))
        totals: dict[str, Tensor] = {}
        skipped = 0
        with self._threads():
            starts = range(0, length, minibatch_size)
            for start in starts:
                batch = {name: t[start : start + minibatch_size] for name, t in tensors.items()}
                loss, diagnostics = self._loss_fn(batch, constants)
                skipped += not self._step(loss, max_grad_norm)
                for name, value in diagnostics.items():
                    totals[name] = totals[name] + value.detach() if name in totals else value.detach()
        updates = len(starts)
        means = {name: float(total) / max(updates, 1) for name, total in totals.items()}
        return means | {"n_updates": updates - skipped, "n_skipped_updates": skipped}

    def _step(self, loss: Tensor, max_grad_norm: float) -> bool:
        for parameter in self._parameters:
            parameter.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self._parameters, max_grad_norm)
        if not bool(torch.isfinite(norm)):
            return False
        self._optimizer.step()
        return True


def gradient_descent(
    loss_fn: LossFn, networks: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer
) -> _GradientDescent:
    """Bind a loss to the networks it trains and the user's optimizer.

    Raises:
        ValueError: If the optimizer does not hold exactly the networks' trainable parameters.
    """
    return _GradientDescent(loss_fn, networks, optimizer)


def learning_rate(optimizer: torch.optim.Optimizer) -> float:
    """Read the learning rate in force back from the optimizer."""
    return float(optimizer.param_groups[0]["lr"])


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Put a learning rate in force, in every parameter group."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(value)
        else:
            group["lr"] = value


def save_network(network: nn.Module, path: PathLike) -> None:
    """Write every parameter and buffer of a network to `path`.safetensors."""
    save_file(_state(network), f"{path}.safetensors")


def load_network(network: nn.Module, path: PathLike) -> None:
    """Read what `save_network` wrote, into the same variables."""
    network.load_state_dict(load_file(f"{path}.safetensors"))


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
    save_file(tensors, f"{path}.safetensors")
    Path(f"{path}.json").write_text(json.dumps({"numbers": numbers, "param_groups": groups}))


def load_optimizer(optimizer: torch.optim.Optimizer, path: PathLike) -> bool:
    """Read what `save_optimizer` wrote; False where there is nothing to read."""
    if not Path(f"{path}.json").exists():
        return False
    stored = json.loads(Path(f"{path}.json").read_text())
    state: dict[int, dict[str, Any]] = {}
    entries = {**load_file(f"{path}.safetensors"), **stored["numbers"]}
    for key, value in entries.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": stored["param_groups"]})
    return True


def average_networks(network: nn.Module, paths: Sequence[PathLike]) -> None:
    """Set a network to the mean of stored ones; variables that are not floating take the first's."""
    states = [load_file(f"{path}.safetensors") for path in paths]
    mean_state = {
        name: torch.stack([state[name] for state in states]).mean(dim=0)
        if value.is_floating_point()
        else value
        for name, value in states[0].items()
    }
    network.load_state_dict(mean_state)


def perturb_network(network: nn.Module, scale: float, seed: int) -> None:
    """Multiply every floating weight by `1 + scale * N(0, 1)`."""
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            noise = rng.standard_normal(tuple(parameter.shape), np.float32)
            parameter.mul_(1.0 + scale * torch.from_numpy(noise).to(parameter.device))


def _to_tensor(array: Array, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)


def _device(network: nn.Module) -> torch.device:
    parameter = next(network.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def _state(network: nn.Module) -> dict[str, Tensor]:
    # Cloned, because safetensors refuses variables that share memory.
    return {k: v.detach().cpu().contiguous().clone() for k, v in network.state_dict().items()}


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor) else value


def _parameters(networks: Mapping[str, nn.Module]) -> dict[str, nn.Parameter]:
    named = {}
    for prefix, network in networks.items():
        named |= {f"{prefix}.{name}": p for name, p in network.named_parameters()}
    return named


def _require_same_parameters(
    networks: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer
) -> None:
    named = _parameters(networks)
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    missing = [name for name, p in named.items() if p.requires_grad and id(p) not in held]
    if missing:
        raise ValueError(
            f"optimizer must hold every parameter of {' and '.join(networks)}, but misses "
            f"{', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}; build it from "
            f"{' + '.join(f'list({name}.parameters())' for name in networks)}"
        )
    known = {id(p) for p in named.values()}
    if any(p not in known for p in held):
        raise ValueError(
            f"optimizer holds parameters that belong to neither {' nor '.join(networks)}"
        )


def _prefer_fused(optimizer: torch.optim.Optimizer) -> None:
    """Choose the one-kernel form of Adam, where the user left that choice open."""
    if not isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW) or optimizer.state:
        return
    for group in optimizer.param_groups:
        plain = not (group["foreach"] or group["capturable"] or group["differentiable"])
        floating = all(p.is_floating_point() for p in group["params"])
        if group["fused"] is None and plain and floating:
            group["fused"] = True


def _threads(networks: Sequence[nn.Module]) -> Callable[[], Any]:
    """Return a context that runs small networks on the CPU with a single thread."""
    size = sum(p.numel() for network in networks for p in network.parameters())
    on_cpu = all(_device(network).type == "cpu" for network in networks)

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
