"""What Keras models and losses return: other precisions are taken, what is no tensor is refused."""

from __future__ import annotations

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

import keras
from gymnasium.spaces import Box, Discrete

from tensor_optix.algorithms.tf_agent import TFAgent
from tensor_optix.algorithms.tf_sac import TFSACAgent
from tests.adapters.keras_models import ACTIONS, OBS, make_agent, make_episode, make_step, values
from tests.algorithms import small_sac

SPACES = Box(-1, 1, (OBS,)), Discrete(ACTIONS)


def perceptron(outputs: int = ACTIONS, dtype: str | None = None, inputs: int = OBS) -> keras.Model:
    layers = [keras.layers.Dense(8, "tanh", dtype=dtype), keras.layers.Dense(outputs, dtype=dtype)]
    return keras.Sequential([keras.Input((inputs,)), *layers])


@pytest.mark.parametrize("dtype", ["float64", "mixed_bfloat16", "mixed_float16"])
def test_networks_of_another_precision_act_and_learn(dtype):
    network = perceptron(dtype=dtype)
    agent = make_agent(network)
    agent.check_spaces(*SPACES)
    before = values(network)
    assert agent.learn(make_episode(20))["n_updates"] > 0
    assert agent.act(np.zeros(OBS, np.float32)) in range(ACTIONS)
    assert all((one != other).any() for one, other in zip(before, values(network), strict=True))


def test_so_do_two_critics_of_another_precision():
    size, actions = OBS, small_sac.ACTION_DIM
    networks = (
        perceptron(2 * actions),
        *(perceptron(1, "float64", size + actions) for _ in range(2)),
    )
    agent = TFSACAgent(*networks, actions, *(keras.optimizers.Adam(0.01) for _ in range(3)))
    agent.check_spaces(SPACES[0], Box(-1, 1, (actions,)))


def test_a_model_with_two_outputs_is_refused():
    inputs = keras.Input((OBS,))
    model = keras.Model(inputs, [keras.layers.Dense(2)(inputs), keras.layers.Dense(1)(inputs)])
    with pytest.raises(
        ValueError, match=r"q_network cannot take.*must return one tensor, got list"
    ):
        make_agent(model).check_spaces(*SPACES)


def test_a_loss_that_no_weight_is_in_is_refused_and_nothing_has_changed():
    network = perceptron()
    before = values(network)
    step = make_step(network, keras.optimizers.SGD(0.1), lambda b, s: (tf.reduce_mean(b["x"]), {}))
    with pytest.raises(ValueError, match="the loss must depend on the networks"):
        step(np.ones((4, OBS), np.float32))
    for one, other in zip(before, values(network), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        (lambda model, episode, targets: None, TypeError, "got NoneType"),
        (lambda model, episode, targets: 0.5, TypeError, "got float"),
        (lambda model, episode, targets: np.float32(1.0), TypeError, "got float32"),
        (lambda model, episode, targets: targets, ValueError, r"got shape \[12\]: take its mean"),
    ],
    ids=["nothing", "a number", "numpy", "a loss for each row"],
)
def test_a_users_loss_must_be_one_number_and_else_nothing_has_changed(loss, error, message):
    network = perceptron()
    before = values(network)
    agent = TFAgent(network, keras.optimizers.SGD(0.1), compute_loss_fn=loss)
    with pytest.raises(error, match=message):
        agent.learn(make_episode())
    for one, other in zip(before, values(network), strict=True):
        np.testing.assert_array_equal(one, other)


class Trains(keras.Model):  # type: ignore[misc]
    """Says of itself that it is in training, unless it is told otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.out = keras.layers.Dense(64), keras.layers.Dense(ACTIONS)
        self.dropout = keras.layers.Dropout(0.5)

    def call(self, inputs, training=True):
        return self.out(self.dropout(self.hidden(inputs), training=training))


def test_networks_and_their_targets_are_called_as_in_inference_whatever_their_default():
    agent = make_agent(Trains())
    agent.check_spaces(*SPACES)
    observations = np.ones((5, OBS), np.float32)
    first, second = (agent._values(observations) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    batch = tf.constant(observations)
    first, second = (agent.ops.forward(agent._target, batch).numpy() for _ in range(2))
    np.testing.assert_array_equal(first, second)


class Late(keras.Model):  # type: ignore[misc]
    """Has a head that is made at its first call, after it says that it is built."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.out = keras.layers.Dense(8), keras.layers.Dense(ACTIONS)

    def build(self, shape):
        self.hidden.build((None, OBS))
        self.built = True

    def call(self, inputs):
        return self.out(self.hidden(inputs))


def test_a_network_that_gets_more_variables_after_the_agent_was_made_is_refused():
    network = Late()
    network.build((None, OBS))
    agent = make_agent(network)
    with pytest.raises(ValueError, match="call networks of your own once on observations before"):
        agent.learn(make_episode(20))


def test_a_network_without_anything_to_learn_is_refused():
    network = perceptron()
    network.trainable = False
    with pytest.raises(ValueError, match="q_network must have variables that are trainable"):
        make_agent(network)


def test_an_action_out_of_range_is_never_learned_from(caplog):
    network = perceptron()
    agent, episode = make_agent(network, engine="framework"), make_episode(8)
    before = values(network)
    episode.actions[:] = ACTIONS
    diagnostics = agent.learn(episode)
    assert (diagnostics["n_updates"], diagnostics["n_skipped_updates"]) == (0, 1)
    assert "not finite" in caplog.text
    for one, other in zip(before, values(network), strict=True):
        np.testing.assert_array_equal(one, other)
