"""TensorFlow agents in pairs of one kind and seed: one learns by the native engine, one by TensorFlow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

from tensor_optix.algorithms.tf_agent import TFAgent
from tensor_optix.algorithms.tf_dqn import TFDQNAgent
from tensor_optix.algorithms.tf_ppo import TFPPOAgent
from tensor_optix.algorithms.tf_ppo_continuous import TFGaussianPPOAgent
from tensor_optix.algorithms.tf_sac import TFSACAgent
from tensor_optix.algorithms.tf_td3 import TFTD3Agent
from tensor_optix.core.types import HyperparamSet
from tests.parity.windows import (
    ACTION_DIM,
    CHOICES,
    NUM_ACTIONS,
    learned_alike,
    make_window,
    make_window_of_choices,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tensor_optix.core.types import Array, EpisodeData

REPLAY = {"batch_size": 16, "replay_capacity": 300, "learning_starts": 46, "updates_per_step": 0.5}
PASSES = {"n_epochs": 2, "minibatch_size": 16}
HIDDEN = 11
"""No multiple of what a vector holds."""


def perceptron(inputs: int, outputs: int, activation: str = "tanh") -> Any:
    """Return a network of two hidden layers, the second in a model of its own."""
    layers = keras.layers
    inner = keras.Sequential([keras.Input((HIDDEN,)), layers.Dense(HIDDEN, activation)])
    outer = [layers.Dense(HIDDEN), layers.Activation(activation), inner, layers.Dense(outputs)]
    return keras.Sequential([keras.Input((inputs,)), *outer])


def chain(inputs: int, outputs: int) -> Any:
    """Return a functional model of two layers."""
    rows = keras.Input((inputs,))
    hidden = keras.layers.ReLU()(keras.layers.Dense(HIDDEN, use_bias=False)(rows))
    return keras.Model(rows, keras.layers.Dense(outputs)(hidden))


def make_ppo(engine: str, optimizer: Callable[[], Any]) -> Any:
    """Return PPO of one choice."""
    networks = perceptron(4, NUM_ACTIONS), perceptron(4, 1)
    return TFPPOAgent(*networks, optimizer(), HyperparamSet(PASSES), engine=engine)


def make_ppo_of_choices(engine: str, optimizer: Callable[[], Any]) -> Any:
    """Return PPO of several choices."""
    networks = perceptron(4, sum(CHOICES), "elu"), perceptron(4, 1)
    params = HyperparamSet(PASSES)
    return TFPPOAgent(*networks, optimizer(), params, choices=CHOICES, engine=engine)


def make_gaussian_ppo(engine: str, optimizer: Callable[[], Any]) -> Any:
    """Return PPO of continuous actions."""
    networks = perceptron(4, 2 * ACTION_DIM), perceptron(4, 1)
    params = HyperparamSet(PASSES)
    return TFGaussianPPOAgent(*networks, optimizer(), ACTION_DIM, params, engine=engine)


def make_generic(engine: str, optimizer: Callable[[], Any]) -> Any:
    """Return the plain policy gradient."""
    return TFAgent(perceptron(4, NUM_ACTIONS), optimizer(), engine=engine)


def make_dqn(engine: str, optimizer: Callable[[], Any]) -> Any:
    """Return DQN."""
    params = HyperparamSet(REPLAY | {"target_update_freq": 8})
    return TFDQNAgent(chain(4, NUM_ACTIONS), NUM_ACTIONS, optimizer(), params, engine=engine)


def make_sac(engine: str, optimizer: Callable[[], Any]) -> Any:
    """Return SAC, whose alpha is learned by Adam."""
    actor = perceptron(4, 2 * ACTION_DIM, "relu")
    # Where draws saturate, the density loses its digits to cancellation, whoever computes it.
    kernel, bias = actor.layers[-1].variables
    kernel.assign(0.2 * kernel)
    bias.assign(np.repeat([0.0, -1.5], ACTION_DIM))
    critics = [chain(4 + ACTION_DIM, 1) for _ in range(2)]
    optimizers = optimizer(), optimizer(), adam()
    params = HyperparamSet(REPLAY | {"tau": 0.1})
    return TFSACAgent(actor, *critics, ACTION_DIM, *optimizers, params, engine=engine)


def make_td3(engine: str, optimizer: Callable[[], Any]) -> Any:
    """Return TD3, the actor moving with every third update."""
    actor, critics = perceptron(4, ACTION_DIM, "silu"), [chain(4 + ACTION_DIM, 1) for _ in range(2)]
    params = HyperparamSet(REPLAY | {"tau": 0.1, "policy_delay": 3})
    return TFTD3Agent(actor, *critics, ACTION_DIM, optimizer(), optimizer(), params, engine=engine)


def continuous_window(seed: int = 0) -> EpisodeData:
    """Return a window of continuous actions."""
    return make_window(is_discrete=False, seed=seed)


class Case(NamedTuple):
    """An algorithm, windows for it, and an optimizer: each kind has its turn."""

    make: Callable[..., Any]
    window: Callable[..., EpisodeData]
    optimizer: Callable[[], Any]


def adam() -> Any:
    """Return Adam."""
    return keras.optimizers.Adam(0.01)


CASES = {
    "ppo": Case(make_ppo, make_window, adam),
    "ppo of choices": Case(
        make_ppo_of_choices,
        make_window_of_choices,
        lambda: keras.optimizers.Adam(0.01, weight_decay=0.1),
    ),
    "gaussian ppo": Case(
        make_gaussian_ppo,
        continuous_window,
        lambda: keras.optimizers.SGD(0.02, momentum=0.9, nesterov=True),
    ),
    "policy gradient": Case(make_generic, make_window, lambda: keras.optimizers.SGD(0.05)),
    "dqn": Case(
        make_dqn,
        make_window,
        lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1, beta_1=0.8, epsilon=1e-5),
    ),
    # By Adam, rounding that is all that is left of terms which cancel would be a whole step.
    "sac": Case(make_sac, continuous_window, lambda: keras.optimizers.SGD(0.02, momentum=0.9)),
    "td3": Case(make_td3, continuous_window, lambda: keras.optimizers.SGD(0.02, momentum=0.9)),
}


class Pair(NamedTuple):
    """Agents with the same weights and seed, that learn by the two engines."""

    native: Any
    framework: Any

    def learn(self, window: EpisodeData) -> dict[str, Any]:
        """Let both learn from a window, and assert that they say the same of it and became the same."""
        ours = learned_alike(self.native, self.framework, window, 2e-6)
        mine, others = map(numbers_of, self)
        assert list(mine) == list(others)
        for name, expected in others.items():
            np.testing.assert_allclose(mine[name], expected, rtol=1e-5, atol=1e-5, err_msg=name)
        return ours


def make_pair(case: Case) -> Pair:
    """Return agents of one kind that learn by the two engines."""
    agents = []
    for engine in ("native", "framework"):
        keras.utils.set_random_seed(0)
        agent = case.make(engine, case.optimizer)
        agent.seed(0)
        agents.append(agent)
    return Pair(*agents)


def numbers_of(agent: Any) -> dict[str, Array]:
    """Return all variables of an agent's networks, targets and optimizers by name."""
    holders = agent._networks | {name: pair[0] for name, pair in agent._targets.items()}
    holders |= agent._optimizers
    return {
        f"{name} {number} {variable.name.split('_')[-1]}": np.array(variable.numpy())
        for name, holder in holders.items()
        for number, variable in enumerate(holder.variables)
    }
