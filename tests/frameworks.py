"""The frameworks as tests see them: the same networks, optimizers and agents from each, NumPy in and out.

A name goes in, a `Framework` comes out. Networks of one seed have the same weights in all of them.
"""

from __future__ import annotations

import functools
import importlib
import itertools
from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tensor_optix.algorithms.frameworks import FRAMEWORKS
from tensor_optix.algorithms.network_agent import NetworkAgent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NAMES = ("torch", "tensorflow", "native")


class Framework(ABC):
    """What a test needs of a framework."""

    name: str
    adapter: str
    """Its package within `tensor_optix.adapters`."""
    prefix: str
    """What its modules in `tensor_optix.algorithms` begin with."""
    classes: str
    """What the names of its agents begin with."""

    def __init__(self) -> None:
        self.backend = importlib.import_module(f"tensor_optix.adapters.{self.adapter}.backend")
        self.PPO = self._agent("ppo", "PPOAgent")
        self.GaussianPPO = self._agent("ppo_continuous", "GaussianPPOAgent")
        self.DQN = self._agent("dqn", "DQNAgent")
        self.SAC = self._agent("sac", "SACAgent")
        self.TD3 = self._agent("td3", "TD3Agent")
        self.Generic = self._agent("agent", "Agent")

    def __repr__(self) -> str:
        return self.name

    def perceptron(
        self,
        sizes: Sequence[int],
        seed: int = 0,
        obs_shape: tuple[int, ...] | None = None,
        scale: float = 1.0,
    ) -> Any:
        """Return `[B, sizes[0]]` to `[B, sizes[-1]]`, with tanh between layers.

        With `obs_shape`, it takes `[B, *obs_shape]` and multiplies it by `scale`.
        """
        network = self._layers(sizes, obs_shape, scale)
        self.set_weights(network, _initial(sizes, seed))
        return network

    def image_critic(
        self, obs_shape: tuple[int, ...], action_dim: int, hidden: int = 16, seed: int = 0,
        scale: float = 1.0,
    ) -> Any:  # fmt: skip
        """Return a critic of observations that are no vectors: `(observations, actions)` to `[B, 1]`."""
        sizes = (int(np.prod(obs_shape)) + action_dim, hidden, 1)
        network = self._critic_of_two(sizes, scale)
        self.set_weights(network, _initial(sizes, seed))
        return network

    @abstractmethod
    def with_trunk(
        self, sizes: tuple[int, int], outputs: Sequence[int], form: str = "nested", seed: int = 0
    ) -> list[Any]:
        """Return a network of `[B, sizes[0]]` for each number of outputs, with a common tanh layer.

        That is in a sequence of its own (`nested`), beside the heads (`flat`), in the one network thus and in
        the other so (`mixed`), or where the framework has graphs of layers, in such (`graph`).
        """

    @abstractmethod
    def two_headed(self, inputs: int, actions: int) -> Any:
        """Return a network of `[B, inputs]` with two outputs: logits `[B, actions]`, values `[B, 1]`."""

    @abstractmethod
    def adam(self, rate: float, *networks: Any) -> Any:
        """Return an optimizer of these networks."""

    @abstractmethod
    def sgd(self, rate: float, *networks: Any) -> Any:
        """Return plain gradient descent of these networks."""

    @abstractmethod
    def number_adam(self, rate: float) -> Any:
        """Return an optimizer of a single number."""

    @abstractmethod
    def number_sgd(self, rate: float) -> Any:
        """Return plain gradient descent of a single number."""

    @abstractmethod
    def weights(self, network: Any) -> list[np.ndarray]:
        """Return copies of what a network learns, matrices as `[in, out]`."""

    @abstractmethod
    def set_weights(self, network: Any, arrays: Sequence[np.ndarray]) -> None:
        """Put in what `weights` returns."""

    @abstractmethod
    def batch_norm(self, features: int) -> Any:
        """Return a network that has running statistics, which no gradient changes."""

    @abstractmethod
    def set_running_mean(self, network: Any, value: float) -> None:
        """Change such a statistic."""

    @abstractmethod
    def running_mean(self, network: Any) -> np.ndarray:
        """Return it."""

    @abstractmethod
    def tensor(self, array: Any) -> Any:
        """Return an array as a tensor; floats as float32."""

    @abstractmethod
    def array(self, tensor: Any) -> np.ndarray:
        """Return a copy of a tensor as an array."""

    def call(self, network: Any, *arrays: Any) -> np.ndarray:
        """Return what a network makes of arrays."""
        return self.array(network(*map(self.tensor, arrays)))

    def tensors(self, arrays: dict[str, Any]) -> dict[str, Any]:
        return {name: self.tensor(array) for name, array in arrays.items()}

    @abstractmethod
    def _layers(self, sizes: Sequence[int], obs_shape: Any, scale: float) -> Any: ...

    @abstractmethod
    def _critic_of_two(self, sizes: Sequence[int], scale: float) -> Any: ...

    def _agent(self, module: str, name: str) -> type[Any]:
        found = importlib.import_module(f"tensor_optix.algorithms.{self.prefix}_{module}")
        agent: type[Any] = getattr(found, self.classes + name)
        return agent


def require(name: str) -> None:
    """Skip the test that asks for a framework where it is not installed."""
    if not FRAMEWORKS[name].is_installed:
        pytest.skip(f"{name} is not installed")


@functools.cache
def load(name: str) -> Framework:
    """Return a framework; the test that asks for it is skipped where it is not installed."""
    require(name)
    module = importlib.import_module(f"tests.{name}_framework")
    found: Framework = module.FRAMEWORK()
    return found


def weights(network: Any) -> list[np.ndarray]:
    """Return copies of what a network of any framework learns, matrices as `[in, out]`."""
    modules = [base.__module__ for base in type(network).__mro__]
    if any(module.startswith("tensor_optix.adapters.native") for module in modules):
        return load("native").weights(network)
    is_torch = any(module.partition(".")[0] == "torch" for module in modules)
    return load("torch" if is_torch else "tensorflow").weights(network)


def _initial(sizes: Sequence[int], seed: int) -> list[np.ndarray]:
    """Return weights and biases, drawn as PyTorch draws those of a layer."""
    rng = np.random.default_rng(seed)
    found = []
    for inputs, outputs in itertools.pairwise(sizes):
        bound = 1.0 / np.sqrt(inputs)
        found += [rng.uniform(-bound, bound, shape) for shape in ((inputs, outputs), (outputs,))]
    return [array.astype(np.float32) for array in found]


def single(array: Any) -> np.ndarray:
    """Return an array that both frameworks take as it is: float64 as float32."""
    found = np.ascontiguousarray(array)
    return found.astype(np.float32) if found.dtype == np.float64 else found


@contextmanager
def framework_engine() -> Iterator[None]:
    """Within it, agents are made whose updates are the framework's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NetworkAgent, "_native", _refused)
        yield


def _refused(agent: Any, make: Any) -> None:
    agent.engine_choice = agent._framework_choice("a test asked for it")
