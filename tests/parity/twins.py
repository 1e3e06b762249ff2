"""Networks and agents in pairs: what PyTorch has, TensorFlow gets, weight by weight."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

keras = pytest.importorskip("keras")
torch = pytest.importorskip("torch")

from torch import nn

from tensor_optix.adapters.pytorch.layers import ChannelsFirst
from tensor_optix.core.types import HyperparamSet
from tests.parity.frameworks import ROUNDINGS, assert_same
from tests.torch_framework import Scaled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensor_optix.core.types import Array, EpisodeData

COUNTS = {"n_updates", "n_skipped_updates", "target_updated", "buffer_size", "baseline_type"}
"""Diagnostics that are no results of floating arithmetic."""


class Within(NamedTuple):
    """How near numbers must be: relatively, above a floor, or in roundings of the largest of an array."""

    relative: float = 1e-5
    floor: float = 0.0
    roundings: float = ROUNDINGS


STRICT = Within()
DRIFTED = Within(relative=3e-5, roundings=100)
"""After three windows, up to 100 updates: each begins with the differences that the ones before it left and
adds roundings of its own, 1 to 3 units of 1e-7. Steps as small as these carry differences on and do not
multiply them, so that they add up to at most 100 times as much."""


class Twins(NamedTuple):
    """An agent on each framework, with the same weights, hyperparameters and seed."""

    torch: Any
    tf: Any

    def learn(self, episode: EpisodeData, within: Within = STRICT) -> dict[str, Any]:
        """Let both learn from a window, and assert that they say the same and became the same."""
        before = arrays_of(self.torch)
        ours, theirs = self.torch.learn(episode), self.tf.learn(episode)
        assert_diagnostics_agree(ours, theirs, within)
        assert_weights_agree(self, within)
        if ours["n_updates"]:
            after = arrays_of(self.torch)
            for name in self.torch._networks:
                change = np.abs(after[name][0] - before[name][0]).max()
                least = 20.0 * within.relative * np.abs(after[name][0]).max()
                assert change > least, f"{name} must move by much more than the tolerance"
        return ours

    def set_hyperparams(self, **params: Any) -> None:
        """Put hyperparameters in force in both."""
        for agent in self:
            agent.set_hyperparams(HyperparamSet(params))


def keras_twin(network: nn.Module, obs_shape: Sequence[int]) -> Any:
    """Return the Keras model of a PyTorch network; images are channels last in both."""
    layers = [keras.Input(tuple(obs_shape))]
    layers += [twin for layer in network for twin in _twin_layers(layer)]
    model = keras.Sequential(layers)
    model.set_weights(torch_arrays(network))
    return model


def _twin_layers(layer: nn.Module) -> list[Any]:
    if isinstance(layer, nn.Conv2d):
        return [keras.layers.Conv2D(layer.out_channels, layer.kernel_size, layer.stride)]
    makers = {
        nn.Linear: lambda: [keras.layers.Dense(layer.out_features)],
        nn.Tanh: lambda: [keras.layers.Activation("tanh")],
        nn.ReLU: lambda: [keras.layers.ReLU()],
        nn.Flatten: lambda: [keras.layers.Flatten()],
        Scaled: lambda: [keras.layers.Rescaling(layer.scale)],
        ChannelsFirst: list,
    }
    return makers[type(layer)]()


def torch_arrays(network: nn.Module) -> list[Array]:
    """Return the parameters of a network in the layout of Keras."""
    return [in_keras_layout(p.detach().numpy()) for p in network.parameters()]


def in_keras_layout(array: Array) -> Array:
    """Return a kernel `[out, in, ...]` as `[..., in, out]`, and anything else as a copy."""
    if array.ndim < 2:
        return array.copy()
    return np.moveaxis(array, (0, 1), (-1, -2)).copy()


def keras_arrays(network: Any) -> list[Array]:
    """Return the variables of a network."""
    return [variable.numpy() for variable in network.variables]


def arrays_of(agent: Any) -> dict[str, list[Array]]:
    """Return the weights of every network of an agent and of every target network, by their names."""
    networks = dict(agent._networks) | {name: pair[0] for name, pair in agent._targets.items()}
    return {
        name: torch_arrays(network) if isinstance(network, nn.Module) else keras_arrays(network)
        for name, network in networks.items()
    }


def assert_weights_agree(twins: Twins, within: Within = STRICT) -> None:
    """Assert that all networks and all target networks have the same weights."""
    ours, theirs = arrays_of(twins.torch), arrays_of(twins.tf)
    assert list(ours) == list(theirs)
    for name in ours:
        for mine, other in zip(ours[name], theirs[name], strict=True):
            assert np.isfinite(mine).all()
            # A single number is [1] in one and [] in the other.
            shape = other.shape if mine.size == 1 else mine.shape
            assert_same(other, mine.reshape(shape), within.floor, within.relative, within.roundings)


def assert_diagnostics_agree(ours: dict[str, Any], theirs: dict[str, Any], within: Within) -> None:
    """Assert that both agents say the same: counts exactly, means as nearly as told, types alike.

    The floor is 1e-6, because losses are means of terms of about 1, up to 50 of them, which may cancel.
    """
    assert set(ours) == set(theirs)
    for name, mine in ours.items():
        assert type(theirs[name]) is type(mine), name
        if name in COUNTS:
            assert theirs[name] == mine, name
        else:
            floor = 1e-6 + within.floor
            wanted = pytest.approx(mine, rel=within.relative, abs=floor, nan_ok=True)
            assert theirs[name] == wanted, name
