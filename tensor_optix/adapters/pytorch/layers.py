"""PyTorch's layers for ready-made networks: the functions of `adapters.network_recipes.Layers`.

The global random state of PyTorch is neither used nor changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

try:
    import torch
except ImportError as error:
    raise ImportError("this needs PyTorch: pip install 'tensor-optix[torch]'") from error
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensor_optix.adapters.network_recipes import Convolution, Dense

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU}


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
    convolved: nn.Module = nn.utils.skip_init(nn.Conv2d, channels, *layer)  # type: ignore[no-untyped-call]
    _make_orthogonal(convolved, gain, generator)
    return [convolved, nn.ReLU()]


def turned(has_channels_first: bool) -> list[nn.Module]:
    """Return what puts the channels of images first."""
    return [] if has_channels_first else [ChannelsFirst()]


def divide(divisor: float) -> nn.Module:
    """Return a layer that divides by a number."""
    return Divide(divisor)


def flatten() -> nn.Module:
    """Return a layer of `[B, ...]` to `[B, F]`."""
    return nn.Flatten()


def one_hot(size: int, start: int = 0) -> nn.Module:
    """Return a layer of numbers `[B]` from `start` on to unit vectors `[B, size]` float32; others to 0."""
    return TorchOneHot(size, start)


def sequential(shape: Sequence[int], layers: Sequence[nn.Module]) -> nn.Sequential:
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
    return torch.optim.Adam(parameters, lr=learning_rate, eps=epsilon)


def number_adam(learning_rate: float) -> torch.optim.Optimizer:
    """Return Adam over one new number, which starts at 0."""
    return torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=learning_rate)


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
    """Numbers `[B]` from `start` to `start + size - 1` as unit vectors `[B, size]` float32; others as 0."""

    numbers: Tensor

    def __init__(self, size: int, start: int = 0) -> None:
        super().__init__()
        # Not saved with the weights: it is no part of what is learned.
        self.register_buffer("numbers", torch.arange(start, start + size), persistent=False)

    def forward(self, numbers: Tensor) -> Tensor:
        """Return the unit vectors."""
        return (numbers.unsqueeze(-1) == self.numbers).float()

    def extra_repr(self) -> str:
        """Say how many there are."""
        return f"{len(self.numbers)}"


class Divide(nn.Module):
    """Pixels divided by what they are at most."""

    def __init__(self, divisor: float) -> None:
        super().__init__()
        self.divisor = divisor

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the quotients."""
        return pixels / self.divisor

    def extra_repr(self) -> str:
        """Say by what."""
        return f"{self.divisor}"


class ChannelsFirst(nn.Module):
    """Images `[B, H, W, C]` as `[B, C, H, W]`."""

    def forward(self, images: Tensor) -> Tensor:
        """Return a view."""
        return images.permute(0, 3, 1, 2)


def _make_orthogonal(layer: nn.Module, gain: float, generator: torch.Generator) -> None:
    weight, bias = layer.parameters()
    nn.init.orthogonal_(weight, gain, generator=generator)
    nn.init.zeros_(bias)
