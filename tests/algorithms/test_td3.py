"""TD3: its two losses from the formulas, its smoothed targets, its delayed actor, its exploration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.algorithms.small_dqn import empty_window
from tests.algorithms.small_td3 import ACTION_DIM, make_agent, make_critic, make_episode
from tests.algorithms.test_sac import least, make_batch, perceptron
from tests.contracts.agent_contract import ReplayAgentContract
from tests.frameworks import weights

if TYPE_CHECKING:
    from tests.frameworks import Framework

ROWS = 16


class TestTD3Contract(ReplayAgentContract):
    @pytest.fixture
    def make_agent(self, framework):
        return lambda seed: make_agent(seed, framework=framework, n_step=2, per_alpha=0.5)

    @pytest.fixture
    def episode(self):
        return make_episode()


def batch_of(limit: float = 0.5) -> dict[str, Any]:
    batch = make_batch()
    noise = np.clip(0.4 * batch.pop("next_noise"), -limit, limit)
    return batch | {"target_noise": noise.astype(np.float32)}


def make_distinct_agent(framework: Framework, **params: Any) -> Any:
    """Return an agent whose targets are others than what they follow."""
    agent = make_agent(framework=framework, **params)
    targets = agent._target_critics.first, agent._target_critics.second
    for seed, target in enumerate(targets, 50):
        framework.set_weights(target, weights(make_critic(framework, (4,), seed)))
    # Large, so that smoothed actions reach beyond the bounds.
    other = weights(framework.perceptron((4, 16, ACTION_DIM), 60))
    framework.set_weights(agent._target_actor, [4.0 * array for array in other])
    return agent


def targets_of(agent: Any, batch: dict[str, Any]) -> np.ndarray:
    following = batch["next_observations"]
    policy = np.tanh(perceptron(agent._target_actor, following))
    actions = np.clip(policy + batch["target_noise"], -1.0, 1.0)
    assert 0.0 < np.mean(np.abs(actions) == 1.0) < 1.0, "the bounds must matter"
    values = least(agent._target_critics, following, actions)
    targets: np.ndarray = batch["rewards"] + batch["discounts"] * values
    return targets


def test_the_target_is_the_lesser_target_critic_at_the_smoothed_action_of_the_target_actor(
    framework,
):
    agent, batch = make_distinct_agent(framework), batch_of()
    got = agent._td_targets(framework.tensors(batch))
    np.testing.assert_allclose(framework.array(got), targets_of(agent, batch), rtol=1e-4, atol=1e-4)


def test_the_actors_loss_is_minus_the_first_critic_at_its_own_action(framework):
    agent, batch = make_distinct_agent(framework), batch_of()
    actions = np.tanh(perceptron(agent._actor, batch["observations"]))
    inputs = np.concatenate([batch["observations"], actions], axis=-1)
    loss, _ = agent._actor_loss(framework.tensors(batch), {})
    expected = -np.mean(perceptron(agent._critic1, inputs))
    assert float(framework.array(loss)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.needs_a_framework
def test_the_actors_step_changes_no_critic_and_the_critics_step_no_actor(framework):
    agent = make_distinct_agent(framework)
    tensors, tau = framework.tensors(batch_of()), framework.tensors({"tau": 0.1})
    actor, critics = weights(agent._actor), weights(agent._critics)
    slow = weights(agent._target_actor), weights(agent._target_critics)
    agent._critic_update_tensors(tensors, tau)
    np.testing.assert_equal(weights(agent._actor), actor)
    np.testing.assert_equal((weights(agent._target_actor), weights(agent._target_critics)), slow)
    after = weights(agent._critics)
    assert any((a != b).any() for a, b in zip(after, critics, strict=True))
    agent._actor_descent.step(tensors, {})
    np.testing.assert_equal(weights(agent._critics), after)
    assert any((a != b).any() for a, b in zip(actor, weights(agent._actor), strict=True))


@pytest.mark.needs_a_framework
def test_both_targets_follow_with_an_update_of_the_actor(framework):
    agent, batch = make_distinct_agent(framework), framework.tensors(batch_of())
    pairs = [(agent._target_actor, agent._actor), (agent._target_critics, agent._critics)]
    before = [weights(target) for target, _ in pairs]
    diagnostics, rows = agent._update_tensors(batch, framework.tensors({"tau": 0.1}))
    assert rows["td_errors"].shape == (ROWS,)
    assert {"actor_loss", "critic_loss", "grad_norm", "skipped"} <= diagnostics.keys()
    for slow, (target, network) in zip(before, pairs, strict=True):
        for old, new, towards in zip(slow, weights(target), weights(network), strict=True):
            np.testing.assert_allclose(new, 0.9 * old + 0.1 * towards, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("delay", "bursts", "moved"),
    [
        (1, [3], [True]),
        (2, [1, 1, 1, 1], [False, True, False, True]),
        (3, [2, 5, 1], [False, True, False]),
    ],
)
def test_the_actor_moves_with_every_policy_delay_th_update(delay, bursts, moved):
    """Whatever the bursts in which the updates come."""
    agent = make_agent(policy_delay=delay, batch_size=4)
    found = []
    for burst in bursts:
        fields = {
            name: np.resize(array, (4 * burst, *array.shape[1:]))
            for name, array in batch_of().items()
            if "noise" not in name
        }
        before = weights(agent._actor)
        means, td_errors = agent._make_updates(fields, burst)
        assert td_errors.shape == (4 * burst,)
        assert "actor_loss" not in means
        after = weights(agent._actor)
        found.append(any((a != b).any() for a, b in zip(before, after, strict=True)))
    assert found == moved
    assert agent._updates == sum(bursts)


def test_the_actors_loss_is_the_mean_over_its_own_updates():
    agent = make_agent(policy_delay=3)
    diagnostics = agent.learn(make_episode(60))
    made = agent._updates // 3
    assert 0 < made < diagnostics["n_updates"] == agent._updates
    assert np.isfinite(diagnostics["actor_loss"])
    assert diagnostics["actor_loss"] != 0.0
    assert agent.learn(empty_window())["actor_loss"] == 0.0


def test_the_noise_of_the_targets_is_clipped(monkeypatch):
    agent = make_agent(target_noise=1.0, target_noise_clip=0.3, policy_delay=10)
    seen = []

    def keep(part: Any, rows: int, scalars: Any) -> Any:
        seen.append(part["target_noise"])
        return {"critic_loss": 0.0, "skipped": 0.0}, {"td_errors": np.zeros(ROWS)}

    monkeypatch.setattr(agent, "_critic_loop", keep)
    fields = {name: array for name, array in make_batch().items() if "noise" not in name}
    agent._make_updates(fields, 1)
    assert np.abs(seen[0]).max() == np.float32(0.3)
    assert 0.3 < np.mean(np.abs(seen[0]) == np.float32(0.3)) < 1.0  # P(|N| > 0.3) = 0.76


def test_actions_are_the_policys_with_noise_within_the_bounds(framework):
    agent = make_agent(framework=framework, exploration_noise=0.2)
    observations = np.asarray(make_episode(400).observations)
    greedy, drawn = agent.act_greedy(observations), agent.act_batch(observations)
    for actions in (greedy, drawn):
        assert actions.shape == (len(observations), ACTION_DIM)
        assert actions.dtype == np.float32
        assert (np.abs(actions) <= 1.0).all()
    policy = np.tanh(perceptron(agent._actor, observations))
    np.testing.assert_allclose(greedy, policy, atol=1e-5)
    inner = np.abs(policy) < 0.3
    assert (drawn - greedy)[inner].std() == pytest.approx(0.2, rel=0.15)
    assert agent.act(observations[0]).shape == (ACTION_DIM,)
    assert agent.has_unit_actions


def test_actions_are_drawn_uniformly_until_learning_starts():
    agent = make_agent(learning_starts=40)
    observations = np.zeros((2000, 4), np.float32)
    assert agent.is_exploring
    drawn = agent.act_batch(observations)
    assert drawn.dtype == np.float32
    assert np.abs(drawn.mean()) < 0.05
    assert drawn.std() == pytest.approx(1 / np.sqrt(3), rel=0.05)
    np.testing.assert_array_equal(np.ptp(agent.act_greedy(observations), axis=0), 0.0)
    agent.learn(make_episode(64))
    assert not agent.is_exploring
    assert agent.act_batch(observations).std() < 0.4


def test_targets_equal_what_they_follow_after_weights_are_loaded_and_not_after_a_learner_is(
    framework, tmp_path
):
    def same(agent: Any) -> bool:
        pairs = (agent._critics, agent._target_critics), (agent._actor, agent._target_actor)
        return all(
            np.array_equal(a, b)
            for network, target in pairs
            for a, b in zip(weights(network), weights(target), strict=True)
        )

    agent, other = (make_agent(seed, framework=framework) for seed in range(2))
    assert same(agent)
    agent.learn(make_episode())
    agent.save_weights(tmp_path / "weights")
    agent.save_state(tmp_path / "state")
    assert not same(agent)
    other.load_weights(tmp_path / "weights")
    assert same(other)
    other.load_state(tmp_path / "state")
    for name in ("_target_actor", "_target_critics", "_actor", "_critics"):
        np.testing.assert_equal(weights(getattr(other, name)), weights(getattr(agent, name)))
    assert other._updates == agent._updates > 0


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"policy_delay": 0}, "policy_delay must be a whole number of at least 1, got 0"),
        ({"exploration_noise": -0.1}, "exploration_noise must not be negative, got -0.1"),
        ({"target_noise_clip": -1}, "target_noise_clip must not be negative, got -1"),
        ({"tau": 1.5}, r"tau must be in \[0, 1\], got 1.5"),
    ],
)
def test_hyperparameters_out_of_range_are_refused_by_name(params, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        make_agent(**params)


def test_an_actor_of_another_size_is_refused_before_the_first_step(torch_framework):
    from gymnasium.spaces import Box

    agent = make_agent()
    agent.check_spaces(Box(-1, 1, (4,)), Box(-2, 2, (ACTION_DIM,)))
    with pytest.raises(ValueError, match=r"action_dim=2, needs a Box action space of 2 components"):
        agent.check_spaces(Box(-1, 1, (4,)), Box(-2, 2, (3,)))
    agent._actor[-1] = torch_framework.perceptron((16, 8, 3))
    with pytest.raises(ValueError, match=r"one number per component .*\[B, 2\], got \[2, 3\]"):
        agent.check_spaces(Box(-1, 1, (4,)), Box(-2, 2, (ACTION_DIM,)))
