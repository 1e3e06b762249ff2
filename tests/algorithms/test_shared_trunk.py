"""Actor and critic of PPO that share layers: these run once, step once, and stay shared."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from gymnasium.spaces import Box

from tensor_optix.algorithms.agent_factory import make_agent
from tensor_optix.core.types import HyperparamSet
from tests.algorithms.small_ppo import make_agent as make_agent_apart
from tests.algorithms.small_ppo import make_episode
from tests.algorithms.test_agent_factory import CHOICE, FORCE, Spaces
from tests.algorithms.test_byte_divisors import PLANES, Codes, divisors, learn

if TYPE_CHECKING:
    from pathlib import Path

    from tests.frameworks import Framework

ONE_UPDATE = {"n_epochs": 1, "minibatch_size": 128}
IMAGES = Box(0, 255, (2, 8, 8), np.uint8)
FORMS = ("nested", "flat", "mixed", "graph")


def make(framework: Framework, form: str = "nested", compile: bool = False, **params: Any) -> Any:
    actor, critic = framework.with_trunk((4, 8), (3, 1), form)
    agent = framework.PPO(
        actor, critic, framework.sgd(0.1, actor, critic), HyperparamSet(params), device="cpu",
        compile=compile,
    )  # fmt: skip
    agent.seed(0)
    return agent


def arrays(framework: Framework, agent: Any) -> list[np.ndarray]:
    return [*framework.weights(agent._actor), *framework.weights(agent._critic)]


def assert_shares(framework: Framework, agent: Any) -> None:
    """The critic's trunk follows the actor's."""
    before = framework.weights(agent._actor)
    framework.set_weights(agent._actor, [array + 1.0 for array in before])
    for ours, theirs, old in zip(
        framework.weights(agent._actor)[:2], framework.weights(agent._critic)[:2], before,
        strict=False,
    ):  # fmt: skip
        np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_array_equal(ours, old + 1.0)
    framework.set_weights(agent._actor, before)


@pytest.mark.needs_a_framework
@pytest.mark.parametrize("form", FORMS)
def test_an_update_is_that_of_two_passes(framework: Framework, form: str) -> None:
    once, twice = (make(framework, form, **ONE_UPDATE) for _ in range(2))
    assert once.ops.shared(once._actor, once._critic) is not None
    twice._outputs_and_values = twice._two_passes
    for _ in range(3):
        ours, theirs = once.learn(make_episode()), twice.learn(make_episode())
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)
    for one, other in zip(arrays(framework, once), arrays(framework, twice), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_compiled_update_is_the_eager_one(torch_framework: Framework) -> None:
    found = []
    for is_compiled in (False, True):
        agent = make(torch_framework, compile=is_compiled, minibatch_size=32)
        agent.learn(make_episode())
        found.append(arrays(torch_framework, agent))
    for eager, compiled in zip(*found, strict=True):
        np.testing.assert_allclose(compiled, eager, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("form", FORMS[:3])
def test_the_trunk_is_called_once_for_each_pass_over_both(
    torch_framework: Framework, form: str
) -> None:
    agent: Any = make(torch_framework, form, n_epochs=2, minibatch_size=64)
    first = next(m for m in agent._actor.modules() if hasattr(m, "weight"))
    calls: list[int] = []
    first.register_forward_hook(lambda module, given, out: calls.append(len(out)))
    episode = make_episode()
    agent.learn(episode)
    # Values and log-probabilities of the window, the value of what comes after it, four updates.
    assert calls == [128, 1, 64, 64, 64, 64]


@pytest.mark.parametrize("form", FORMS)
def test_a_graph_computes_the_trunk_once(tensorflow_framework: Framework, form: str) -> None:
    import tensorflow as tf

    agent: Any = make(tensorflow_framework, form)
    graph = tf.function(agent._outputs_and_values).get_concrete_function(tf.zeros([5, 4])).graph
    products = [op for op in graph.get_operations() if op.type == "MatMul"]
    assert len(products) == 3, "one of the trunk and one of each head"


def test_what_has_hooks_is_called_as_it_is(torch_framework: Framework) -> None:
    """They may change what comes out."""
    agent: Any = make(torch_framework)
    networks = agent._actor, agent._critic
    networks[1].register_forward_hook(lambda module, given, out: 2.0 * out)
    assert agent.ops.shared(*networks) is None


def test_what_comes_behind_may_work_in_place(torch_framework: Framework) -> None:
    import torch
    from torch import nn

    trunk, head = nn.Linear(4, 3), nn.Linear(3, 1)
    networks = nn.Sequential(trunk, nn.ReLU(inplace=True)), nn.Sequential(trunk, head)
    both: Any = torch_framework.backend.shared(*networks)
    x = torch.randn(7, 4)
    for ours, network in zip(both(x), networks, strict=True):
        torch.testing.assert_close(ours, network(x))


@pytest.mark.needs_a_framework
def test_layers_without_weights_are_not_worth_it(framework: Framework) -> None:
    actor, critic = (framework.perceptron((4, 5, 2), seed) for seed in range(2))
    assert framework.backend.shared(actor, critic) is None


def test_models_of_the_users_own_class_are_called_apart(tensorflow_framework: Framework) -> None:
    import keras

    trunk = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)])

    class Own(keras.Model):  # type: ignore[misc]
        def __init__(self, outputs: int) -> None:
            super().__init__()
            self.trunk, self.head = trunk, keras.layers.Dense(outputs)

        def call(self, x: Any) -> Any:
            return self.head(self.trunk(x))

    actor, critic = Own(3), Own(1)
    agent = tensorflow_framework.PPO(actor, critic, keras.optimizers.SGD(0.1))
    assert agent.learn(make_episode())["n_updates"] > 0


def test_models_that_get_their_variables_from_observations(tensorflow_framework: Framework) -> None:
    import keras

    trunk = keras.layers.Dense(8, "tanh")
    actor, critic = (keras.Sequential([trunk, keras.layers.Dense(n)]) for n in (3, 1))
    agent: Any = tensorflow_framework.PPO(actor, critic, keras.optimizers.SGD(0.1))
    agent.learn(make_episode())
    assert len({id(v) for network in (actor, critic) for v in network.variables}) == 6
    assert agent._epoch.trace_count == 1


@pytest.mark.needs_a_framework
@pytest.mark.parametrize("form", FORMS)
def test_a_trunk_stays_shared_in_copies_and_files(
    framework: Framework, form: str, tmp_path: Path
) -> None:
    agent = make(framework, form)
    agent.learn(make_episode())
    agent.save_state(tmp_path)
    other = make(framework, form)
    other.load_state(tmp_path)
    averaged = make(framework, form)
    averaged.average_weights([tmp_path, tmp_path])
    copied = copy.deepcopy(agent)
    for one in (other, averaged, copied):
        for ours, theirs in zip(arrays(framework, one), arrays(framework, agent), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6)
        assert_shares(framework, one)
    assert copied.learn(make_episode()) == agent.learn(make_episode())


@pytest.mark.needs_a_framework
def test_noise_is_put_on_a_trunk_once(framework: Framework) -> None:
    agent, alone = make(framework), make(framework)
    seed = int(copy.deepcopy(alone._rng).integers(2**63))
    before = framework.weights(agent._critic)[-2]
    agent.perturb_weights(0.1)
    framework.backend.perturb_network(alone._actor, 0.1, seed)
    ours, theirs = framework.weights(agent._actor), framework.weights(alone._actor)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)
    assert (framework.weights(agent._critic)[-2] != before).all()


@pytest.mark.needs_a_framework
def test_files_of_two_networks_are_not_loaded_into_one_trunk(
    framework: Framework, tmp_path: Path
) -> None:
    make_apart(framework).save_weights(tmp_path)
    agent = make(framework)
    before = arrays(framework, agent)
    for load in (agent.load_weights, lambda path: agent.average_weights([path])):
        with pytest.raises(ValueError, match="stored actor and critic have different values of"):
            load(tmp_path)
    for ours, theirs in zip(arrays(framework, agent), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def make_apart(framework: Framework) -> Any:
    """Return an agent of the same shapes whose networks share nothing."""
    networks = [framework.with_trunk((4, 8), (outputs,), seed=outputs)[0] for outputs in (3, 1)]
    return framework.PPO(*networks, framework.sgd(0.1, *networks))


@pytest.mark.needs_a_framework
@pytest.mark.parametrize("actions", [CHOICE, FORCE], ids=str)
def test_ready_made_agents_of_images_have_one_trunk(framework: Framework, actions: Any) -> None:
    agent: Any = make_agent(
        Spaces(IMAGES, actions), "ppo", framework.name, hidden_sizes=(8,), seed=1, device="cpu"
    )
    assert agent.ops.shared(agent._actor, agent._critic) is not None
    actor, critic = (framework.weights(network) for network in (agent._actor, agent._critic))
    assert len(actor) == len(critic)
    for ours, theirs in zip(actor[:-2], critic[:-2], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    # The last layers are orthogonal, of gain 0.01 and 1.
    assert np.linalg.norm(actor[-2], axis=0).max() == pytest.approx(0.01, rel=1e-4)
    assert np.linalg.norm(critic[-2]) == pytest.approx(1.0, rel=1e-4)


def test_ready_made_agents_of_vectors_have_two_networks(framework: Framework) -> None:
    agent: Any = make_agent(Spaces(Box(-1.0, 1.0, (4,)), CHOICE), "ppo", framework.name)
    assert agent.ops.shared(agent._actor, agent._critic) is None


@pytest.mark.needs_a_framework
def test_a_shared_trunk_has_one_divisor_of_bytes(framework: Framework) -> None:
    env = Codes(PLANES)
    agent: Any = make_agent(env, "ppo", framework.name, hidden_sizes=(8,), seed=1, device="cpu")
    scales = [agent.ops.byte_scale(network) for network in (agent._actor, agent._critic)]
    assert scales[0] is scales[1]
    learn(agent, env)
    assert divisors(agent) == [[10]] * 2


@pytest.mark.needs_a_framework
def test_masks_count_in_both_ways_to_the_outputs(framework: Framework) -> None:
    """What `act` sees of masks, the loss and the log-probabilities at the start of `learn` see, too."""
    agent = make(framework)
    episode = make_episode()
    masks = np.ones((len(episode.observations), 3), bool)
    masks[:, 2] = False
    actions = np.zeros(len(masks), np.int64)
    log_probs, values = agent._log_probs_and_values(episode.observations, actions, masks)
    np.testing.assert_allclose(log_probs, agent._log_probs(episode.observations, actions, masks),
                               rtol=1e-5)  # fmt: skip
    np.testing.assert_allclose(values, agent._values(episode.observations), rtol=1e-4, atol=1e-6)
    assert (log_probs > agent._log_probs(episode.observations, actions)).all()


def test_who_shares_nothing_makes_two_passes(framework: Framework) -> None:
    agent = make_agent_apart(framework=framework)
    assert agent._outputs_and_values == agent._two_passes
    assert agent._log_probs_and_values == agent._judged_apart
