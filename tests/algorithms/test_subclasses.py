"""Subclasses of ready-made agents: what they override is heard, and may call what it overrides."""

from __future__ import annotations

import tempfile
from typing import Any

import gymnasium
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn

from tensor_optix import RLOptimizer, VectorBatchPipeline
from tensor_optix.algorithms.torch_dqn import TorchDQNAgent
from tensor_optix.algorithms.torch_ppo import TorchPPOAgent
from tensor_optix.core.types import HyperparamSet

OBSERVATIONS = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)


def ppo_of(kind: type[TorchPPOAgent]) -> TorchPPOAgent:
    networks = nn.Linear(4, 3), nn.Linear(4, 1)
    return kind(*networks, torch.optim.Adam([p for net in networks for p in net.parameters()]))


def dqn_of(kind: type[TorchDQNAgent]) -> TorchDQNAgent:
    network = nn.Linear(4, 3)
    return kind(network, 3, torch.optim.Adam(network.parameters()))


PARENTS = pytest.mark.parametrize(
    ("parent", "make"), [(TorchPPOAgent, ppo_of), (TorchDQNAgent, dqn_of)], ids=["ppo", "dqn"]
)


def test_a_subclass_that_overrides_act_is_asked_for_batches_too():
    class Always(TorchPPOAgent):
        def act(self, observation: Any) -> int:
            assert self._actor is not None
            return 1

    networks = nn.Linear(4, 3), nn.Linear(4, 1)
    optimizer = torch.optim.Adam([p for net in networks for p in net.parameters()])
    agent = Always(*networks, optimizer)
    observations = np.zeros((5, 4), np.float32)
    np.testing.assert_array_equal(agent.act_batch(observations), np.ones(5))
    np.testing.assert_array_equal(agent.act_greedy(observations), np.ones(5))


def test_act_may_be_overridden_by_a_mixin():
    class Ones:
        def act(self, observation: Any) -> int:
            return 1

    class Mixed(Ones, TorchPPOAgent):
        pass

    networks = nn.Linear(4, 3), nn.Linear(4, 1)
    optimizer = torch.optim.Adam([p for net in networks for p in net.parameters()])
    agent = Mixed(*networks, optimizer)
    np.testing.assert_array_equal(agent.act_batch(np.zeros((5, 4), np.float32)), np.ones(5))


@PARENTS
def test_an_overridden_act_may_call_the_one_that_it_overrides(parent, make):
    class Shifted(parent):
        def act(self, observation: Any) -> int:
            return 10 + super().act(observation)

    agent = make(Shifted)
    assert agent.act(OBSERVATIONS[0]) in (10, 11, 12)
    for actions in (agent.act_batch(OBSERVATIONS), agent.act_greedy(OBSERVATIONS)):
        assert set(actions.tolist()) <= {10, 11, 12}
    with pytest.raises(NotImplementedError, match="does not tell action probabilities"):
        agent.action_probs(OBSERVATIONS)


@PARENTS
def test_overridden_batches_are_what_a_single_action_follows(parent, make):
    class Shifted(parent):
        def act_batch(self, observations: Any) -> Any:
            return 10 + super().act_batch(observations)

    agent = make(Shifted)
    assert set(agent.act_batch(OBSERVATIONS).tolist()) <= {10, 11, 12}
    assert agent.act(OBSERVATIONS[0]) in (10, 11, 12)
    assert set(agent.act_greedy(OBSERVATIONS).tolist()) <= {0, 1, 2}


@PARENTS
def test_who_overrides_both_is_asked_for_each(parent, make):
    calls = []

    class Counted(parent):
        def act(self, observation: Any) -> int:
            calls.append("act")
            return super().act(observation)

        def act_batch(self, observations: Any) -> Any:
            calls.append("act_batch")
            return super().act_batch(observations)

    agent = make(Counted)
    agent.act_batch(OBSERVATIONS)
    agent.act(OBSERVATIONS[0])
    assert calls == ["act_batch", "act"]


def test_epsilon_greedy_goes_by_an_overridden_greedy_action():
    class Zeros(TorchDQNAgent):
        def act_greedy(self, observations: Any) -> Any:
            return np.zeros(len(observations), np.int64)

    agent = dqn_of(Zeros)
    agent.set_hyperparams(HyperparamSet({"epsilon": 0.0}))
    assert set(agent.act_batch(OBSERVATIONS).tolist()) == {0}
    np.testing.assert_array_equal(agent.action_probs(OBSERVATIONS)[:, 0], np.ones(50))


def play(agent: Any, windows: int = 3) -> RLOptimizer:
    pipeline = VectorBatchPipeline([lambda: gymnasium.make("CartPole-v1")] * 2, agent, 40)
    with tempfile.TemporaryDirectory() as directory:
        run = RLOptimizer(agent, pipeline, checkpoint_dir=directory, max_episodes=windows)
        run.run()
    return run


@pytest.mark.needs_a_framework
def test_who_acts_and_learns_brings_any_model(framework):
    learned = []

    class OwnWay(framework.Generic):
        def act(self, observation: Any) -> int:
            logits, value = self.model(framework.tensor(observation[None]))
            assert tuple(value.shape) == (1, 1)
            return int(framework.array(logits)[0].argmax())

        def learn(self, episode_data: Any) -> None:
            params = self._hyperparams.params
            learned.append((params["clip_ratio"], params["entropy_coeff"], params["learning_rate"]))

    model = framework.two_headed(4, 2)
    params = HyperparamSet({"clip_ratio": 0.2, "entropy_coeff": 0.01, "learning_rate": 3e-4})
    agent = OwnWay(model, framework.adam(1e-3, model), params)
    play(agent)
    assert learned[0] == (0.2, 0.01, pytest.approx(3e-4))
    agent.set_hyperparams(HyperparamSet({"learning_rate": 0.02}))
    agent.learn(None)
    assert learned[-1] == (0.2, 0.01, pytest.approx(0.02))


@pytest.mark.needs_a_framework
def test_who_acts_and_brings_a_loss_may_have_two_heads(framework):
    ops = framework.backend

    class OwnAct(framework.Generic):
        def act(self, observation: Any) -> int:
            return int(framework.array(self.model(framework.tensor(observation[None]))[0]).argmax())

    def loss(model: Any, episode: Any, targets: Any) -> Any:
        logits, values = model(framework.tensor(episode.observations))
        return ops.mean(ops.square(logits)) + ops.mean(ops.square(values))

    model = framework.two_headed(4, 2)
    agent = OwnAct(model, framework.adam(1e-3, model), compute_loss_fn=loss)
    play(agent)


@pytest.mark.needs_a_framework
@pytest.mark.parametrize("own", ["act", "learn"])
def test_what_the_library_does_with_a_model_is_tried_beforehand(framework, own):
    body = {"act": lambda self, observation: 0, "learn": lambda self, episode_data: {}}
    kind = type("Half", (framework.Generic,), {own: body[own]})
    model = framework.two_headed(4, 2)
    agent = kind(model, framework.adam(1e-3, model))
    with pytest.raises(ValueError, match="a network must return one tensor, got"):
        play(agent)


def test_any_algorithm_leaves_the_networks_of_such_a_subclass_alone():
    class OwnWay(TorchPPOAgent):
        def act(self, observation: Any) -> int:
            logits, _ = self._actor(torch.from_numpy(observation[None]))
            return int(logits.argmax())

        def learn(self, episode_data: Any) -> dict[str, Any]:
            return {"loss": 0.0}

    class Recurrent(nn.Linear):
        def forward(self, x: Any) -> Any:
            return super().forward(x), torch.zeros(1)

    actor, critic = Recurrent(4, 2), nn.Linear(7, 1)
    agent = OwnWay(actor, critic, torch.optim.Adam([*actor.parameters(), *critic.parameters()]))
    play(agent)
