"""Networks for those who bring none: shapes and a seed come in, a network goes out.

The global random state of PyTorch is neither used nor changed.
"""

from __future__ import annotations

try:
    import torch
except ImportError as error:
    raise ImportError("this needs PyTorch: pip install 'tensor-optix[torch]'") from error
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from torch import Tensor, nn

from tensor_optix.adapters.layer_plans import (
    ADAM_EPSILON,
    HIDDEN_GAIN,
    plan_image_encoder,
    plan_perceptron,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensor_optix.adapters.layer_plans import ImagePlan, LinearPlan

Initializer: TypeAlias = Callable[[nn.Module, float, torch.Generator], None]
"""`(layer, gain, generator)`: fill in the weights of a layer."""


def adam(
    networks: Sequence[nn.Module], learning_rate: float, epsilon: float = ADAM_EPSILON
) -> torch.optim.Adam:
    """Return Adam over the parameters of all networks."""
    parameters = [parameter for network in networks for parameter in network.parameters()]
    return torch.optim.Adam(parameters, lr=learning_rate, eps=epsilon)


def number_adam(learning_rate: float) -> torch.optim.Adam:
    """Return Adam over one new number, which starts at 0."""
    return torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=learning_rate)


def mlp(
    in_features: int,
    out_features: int,
    hidden: Sequence[int],
    seed: int,
    output_gain: float = 1.0,
) -> nn.Sequential:
    """Build a tanh perceptron with orthogonal weights (Saxe et al. 2014) and zero biases.

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
    plan = plan_perceptron(in_features, hidden, out_features, HIDDEN_GAIN, output_gain)
    generator = torch.Generator().manual_seed(seed)
    return nn.Sequential(*_perceptron(plan, nn.Tanh, _orthogonal, generator))


def relu_mlp(
    in_features: int,
    out_features: int,
    hidden: Sequence[int],
    seed: int,
    output_gain: float = 1.0,
) -> nn.Sequential:
    """Build a ReLU perceptron with weights and biases uniform in +-1 / sqrt(fan-in), PyTorch's default.

    The arguments are those of `mlp`.

    Returns:
        A network of `[B, D]` float32 to `[B, out_features]`.

    Raises:
        ValueError: If a size is below 1.
    """
    plan = plan_perceptron(in_features, hidden, out_features, 1.0, output_gain)
    generator = torch.Generator().manual_seed(seed)
    return nn.Sequential(*_perceptron(plan, nn.ReLU, _uniform, generator))


def nature_cnn(
    image_shape: Sequence[int],
    out_features: int,
    hidden: Sequence[int],
    seed: int,
    output_gain: float = 1.0,
    divisor: float = 1.0,
) -> nn.Sequential:
    """Build the convolutional network of Mnih et al. 2015, with orthogonal weights and zero biases.

    The channels are the first axis where that is shorter than the last, else the last. Three
    convolutions, 32 of 8x8 with stride 4, 64 of 4x4 with stride 2, 64 of 3x3, are followed by ReLU
    layers. Where a side is shorter than 36 pixels, nothing would be left: there the convolutions are
    32, 64 and 64 of 3x3 with padding 1 and the strides 2, 2 and 1.

    Args:
        image_shape: `[C, H, W]` or `[H, W, C]`.
        out_features: The length of an output.
        hidden: Widths of the layers behind the convolutions; `(512,)` in the paper.
        seed: The same one gives the same weights.
        output_gain: Scale of the last layer.
        divisor: What pixels are divided by; 255 for bytes.

    Returns:
        A network of `[B, *image_shape]` float32 to `[B, out_features]`.

    Raises:
        ValueError: If a size is below 1, or the shape has not three axes.
    """
    image = plan_image_encoder(image_shape)
    head = plan_perceptron(image.features, hidden, out_features, HIDDEN_GAIN, output_gain)
    generator = torch.Generator().manual_seed(seed)
    encoder = _image_encoder(image, divisor, generator)
    return nn.Sequential(*encoder, *_perceptron(head, nn.ReLU, _orthogonal, generator))


def image_critic(
    image_shape: Sequence[int],
    action_dim: int,
    hidden: Sequence[int],
    seed: int,
    divisor: float = 1.0,
) -> ActionCritic:
    """Build a critic of images and actions: the action joins in behind the convolutions.

    Args:
        image_shape: As for `nature_cnn`, and so are `hidden`, `seed` and `divisor`.
        action_dim: A, the number of components of an action.
        hidden: Widths of the layers behind the convolutions.
        seed: The same one gives the same weights.
        divisor: What pixels are divided by.

    Returns:
        A network of `[B, *image_shape]` and `[B, A]` float32 to `[B, 1]`.

    Raises:
        ValueError: If a size is below 1, or the shape has not three axes.
    """
    image = plan_image_encoder(image_shape)
    plan = plan_perceptron(image.features + action_dim, hidden, 1, HIDDEN_GAIN, 1.0)
    generator = torch.Generator().manual_seed(seed)
    encoder = _image_encoder(image, divisor, generator)
    head = nn.Sequential(*_perceptron(plan, nn.ReLU, _orthogonal, generator))
    return ActionCritic(encoder, head)


def number_critic(
    size: int, start: int, action_dim: int, hidden: Sequence[int], seed: int
) -> ActionCritic:
    """Build a critic of the numbers of a Discrete space and actions: a `relu_mlp` of both.

    Args:
        size: How many numbers there are.
        start: The first of them.
        action_dim: A, the number of components of an action.
        hidden: Widths of the hidden layers.
        seed: The same one gives the same weights.

    Returns:
        A network of `[B]` int64 and `[B, A]` float32 to `[B, 1]`.

    Raises:
        ValueError: If a size is below 1.
    """
    return ActionCritic(OneHot(size, start), relu_mlp(size + action_dim, 1, hidden, seed))


def of_numbers(network: nn.Sequential, size: int, start: int) -> nn.Sequential:
    """Let a network of vectors `[B, size]` take numbers `[B]`, as unit vectors; return it."""
    return network.insert(0, OneHot(size, start))


class ActionCritic(nn.Module):
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


class OneHot(nn.Module):
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


def _image_encoder(plan: ImagePlan, divisor: float, generator: torch.Generator) -> nn.Sequential:
    channels = plan.channels
    layers: list[nn.Module] = [] if plan.has_channels_first else [ChannelsFirst()]
    if divisor != 1.0:
        layers.append(Divide(divisor))
    for filters, width, stride, padding in plan.convolutions:
        convolution: nn.Module = nn.utils.skip_init(  # type: ignore[no-untyped-call]
            nn.Conv2d, channels, filters, width, stride, padding
        )
        _orthogonal(convolution, HIDDEN_GAIN, generator)
        layers += [convolution, nn.ReLU()]
        channels = filters
    return nn.Sequential(*layers, nn.Flatten())


def _perceptron(
    plan: Sequence[LinearPlan],
    activation: type[nn.Module],
    initialize: Initializer,
    generator: torch.Generator,
) -> list[nn.Module]:
    """Return linear layers with activations between them."""
    layers: list[nn.Module] = []
    for fan_in, fan_out, gain in plan:
        # The constructor of nn.Linear would draw from the global random state.
        layer: nn.Module = nn.utils.skip_init(nn.Linear, fan_in, fan_out)  # type: ignore[no-untyped-call]
        initialize(layer, gain, generator)
        layers += [layer, activation()]
    return layers[:-1]


def _orthogonal(layer: nn.Module, gain: float, generator: torch.Generator) -> None:
    weight, bias = layer.parameters()
    nn.init.orthogonal_(weight, gain, generator=generator)
    nn.init.zeros_(bias)


def _uniform(layer: nn.Module, gain: float, generator: torch.Generator) -> None:
    weight, bias = layer.parameters()
    bound = gain / weight.shape[1] ** 0.5
    for parameter in (weight, bias):
        nn.init.uniform_(parameter, -bound, bound, generator=generator)
