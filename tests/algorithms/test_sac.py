"""SAC: its three losses from the formulas, its target critics, its temperature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.algorithms.small_dqn import empty_window
from tests.algorithms.small_sac import ACTION_DIM, make_agent, make_critic, make_episode
from tests.contracts.agent_contract import ReplayAgentContract
from tests.frameworks import weights

if TYPE_CHECKING:
    from tests.frameworks import Framework

ROWS = 16


class TestSACContract(ReplayAgentContract):
    @pytest.fixture
    def make_agent(self, framework):
        return lambda seed: make_agent(seed, framework=framework, n_step=2, per_alpha=0.5)

    @pytest.fixture
    def episode(self):
        return make_episode()


def make_batch(rows: int = ROWS, seed: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> Any:
        return rng.standard_normal(shape).astype(np.float32)

    return {
        "observations": normal(rows, 4),
        "actions": np.tanh(normal(rows, ACTION_DIM)),
        "rewards": normal(rows),
        "next_observations": normal(rows, 4),
        "discounts": np.where(rng.random(rows) < 0.3, 0.0, 0.9).astype(np.float32),
        "weights": rng.uniform(0.2, 1.0, rows).astype(np.float32),
        "noise": normal(rows, ACTION_DIM),
        "next_noise": normal(rows, ACTION_DIM),
    }


def perceptron(network: Any, inputs: np.ndarray) -> np.ndarray:
    """Two layers with a tanh between them, in double precision."""
    arrays = [w.astype(np.float64) for w in weights(network)]
    outputs: np.ndarray = np.tanh(inputs @ arrays[0] + arrays[1]) @ arrays[2] + arrays[3]
    return outputs


def policy(agent: Any, observations: Any, noise: Any) -> tuple[np.ndarray, np.ndarray]:
    """Actions `[B, A]` and their log-densities `[B]`, from the density of what is under the tanh."""
    mean, log_std = np.split(perceptron(agent._actor, observations), 2, axis=-1)
    std = np.exp(np.clip(log_std, -5, 2))
    actions = np.tanh(mean + std * noise)
    normal = np.exp(-0.5 * noise**2) / (std * np.sqrt(2 * np.pi))
    return actions, np.log(normal / (1 - actions**2)).sum(axis=-1)


def least(critics: Any, observations: Any, actions: np.ndarray) -> np.ndarray:
    """The smaller of two critics' values, `[B]`."""
    inputs = np.concatenate([observations, actions], axis=-1)
    pair = perceptron(critics.first, inputs), perceptron(critics.second, inputs)
    return np.minimum(*pair)[:, 0]


def make_distinct_agent(framework: Framework, log_alpha: float = -0.7, **params: Any) -> Any:
    """Return an agent whose target critics are others than its critics."""
    agent = make_agent(framework=framework, log_alpha_init=log_alpha, **params)
    targets = agent._target_critics.first, agent._target_critics.second
    for seed, target in enumerate(targets, 50):
        framework.set_weights(target, weights(make_critic(framework, (4,), seed)))
    return agent


def targets_of(agent: Any, batch: dict[str, Any], alpha: float) -> np.ndarray:
    actions, log_probs = policy(agent, batch["next_observations"], batch["next_noise"])
    values = least(agent._target_critics, batch["next_observations"], actions)
    targets: np.ndarray = batch["rewards"] + batch["discounts"] * (values - alpha * log_probs)
    return targets


def test_the_target_is_the_lesser_target_critic_with_entropy_of_the_current_policy(framework):
    agent, batch = make_distinct_agent(framework), make_batch()
    expected = targets_of(agent, batch, np.exp(-0.7))
    got = agent._td_targets(framework.tensors(batch))
    np.testing.assert_allclose(framework.array(got), expected, rtol=1e-4, atol=1e-4)
    inputs = np.concatenate([batch["observations"], batch["actions"]], axis=-1)
    firsts = perceptron(agent._target_critics.first, inputs)
    assert 0 < np.mean(firsts < perceptron(agent._target_critics.second, inputs)) < 1


def test_the_critics_loss_is_the_sum_of_both_weighted_squares(framework):
    agent, batch = make_distinct_agent(framework), make_batch()
    targets = targets_of(agent, batch, np.exp(-0.7))
    inputs = np.concatenate([batch["observations"], batch["actions"]], axis=-1)
    first, second = (
        targets - perceptron(c, inputs)[:, 0] for c in (agent._critic1, agent._critic2)
    )
    loss, parts = agent._critic_loss(framework.tensors({**batch, "targets": targets}), {})
    expected = np.mean(batch["weights"] * (first**2 + second**2))
    assert float(framework.array(loss)) == pytest.approx(expected, rel=1e-4)
    errors = (np.abs(first) + np.abs(second)) / 2
    np.testing.assert_allclose(framework.array(parts["td_errors"]), errors, rtol=1e-4, atol=1e-5)


def test_the_actors_loss_is_entropy_against_the_lesser_critic(framework):
    agent, batch = make_distinct_agent(framework), make_batch()
    actions, log_probs = policy(agent, batch["observations"], batch["noise"])
    values = least(agent._critics, batch["observations"], actions)
    loss, parts = agent._actor_loss(framework.tensors(batch), {})
    assert float(framework.array(loss)) == pytest.approx(
        np.mean(np.exp(-0.7) * log_probs - values), abs=1e-4
    )
    assert float(framework.array(parts["entropy"])) == pytest.approx(-log_probs.mean(), abs=1e-4)


@pytest.mark.needs_a_framework
@pytest.mark.parametrize("surplus", [-1.0, 1.0])
def test_alpha_moves_the_entropy_towards_minus_the_number_of_components(framework, surplus):
    """With more entropy than that alpha falls, with less it rises."""
    agent = make_distinct_agent(framework, alpha_lr=0.1)
    log_probs = np.full(ROWS, ACTION_DIM - surplus)
    batch = framework.tensors({"log_probs": log_probs})
    loss, _ = agent._alpha_loss(batch, {})
    alpha = np.exp(-0.7)
    assert float(framework.array(loss)) == pytest.approx(
        -alpha * np.mean(log_probs - ACTION_DIM), rel=1e-5
    )
    agent._alpha_descent.step(batch, {})
    assert np.sign(agent._alpha() - alpha) == -surplus


@pytest.mark.needs_a_framework
def test_an_update_makes_the_three_steps_in_order_and_then_moves_the_targets(framework):
    """Each loss is that of the formulas, at the weights which the step before has left."""
    agent, batch = make_distinct_agent(framework, tau=0.1), make_batch()
    alpha = np.exp(-0.7)
    targets = targets_of(agent, batch, alpha)
    slow = [w.copy() for w in weights(agent._target_critics)]
    loss, _ = agent._critic_loss(framework.tensors({**batch, "targets": targets}), {})
    critic_loss = float(framework.array(loss))
    tau = framework.tensors({"tau": 0.1})
    diagnostics, rows = agent._update_tensors(framework.tensors(batch), tau)
    assert float(diagnostics["critic_loss"]) == pytest.approx(critic_loss, rel=1e-4)
    assert rows["td_errors"].shape == (ROWS,)
    fast = weights(agent._critics)
    for old, new, towards in zip(slow, weights(agent._target_critics), fast, strict=True):
        np.testing.assert_allclose(new, 0.9 * old + 0.1 * towards, rtol=1e-5, atol=1e-7)


@pytest.mark.needs_a_framework
def test_the_actors_step_changes_neither_the_critics_nor_alpha(framework):
    agent, batch = make_distinct_agent(framework), make_batch()
    critics, alpha = weights(agent._critics), agent._alpha()
    actor = weights(agent._actor)
    agent._actor_descent.step(framework.tensors(batch), {})
    assert any((a != b).any() for a, b in zip(actor, weights(agent._actor), strict=True))
    for before, after in zip(critics, weights(agent._critics), strict=True):
        np.testing.assert_array_equal(before, after)
    assert agent._alpha() == alpha


def test_the_actors_step_leaves_the_gradients_of_the_critics_as_they_were(torch_framework):
    """PyTorch keeps gradients with the parameters, where another step would find them."""
    agent, batch = make_distinct_agent(torch_framework), make_batch()
    for parameter in agent._critics.parameters():
        parameter.grad = parameter.detach() * 0.0 + 7.0
    agent._actor_descent.step(torch_framework.tensors(batch), {})
    for parameter in agent._critics.parameters():
        assert (parameter.grad == 7.0).all()
    assert agent._log_alpha.value.grad is None or float(agent._log_alpha.value.grad) == 0.0


@pytest.mark.needs_a_framework
def test_the_actor_and_alpha_get_no_gradient_from_the_critics_step(framework):
    agent, batch = make_distinct_agent(framework), make_batch()
    actor, alpha = weights(agent._actor), agent._alpha()
    critics = weights(agent._critics)
    tensors = framework.tensors(batch)
    agent._critic_descent.step({**tensors, "targets": agent._td_targets(tensors)}, {})
    assert any((a != b).any() for a, b in zip(critics, weights(agent._critics), strict=True))
    for before, after in zip(actor, weights(agent._actor), strict=True):
        np.testing.assert_array_equal(before, after)
    assert agent._alpha() == alpha


def test_the_targets_follow_after_every_update_of_a_burst():
    agent = make_agent(tau=0.25, batch_size=4)
    fields = {name: a for name, a in make_batch(4 * 5).items() if "noise" not in name}
    expected = [w.copy() for w in weights(agent._target_critics)]
    original = agent._update_tensors

    def follow(*arguments: Any) -> Any:
        result = original(*arguments)
        for slow, fast in zip(expected, weights(agent._critics), strict=True):
            slow += np.float32(0.25) * (fast - slow)
        return result

    agent._loop = agent.ops.update_loop(follow, [agent._actor, agent._critics])
    agent._make_updates(fields, 5)
    for slow, target in zip(expected, weights(agent._target_critics), strict=True):
        np.testing.assert_allclose(target, slow, rtol=1e-4, atol=1e-6)


def same(agent: Any) -> bool:
    pairs = zip(weights(agent._critics), weights(agent._target_critics), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def test_targets_equal_the_critics_after_weights_are_loaded_and_not_after_a_learner_is(
    framework, tmp_path
):
    agent, other = (make_agent(seed, framework=framework) for seed in range(2))
    assert same(agent)
    agent.learn(make_episode())
    agent.save_weights(tmp_path / "weights")
    agent.save_state(tmp_path / "state")
    assert not same(agent)
    other.load_weights(tmp_path / "weights")
    assert same(other)
    other.load_state(tmp_path / "state")
    for a, b in zip(weights(agent._target_critics), weights(other._target_critics), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(weights(agent._critics), weights(other._critics), strict=True):
        np.testing.assert_array_equal(a, b)
    agent.perturb_weights(0.1)
    assert same(agent)


def test_acting_between_updates_changes_nothing_in_what_is_learned():
    """Validation and external scores may act as often as they like."""
    quiet, busy = make_agent(), make_agent()
    for seed in (1, 2):
        episode = make_episode(seed=seed)
        busy.act_batch(np.asarray(episode.observations))
        assert quiet.learn(episode) == busy.learn(episode)


@pytest.mark.parametrize("initial", [-10.0, 0.0, 1.0])
def test_alpha_starts_where_it_was_told_to_is_reported_and_stays_positive(initial):
    agent = make_agent(log_alpha_init=initial, alpha_lr=5.0)
    assert agent.learn(empty_window())["alpha"] == pytest.approx(np.exp(initial), rel=1e-5)
    agent.learn(make_episode(200))
    assert 0.0 < agent._alpha() < np.inf
    assert agent._alpha() != pytest.approx(np.exp(initial), rel=0.01)


def test_actions_are_float32_and_within_minus_one_and_one(framework):
    agent = make_agent(framework=framework)
    observations = make_episode().observations
    for actions in (agent.act_batch(observations), agent.act_greedy(observations)):
        assert actions.shape == (len(observations), ACTION_DIM)
        assert actions.dtype == np.float32
        assert (np.abs(actions) < 1.0).all()
    assert agent.act(observations[0]).shape == (ACTION_DIM,)
    assert agent.has_unit_actions
    means = np.tanh(perceptron(agent._actor, observations)[:, :ACTION_DIM])
    np.testing.assert_allclose(agent.act_greedy(observations), means, atol=1e-5)


@pytest.mark.needs_a_framework
def test_the_gradient_that_is_reported_is_the_critics(framework):
    agent, batch = make_distinct_agent(framework), make_batch()
    other, tensors = make_distinct_agent(framework), framework.tensors(batch)
    targets = other._td_targets(tensors)
    expected = other._critic_descent.step({**tensors, "targets": targets}, {})
    diagnostics, _ = agent._update_tensors(tensors, framework.tensors({"tau": 0.1}))
    assert float(diagnostics["grad_norm"]) == pytest.approx(float(expected["grad_norm"]), rel=1e-5)
