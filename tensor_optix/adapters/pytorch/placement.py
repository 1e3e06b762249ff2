"""Where PyTorch computes: devices, threads, and arrays as tensors."""

from __future__ import annotations

import textwrap
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tensor_optix.core.types import Array

SMALL_NETWORK = 300_000
"""Below this many parameters one thread is used: the work is dispatch, not arithmetic.

The 256-256 networks of SAC are below it, because there several threads gain little and lose much: an
update took 14 ms with one thread and 60 to 270 ms with two on two cores that other processes shared.
"""


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
