"""The native engine as a backend: the contract but for gradients, its optimizers, its refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tensor_optix.adapters.native import backend
from tensor_optix.adapters.native.optimizers import NativeAdam, NativeSGD
from tensor_optix.adapters.native.perceptron import NativeScalar, Perceptron
from tensor_optix.algorithms.native_ppo import NativePPOAgent
from tests.algorithms import small_ppo
from tests.contracts.backend_contract import FunctionsContract
from tests.frameworks import load

if TYPE_CHECKING:
    from pathlib import Path

    from tests.frameworks import Framework


class TestNativeBackend(FunctionsContract):
    @pytest.fixture
    def framework(self) -> Framework:
        return load("native")

    def test_inference_follows_the_weights(self, framework, ops):
        network, x = framework.perceptron((3, 2)), np.ones((4, 3), np.float32)
        forward = ops.inference(network, [network])
        before = forward(x)
        framework.set_weights(network, [2.0 * w for w in framework.weights(network)])
        np.testing.assert_allclose(forward(x), 2.0 * before, rtol=1e-6)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_a_weight_that_is_not_finite_is_found(self, framework, ops, bad):
        network = framework.perceptron((3, 4, 1))
        assert ops.all_finite(network)
        network.weights[-1][-1] = bad
        assert not ops.all_finite(network)
        healed = framework.perceptron((3, 4, 1))
        ops.blend(network, healed, 1.0)
        assert ops.all_finite(network)


@pytest.fixture(autouse=True)
def _engine() -> None:
    load("native")


def agent_of(optimizer: Any, **options: Any) -> NativePPOAgent:
    actor, critic = (Perceptron(4, outputs, (16,), seed=outputs) for outputs in (3, 1))
    return NativePPOAgent(actor, critic, optimizer, **options)


@pytest.mark.parametrize(
    "make",
    [
        lambda: NativeAdam(1e-3, betas=(0.8, 0.99), epsilon=1e-6),
        lambda: NativeSGD(1e-3),
        lambda: NativeSGD(1e-3, momentum=0.9),
    ],
    ids=["adam", "sgd", "momentum"],
)
def test_an_optimizer_is_stored_with_its_moments(make: Any, tmp_path: Path) -> None:
    agents = []
    for rate in (1e-3, 0.5):
        agent = agent_of(make())
        agent.seed(0)
        backend.set_learning_rate(agent._optimizers["optimizer"], rate)
        agents.append(agent)
    first, second = agents
    episode = small_ppo.make_episode()
    first.learn(episode)
    first.save_state(tmp_path)
    second.load_state(tmp_path)
    assert second._learning_rate() == 1e-3
    assert first.learn(episode) == second.learn(episode)


def test_an_optimizer_steps_as_the_one_of_pytorch_does() -> None:
    """Adam, on the same weights and windows."""
    pytorch, native = load("torch"), load("native")
    agents = [small_ppo.make_agent(framework=one, minibatch_size=32) for one in (pytorch, native)]
    episode = small_ppo.make_episode()
    for _ in range(3):
        ours, theirs = (agent.learn(episode) for agent in agents)
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)
    for got, expected in zip(*map(small_ppo.weights, agents), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)


def test_an_optimizer_belongs_to_the_networks_that_it_was_given_first() -> None:
    optimizer = NativeAdam(1e-3)
    agent_of(optimizer)
    with pytest.raises(
        ValueError, match="optimizer is that of other networks already: make a fresh"
    ):
        agent_of(optimizer)


def test_a_number_is_moved_in_its_own_memory() -> None:
    number = backend.scalar(2.0, NativeAdam(), Perceptron(1, 1))
    assert isinstance(number, NativeScalar)
    assert number().shape == ()
    number.number[0] = 3.0
    assert backend.number(number)() == 3.0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"learning_rate": -1.0}, "learning_rate must not be negative"),
        ({"betas": (1.5, 0.9)}, r"betas must be in \[0, 1\], got 1.5"),
        ({"epsilon": 0.0}, "epsilon must be above 0"),
    ],
)
def test_settings_out_of_range_are_refused(options: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        NativeAdam(**options)


def test_one_network_for_actor_and_critic_is_refused() -> None:
    network = Perceptron(4, 1, seed=0)
    with pytest.raises(ValueError, match="actor and the critic share weights"):
        NativePPOAgent(network, network, NativeAdam(1e-3))


def test_a_loss_of_ones_own_is_refused_with_what_it_needs() -> None:
    class Own(NativePPOAgent):
        def _loss(self, batch: Any, scalars: Any) -> Any:
            return super()._loss(batch, scalars)

    with pytest.raises(ValueError, match=r"subclass's own; PyTorch and TensorFlow train any"):
        Own(Perceptron(4, 3), Perceptron(4, 1), NativeAdam(1e-3))
    generic = load("native").Generic
    with pytest.raises(ValueError, match=r"compute_loss_fn; PyTorch and TensorFlow train any"):
        generic(Perceptron(4, 2), NativeAdam(1e-3), compute_loss_fn=lambda *_: 0.0)


def test_another_engine_is_refused_and_compiling_changes_nothing() -> None:
    with pytest.raises(ValueError, match="engine='framework' was asked for"):
        agent_of(NativeAdam(1e-3), engine="framework")
    assert agent_of(NativeAdam(1e-3), compile=True).engine_choice.name == "native"


def test_another_device_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'cuda' cannot be used: .* choose cpu or auto"):
        agent_of(NativeAdam(1e-3), device="cuda")


def test_gradients_of_anything_else_are_refused() -> None:
    descent = backend.gradient_descent(lambda b, s: (0.0, {}), {}, NativeAdam())
    with pytest.raises(NotImplementedError, match="need PyTorch or TensorFlow"):
        descent.step({}, {})
    with pytest.raises(NotImplementedError, match="need PyTorch or TensorFlow"):
        backend.update_loop(lambda b, s: ({}, {}), [])({}, 1, {})
