"""PyTorch as tests see it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from tests.frameworks import Framework, single

if TYPE_CHECKING:
    from collections.abc import Sequence


class Scaled(nn.Module):
    """Multiplies by a number: bytes to [0, 1], say."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return observations * self.scale


class TwoHeaded(nn.Module):
    """Logits and values of one trunk."""

    def __init__(self, inputs: int, actions: int) -> None:
        super().__init__()
        self.trunk = nn.Linear(inputs, 8)
        self.policy, self.value = nn.Linear(8, actions), nn.Linear(8, 1)

    def forward(self, observations: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = torch.tanh(self.trunk(observations))
        return self.policy(hidden), self.value(hidden)


class TorchFramework(Framework):
    """PyTorch."""

    name, adapter, prefix, classes = "torch", "pytorch", "torch", "Torch"

    def with_trunk(
        self, sizes: tuple[int, int], outputs: Sequence[int], form: str = "nested", seed: int = 0
    ) -> list[Any]:
        torch.manual_seed(seed)
        trunk = nn.Sequential(nn.Linear(*sizes), nn.Tanh())
        heads = [nn.Linear(sizes[1], size) for size in outputs]
        is_nested = [form == "nested" or (form == "mixed" and n) for n in range(len(heads))]
        parts = [[trunk] if nested else list(trunk) for nested in is_nested]
        return [nn.Sequential(*part, head) for part, head in zip(parts, heads, strict=True)]

    def two_headed(self, inputs: int, actions: int) -> Any:
        return TwoHeaded(inputs, actions)

    def adam(self, rate: float, *networks: Any) -> Any:
        return torch.optim.Adam(_parameters(networks), lr=rate)

    def sgd(self, rate: float, *networks: Any) -> Any:
        return torch.optim.SGD(_parameters(networks), lr=rate)

    def number_adam(self, rate: float) -> Any:
        return torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=rate)

    def number_sgd(self, rate: float) -> Any:
        return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=rate)

    def weights(self, network: Any) -> list[np.ndarray]:
        arrays = (p.detach().numpy() for p in network.parameters())
        return [(a.T if a.ndim == 2 else a).copy() for a in arrays]

    def set_weights(self, network: Any, arrays: Sequence[np.ndarray]) -> None:
        with torch.no_grad():
            for parameter, array in zip(network.parameters(), arrays, strict=True):
                turned = array.T if array.ndim == 2 else array
                parameter.copy_(torch.from_numpy(np.ascontiguousarray(turned)))

    def batch_norm(self, features: int) -> Any:
        return nn.BatchNorm1d(features).eval()

    def set_running_mean(self, network: Any, value: float) -> None:
        network.running_mean.fill_(value)

    def running_mean(self, network: Any) -> np.ndarray:
        return self.array(network.running_mean)

    def tensor(self, array: Any) -> Any:
        return torch.from_numpy(single(array))

    def array(self, tensor: Any) -> np.ndarray:
        array: np.ndarray = tensor.detach().cpu().numpy().copy()
        return array

    def _layers(self, sizes: Sequence[int], obs_shape: Any, scale: float) -> Any:
        layers: list[Any] = [] if obs_shape is None else [nn.Flatten()]
        if scale != 1.0:
            layers.append(Scaled(scale))
        for inputs, outputs in itertools.pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.Tanh()]
        return nn.Sequential(*layers[:-1])

    def _critic_of_two(self, sizes: Sequence[int], scale: float) -> Any:
        value = self._layers(sizes, None, 1.0)

        class ImageCritic(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.value = value

            def forward(self, observations: Any, actions: Any) -> Any:
                pixels = observations.flatten(1) * scale
                return self.value(torch.cat([pixels, actions], dim=-1))

        return ImageCritic()


def _parameters(networks: Sequence[Any]) -> list[Any]:
    # Each once, because networks may share a layer.
    found = {id(p): p for network in networks for p in network.parameters()}
    return list(found.values())


FRAMEWORK = TorchFramework
