"""DQN: its loss, its target network, its exploration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tensor_optix import FixedHyperparams, RLOptimizer
from tensor_optix.core.types import HyperparamSet
from tensor_optix.pipeline.batch_pipeline import BatchPipeline
from tests.algorithms.small_dqn import empty_window, make_agent, make_episode, vector_steps
from tests.contracts.agent_contract import ReplayAgentContract
from tests.frameworks import weights
from tests.pipeline.counting_env import Counter

if TYPE_CHECKING:
    from tests.frameworks import Framework


@pytest.mark.usefixtures("xla")
class TestDQNContract(ReplayAgentContract):
    @pytest.fixture
    def make_agent(self, framework):
        return lambda seed: make_agent(seed, framework=framework, n_step=2, per_alpha=0.5)

    @pytest.fixture
    def episode(self):
        return make_episode()


def make_fields(rows: int, seed: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    done = rng.random(rows) < 0.3
    return {
        "observations": rng.standard_normal((rows, 4)).astype(np.float32),
        "actions": rng.integers(0, 2, rows),
        "rewards": rng.standard_normal(rows).astype(np.float32),
        "next_observations": rng.standard_normal((rows, 4)).astype(np.float32),
        "discounts": np.where(done, 0.0, 0.9 ** rng.integers(1, 4, rows)).astype(np.float32),
        "weights": rng.uniform(0.2, 1.0, rows).astype(np.float32),
    }


def values_of(network: Any, observations: np.ndarray) -> np.ndarray:
    """Two layers with a tanh between them, in double precision."""
    arrays = [array.astype(np.float64) for array in weights(network)]
    hidden = np.tanh(observations.astype(np.float64) @ arrays[0] + arrays[1])
    values: np.ndarray = hidden @ arrays[2] + arrays[3]
    return values


def td_errors(agent: Any, fields: dict[str, np.ndarray]) -> np.ndarray:
    following = values_of(agent._target, fields["next_observations"]).max(axis=1)
    targets = fields["rewards"] + fields["discounts"] * following
    values = values_of(agent._q_network, fields["observations"])
    errors: np.ndarray = targets - values[np.arange(len(targets)), fields["actions"]]
    return errors


def test_the_loss_is_the_weighted_mean_of_squared_errors_against_the_target_network(framework):
    agent = make_agent(framework=framework)
    # The two networks must differ, or a mix-up of them would not show.
    framework.set_weights(agent._target, weights(framework.perceptron((4, 16, 2), seed=7)))
    fields = make_fields(16)
    expected = td_errors(agent, fields)
    means, got = agent._make_updates(fields, 1)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    assert means["loss"] == pytest.approx(np.mean(fields["weights"] * expected**2), rel=1e-4)
    assert means["td_error_mean"] == pytest.approx(np.abs(expected).mean(), rel=1e-4)


def test_an_update_follows_the_gradient_of_that_loss_and_leaves_the_target_alone(framework):
    network = framework.perceptron((4, 16, 2))
    params = HyperparamSet({"batch_size": 16, "max_grad_norm": 1e6})
    agent = framework.DQN(network, 2, framework.sgd(0.1, network), params, device="cpu")
    fields = make_fields(16)
    target, before = weights(agent._target), weights(network)
    slopes = [slope_of(framework, agent, fields, k) for k in range(2)]
    agent._make_updates(fields, 1)
    np.testing.assert_allclose(weights(network)[-1], before[-1] - 0.1 * np.array(slopes), atol=1e-4)
    for old, new in zip(target, weights(agent._target), strict=True):
        np.testing.assert_array_equal(old, new)


def slope_of(framework: Framework, agent: Any, fields: Any, k: int, step: float = 1e-3) -> float:
    """The derivative of the loss by a last bias, the target held still, as a difference of losses."""
    *others, bias = weights(agent._q_network)
    found = []
    for move in (step, -step):
        framework.set_weights(agent._q_network, [*others, bias + np.float32(move) * np.eye(2)[k]])
        found.append(float(np.mean(fields["weights"] * td_errors(agent, fields) ** 2)))
    framework.set_weights(agent._q_network, [*others, bias])
    return (found[0] - found[1]) / (2 * step)


@pytest.mark.parametrize("burst", [1, 3, 4, 7, 20])
def test_the_target_is_copied_exactly_every_so_many_updates_also_within_a_burst(burst, monkeypatch):
    agent = make_agent(target_update_freq=5, batch_size=4)
    copies: list[int] = []
    made = 0
    original, blend = agent._update_tensors, agent.ops.blend

    def count(*arguments: Any) -> Any:
        nonlocal made
        made += 1
        return original(*arguments)

    def copy(*arguments: Any) -> None:
        copies.append(made)
        blend(*arguments)

    monkeypatch.setattr(agent.ops, "blend", copy)
    agent._loop = agent.ops.update_loop(count, [agent._q_network])
    agent._updated = agent._updated_in_parts
    for _ in range(3):
        agent._make_updates(make_fields(4 * burst), burst)
    assert copies == list(range(5, 3 * burst + 1, 5))


@pytest.mark.usefixtures("xla")
def test_a_burst_learns_the_same_as_its_updates_one_by_one(framework):
    """The target that is copied within it is what the rest of it learns from."""
    params = {"target_update_freq": 3, "batch_size": 4}
    together, alone = (make_agent(framework=framework, **params) for _ in range(2))
    fields = make_fields(4 * 8)
    means, errors = together._make_updates(fields, 8)
    parts = [
        alone._make_updates({name: f[4 * k : 4 * k + 4] for name, f in fields.items()}, 1)
        for k in range(8)
    ]
    np.testing.assert_array_equal(errors, np.concatenate([part[1] for part in parts]))
    assert means["loss"] == pytest.approx(np.mean([part[0]["loss"] for part in parts]))
    for a, b in zip(weights(together._q_network), weights(alone._q_network), strict=True):
        np.testing.assert_array_equal(a, b)


def test_it_is_said_whether_the_target_was_updated_since_the_last_window():
    agent = make_agent(target_update_freq=20, updates_per_step=1.0)
    seen, before = [], None
    for window in range(5):
        for step in vector_steps(1 + (window == 0), seed=window):
            agent.observe(step)
        seen.append(agent.learn(empty_window())["target_updated"])
        after = weights(agent._target)
        if before is not None:
            moved = any((a != b).any() for a, b in zip(before, after, strict=True))
            assert moved == bool(seen[-1])
        before = after
    assert seen == [0, 0, 1, 0, 1]  # after 8, 16, 24, 32, 40 updates


def test_epsilon_falls_by_a_factor_per_call_of_learn_and_not_below_its_floor():
    agent = make_agent(epsilon_decay=0.5, epsilon_min=0.2)
    for step in vector_steps(5):
        agent.observe(step)
    assert agent.get_hyperparams().params["epsilon"] == 1.0
    seen = [agent.learn(empty_window())["epsilon"] for _ in range(4)]
    assert seen == [0.5, 0.25, 0.2, 0.2]


def test_epsilon_falls_in_a_line_over_environment_steps_where_that_is_asked_for():
    agent = make_agent(epsilon_decay_steps=80, epsilon_min=0.2, epsilon_decay=0.5)
    seen = []
    for step in vector_steps(12):
        agent.observe(step)
        seen.append(agent.get_hyperparams().params["epsilon"])
    np.testing.assert_allclose(seen, np.maximum(1.0 - 0.08 * np.arange(1, 13), 0.2))
    assert agent.learn(empty_window())["epsilon"] == pytest.approx(0.2)


def test_an_epsilon_that_was_set_below_the_floor_stays_there():
    for schedule in ({"epsilon_decay_steps": 100}, {"epsilon_decay": 0.9}):
        agent = make_agent(epsilon=0.01, **schedule)
        agent.learn(make_episode(20))
        assert agent.get_hyperparams().params["epsilon"] == 0.01


def test_epsilon_comes_through_hyperparameters_and_saved_learners(tmp_path):
    agent, other = make_agent(epsilon_decay=0.5), make_agent(1)
    agent.learn(make_episode(20))
    agent.set_hyperparams(agent.get_hyperparams())
    assert agent.get_hyperparams().params["epsilon"] == 0.5
    agent.set_hyperparams(HyperparamSet({"learning_rate": 2e-4}))
    assert agent.get_hyperparams().params["epsilon"] == 0.5
    agent.save_state(tmp_path)
    other.load_state(tmp_path)
    assert other.get_hyperparams().params["epsilon"] == 0.5
    assert other._updates == agent._updates > 0


def test_a_share_of_epsilon_of_the_actions_is_random_and_greedy_ones_never_are():
    agent = make_agent(epsilon=0.4)
    observations = np.tile(np.ones(4, np.float32), (4000, 1))
    greedy = agent.act_greedy(observations)
    assert len(np.unique(greedy)) == 1
    share = np.mean(agent.act_batch(observations) != greedy)
    assert share == pytest.approx(0.4 / 2, abs=0.03)
    assert type(agent.act(observations[0])) is int
    values = values_of(agent._q_network, observations[:1])
    assert greedy[0] == values.argmax()


def test_it_counts_as_exploring_until_epsilon_is_near_its_floor():
    agent = make_agent(epsilon_min=0.1)
    for epsilon, expected in ((1.0, True), (0.12, True), (0.104, False), (0.1, False)):
        agent.set_hyperparams(HyperparamSet({"epsilon": epsilon}))
        assert agent.is_exploring == expected


@pytest.mark.parametrize(
    "params",
    [
        {"epsilon": 0.3, "epsilon_decay": 1.0},
        {"epsilon": 1e-4, "epsilon_decay": 0.9, "epsilon_min": 0.0},
    ],
)
def test_an_epsilon_that_falls_no_further_keeps_no_run_from_ending(params):
    assert not make_agent(**params).is_exploring


def test_the_reward_is_that_of_the_finished_episodes_else_the_windows_sum():
    agent, episode = make_agent(), make_episode(20)
    assert agent.learn(episode)["episode_reward"] == pytest.approx(episode.total_reward)
    episode.finished_returns = np.array([3.0, 5.0])
    assert agent.learn(episode)["episode_reward"] == 4.0


def test_weights_that_were_loaded_averaged_or_perturbed_are_the_targets_too(framework, tmp_path):
    agent = make_agent(framework=framework, updates_per_step=1.0)
    agent.save_weights(tmp_path / "a")
    agent.learn(make_episode())
    agent.save_weights(tmp_path / "b")
    assert not same(agent)
    agent.load_weights(tmp_path / "b")
    assert same(agent)
    agent.learn(make_episode(seed=6))
    assert agent.average_weights([tmp_path / "a", tmp_path / "b"])
    assert same(agent)
    agent.learn(make_episode(seed=7))
    agent.perturb_weights(0.1)
    assert same(agent)


def same(agent: Any) -> bool:
    pairs = zip(weights(agent._q_network), weights(agent._target), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def test_a_saved_learner_brings_its_own_target(tmp_path):
    agent, other = make_agent(updates_per_step=1.0), make_agent(1)
    agent.learn(make_episode())
    agent.save_state(tmp_path)
    other.load_state(tmp_path)
    assert not same(agent)
    for a, b in zip(weights(agent._target), weights(other._target), strict=True):
        np.testing.assert_array_equal(a, b)


def test_after_a_run_weights_are_the_bests_and_counters_and_epsilon_are_the_ends(tmp_path):
    """The untrained policy is the best by the score of the user's: its weights come back, no more."""
    agent = make_agent(obs_shape=(2,), epsilon_decay=0.9, epsilon_min=0.0)
    initial = weights(agent._q_network)
    run = RLOptimizer(
        agent,
        BatchPipeline(env=Counter(), window_size=20),
        optimizer=FixedHyperparams(),
        checkpoint_score_fn=lambda acting: -float(acting._steps),
        max_episodes=4,
        seed=0,
        checkpoint_dir=tmp_path,
    )
    for runs in (1, 2):
        run.run()
        assert agent._steps == 80 * runs
        assert agent.get_hyperparams().params["epsilon"] == pytest.approx(0.9 ** (4 * runs))
        assert agent._updates > 20 * runs
        for before, after in zip(initial, weights(agent._q_network), strict=True):
            np.testing.assert_array_equal(before, after)
