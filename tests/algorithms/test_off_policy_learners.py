"""What DQN and SAC share: what they take, what they refuse, what is saved, and NaN."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box

from tensor_optix.core.types import HyperparamSet
from tensor_optix.pipeline.vector_pipeline import VectorBatchPipeline
from tests.algorithms import small_dqn, small_sac
from tests.algorithms.small_dqn import make_agent, make_episode, vector_steps
from tests.frameworks import weights
from tests.pipeline.counting_env import collect
from tests.pipeline.test_action_forms import Strict


def test_what_rows_depend_on_cannot_change_while_there_are_rows_and_the_rest_can(framework):
    agent = make_agent(framework=framework, per_alpha=0.5)
    agent.set_hyperparams(HyperparamSet({"n_step": 2, "replay_capacity": 500}))
    agent.learn(make_episode(64))
    for name, value in (("n_step", 3), ("replay_capacity", 400)):
        with pytest.raises(ValueError, match=rf"{name} cannot change while .* got {value}"):
            agent.set_hyperparams(HyperparamSet({name: value, "gamma": 0.5}))
    assert agent.get_hyperparams().params["gamma"] == 0.99
    changed = {"n_step": 2.0, "gamma": 0.5, "per_alpha": 0.0, "per_beta": 1.0, "batch_size": 8}
    agent.set_hyperparams(HyperparamSet(changed))
    size = len(agent._replay)
    assert agent.learn(make_episode(64, seed=6))["buffer_size"] > size + 60
    assert agent._replay.gamma == 0.5


def test_a_capacity_that_cannot_hold_a_batch_in_equal_shares_is_refused():
    with pytest.raises(ValueError, match="replay_capacity must be at least batch_size, 16, got 15"):
        make_agent(replay_capacity=15)
    agent = make_agent(replay_capacity=20)
    with pytest.raises(ValueError, match="in equal shares of 12 environments, got 20"):
        agent.observe(next(vector_steps(1, num_envs=12)))


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((1,), np.float32), ((4,), np.float64), ((4, 84, 84), np.uint8), ((2, 3), np.float32)],
)
@pytest.mark.parametrize("small", [small_dqn, small_sac])
def test_any_observation_shape_and_dtype_acts_and_learns(torch_framework, small, shape, dtype):
    assert_acts_and_learns(torch_framework, small, shape, dtype)


@pytest.mark.parametrize(
    ("small", "shape", "dtype"),
    [
        (small_dqn, (1,), np.float64),
        (small_dqn, (4, 84, 84), np.uint8),
        (small_sac, (1, 8, 8), np.uint8),
    ],
)
def test_so_it_does_with_tensorflow(tensorflow_framework, small, shape, dtype):
    assert_acts_and_learns(tensorflow_framework, small, shape, dtype)


def assert_acts_and_learns(framework: Any, small: Any, shape: tuple[int, ...], dtype: Any) -> None:
    params = {"batch_size": 4, "updates_per_step": 0.25}
    agent = small.make_agent(obs_shape=shape, framework=framework, **params)
    episode = small.make_episode(8, shape, dtype)
    agent.act(episode.observations[0])
    assert agent.learn(episode)["n_updates"] == 1
    batch = agent._replay.sample(2)
    assert batch.observations.dtype == batch.next_observations.dtype == dtype
    assert batch.observations.shape == (2, *shape)


@pytest.mark.parametrize("small", [small_dqn, small_sac])
@pytest.mark.parametrize("per_alpha", [0.0, 0.6])
@pytest.mark.parametrize("where", ["rewards", "observations"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_no_weight_becomes_nan(small, where, value, per_alpha, caplog, tmp_path):
    agent = small.make_agent(per_alpha=per_alpha, n_step=2, updates_per_step=0.5)
    assert_no_weight_becomes_nan(agent, small, where, value, caplog)
    agent.save_state(tmp_path)


@pytest.mark.parametrize(("small", "value"), [(small_dqn, np.inf), (small_sac, np.nan)])
def test_nor_does_one_in_tensorflow(tensorflow_framework, small, value, caplog):
    params = {"per_alpha": 0.6, "n_step": 2, "updates_per_step": 0.5}
    agent = small.make_agent(framework=tensorflow_framework, **params)
    assert_no_weight_becomes_nan(agent, small, "observations", value, caplog)


def assert_no_weight_becomes_nan(
    agent: Any, small: Any, where: str, value: float, caplog: pytest.LogCaptureFixture
) -> None:
    episode = small.make_episode(96)
    getattr(episode, where)[20:24] = value
    with caplog.at_level(logging.WARNING):
        diagnostics = agent.learn(episode)
    assert 0 < diagnostics["n_updates"] <= 48
    if where == "observations":
        assert diagnostics["n_skipped_updates"] > 0
        assert "had a gradient that is not finite" in caplog.text
    networks = [*agent._networks.values(), *(target for target, _ in agent._targets.values())]
    for network in networks:
        assert all(np.isfinite(array).all() for array in weights(network))
    assert np.isfinite(agent.act_greedy(episode.observations[:4])).all()


@pytest.mark.parametrize("small", [small_dqn, small_sac])
def test_updates_of_which_a_part_was_left_out_are_counted_once(small):
    agent = small.make_agent(updates_per_step=1.0)
    episode = small.make_episode(40)
    episode.observations[:] = np.nan
    diagnostics = agent.learn(episode)
    assert diagnostics["n_updates"] == 0
    assert diagnostics["n_skipped_updates"] == 25


@pytest.mark.parametrize("small", [small_dqn, small_sac])
def test_a_saved_replay_goes_on_bit_for_bit_and_none_makes_an_empty_one(small, tmp_path):
    straight, resumed = small.make_agent(0, n_step=3), small.make_agent(1, n_step=3)
    straight.save_replay(tmp_path / "none")
    straight.learn(small.make_episode(50))
    straight.save_replay(tmp_path / "one")
    straight.save_state(tmp_path / "state")
    resumed.learn(small.make_episode(90, seed=7))
    resumed.load_state(tmp_path / "state")
    resumed.load_replay(tmp_path / "one")
    following = small.make_episode(seed=9)
    assert straight.learn(following) == resumed.learn(following)
    resumed.load_replay(tmp_path / "none")
    assert resumed.learn(small.make_episode(3))["buffer_size"] <= 3


def test_a_saved_replay_of_other_sizes_is_refused_and_the_own_one_kept(tmp_path):
    agent, other = make_agent(n_step=3), make_agent(n_step=1)
    for each in (agent, other):
        each.learn(make_episode(40))
    before = len(other._replay)
    agent.save_replay(tmp_path)
    with pytest.raises(ValueError, match="n_step"):
        other.load_replay(tmp_path)
    assert len(other._replay) == before


def test_a_loaded_replay_follows_the_hyperparameters_in_force(tmp_path):
    agent, other = make_agent(gamma=0.9), make_agent(gamma=0.5, per_alpha=0.4)
    agent.learn(make_episode(40))
    agent.save_replay(tmp_path)
    other.load_replay(tmp_path)
    assert (other._replay.gamma, other._replay.alpha) == (0.5, 0.4)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    def learned(seed: int) -> np.ndarray:
        agent = make_agent()
        agent.seed(seed)
        agent.learn(make_episode(200))
        return weights(agent._q_network)[0]

    np.testing.assert_array_equal(learned(3), learned(3))
    assert not np.array_equal(learned(3), learned(4))


def test_a_restored_learner_makes_its_next_update_when_the_saved_one_does(tmp_path):
    """Both count the steps until learning starts and the part of an update that is due already."""
    params = {"learning_starts": 60, "updates_per_step": 0.15}
    straight, resumed = make_agent(**params), make_agent(1, **params)
    straight.learn(make_episode(50))
    resumed.learn(make_episode(20))  # rows of its own, for the buffer is not restored here
    straight.save_state(tmp_path / "early")
    resumed.load_state(tmp_path / "early")
    for agent in (straight, resumed):
        assert agent.learn(make_episode(90))["n_updates"] == 12  # 0.15 for each of steps 60 to 140
    straight.learn(make_episode(5))
    straight.save_state(tmp_path / "late")
    resumed.load_state(tmp_path / "late")
    assert 0.0 < straight._owed < 1.0
    for rows in (1, 2, 3, 4, 5):
        counts = [agent.learn(make_episode(rows))["n_updates"] for agent in (straight, resumed)]
        assert counts[0] == counts[1]


@pytest.mark.parametrize("bound", [3.0, np.inf])
def test_actions_of_a_box_of_two_axes_lie_in_the_replay_as_the_rows_that_were_chosen(
    bound, framework, tmp_path
):
    envs = [Strict(Box(-bound, bound, (1, 2), np.float32)) for _ in range(2)]
    agent = small_sac.make_agent(framework=framework, obs_shape=(2,), n_step=2)
    pipeline = VectorBatchPipeline([lambda env=env: env for env in envs], agent, 16)
    (window,) = collect(pipeline, 1)
    assert agent.learn(window)["n_updates"] > 0
    agent.save_replay(tmp_path)
    again = small_sac.make_agent(framework=framework, obs_shape=(2,), n_step=2)
    again.load_replay(tmp_path)
    kept = {tuple(action) for action in window.actions.astype(np.float32)}
    for replay in (agent._replay, again._replay):
        drawn = replay.sample(200).actions
        assert drawn.shape == (200, 2)
        assert {tuple(action) for action in drawn} <= kept
    reach = bound if np.isfinite(bound) else 1.0
    for n, env in enumerate(envs):
        # Resets take a row, but no action.
        chosen = window.actions[n::2][
            np.ones(16, bool) if window.valid is None else window.valid[n::2]
        ]
        np.testing.assert_allclose(np.array(env.actions)[:, 0], reach * chosen, rtol=1e-6)
