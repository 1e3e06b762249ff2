"""The ready-made perceptron: orthogonal, seeded, and alone with its randomness."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tensor_optix.adapters.pytorch.networks import HIDDEN_GAIN, mlp


def weights(network: nn.Sequential) -> list[torch.Tensor]:
    return [layer.weight for layer in network if isinstance(layer, nn.Linear)]


def test_the_layers_are_orthogonal_with_their_gains_and_zero_biases() -> None:
    network = mlp(4, 2, (16, 8), seed=0, output_gain=0.01)
    first, second, last = weights(network)
    torch.testing.assert_close(first.T @ first, torch.eye(4) * HIDDEN_GAIN**2)
    torch.testing.assert_close(second @ second.T, torch.eye(8) * HIDDEN_GAIN**2)
    torch.testing.assert_close(last @ last.T, torch.eye(2) * 0.01**2)
    assert all(not layer.bias.any() for layer in network if isinstance(layer, nn.Linear))
    assert [type(layer) for layer in network] == [nn.Linear, nn.Tanh] * 2 + [nn.Linear]


def test_the_seed_decides_the_weights() -> None:
    first, again, other = (mlp(4, 2, (8,), seed=seed) for seed in (1, 1, 2))
    assert all(map(torch.equal, weights(first), weights(again)))
    assert not torch.equal(weights(first)[0], weights(other)[0])


def test_the_global_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    mlp(4, 2, (8,), seed=1)
    assert torch.equal(before, torch.get_rng_state())


def test_no_hidden_layers_make_a_linear_map() -> None:
    assert mlp(3, 2, (), seed=0)(torch.zeros(5, 3)).shape == (5, 2)


def test_a_size_of_zero_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"must be at least 1, got \[4, 0, 2\]"):
        mlp(4, 2, (0,), seed=0)
