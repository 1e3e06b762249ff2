"""What the native engine takes of Keras, and why it leaves the rest to TensorFlow: at first, and later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

import keras

from tensor_optix.adapters.tensorflow import views
from tensor_optix.algorithms.tf_agent import TFAgent
from tensor_optix.algorithms.tf_dqn import TFDQNAgent
from tensor_optix.algorithms.tf_ppo import TFPPOAgent
from tensor_optix.core.types import HyperparamSet
from tensor_optix.kernels import engine
from tests.adapters.keras_models import ACTIONS, MODELS, OBS, make_episode

if TYPE_CHECKING:
    from collections.abc import Callable

if not engine.has_engine:
    pytest.skip("the compiled kernels are not there", allow_module_level=True)

layers = keras.layers


def perceptron(*inside: Any, outputs: int = ACTIONS, **last: Any) -> Any:
    inside = inside or (layers.Dense(8, "tanh"),)
    return keras.Sequential([keras.Input((OBS,)), *inside, layers.Dense(outputs, **last)])


def dqn(model: Any, optimizer: Any = None, engine: Any = "auto") -> Any:
    params = {"batch_size": 8, "replay_capacity": 100}
    optimizer = keras.optimizers.Adam(0.01) if optimizer is None else optimizer
    agent = TFDQNAgent(model, ACTIONS, optimizer, HyperparamSet(params), engine=engine)
    agent.seed(0)
    return agent


def branched() -> Any:
    rows = keras.Input((OBS,))
    hidden = layers.Dense(8)(rows)
    return keras.Model(rows, layers.Dense(ACTIONS)(layers.Add()([hidden, hidden])))


def skipping() -> Any:
    rows = keras.Input((OBS,))
    layers.Dense(8)(rows)
    head = layers.Dense(ACTIONS)
    head(layers.Dense(OBS)(rows))
    return keras.Model(rows, head(rows))


def of_integers() -> Any:
    rows = keras.Input((OBS,), dtype="int64")
    return keras.Sequential([rows, layers.Flatten(), layers.Dense(ACTIONS)])


def with_own_call() -> Any:
    model = perceptron()
    model.layers[0].call = lambda rows: tf.zeros([len(rows), 8])
    return model


def with_low_rank_steps() -> Any:
    model = perceptron()
    model.layers[0].enable_lora(2)
    return model


NETWORKS: dict[str, tuple[Callable[[], Any], str]] = {
    "subclassed": (MODELS["subclassed"], "the q_network has no variables yet"),
    "unbuilt": (MODELS["unbuilt"], "the q_network has no variables yet"),
    "batch norm": (MODELS["batch norm"], "has a BatchNormalization layer"),
    "dropout": (MODELS["dropout"], "has a Dropout layer"),
    "branched": (branched, "layers that do not simply follow one another"),
    "called twice": (skipping, "layers that do not simply follow one another"),
    "gelu": (lambda: perceptron(layers.Dense(8, "gelu")), "has the activation gelu"),
    "own activation": (
        lambda: perceptron(layers.Dense(8, lambda x: 2.0 * x)),
        "has the activation <lambda>",
    ),
    "leaky relu": (
        lambda: perceptron(layers.Dense(8), layers.ReLU(negative_slope=0.1)),
        "has a ReLU layer",
    ),
    "steep elu": (lambda: perceptron(layers.Dense(8), layers.ELU(2.0)), "has a ELU layer"),
    "two activations": (
        lambda: perceptron(layers.Dense(8, "tanh"), layers.Activation("relu")),
        "has a Activation layer",
    ),
    "half precision": (lambda: perceptron(dtype="bfloat16"), "computes in bfloat16"),
    "mixed precision": (lambda: perceptron(dtype="mixed_bfloat16"), "computes in bfloat16"),
    "double precision": (lambda: perceptron(dtype="float64"), "computes in float64"),
    "of integers": (of_integers, "the q_network takes int64"),
    "own call": (with_own_call, "has a layer with a call of its own"),
    "low-rank steps": (with_low_rank_steps, "has other variables than those of its Dense layers"),
    "constraint": (
        lambda: perceptron(kernel_constraint=keras.constraints.MaxNorm(1.0)),
        "holds variables with constraints",
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_other_networks_are_tensorflow_s(name):
    make, reason = NETWORKS[name]
    agent = dqn(make())
    assert agent.engine_choice.name == "framework"
    assert reason in agent.engine_choice.reason
    assert str(agent.engine_choice) == f"TensorFlow, as {agent.engine_choice.reason}"


class OwnAdam(keras.optimizers.Adam):  # type: ignore[misc]
    """An Adam that does something else."""


def halving() -> Any:
    return keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5)


def without_decay_of_biases() -> Any:
    optimizer = keras.optimizers.AdamW(0.01)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


adam, sgd = keras.optimizers.Adam, keras.optimizers.SGD
OPTIMIZERS: dict[str, tuple[Callable[[], Any], str]] = {
    "RMSprop": (keras.optimizers.RMSprop, "the optimizer is a RMSprop"),
    "subclass": (OwnAdam, "the optimizer is a OwnAdam"),
    "amsgrad": (lambda: adam(amsgrad=True), "has amsgrad=True"),
    "clipnorm": (lambda: adam(clipnorm=1.0), "has clipnorm=1.0"),
    "clipvalue": (lambda: adam(clipvalue=1.0), "has clipvalue=1.0"),
    "global clipnorm": (lambda: sgd(global_clipnorm=1.0), "has global_clipnorm=1.0"),
    "moving average": (lambda: adam(use_ema=True), "has use_ema=True"),
    "accumulation": (
        lambda: adam(gradient_accumulation_steps=2),
        "has gradient_accumulation_steps=2",
    ),
    "schedule": (lambda: adam(halving()), "follows a schedule that moves with every update"),
    "function": (lambda: adam(lambda: 0.1), "follows a schedule that moves with every update"),
    "decay of SGD": (lambda: sgd(0.1, weight_decay=0.1), "decays weights in a way of its own"),
    "some decay": (without_decay_of_biases, "decays weights in a way of its own"),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_other_optimizers_are_tensorflow_s(name):
    make, reason = OPTIMIZERS[name]
    agent = dqn(perceptron(), make())
    assert agent.engine_choice.name == "framework"
    assert reason in agent.engine_choice.reason


def frozen() -> Any:
    model = perceptron(layers.Dense(8), layers.Dense(8))
    model.layers[0].trainable = False
    return dqn(model)


def shared_layer() -> Any:
    layer = layers.Dense(OBS)
    return dqn(perceptron(layer, layer))


def shared_trunk() -> Any:
    trunk = layers.Dense(8)
    return TFPPOAgent(perceptron(trunk), perceptron(trunk, outputs=1), adam())


def own_loss() -> Any:
    return TFAgent(perceptron(), adam(), compute_loss_fn=lambda model, *_: model.losses)


AGENTS: dict[str, tuple[Callable[[], Any], str]] = {
    "frozen": (frozen, "holds frozen variables"),
    "a layer twice": (shared_layer, "the q_network has"),
    "a shared trunk": (shared_trunk, "the actor and the critic share weights"),
    "compute_loss_fn": (own_loss, "the loss is compute_loss_fn"),
    "asked for": (lambda: dqn(perceptron(), engine="framework"), "'framework' was asked for"),
}


@pytest.mark.parametrize("name", AGENTS)
def test_other_agents_are_tensorflow_s(name):
    make, reason = AGENTS[name]
    agent = make()
    assert agent.engine_choice.name == "framework"
    assert reason in agent.engine_choice.reason


def in_a_chain() -> Any:
    rows = keras.Input((2, 2))
    hidden = layers.ELU()(layers.Dense(8)(layers.Flatten()(rows)))
    return keras.Model(rows, layers.Dense(ACTIONS)(layers.Identity()(hidden)))


@pytest.mark.parametrize("make", [perceptron, in_a_chain])
def test_perceptrons_are_the_engine_s(make):
    agent = dqn(make())
    assert str(agent.engine_choice) == f"the native engine ({engine.instructions()})"
    rows = np.ones((3, *agent._q_network.input_shape[1:]), np.float32)
    np.testing.assert_allclose(agent._values(rows), agent._q_network(rows), rtol=1e-5)


def test_what_is_impossible_is_refused_where_it_was_asked_for():
    with pytest.raises(
        ValueError, match="engine='native' is not possible, as the optimizer has cl"
    ):
        dqn(perceptron(), adam(clipnorm=1.0), engine="native")


def test_many_weights_are_tensorflow_s_but_where_the_engine_was_asked_for(monkeypatch):
    monkeypatch.setattr(views, "SMALL_NETWORKS", 50)
    assert "58 weights are more than the 50" in dqn(perceptron()).engine_choice.reason
    assert dqn(perceptron(), engine="native").engine_choice.name == "native"


def of(agent: Any) -> Any:
    return agent._optimizers["optimizer"]


def another_activation(agent: Any) -> None:
    agent._q_network.layers[0].activation = keras.activations.relu


def follow_schedule(agent: Any) -> None:
    of(agent).learning_rate = halving()


def freeze(agent: Any) -> None:
    agent._q_network.trainable = False


LATER: dict[str, tuple[Callable[[Any], None], str]] = {
    "another activation": (another_activation, "was given other layers or variables"),
    "one layer more": (
        lambda agent: agent._q_network.add(layers.Activation("tanh")),
        "was given other layers or variables",
    ),
    "frozen": (freeze, "holds frozen variables"),
    "clipping": (lambda agent: setattr(of(agent), "clipnorm", 1.0), "has clipnorm=1.0"),
    "schedule": (follow_schedule, "follows a schedule"),
    "own step": (
        lambda agent: setattr(of(agent), "update_step", lambda *arguments: None),
        "has a step of its own",
    ),
}


@pytest.mark.parametrize("name", LATER)
def test_what_is_changed_later_is_seen(name):
    change, reason = LATER[name]
    agent = dqn(perceptron(), engine="native")
    agent.learn(make_episode())
    change(agent)
    before = agent._q_network.get_weights()
    with pytest.raises(ValueError, match=f"engine='native' is not possible, as the .*{reason}"):
        agent.learn(make_episode(seed=1))
    for array, weights in zip(before, agent._q_network.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, array)


def test_an_optimizer_may_hold_the_variables_in_another_order():
    found = []
    for order in ([0, 1, 2, 3, 4, 5], [2, 3, 0, 1, 4, 5]):
        keras.utils.set_random_seed(0)
        model, optimizer = perceptron(layers.Dense(OBS), layers.Dense(OBS, "tanh")), adam(0.01)
        optimizer.build([model.trainable_variables[place] for place in order])
        dqn(model, optimizer, engine="native").learn(make_episode())
        slots = [slot for slot in optimizer.variables if slot.name.endswith("momentum")]
        found.append([slots[order.index(place)].numpy() for place in range(6)])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert np.abs(found[0][0]).max() > 0.0


@pytest.mark.parametrize("outside", [ACTIONS, -1])
def test_an_action_out_of_range_is_refused(outside):
    agent, episode = dqn(perceptron()), make_episode()
    before = agent._q_network.get_weights()
    episode.actions[:] = outside
    with pytest.raises(ValueError, match=rf"counted from 0, each below \[2\], got {outside}"):
        agent.learn(episode)
    for array, weights in zip(before, agent._q_network.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, array)
