"""Keras models as users bring them: they act, learn, are saved, and are copied into targets."""

from __future__ import annotations

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

import keras
from gymnasium.spaces import Box, Discrete

from tensor_optix.adapters.tensorflow import backend
from tensor_optix.algorithms.tf_agent import TFAgent
from tensor_optix.algorithms.tf_ppo import TFPPOAgent
from tensor_optix.algorithms.tf_ppo_continuous import TFGaussianPPOAgent
from tensor_optix.algorithms.tf_sac import TFSACAgent
from tests.adapters.keras_models import (
    ACTIONS,
    MODELS,
    OBS,
    make_agent,
    make_episode,
    make_step,
    unbuilt,
    values,
    with_batch_norm,
    with_dropout,
)

OBSERVATIONS, DISCRETE, BOX = Box(-1, 1, (OBS,)), Discrete(ACTIONS), Box(-1, 1, (ACTIONS,))


def adam() -> keras.optimizers.Optimizer:
    return keras.optimizers.Adam(0.01)


@pytest.mark.parametrize("name", MODELS)
def test_any_keras_model_learns_is_copied_into_the_target_and_comes_back(name, tmp_path):
    agent, episode = make_agent(MODELS[name]()), make_episode()
    agent.check_spaces(OBSERVATIONS, DISCRETE)
    before, target = values(agent._q_network), values(agent._target)
    for one, other in zip(before, target, strict=True):
        np.testing.assert_array_equal(one, other)
    assert agent.learn(episode)["n_updates"] == 5
    assert (values(agent._q_network)[0] != before[0]).all()
    for one, other in zip(values(agent._target), target, strict=True):
        np.testing.assert_array_equal(one, other)
    agent.save_state(tmp_path)
    resumed = make_agent(MODELS[name]())
    resumed.check_spaces(OBSERVATIONS, DISCRETE)
    resumed.load_state(tmp_path)
    for mine, others in ((agent._q_network, resumed._q_network), (agent._target, resumed._target)):
        for one, other in zip(values(mine), values(others), strict=True):
            np.testing.assert_array_equal(one, other)
    actions = (one.act_greedy(episode.observations) for one in (agent, resumed))
    np.testing.assert_array_equal(*actions)


def test_moving_statistics_and_every_other_variable_come_back(tmp_path):
    network = with_batch_norm()
    for number, variable in enumerate(network.variables):
        variable.assign(np.full(variable.shape, 9.0 + number))
    backend.save_network(network, tmp_path / "network")
    for variable in network.variables:
        variable.assign(np.zeros(variable.shape))
    backend.load_network(network, tmp_path / "network")
    for number, array in enumerate(values(network)):
        np.testing.assert_array_equal(array, 9.0 + number)


def test_the_copy_of_a_network_with_moving_statistics_uses_its_own():
    network, x = with_batch_norm(), np.ones((3, OBS), np.float32)
    copy = backend.clone(network)
    before = np.array(copy(tf.constant(x)))
    next(v for v in network.variables if v.name == "moving_mean").assign(np.full(8, 9.0))
    np.testing.assert_array_equal(copy(tf.constant(x)), before)
    assert not np.allclose(network(x), before)


def test_a_model_with_dropout_acts_the_same_every_time_also_after_learning():
    agent, x = make_agent(with_dropout(), epsilon=0.0), make_episode().observations
    for _ in range(2):
        first, second = agent._values(x), agent._values(x)
        np.testing.assert_array_equal(first, second)
        agent.learn(make_episode())


def test_a_frozen_layer_stays_as_it_is():
    network = unbuilt()
    network.build((None, OBS))
    network.layers[0].trainable = False
    frozen, learned = values(network.layers[0]), values(network.layers[1])
    step = make_step(network, adam())
    step(np.ones((4, OBS), np.float32))
    for one, other in zip(values(network.layers[0]), frozen, strict=True):
        np.testing.assert_array_equal(one, other)
    assert (values(network.layers[1])[0] != learned[0]).any()
    target = backend.clone(network)
    backend.blend(target, network, 0.5)
    np.testing.assert_array_equal(values(target)[0], frozen[0])


def test_embeddings_learn_only_what_was_looked_up_and_their_norm_is_that_of_the_whole():
    layers = keras.layers
    network = keras.Sequential(
        [keras.Input((), dtype="int64"), layers.Embedding(5, 1, "ones"), layers.Flatten()]
    )
    step = make_step(network, keras.optimizers.SGD(0.1))
    # Of mean(w_i^2) over rows 1, 1, 3: 4/3 by w_1 and 2/3 by w_3.
    norm = step(np.array([1, 1, 3]))["grad_norm"]
    assert norm == pytest.approx(np.hypot(4 / 3, 2 / 3), rel=1e-5)
    expected = [1.0, 1.0 - 0.4 / 3, 1.0, 1.0 - 0.2 / 3, 1.0]
    np.testing.assert_allclose(values(network)[0][:, 0], expected, rtol=1e-5)


def test_indices_of_a_discrete_observation_space_can_be_embedded():
    network = keras.Sequential([keras.layers.Embedding(5, 8), keras.layers.Dense(ACTIONS)])
    agent = make_agent(network, batch_size=4)
    agent.check_spaces(Discrete(5), DISCRETE)
    episode = make_episode()
    episode.observations, episode.final_obs = np.arange(12) % 5, np.int64(1)
    assert agent.act(np.int64(2)) in (0, 1)
    assert agent.learn(episode)["n_updates"] > 0


def test_networks_without_an_input_shape_get_their_variables_in_every_agent():
    agents = {
        "generic": (TFAgent(unbuilt(), adam()), DISCRETE),
        "ppo": (TFPPOAgent(unbuilt(), unbuilt(1), adam()), DISCRETE),
        "gaussian": (TFGaussianPPOAgent(unbuilt(4), unbuilt(1), adam(), ACTIONS), BOX),
        "dqn": (make_agent(unbuilt()), DISCRETE),
        "sac": (
            TFSACAgent(unbuilt(4), unbuilt(1), unbuilt(1), ACTIONS, adam(), adam(), adam()),
            BOX,
        ),
    }
    for name, (agent, space) in agents.items():
        agent.check_spaces(OBSERVATIONS, space)
        assert all(network.built for network in agent._networks.values()), name
        for target, network in agent._targets.values():
            for one, other in zip(values(target), values(network), strict=True):
                np.testing.assert_array_equal(one, other)


def test_a_learner_that_was_saved_before_its_first_update_comes_back_after_it(tmp_path):
    agent = make_agent(unbuilt())
    agent.check_spaces(OBSERVATIONS, DISCRETE)
    before = values(agent._q_network)
    agent.save_state(tmp_path)
    agent.learn(make_episode())
    agent.load_state(tmp_path)
    for one, other in zip(values(agent._q_network), before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert int(agent._optimizers["optimizer"].iterations) == 0


def test_networks_without_variables_cannot_be_saved_or_loaded_and_it_says_what_to_do(tmp_path):
    for call in (backend.save_network, backend.load_network):
        with pytest.raises(ValueError, match=r"no variables yet: begin it with keras\.Input"):
            call(unbuilt(), tmp_path / "network")


def test_weights_of_other_shapes_are_refused_and_nothing_has_changed(tmp_path):
    network, wide = (
        keras.Sequential([keras.Input((OBS,)), keras.layers.Dense(8), keras.layers.Dense(outputs)])
        for outputs in (2, 3)
    )
    backend.save_network(wide, tmp_path / "network")
    before = values(network)
    with pytest.raises(ValueError, match=r"holds other variables.*\[8, 3\].*expected.*\[8, 2\]"):
        backend.load_network(network, tmp_path / "network")
    with pytest.raises(ValueError, match="holds other variables"):
        backend.average_networks(network, [tmp_path / "network"])
    for one, other in zip(values(network), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_shared_layer_is_learned_once_and_the_optimizer_holds_it_once():
    shared = keras.layers.Dense(8, "tanh")
    actor, critic = (
        keras.Sequential([keras.Input((OBS,)), shared, keras.layers.Dense(size)])
        for size in (ACTIONS, 1)
    )
    optimizer = keras.optimizers.SGD(0.1)
    agent = TFPPOAgent(actor, critic, optimizer)
    before = values(shared)[0]
    assert agent.learn(make_episode())["n_skipped_updates"] == 0
    assert (values(shared)[0] != before).any()
    assert len(agent._descent._variables) == 6


def test_layers_outside_the_loss_get_no_gradient_and_no_error():
    inputs = keras.Input((OBS,))
    used, unused = keras.layers.Dense(1)(inputs), keras.layers.Dense(3)(inputs)
    network = keras.Model(inputs, [used, unused])

    def loss_fn(batch, scalars):
        return backend.mean(backend.square(network(batch["x"])[0])), {}

    before = values(network)
    step = make_step(network, adam(), loss_fn)
    assert np.isfinite(step(np.ones((4, OBS), np.float32))["grad_norm"])
    after = values(network)
    changed = [bool((a != b).any()) for a, b in zip(after, before, strict=True)]
    assert changed == [True, True, False, False]


@pytest.mark.parametrize(
    ("network", "kind"), [(tf.Module(), r"tensorflow.*\.Module"), (None, "NoneType"), ("q", "str")]
)
def test_what_is_no_keras_model_is_refused_by_name(network, kind):
    with pytest.raises(TypeError, match=rf"must be a Keras 3 model, for example .*got.*{kind}"):
        make_agent(network)
    with pytest.raises(TypeError, match=rf"the critic must be a Keras 3 model.*got.*{kind}"):
        TFPPOAgent(unbuilt(), network, adam())


def test_a_loss_of_the_users_is_called_at_every_learn_with_the_new_window():
    seen = []

    def loss_fn(model, episode, targets):
        seen.append((episode.observations.copy(), np.array(targets), tf.executing_eagerly()))
        return tf.reduce_mean(model(episode.observations) ** 2)

    agent = TFAgent(unbuilt(), adam(), compute_loss_fn=loss_fn)
    agent.check_spaces(OBSERVATIONS, DISCRETE)
    losses = []
    for seed in range(3):
        episode = make_episode(10 + seed, seed)
        expected = float(np.mean(np.array(agent.model(episode.observations)) ** 2))
        losses.append(agent.learn(episode)["loss"])
        assert losses[-1] == pytest.approx(expected, rel=1e-5)
        np.testing.assert_array_equal(seen[-1][0], episode.observations)
        assert seen[-1][1].shape == (10 + seed,)
    assert len(seen) == 3
    assert all(eager for *_, eager in seen)
    assert len(set(losses)) == 3


class Unnamed(keras.layers.Layer):  # type: ignore[misc]
    """Keras numbers its variable, as many as there are in the process."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones")

    def call(self, inputs):
        return inputs * self.scale


def test_variables_and_slots_that_keras_numbers_come_back_in_another_agent(tmp_path):
    def new():
        network = keras.Sequential([keras.Input((OBS,)), Unnamed(), keras.layers.Dense(ACTIONS)])
        return make_agent(network, keras.optimizers.Nadam(0.01))

    agent, other = new(), new()
    agent.learn(make_episode())
    agent.save_state(tmp_path)
    other.load_state(tmp_path)
    for one, two in zip(values(agent._q_network), values(other._q_network), strict=True):
        np.testing.assert_array_equal(one, two)
