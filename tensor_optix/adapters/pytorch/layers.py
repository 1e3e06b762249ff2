"""PyTorch's layers for ready-made networks: the functions of `adapters.network_recipes.Layers`.

The global random state of PyTorch is neither used nor changed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

try:
    import torch
except ImportError as error:
    raise ImportError("this needs PyTorch: pip install 'tensor-optix[torch]'") from error
from torch import Tensor, nn

from tensor_optix.adapters.backend import LARGEST_BYTE, OPEN, first_divisors
from tensor_optix.adapters.stored_networks import Features

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensor_optix.adapters.backend import ByteField
    from tensor_optix.adapters.network_recipes import Convolution, Dense
    from tensor_optix.core.types import Array

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU}
DIVISORS = "divisors"
"""The name of the buffer of what bytes are divided by."""


def new_generator(seed: int) -> torch.Generator:
    """Return what initial weights are drawn from."""
    return torch.Generator().manual_seed(seed)


def dense(layer: Dense, generator: torch.Generator) -> list[nn.Module]:
    """Return a linear layer, and its activation."""
    # The constructor of nn.Linear would draw from the global random state.
    linear: nn.Module = nn.utils.skip_init(nn.Linear, layer.fan_in, layer.fan_out)  # type: ignore[no-untyped-call]
    if layer.distribution == "orthogonal":
        _make_orthogonal(linear, layer.gain, generator)
    else:
        bound = layer.gain / layer.fan_in**0.5
        for parameter in linear.parameters():
            nn.init.uniform_(parameter, -bound, bound, generator=generator)
    return [linear] if layer.activation is None else [linear, ACTIVATIONS[layer.activation]()]


def convolution(
    channels: int, layer: Convolution, gain: float, generator: torch.Generator
) -> list[nn.Module]:
    """Return a convolution of images `[B, C, H, W]`, and its activation."""
    convolved: nn.Module = nn.utils.skip_init(TorchConvolution, channels, *layer)  # type: ignore[no-untyped-call]
    _make_orthogonal(convolved, gain, generator)
    return [convolved, nn.ReLU()]


def turned(has_channels_first: bool) -> list[nn.Module]:
    """Return what puts the channels of images first."""
    return [] if has_channels_first else [ChannelsFirst()]


def byte_scale(fields: Sequence[ByteField]) -> nn.Module:
    """Return a layer that divides bytes."""
    return TorchByteScale(fields)


def flatten() -> nn.Module:
    """Return a layer of `[B, ...]` to `[B, F]`; numbers `[B]` become `[B, 1]`."""
    return TorchFlatten()


def features(channels: int, size: int) -> nn.Module:
    """Return a layer of what convolutions make, images with so many channels, to `[B, size]`."""
    return TorchFeatures(channels, size)


def columns(first: int, shape: Sequence[int]) -> nn.Module:
    """Return a layer of rows `[B, D]` to what their columns from `first` on hold, `[B, *shape]`."""
    return TorchColumns(first, shape)


def one_hot(sizes: Sequence[int], starts: Sequence[int]) -> nn.Module:
    """Return a layer of numbers, K for each of B, to K unit vectors side by side; others become 0."""
    return TorchOneHot(sizes, starts)


def side_by_side(width: int, branches: Sequence[Sequence[nn.Module]]) -> nn.Module:
    """Return a layer of rows to what each branch makes of them, joined."""
    return TorchSideBySide([nn.Sequential(*branch) for branch in branches])


def beside(encoder: Sequence[nn.Module], size: int, others: int) -> list[nn.Module]:
    """Return a layer of rows to what an encoder makes of the first columns, and the others as they are."""
    branches = [[columns(0, (size,)), *encoder], [columns(size, (others,))]]
    return [side_by_side(size + others, branches)]


def sequential(
    shape: Sequence[int], layers: Sequence[nn.Module], is_index: bool = False
) -> nn.Sequential:
    """Return a network of layers in order."""
    return nn.Sequential(*layers)


def layers_of(network: nn.Sequential) -> list[nn.Module]:
    """Return the layers of a network in order."""
    return list(network)


def action_critic(encoder: nn.Module, head: nn.Module) -> nn.Module:
    """Return a critic of `(observations [B, ...], actions [B, A]) -> [B, 1]`."""
    return TorchActionCritic(encoder, head)


def adam(
    networks: Sequence[nn.Module], learning_rate: float, epsilon: float
) -> torch.optim.Optimizer:
    """Return Adam over the parameters of all networks."""
    parameters = [parameter for network in networks for parameter in network.parameters()]
    # Each once, because networks may share layers.
    return torch.optim.Adam(dict.fromkeys(parameters), lr=learning_rate, eps=epsilon)


def number_adam(learning_rate: float) -> torch.optim.Optimizer:
    """Return Adam over one new number, which starts at 0."""
    return torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=learning_rate)


def features_behind(network: nn.Module) -> dict[str, tuple[Features, ...]]:
    """Return what each dense layer behind ready-made convolutions takes first, by the name of its weight."""
    found: dict[str, tuple[Features, ...]] = {}
    parts: tuple[Features, ...] = ()
    within = None
    for name, module in network.named_modules(remove_duplicate=False):
        if within is not None and name.startswith(within):
            continue
        if isinstance(module, TorchSideBySide):
            within = f"{name}."
        if isinstance(module, TorchSideBySide | TorchFeatures):
            parts = _parts(module)
        elif parts and isinstance(module, nn.Linear):
            found[f"{name}.weight"], parts = parts, ()
    return found


def _parts(module: nn.Module) -> tuple[Features, ...]:
    """Return of what the features lie side by side that a module makes, where it may be of images."""
    if isinstance(module, TorchSideBySide):
        lasts = [[*branch.children()][-1] for branch in module.branches]
        return tuple(part for last in lasts for part in _parts(last))
    return module.parts if isinstance(module, TorchFeatures | TorchColumns) else ()


class TorchActionCritic(nn.Module):
    """A critic of `(observations, actions [B, A]) -> [B, 1]`, for observations that are no vectors.

    Args:
        encoder: `[B, ...]` observations to features `[B, F]`.
        head: `[B, F + A]`, features and action side by side, to `[B, 1]`.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Return the values, `[B, 1]`."""
        values: Tensor = self.head(torch.cat([self.encoder(observations), actions], dim=-1))
        return values


class TorchOneHot(nn.Module):
    """K numbers for each of B, `[B]` or `[B, ...]`, as unit vectors side by side, `[B, sum(sizes)]`.

    They count from their starts on; the vectors of others are 0.
    """

    numbers: Tensor
    places: Tensor

    def __init__(self, sizes: Sequence[int], starts: Sequence[int]) -> None:
        super().__init__()
        ranges = [torch.arange(n, n + size) for n, size in zip(starts, sizes, strict=True)]
        places = torch.repeat_interleave(torch.tensor(sizes))
        # Not saved with the weights: they are no part of what is learned.
        self.register_buffer("numbers", torch.cat(ranges), persistent=False)
        self.register_buffer("places", places, persistent=False)

    def forward(self, numbers: Tensor) -> Tensor:
        """Return the unit vectors, float32 of whole numbers."""
        rows = numbers.reshape(len(numbers), -1)
        is_hot = rows.index_select(1, self.places) == self.numbers
        return is_hot.to(rows.dtype) if rows.is_floating_point() else is_hot.float()

    def extra_repr(self) -> str:
        """Say how many there are."""
        return f"{len(self.numbers)}"


class TorchByteScale(nn.Module):
    """Bytes divided by what they are at most: an `adapters.backend.ByteScale`.

    Args:
        fields: Of the observations, in their order.
    """

    divisors: Tensor
    places: Tensor

    def __init__(self, fields: Sequence[ByteField]) -> None:
        super().__init__()
        self.sizes = tuple(field.size for field in fields)
        self.register_buffer("divisors", torch.tensor(first_divisors(fields)))
        places = torch.repeat_interleave(torch.tensor(self.sizes))
        self.register_buffer("places", places if len(fields) > 1 else None, persistent=False)

    def forward(self, observations: Tensor) -> Tensor:
        """Return the quotients."""
        known = torch.where(self.divisors == OPEN, LARGEST_BYTE, self.divisors)
        divisors = known.to(observations.dtype)
        if self.places is not None:
            divisors = divisors.index_select(0, self.places)
        return observations / divisors

    def read(self) -> Array:
        """Return the divisors `[F]` int64."""
        array: Array = self.divisors.cpu().numpy().copy()
        return array

    def write(self, divisors: Array) -> None:
        """Set the divisors."""
        self.divisors.copy_(torch.from_numpy(divisors))

    def extra_repr(self) -> str:
        """Say by what."""
        return f"{self.divisors.tolist()}"

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        # Earlier versions divided every image by this, and kept no divisors.
        state.setdefault(f"{prefix}divisors", torch.full_like(self.divisors, LARGEST_BYTE))
        super()._load_from_state_dict(state, prefix, *rest)


class TorchFlatten(nn.Module):
    """`[B, ...]` as `[B, F]`, whole numbers `[B]` as float32 `[B, 1]`."""

    def forward(self, values: Tensor) -> Tensor:
        """Return them."""
        rows = values.reshape(len(values), -1)
        return rows if rows.is_floating_point() else rows.float()


class TorchFeatures(TorchFlatten):
    """Images with so many channels, which convolutions made, as `[B, size]`: channel by channel."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.parts = (Features(channels, size),)


class TorchColumns(nn.Module):
    """What the columns of rows `[B, D]` from `first` on hold, `[B, *shape]`."""

    def __init__(self, first: int, shape: Sequence[int]) -> None:
        super().__init__()
        self.first = first
        self.shape = tuple(shape)
        self.parts = (Features(1, math.prod(shape)),)

    def forward(self, rows: Tensor) -> Tensor:
        """Return it."""
        held = rows[:, self.first : self.first + math.prod(self.shape)]
        return held.reshape(len(rows), *self.shape)

    def extra_repr(self) -> str:
        """Say which, and as what."""
        return f"{self.first}, {self.shape}"


class TorchSideBySide(nn.Module):
    """The features `[B, F]` that several networks make of the same rows, joined."""

    def __init__(self, branches: Sequence[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, rows: Tensor) -> Tensor:
        """Return them."""
        return torch.cat([branch(rows) for branch in self.branches], dim=-1)


class TorchConvolution(nn.Conv2d):
    """A convolution of images `[B, C, H, W]`, which on a CPU it lays out with their channels last.

    Measured on one core, an update of the layers of Mnih et al. 2015 takes 0.7 of the time so. The weights
    stay as they are.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Return the same, with as many channels as there are filters."""
        if images.is_cpu:
            images = images.contiguous(memory_format=torch.channels_last)
        return super().forward(images)


class ChannelsFirst(nn.Module):
    """Images `[B, H, W, C]` as `[B, C, H, W]`."""

    def forward(self, images: Tensor) -> Tensor:
        """Return a view."""
        return images.permute(0, 3, 1, 2)


def _make_orthogonal(layer: nn.Module, gain: float, generator: torch.Generator) -> None:
    weight, bias = layer.parameters()
    nn.init.orthogonal_(weight, gain, generator=generator)
    nn.init.zeros_(bias)
