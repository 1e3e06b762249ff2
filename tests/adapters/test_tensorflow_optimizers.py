"""Keras optimizers as users bring them: schedules, slots, clipping of their own, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

import keras

from tensor_optix.adapters.tensorflow import backend
from tensor_optix.algorithms.tf_ppo import TFPPOAgent
from tensor_optix.algorithms.tf_sac import TFSACAgent
from tensor_optix.core.types import HyperparamSet
from tests.adapters.keras_models import OBS, make_agent, make_episode, make_step, values

ROWS = np.ones((4, OBS), np.float32)


def perceptron(outputs: int = 2) -> keras.Model:
    return keras.Sequential([keras.Input((OBS,)), keras.layers.Dense(outputs)])


def halving(rate: float = 0.1, steps: int = 1) -> keras.optimizers.schedules.LearningRateSchedule:
    return keras.optimizers.schedules.ExponentialDecay(rate, steps, 0.5)


def rate_of(agent) -> float:
    return agent.get_hyperparams().params["learning_rate"]


def test_a_schedule_is_followed_scaled_as_a_whole_and_survives_a_restart(tmp_path):
    agent = make_agent(perceptron(), keras.optimizers.SGD(halving()))
    assert rate_of(agent) == pytest.approx(0.1)
    updates = agent.learn(make_episode(9))["n_updates"]
    assert updates == 2
    assert rate_of(agent) == pytest.approx(0.1 / 4)
    agent.set_hyperparams(HyperparamSet({"gamma": 0.5}))
    assert rate_of(agent) == pytest.approx(0.1 / 4)
    agent.set_hyperparams(HyperparamSet({"learning_rate": 0.2}))
    assert rate_of(agent) == pytest.approx(0.2)
    agent.learn(make_episode(1))
    assert rate_of(agent) == pytest.approx(0.1)
    agent.save_state(tmp_path)
    resumed = make_agent(perceptron(), keras.optimizers.SGD(halving()))
    resumed.load_state(tmp_path)
    assert rate_of(resumed) == pytest.approx(0.1)
    assert int(resumed._optimizers["optimizer"].iterations) == 3


def test_a_schedule_goes_on_where_the_best_policy_is_put_back(tmp_path):
    """The factor is the best policy's, as all its hyperparameters are; the time is the present one."""
    agent = make_agent(perceptron(), keras.optimizers.SGD(halving()))
    agent.set_hyperparams(HyperparamSet({"learning_rate": 0.2}))
    hyperparams = agent.get_hyperparams()
    agent.save_state(tmp_path)
    agent.learn(make_episode(9))
    with agent.keeping_progress():
        agent.load_state(tmp_path)
        agent.set_hyperparams(hyperparams)
    assert int(agent._optimizers["optimizer"].iterations) == 2
    assert rate_of(agent) == pytest.approx(0.2 / 4)


def test_the_scaled_rate_of_a_schedule_is_the_one_that_updates_are_made_with():
    network, optimizer = perceptron(), keras.optimizers.SGD(halving(0.1, 10**9))
    step, steps = make_step(network, optimizer), []
    initial = values(network)
    for rate in (0.1, 0.4):
        backend.set_learning_rate(optimizer, rate)
        for variable, array in zip(network.variables, initial, strict=True):
            variable.assign(array)
        step(ROWS)
        steps.append(values(network)[0] - initial[0])
    np.testing.assert_allclose(steps[1], 4.0 * steps[0], rtol=1e-4)


def quarter() -> float:
    return 0.25


@pytest.mark.parametrize("rate", [quarter, lambda: 0.25])
def test_a_rate_that_is_a_function_is_followed_and_cannot_be_set(rate):
    agent = make_agent(perceptron(), keras.optimizers.SGD(rate))
    assert rate_of(agent) == 0.25
    agent.set_hyperparams(HyperparamSet({"gamma": 0.5}))
    with pytest.raises(ValueError, match=r"learning rate of SGD cannot be set to 0.1"):
        agent.set_hyperparams(HyperparamSet({"learning_rate": 0.1}))


@pytest.mark.parametrize("kind", ["Adam", "AdamW", "RMSprop", "SGD", "Lion", "Adagrad"])
def test_slots_and_iterations_come_back(kind, tmp_path):
    options = {"momentum": 0.9} if kind == "SGD" else {}
    make = getattr(keras.optimizers, kind)
    first, second = perceptron(), perceptron()
    optimizer, other = make(0.01, **options), make(0.5, **options)
    # Eager steps: what is saved is the same, and nothing is compiled.
    for each, network in ((optimizer, first), (other, second)):
        each.build(network.trainable_variables)
    for _ in range(3):
        optimizer.apply([tf.ones(v.shape) for v in first.trainable_variables])
    backend.save_optimizer(optimizer, tmp_path / "optimizer")
    assert backend.load_optimizer(other, tmp_path / "optimizer")
    assert len(optimizer.variables) > 2
    for one, restored in zip(optimizer.variables, other.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), restored.numpy())
    assert int(other.iterations) == 3


def test_an_optimizer_that_was_built_for_another_model_is_refused():
    optimizer = keras.optimizers.Adam(0.01)
    optimizer.build(perceptron().trainable_variables)
    with pytest.raises(
        ValueError, match=r"built for other variables than those of q_network: make"
    ):
        make_agent(perceptron(), optimizer)
    wider = keras.optimizers.Adam(0.01)
    wider.build([*perceptron().trainable_variables, *perceptron().trainable_variables])
    with pytest.raises(
        ValueError, match="built for other variables than those of actor and critic"
    ):
        TFPPOAgent(perceptron(), perceptron(1), wider)


def test_an_optimizer_that_was_built_for_this_model_is_taken_with_its_state():
    network, optimizer = perceptron(), keras.optimizers.Adam(0.01)
    optimizer.build(network.trainable_variables)
    optimizer.apply([tf.ones(v.shape) for v in network.trainable_variables])
    before = values(network)
    agent = make_agent(network, optimizer)
    assert int(optimizer.iterations) == 1
    for one, other in zip(values(network), before, strict=True):
        np.testing.assert_array_equal(one, other)
    agent.learn(make_episode(8))
    assert int(optimizer.iterations) == 2


@pytest.mark.parametrize("optimizer", ["adam", None, 3e-4])
def test_what_is_no_optimizer_is_refused_by_what_it_is_for(optimizer):
    with pytest.raises(TypeError, match=r"optimizer of actor and critic must be one of Keras 3"):
        TFPPOAgent(perceptron(), perceptron(1), optimizer)
    given = [keras.optimizers.Adam() for _ in range(3)]
    for place, name in enumerate(("actor", "critics", "a single number")):
        wrong = [*given[:place], optimizer, *given[place + 1 :]]
        critics = (
            keras.Sequential([keras.Input((OBS + 2,)), keras.layers.Dense(1)]) for _ in range(2)
        )
        with pytest.raises(TypeError, match=rf"optimizer of {name} must be one of Keras 3"):
            TFSACAgent(perceptron(4), *critics, 2, *wrong)


def test_an_optimizer_of_pytorch_is_refused():
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.Adam([torch.zeros(1)])
    with pytest.raises(TypeError, match=r"must be one of Keras 3.*got torch\.optim\.adam\.Adam"):
        TFPPOAgent(perceptron(), perceptron(1), optimizer)


@pytest.mark.parametrize("limit", ["clipnorm", "clipvalue", "global_clipnorm"])
def test_the_clipping_that_the_optimizer_does_itself_is_done(limit):
    network = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    before = values(network)[0].item()
    step = make_step(
        network,
        keras.optimizers.SGD(1.0, **{limit: 0.01}),
        lambda batch, scalars: (100.0 * backend.mean(network(batch["x"])), {}),
    )
    outputs = step(np.ones((1, 1), np.float32), max_grad_norm=1.0)
    assert outputs["grad_norm"] == pytest.approx(100.0)
    assert before - values(network)[0].item() == pytest.approx(0.01, rel=1e-4)


# Keras's own, which it gives as it writes any model down.
@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
def test_a_model_that_was_compiled_with_a_schedule_can_be_saved_and_read_by_keras(tmp_path):
    model = perceptron()
    model.compile(keras.optimizers.SGD(halving()), "mse")
    make_agent(model, model.optimizer).learn(make_episode(9))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(ROWS), model(ROWS))
    assert backend.learning_rate(again.optimizer) == pytest.approx(0.1 / 4)


@pytest.mark.parametrize(
    "optimizer",
    [
        keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)),
        keras.optimizers.SGD(0.1, loss_scale_factor=8.0),
    ],
    ids=["wrapped", "by a factor"],
)
def test_an_optimizer_that_scales_the_loss_is_refused(optimizer):
    with pytest.raises(ValueError, match=r"must not scale the loss.*pass the inner optimizer"):
        make_agent(perceptron(), optimizer)
