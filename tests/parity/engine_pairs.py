"""PyTorch agents in pairs of one kind, weights and seed: one learns by the native engine, one by PyTorch."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from gymnasium.spaces import Box, Discrete
from torch import nn

from tensor_optix.algorithms.torch_agent import TorchAgent
from tensor_optix.algorithms.torch_dqn import TorchDQNAgent
from tensor_optix.algorithms.torch_ppo import TorchPPOAgent
from tensor_optix.algorithms.torch_ppo_continuous import TorchGaussianPPOAgent
from tensor_optix.algorithms.torch_sac import TorchSACAgent
from tensor_optix.algorithms.torch_td3 import TorchTD3Agent
from tensor_optix.core.observation_layout import MaskedSpace
from tensor_optix.core.types import EpisodeData, HyperparamSet
from tests.parity.windows import (
    ACTION_DIM,
    CHOICES,
    NUM_ACTIONS,
    VECTOR,
    learned_alike,
    make_window,
    make_window_of_choices,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tensor_optix.core.types import Array

MASKED = MaskedSpace(Box(-np.inf, np.inf, VECTOR, np.float32), NUM_ACTIONS)
REPLAY = {"batch_size": 16, "replay_capacity": 300, "learning_starts": 46}
SIZES = {"n_epochs": 2, "minibatch_size": 16}
HIDDEN = 11
"""No multiple of what a vector holds."""


class Optimizers(NamedTuple):
    """A kind of optimizer, and its arguments."""

    kind: Any
    arguments: dict[str, Any]

    def of(self, *networks: nn.Module) -> Any:
        """Return one of all parameters of networks."""
        return self.kind([p for net in networks for p in net.parameters()], **self.arguments)


ADAM = Optimizers(torch.optim.Adam, {"lr": 0.01})
OPTIMIZERS = {
    "adam": ADAM,
    "plain adam": Optimizers(torch.optim.Adam, {"lr": 0.01, "fused": False, "foreach": False}),
    "adam in one call": Optimizers(torch.optim.Adam, {"lr": 0.01, "foreach": True}),
    "adam with decay": Optimizers(torch.optim.Adam, {"lr": 0.01, "weight_decay": 0.1}),
    "adam of a tensor": Optimizers(torch.optim.Adam, {"lr": torch.tensor(0.01), "fused": True}),
    "adamw": Optimizers(torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.1, "betas": (0.8, 0.9)}),
    "sgd": Optimizers(torch.optim.SGD, {"lr": 0.05}),
    "momentum": Optimizers(torch.optim.SGD, {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.01}),
    "nesterov": Optimizers(torch.optim.SGD, {"lr": 0.02, "momentum": 0.9, "nesterov": True}),
}


def perceptron(inputs: int, outputs: int, activation: Any = nn.Tanh, hidden: int = HIDDEN) -> Any:
    """Return a network of two hidden layers."""
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        activation(),
        nn.Sequential(nn.Linear(hidden, hidden), activation()),
        nn.Linear(hidden, outputs),
    )


def make_ppo(optimizers: Optimizers = ADAM, engine: str = "auto", **params: Any) -> Any:
    """Return PPO of one choice."""
    actor, critic = perceptron(4, NUM_ACTIONS), perceptron(4, 1)
    params = HyperparamSet(SIZES | params)
    optimizer = optimizers.of(actor, critic)
    return TorchPPOAgent(actor, critic, optimizer, params, device="cpu", engine=engine)


def make_masked_ppo(optimizers: Optimizers = ADAM, engine: str = "auto", **params: Any) -> Any:
    """Return PPO of one choice, some of which are not allowed."""
    return _masked(make_ppo(optimizers, engine, **params))


def make_ppo_of_choices(optimizers: Optimizers = ADAM, engine: str = "auto", **params: Any) -> Any:
    """Return PPO of several choices."""
    actor, critic = perceptron(4, sum(CHOICES), nn.ELU), perceptron(4, 1)
    params = HyperparamSet(SIZES | params)
    optimizer = optimizers.of(actor, critic)
    return TorchPPOAgent(
        actor, critic, optimizer, params, device="cpu", choices=CHOICES, engine=engine
    )


def make_gaussian_ppo(optimizers: Optimizers = ADAM, engine: str = "auto", **params: Any) -> Any:
    """Return PPO of continuous actions."""
    actor, critic = perceptron(4, 2 * ACTION_DIM), perceptron(4, 1)
    params = HyperparamSet(SIZES | params)
    optimizer = optimizers.of(actor, critic)
    return TorchGaussianPPOAgent(
        actor, critic, optimizer, ACTION_DIM, params, device="cpu", engine=engine
    )


def make_generic(optimizers: Optimizers = ADAM, engine: str = "auto", **params: Any) -> Any:
    """Return the plain policy gradient."""
    model = perceptron(4, NUM_ACTIONS)
    params = HyperparamSet(params)
    return TorchAgent(model, optimizers.of(model), params, device="cpu", engine=engine)


def make_dqn(optimizers: Optimizers = ADAM, engine: str = "auto", **params: Any) -> Any:
    """Return DQN."""
    network = perceptron(4, NUM_ACTIONS, nn.ReLU)
    params = HyperparamSet(REPLAY | {"target_update_freq": 8, "updates_per_step": 0.5} | params)
    optimizer = optimizers.of(network)
    return TorchDQNAgent(network, NUM_ACTIONS, optimizer, params, device="cpu", engine=engine)


def make_masked_dqn(optimizers: Optimizers = ADAM, engine: str = "auto", **params: Any) -> Any:
    """Return DQN, some of whose actions are not allowed."""
    return _masked(make_dqn(optimizers, engine, **params))


def make_sac(optimizers: Optimizers = ADAM, engine: str = "auto", **params: Any) -> Any:
    """Return SAC. Critics of one shape are stacked by PyTorch."""
    actor = perceptron(4, 2 * ACTION_DIM, nn.ReLU)
    with torch.no_grad():
        # Where draws saturate, the density loses its digits to cancellation, whoever computes it.
        actor[-1].bias[ACTION_DIM:] -= 1.5
    critics = [_flat_critic(), _flat_critic()]
    of_alpha = optimizers.kind([torch.zeros(1, requires_grad=True)], **optimizers.arguments)
    return TorchSACAgent(
        actor,
        *critics,
        ACTION_DIM,
        optimizers.of(actor),
        optimizers.of(*critics),
        of_alpha,
        HyperparamSet(REPLAY | {"tau": 0.1} | params),
        device="cpu",
        engine=engine,
    )


def make_td3(optimizers: Optimizers = ADAM, engine: str = "auto", **params: Any) -> Any:
    """Return TD3, the actor moving with every third update. The critics are of two shapes."""
    actor, critics = perceptron(4, ACTION_DIM, nn.SiLU), [_flat_critic(), _flat_critic(7)]
    return TorchTD3Agent(
        actor,
        *critics,
        ACTION_DIM,
        optimizers.of(actor),
        optimizers.of(*critics),
        HyperparamSet(REPLAY | {"tau": 0.1, "policy_delay": 3} | params),
        device="cpu",
        engine=engine,
    )


def _flat_critic(hidden: int = HIDDEN) -> nn.Sequential:
    layers = [nn.Linear(4 + ACTION_DIM, hidden), nn.ReLU(), nn.Linear(hidden, 1)]
    return nn.Sequential(*layers)


def _masked(agent: Any) -> Any:
    agent.check_spaces(MASKED, Discrete(NUM_ACTIONS))
    return agent


def masked_window(seed: int = 0) -> EpisodeData:
    """Return a window whose rows end with the masks by which its actions are allowed."""
    rng = np.random.default_rng(seed)

    def joined(observations: Array, actions: Array | None = None) -> Array:
        masks = rng.random((len(observations), NUM_ACTIONS)) < 0.6
        masks[np.arange(len(masks)), rng.integers(0, NUM_ACTIONS, len(masks))] = True
        if actions is not None:
            masks[np.arange(len(masks)), actions] = True
        return MASKED.joined(observations, masks)

    plain = make_window(seed=seed)
    assert plain.final_obs is not None
    assert plain.end_observations is not None
    return make_window(
        seed=seed,
        observations=joined(plain.observations, plain.actions),
        final_obs=joined(plain.final_obs),
        end_observations=joined(plain.end_observations),
        mask_size=NUM_ACTIONS,
    )


def continuous_window(seed: int = 0) -> EpisodeData:
    """Return a window of continuous actions."""
    return make_window(is_discrete=False, seed=seed)


class Case(NamedTuple):
    """An algorithm or a form of its loss, and windows for it."""

    make: Callable[..., Any]
    window: Callable[..., EpisodeData]
    params: Mapping[str, Any] = MappingProxyType({})


PRIORITISED = {"n_step": 3, "per_alpha": 0.6, "per_beta": 0.5}
CASES = {
    "ppo": Case(make_ppo, make_window),
    "ppo of choices": Case(make_ppo_of_choices, make_window_of_choices, {"entropy_coef": 0.1}),
    "masked ppo": Case(make_masked_ppo, masked_window),
    "gaussian ppo": Case(make_gaussian_ppo, continuous_window),
    "policy gradient": Case(make_generic, make_window),
    "dqn": Case(make_dqn, make_window),
    "masked dqn": Case(make_masked_dqn, masked_window),
    "prioritised dqn": Case(make_dqn, make_window, PRIORITISED),
    "sac": Case(make_sac, continuous_window),
    "prioritised sac": Case(make_sac, continuous_window, PRIORITISED),
    "td3": Case(make_td3, continuous_window),
    "prioritised td3": Case(make_td3, continuous_window, PRIORITISED),
}


class Pair(NamedTuple):
    """Agents with the same weights and seed, that learn by the two engines."""

    native: Any
    framework: Any

    def learn(self, window: EpisodeData) -> dict[str, Any]:
        """Let both learn from a window, and assert that they say the same of it."""
        return learned_alike(self.native, self.framework, window, 1e-6)

    def assert_same(self) -> None:
        """Assert that both have the same weights, targets and moments."""
        assert_close(*map(numbers_of, self), 1e-5)

    def assert_same_weights(self, within: float) -> None:
        """Assert that both have the same weights and targets."""
        assert_close(*map(weights_of, self), within)


def assert_close(ours: dict[str, Array], theirs: dict[str, Array], within: float) -> None:
    """Assert that arrays of the same names are the same, relatively and absolutely."""
    assert list(ours) == list(theirs)
    for name, expected in theirs.items():
        np.testing.assert_allclose(ours[name], expected, rtol=within, atol=within, err_msg=name)


def make_pair(case: Case, optimizers: Optimizers = ADAM, seed: int = 0, **params: Any) -> Pair:
    """Return agents of one kind that learn by the two engines."""
    agents = []
    for engine in ("native", "framework"):
        torch.manual_seed(seed)
        agent = case.make(optimizers, engine, **(case.params | params))
        agent.seed(seed)
        agents.append(agent)
    return Pair(*agents)


def weights_of(agent: Any) -> dict[str, Array]:
    """Return the weights of an agent's networks and targets by name."""
    networks = agent._networks | {name: pair[0] for name, pair in agent._targets.items()}
    return {
        f"{name} {number}": parameter.detach().numpy()
        for name, network in networks.items()
        for number, parameter in enumerate(network.parameters())
    }


def numbers_of(agent: Any) -> dict[str, Array]:
    """Return weights and moments by name."""
    found = weights_of(agent)
    for name, optimizer in agent._optimizers.items():
        for number, state in optimizer.state_dict()["state"].items():
            found |= {f"{name} {number} {key}": np.asarray(v) for key, v in state.items()}
    return found
