"""The agents of both frameworks with the same weights, by algorithm and kind of optimizer."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

keras = pytest.importorskip("keras")
torch = pytest.importorskip("torch")

from torch import nn

from tensor_optix.adapters.pytorch.layers import ChannelsFirst
from tensor_optix.algorithms.tf_agent import TFAgent
from tensor_optix.algorithms.tf_dqn import TFDQNAgent
from tensor_optix.algorithms.tf_ppo import TFPPOAgent
from tensor_optix.algorithms.tf_ppo_continuous import TFGaussianPPOAgent
from tensor_optix.algorithms.tf_sac import TFSACAgent
from tensor_optix.algorithms.tf_td3 import TFTD3Agent
from tensor_optix.algorithms.torch_agent import TorchAgent
from tensor_optix.algorithms.torch_dqn import TorchDQNAgent
from tensor_optix.algorithms.torch_ppo import TorchPPOAgent
from tensor_optix.algorithms.torch_ppo_continuous import TorchGaussianPPOAgent
from tensor_optix.algorithms.torch_sac import TorchSACAgent
from tensor_optix.algorithms.torch_td3 import TorchTD3Agent
from tensor_optix.core.normalizers import ObsNormalizer, RewardNormalizer
from tensor_optix.core.types import HyperparamSet
from tests.parity.twins import Twins, Within, keras_twin, torch_arrays
from tests.parity.windows import ACTION_DIM, CHOICES, IMAGE, NUM_ACTIONS, VECTOR
from tests.torch_framework import Scaled

if TYPE_CHECKING:
    from collections.abc import Sequence

NEGLIGIBLE = 1e-12
"""Adam's epsilon: PyTorch adds it to the root of the second moment after the bias is corrected, Keras before,
so that Keras's is `1 / sqrt(1 - beta2^t)`, up to 32, times as large. At 1e-12 neither counts beside gradients
of 1e-6 and more."""


def adam_within(rate: float, updates: int) -> Within:
    """Return how near the weights can be after so many updates by Adam.

    A step is about `rate`, whatever the gradient's size. Keras computes its bias correction from
    `1 - 0.999^t` in float32, two numbers near 1: off by 6e-8 of 1e-3, and its root by 3e-5. And because
    the gradient is divided by its own size, an element that cancels to a hundredth of its terms leaves the
    step with a hundred roundings, 1e-5. Together: less than 1e-4 of a step for every update.
    """
    return Within(1e-5, 1e-4 * rate * updates)


def optimizers(kind: str, networks: Sequence[Any], rate: float) -> tuple[Any, Any]:
    """Return an optimizer for PyTorch networks, or for a parameter, and the same one of Keras."""
    parameters = [
        p for n in networks for p in (n.parameters() if isinstance(n, nn.Module) else [n])
    ]
    if kind == "adam":
        return (
            torch.optim.Adam(parameters, lr=rate, eps=NEGLIGIBLE),
            keras.optimizers.Adam(rate, epsilon=NEGLIGIBLE),
        )
    momentum = 0.9 if kind == "momentum" else 0.0
    return (
        torch.optim.SGD(parameters, lr=rate, momentum=momentum),
        keras.optimizers.SGD(rate, momentum=momentum),
    )


def perceptron(inputs: int, outputs: int, seed: int) -> nn.Sequential:
    """Return a network of vectors `[B, inputs]` or anything that flattens to them."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(inputs, 8), nn.Tanh(), nn.Linear(8, outputs))


def network_for(obs_shape: Sequence[int], outputs: int, seed: int) -> nn.Sequential:
    """Return a perceptron of vectors, or convolutions of byte images `[B, 6, 6, 2]`."""
    if len(obs_shape) == 1:
        return perceptron(obs_shape[0], outputs, seed)
    torch.manual_seed(seed)
    # To a single pixel, so that flattening knows no order of axes.
    convolutions = [nn.Conv2d(IMAGE[-1], 4, 4, 2), nn.ReLU(), nn.Conv2d(4, 8, 2), nn.ReLU()]
    layers = [
        ChannelsFirst(),
        Scaled(1.0 / 255.0),
        *convolutions,
        nn.Flatten(),
        nn.Linear(8, outputs),
    ]
    return nn.Sequential(*layers)


def normalizers(obs_shape: Sequence[int]) -> dict[str, Any]:
    """Return fresh normalizers of observations and rewards, as an agent's arguments."""
    return {"obs_normalizer": ObsNormalizer(obs_shape), "reward_normalizer": RewardNormalizer()}


def make_ppo(
    kind: str = "sgd",
    rate: float = 0.1,
    obs_shape: Any = VECTOR,
    options: Any = None,
    **params: Any,
) -> Twins:
    """Return PPO agents for discrete actions."""
    actor, critic = network_for(obs_shape, NUM_ACTIONS, 1), network_for(obs_shape, 1, 2)
    both = TorchPPOAgent, TFPPOAgent
    return _made(both, [actor, critic], obs_shape, (kind, rate), (), options, params)


def make_ppo_with_trunk(
    kind: str = "sgd", rate: float = 0.1, obs_shape: Any = VECTOR, **params: Any
) -> Twins:
    """Return PPO agents whose actor and critic share all but their last layers."""
    features = network_for(obs_shape, 8, 11)
    pairs = [nn.Sequential(*features, nn.Tanh(), nn.Linear(8, n)) for n in (NUM_ACTIONS, 1)]
    trunk = keras_twin(nn.Sequential(*features, nn.Tanh()), obs_shape)
    twins = [keras.Sequential([trunk, keras.layers.Dense(n)]) for n in (NUM_ACTIONS, 1)]
    for twin, network in zip(twins, pairs, strict=True):
        twin.set_weights(torch_arrays(network))
    parameters = list(dict.fromkeys(p for network in pairs for p in network.parameters()))
    ours, theirs = optimizers(kind, parameters, rate)
    arguments = (*pairs, ours), (*twins, theirs)
    return _seeded((TorchPPOAgent, TFPPOAgent), arguments, None, params)


def make_ppo_of_choices(
    kind: str = "sgd",
    rate: float = 0.1,
    obs_shape: Any = VECTOR,
    options: Any = None,
    **params: Any,
) -> Twins:
    """Return PPO agents for several discrete choices."""
    actor, critic = network_for(obs_shape, sum(CHOICES), 1), network_for(obs_shape, 1, 2)
    both = TorchPPOAgent, TFPPOAgent
    options = {"choices": CHOICES} | (options or {})
    return _made(both, [actor, critic], obs_shape, (kind, rate), (), options, params)


def make_gaussian_ppo(
    kind: str = "sgd",
    rate: float = 0.1,
    obs_shape: Any = VECTOR,
    options: Any = None,
    **params: Any,
) -> Twins:
    """Return PPO agents for continuous actions."""
    actor, critic = network_for(obs_shape, 2 * ACTION_DIM, 3), network_for(obs_shape, 1, 4)
    both = TorchGaussianPPOAgent, TFGaussianPPOAgent
    return _made(both, [actor, critic], obs_shape, (kind, rate), (ACTION_DIM,), options, params)


def make_generic(
    kind: str = "sgd",
    rate: float = 0.1,
    obs_shape: Any = VECTOR,
    options: Any = None,
    **params: Any,
) -> Twins:
    """Return generic agents: REINFORCE, or A2C where windows have values."""
    model = network_for(obs_shape, NUM_ACTIONS, 5)
    both = TorchAgent, TFAgent
    return _made(both, [model], obs_shape, (kind, rate), (), options, params)


def make_dqn(
    kind: str = "sgd",
    rate: float = 0.1,
    obs_shape: Any = VECTOR,
    options: Any = None,
    **params: Any,
) -> Twins:
    """Return DQN agents."""
    q_network = network_for(obs_shape, NUM_ACTIONS, 6)
    ours, theirs = optimizers(kind, [q_network], rate)
    twin = keras_twin(q_network, obs_shape)
    arguments = (q_network, NUM_ACTIONS, ours), (twin, NUM_ACTIONS, theirs)
    return _seeded((TorchDQNAgent, TFDQNAgent), arguments, options, params)


def make_sac(
    kind: str = "sgd",
    rate: float = 0.1,
    obs_shape: Any = VECTOR,
    options: Any = None,
    **params: Any,
) -> Twins:
    """Return SAC agents; critics of images take observations and actions as two arguments.

    The policy begins with standard deviations of about 0.2: where draws saturate, the density's
    `log(1 - tanh^2)` loses so many digits to cancellation in float32 that 1e-5 is out of reach.
    """
    actor = network_for(obs_shape, 2 * ACTION_DIM, 7)
    with torch.no_grad():
        actor[-1].bias[ACTION_DIM:] -= 1.5
    critics, twins = twin_critics(obs_shape)
    twins = [keras_twin(actor, obs_shape), *twins]
    for_alpha = torch.zeros(1, requires_grad=True)
    pairs = [optimizers(kind, held, rate) for held in ([actor], critics, [for_alpha])]
    arguments = (
        (actor, *critics, ACTION_DIM, *(pair[0] for pair in pairs)),
        (*twins, ACTION_DIM, *(pair[1] for pair in pairs)),
    )
    return _seeded((TorchSACAgent, TFSACAgent), arguments, options, params)


def make_td3(
    kind: str = "sgd",
    rate: float = 0.1,
    obs_shape: Any = VECTOR,
    options: Any = None,
    **params: Any,
) -> Twins:
    """Return TD3 agents; critics of images take observations and actions as two arguments."""
    actor = network_for(obs_shape, ACTION_DIM, 10)
    critics, twins = twin_critics(obs_shape)
    pairs = [optimizers(kind, held, rate) for held in ([actor], critics)]
    arguments = (
        (actor, *critics, ACTION_DIM, *(pair[0] for pair in pairs)),
        (keras_twin(actor, obs_shape), *twins, ACTION_DIM, *(pair[1] for pair in pairs)),
    )
    return _seeded((TorchTD3Agent, TFTD3Agent), arguments, options, params)


def twin_critics(obs_shape: Sequence[int]) -> tuple[list[Any], list[Any]]:
    """Return two critics of observations and actions, and those of Keras with the same weights."""
    size = int(np.prod(obs_shape)) + ACTION_DIM
    critics: list[Any] = [perceptron(size, 1, seed) for seed in (8, 9)]
    twins = [keras_twin(critic, [size]) for critic in critics]
    if len(obs_shape) > 1:
        critics = [ImageCritic(critic) for critic in critics]
        twins = [keras_image_critic(twin, obs_shape) for twin in twins]
    return critics, twins


class ImageCritic(nn.Module):
    """A critic of byte images and actions, flattened side by side."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, images: Any, actions: Any) -> Any:
        return self.head(torch.cat([images.flatten(1) / 255.0, actions], dim=-1))


def keras_image_critic(head: Any, obs_shape: Sequence[int]) -> Any:
    """Return the Keras model of an `ImageCritic`, given its head's."""

    class KerasImageCritic(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.head = head
            self.flatten = keras.layers.Flatten()

        def call(self, images: Any, actions: Any) -> Any:
            return self.head(keras.ops.concatenate([self.flatten(images) / 255.0, actions], -1))

    critic = KerasImageCritic()
    critic(np.zeros((1, *obs_shape), np.float32), np.zeros((1, ACTION_DIM), np.float32))
    return critic


def _made(
    classes: Any,
    networks: list[nn.Sequential],
    obs_shape: Any,
    optimizer: tuple[str, float],
    rest: tuple[Any, ...],
    options: Any,
    params: dict[str, Any],
) -> Twins:
    """Return agents whose arguments are networks, one optimizer, and the rest."""
    kind, rate = optimizer
    ours, theirs = optimizers(kind, networks, rate)
    twins = [keras_twin(network, obs_shape) for network in networks]
    return _seeded(classes, ((*networks, ours, *rest), (*twins, theirs, *rest)), options, params)


def _seeded(classes: Any, arguments: Any, options: Any, params: dict[str, Any]) -> Twins:
    agents = [
        # Each with normalizers of its own.
        cls(*given, HyperparamSet(params), device="cpu", **copy.deepcopy(options or {}))
        for cls, given in zip(classes, arguments, strict=True)
    ]
    for agent in agents:
        agent.seed(0)
    return Twins(*agents)
