"""The native engine and TensorFlow: the same weights, window and seed give the same numbers."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from tensor_optix.adapters.tensorflow import graphs
from tensor_optix.core.types import HyperparamSet
from tensor_optix.kernels import engine
from tests.parity.keras_pairs import CASES, adam, make_dqn, make_pair, numbers_of

if TYPE_CHECKING:
    from collections.abc import Iterator

if not engine.has_engine:
    pytest.skip("the compiled kernels are not there", allow_module_level=True)


@pytest.fixture(autouse=True)
def _without_xla(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compiling would take most of the time, and gives the same numbers."""
    monkeypatch.setattr(graphs, "pays", lambda networks: False)
    return


def step_by_hand(agent: Any) -> None:
    """Make steps with an agent's first network and optimizer, as a loop of a user's own does."""
    network, optimizer = (next(iter(m.values())) for m in (agent._networks, agent._optimizers))
    # Of all that the optimizer holds, of which Keras warns otherwise.
    held = [network] if len(agent._optimizers) > 1 else list(agent._networks.values())
    variables = [variable for one in held for variable in one.trainable_variables]
    rows = tf.reshape(tf.linspace(-1.0, 1.0, 12), [3, 4])
    for _ in range(3):
        with tf.GradientTape() as tape:
            loss = tf.add_n([tf.reduce_mean(tf.square(one(rows))) for one in held])
        optimizer.apply(tape.gradient(loss, [v.value for v in variables]), variables)


@pytest.mark.parametrize("case", CASES)
def test_windows_own_steps_and_other_rates_give_the_same_weights_and_slots(case):
    pair, window = make_pair(CASES[case]), CASES[case].window
    before = numbers_of(pair.native)
    pair.learn(window())
    for agent in pair:
        step_by_hand(agent)
        agent.set_hyperparams(HyperparamSet({"learning_rate": 0.004}))
    pair.learn(window(seed=1))
    name = next(iter(before))
    assert np.abs(numbers_of(pair.native)[name] - before[name]).max() > 1e-3
    broken = window(seed=2)
    broken.rewards[5], broken.observations[25, 1] = np.nan, np.inf
    assert pair.learn(broken)["n_skipped_updates"] > 0
    pair.learn(window(seed=3))


def test_momentum_goes_on_where_the_learning_rate_was_zero():
    pair, window = make_pair(CASES["td3"]), CASES["td3"].window
    for rate in (0.02, 0.0, 0.01):
        for agent in pair:
            for optimizer in agent._optimizers.values():
                optimizer.learning_rate = rate
        pair.learn(window())


def test_tensors_that_were_read_stay_what_they_were():
    """What a variable held is nobody's working memory, nor is what it holds."""
    agent, window = make_dqn("native", adam), CASES["dqn"].window
    holders = [agent._q_network, agent._target, *agent._optimizers.values()]
    variables = [variable for holder in holders for variable in holder.variables]
    for seed in range(3):
        tensors = [variable.value.read_value() for variable in variables]
        arrays = [np.array(tensor.numpy()) for tensor in tensors]
        agent.learn(window(seed=seed))
        for tensor, array in zip(tensors, arrays, strict=True):
            np.testing.assert_array_equal(tensor.numpy(), array)
    assert any((a != v.numpy()).any() for a, v in zip(arrays, variables, strict=True))


def test_acting_follows_weights_that_are_set_by_hand():
    agent = make_dqn("native", adam)
    rows = np.ones((5, 4), np.float32)
    for _ in range(2):
        np.testing.assert_allclose(agent._values(rows), agent._q_network(rows), rtol=1e-5)
        agent._q_network.set_weights([0.5 * one for one in agent._q_network.get_weights()])


def test_acting_in_the_midst_of_an_update_does_not_come_in_its_way(monkeypatch):
    agents = [make_pair(CASES["dqn"]).native for _ in range(2)]
    plain = engine.dqn

    def disturbed(*arguments: Any) -> Any:
        made = plain(*arguments)
        agents[1].act_batch(np.ones((5, 4), np.float32))
        return made

    window = CASES["dqn"].window()
    agents[0].learn(copy.deepcopy(window))
    monkeypatch.setattr(engine, "dqn", disturbed)
    agents[1].learn(window)
    ours, theirs = map(numbers_of, agents)
    for name, expected in theirs.items():
        np.testing.assert_array_equal(ours[name], expected, err_msg=name)
