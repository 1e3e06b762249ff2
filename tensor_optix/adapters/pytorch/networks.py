"""Networks for those who bring none: sizes and a seed come in, a perceptron goes out."""

from __future__ import annotations

try:
    import torch
except ImportError as error:
    raise ImportError("this needs PyTorch: pip install 'tensor-optix[torch]'") from error
import itertools
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence

HIDDEN_GAIN = 2.0**0.5
"""Gain of the hidden layers, usual for policy gradients (Huang et al. 2022, "The 37 implementation
details of PPO")."""


ADAM_EPSILON = 1e-5
"""Usual for policy gradients (Huang et al. 2022); PyTorch's 1e-8 makes the first steps jumpy."""


def adam(networks: Sequence[nn.Module], learning_rate: float) -> torch.optim.Adam:
    """Return Adam over the parameters of all networks."""
    parameters = [parameter for network in networks for parameter in network.parameters()]
    return torch.optim.Adam(parameters, lr=learning_rate, eps=ADAM_EPSILON)


def mlp(
    in_features: int,
    out_features: int,
    hidden: Sequence[int],
    seed: int,
    output_gain: float = 1.0,
) -> nn.Sequential:
    """Build a tanh perceptron with orthogonal weights (Saxe et al. 2014) and zero biases.

    The global random state of PyTorch is neither used nor changed.

    Args:
        in_features: D, the length of an observation.
        out_features: The length of an output.
        hidden: Widths of the hidden layers; empty makes a linear map.
        seed: The same one gives the same weights.
        output_gain: Scale of the last layer. A small one, such as 0.01, makes a policy that starts
            out almost uniform.

    Returns:
        A network of `[B, D]` float32 to `[B, out_features]`.

    Raises:
        ValueError: If a size is below 1.
    """
    sizes = [in_features, *hidden, out_features]
    if min(sizes) < 1:
        raise ValueError(f"the sizes of a network must be at least 1, got {sizes}")
    generator = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    for index, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        is_last = index == len(sizes) - 2
        layers.append(_linear(fan_in, fan_out, output_gain if is_last else HIDDEN_GAIN, generator))
        if not is_last:
            layers.append(nn.Tanh())
    return nn.Sequential(*layers)


def _linear(fan_in: int, fan_out: int, gain: float, generator: torch.Generator) -> nn.Linear:
    # The constructor of nn.Linear would draw from the global random state.
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, fan_in, fan_out)  # type: ignore[no-untyped-call]
    nn.init.orthogonal_(layer.weight, gain, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer
