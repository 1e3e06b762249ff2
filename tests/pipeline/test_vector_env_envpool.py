"""The row rules for EnvPool, against physics written out here."""

import functools
import logging
import sys

import numpy as np
import pytest
from gymnasium.spaces import Discrete

from tensor_optix.algorithms.agent_factory import make_agent
from tensor_optix.core.plain_warnings import quiet_making
from tensor_optix.pipeline.vector_env import make_vector_env, wrap_env
from tensor_optix.pipeline.vector_pipeline import VectorBatchPipeline
from tests.pipeline.row_envs import record, record_on

envpool = pytest.importorskip("envpool")

CARTPOLE_STEPS = 120
SIZES = {"envpool": (6, None), "envpool-async": (6, 2)}
"""num_envs and batch_size of each backend."""


def make(env_id, backend, **options):
    num_envs, batch_size = SIZES[backend]
    return make_vector_env(env_id, num_envs, backend, batch_size=batch_size, **options)


def push(env_id, row):
    """Actions that make long and short episodes."""
    return (row // (1 + env_id % 3)) % 2


def cartpole_step(state, action):
    """Euler step of Barto, Sutton & Anderson's cart and pole (1983), 0.02 s, in float64."""
    _, x_dot, theta, theta_dot = state
    force, cos, sin = (10.0 if action == 1 else -10.0), np.cos(theta), np.sin(theta)
    pull = (force + 0.05 * theta_dot**2 * sin) / 1.1
    theta_acc = (9.8 * sin - cos * pull) / (0.5 * (4.0 / 3.0 - 0.1 * cos**2 / 1.1))
    x_acc = pull - 0.05 * theta_acc * cos / 1.1
    change = np.array([x_dot, x_acc, theta_dot, theta_acc])
    return state + 0.02 * change


def has_fallen(state):
    return abs(state[0]) > 2.4 or abs(state[2]) > np.deg2rad(12)


@pytest.fixture(params=SIZES)
def backend(request):
    return request.param


def test_cartpole_rows_follow_the_equations_of_motion(backend):
    """Every valid row of every environment is the next step of a simulation in float64."""
    env = make("CartPole-v1", backend, seed=3)
    rounds = CARTPOLE_STEPS * env.num_envs // env.batch_size
    rows = record(env, rounds, action_of=push).rows
    env.close()
    assert set(rows) == set(range(6))
    ends = 0
    for row in (row for env_id in rows for row in _in_episodes(rows[env_id])):
        np.testing.assert_allclose(row.obs, row.state, atol=1e-4)
        np.testing.assert_allclose(row.next_obs, row.next_state, atol=1e-4)
        assert row.reward == 1
        assert row.terminated == has_fallen(row.next_state)
        assert not row.truncated
        ends += row.terminated
    assert ends > 12


class _Simulated:
    """A recorded row beside the float64 state that its episode was simulated to."""

    def __init__(self, row, state):
        self.obs, action, self.reward, self.terminated, self.truncated, self.next_obs = row
        self.state = state
        self.next_state = cartpole_step(state, action)


def _in_episodes(rows):
    simulated, first = [], True
    for row in rows:
        state = np.array(row.obs, np.float64) if first else simulated[-1].next_state
        first = row.terminated or row.truncated
        simulated.append(_Simulated(row, state))
        if len(simulated) == 1 or simulated[-2].terminated:
            assert np.abs(state).max() <= 0.05, "an episode begins near the middle"
    return simulated


def test_invalid_rows_are_the_first_ones_and_those_after_an_end(backend):
    env = make("CartPole-v1", backend, seed=1)
    steps = record(env, CARTPOLE_STEPS, action_of=push).steps
    env.close()
    fresh = np.ones(6, bool)
    for step in steps:
        ids = step.env_ids
        np.testing.assert_array_equal(step.valid, ~fresh[ids])
        assert not step.rewards[~step.valid].any()
        fresh[ids] = step.terminated | step.truncated


def test_the_end_observations_are_those_of_the_ending_rows_in_row_order(backend):
    env = make("CartPole-v1", backend, seed=1)
    steps = record(env, CARTPOLE_STEPS, action_of=push).steps
    env.close()
    for step in steps:
        ended = step.terminated | step.truncated
        np.testing.assert_array_equal(step.end_observations, step.observations[ended])


def test_a_batch_is_part_of_the_environments_and_all_get_their_turn():
    env = make("CartPole-v1", "envpool-async")
    assert (env.num_envs, env.batch_size, env.name) == (6, 2, "envpool-async")
    steps = record(env, 60, action_of=push).steps
    env.close()
    assert all(len(set(step.env_ids.tolist())) == len(step.rewards) == 2 for step in steps)
    turns = np.bincount(np.concatenate([step.env_ids for step in steps]), minlength=6)
    assert turns.min() > 0


@pytest.mark.parametrize("env_id", ["Pendulum-v1", "MountainCar-v0"])
def test_a_time_limit_is_a_truncation_of_full_length(env_id, backend):
    env = make(env_id, backend)
    assert env.max_episode_steps == 200
    action_of = (lambda *_: [0.0]) if env_id == "Pendulum-v1" else (lambda *_: 1)
    rounds = 202 * env.num_envs // env.batch_size + 30
    rows = record(env, rounds, action_of=action_of).rows
    env.close()
    complete = 0
    for played in rows.values():
        ends = [k for k, row in enumerate(played) if row.truncated or row.terminated]
        assert ends == [199, 399][: len(ends)]
        assert not any(row.terminated for row in played)
        complete += bool(ends)
    assert complete >= 1


def test_the_same_seed_gives_the_same_rows_and_another_gives_others(backend):
    env = make("CartPole-v1", backend, seed=5)
    play = functools.partial(record, env, 60, action_of=push)
    by_factory = record_on(env, 60, push).rows
    runs = [play(seed=seed).rows for seed in (5, 5, None, 6, 5)]
    env.close()

    def agree(one, other):
        pairs = [zip(one[i], other[i], strict=False) for i in range(6)]
        return all(a == b for pair in pairs for a, b in pair)

    assert agree(runs[0], by_factory)
    assert agree(runs[0], runs[1])
    assert agree(runs[0], runs[4])
    assert not agree(runs[0], runs[2])
    assert not agree(runs[0], runs[3])


def test_unseeded_pools_differ_and_large_seeds_are_taken():
    firsts = []
    for seed in (None, None, 2**40 + 1, 2**40 + 1):
        env = make_vector_env("CartPole-v1", 2, "envpool", seed=seed)
        if seed is None:
            env.reset()
        firsts.append(env.recv().observations)
        env.close()
    assert not np.array_equal(firsts[0], firsts[1])
    np.testing.assert_array_equal(firsts[2], firsts[3])


def test_a_reset_drops_what_is_under_way(backend):
    env = make("CartPole-v1", backend)
    env.reset(1)
    step = env.recv()
    env.send(np.zeros(env.batch_size, int), step.env_ids)
    env.reset()
    seen = set()
    for _ in range(env.num_envs // env.batch_size):
        step = env.recv()
        seen |= set(step.env_ids.tolist())
        assert not step.valid.any()
        env.send(np.zeros(env.batch_size, int), step.env_ids)
    assert seen == set(range(6))
    env.close()


def test_a_users_pool_stays_open_and_says_that_it_cannot_be_seeded(caplog):
    pool = envpool.make("CartPole-v1", env_type="gymnasium", num_envs=3, max_episode_steps=5)
    env = wrap_env(pool)
    assert (env.name, env.max_episode_steps) == ("envpool", 5)
    with caplog.at_level(logging.WARNING):
        rows = record(env, 8, seed=7, action_of=lambda _, row: row % 2).rows
    assert "EnvPool is seeded when it is made" in caplog.text
    assert [row.truncated for row in rows[0]] == [False] * 4 + [True] + [False] * 2
    env.close()
    with pytest.raises(RuntimeError, match="the environment is closed"):
        env.reset()
    observations, _ = pool.reset()
    assert observations.shape == (3, 4)


def test_our_pool_is_closed_once():
    env = make_vector_env("CartPole-v1", 2, "envpool")
    env.reset()
    env.close()
    env.close()
    with pytest.raises(RuntimeError, match="the environment is closed: make a new one"):
        env.recv()


def test_image_observations_stay_bytes():
    env = make_vector_env("Pong-v5", 2, "envpool")
    env.reset(0)
    step = env.recv()
    env.close()
    assert step.observations.shape == (2, 4, 84, 84)
    assert step.observations.dtype == np.uint8


def test_recv_and_send_out_of_turn_are_refused(backend):
    env = make("CartPole-v1", backend)
    with pytest.raises(RuntimeError, match=r"call reset\(\)"):
        env.recv()
    with pytest.raises(RuntimeError, match=r"call recv\(\)"):
        env.send(np.zeros(2, int), np.arange(2))
    env.reset()
    for _ in range(env.num_envs // env.batch_size):
        env.recv()
    with pytest.raises(RuntimeError, match="nothing to return"):
        env.recv()
    env.close()


def test_several_batches_may_be_answered_at_once():
    """So a pipeline can let all environments come to rest between two windows."""
    env = make_vector_env("CartPole-v1", 6, "envpool-async", batch_size=2)
    env.reset(0)
    first = np.concatenate([env.recv().env_ids for _ in range(3)])
    assert sorted(first) == list(range(6))
    with pytest.raises(RuntimeError, match="has 6 rows to answer, not 7"):
        env.send(np.zeros(7, int), np.arange(7))
    env.send(np.zeros(6, int), np.arange(6))
    second = [env.recv() for _ in range(3)]
    assert sorted(np.concatenate([step.env_ids for step in second])) == list(range(6))
    assert all(step.valid.all() for step in second)
    env.close()


def test_the_batch_must_divide_the_environments():
    with pytest.raises(ValueError, match="must be a multiple of batch_size, got num_envs=6 and"):
        make_vector_env("CartPole-v1", 6, "envpool-async", batch_size=4)


def test_a_pool_may_be_half_a_batch_by_default():
    env = make_vector_env("CartPole-v1", 9, "envpool-async")
    assert env.batch_size == 3
    env.close()


def test_an_id_that_only_gymnasium_has_is_refused_with_the_way_out():
    with pytest.raises(ValueError, match=r'EnvPool has no environment "RowScript-v0".*"auto"'):
        make_vector_env("RowScript-v0", 2, "envpool")
    with pytest.raises(ValueError, match='did you mean "CartPole-v1"'):
        make_vector_env("CartPol-v1", 2, "envpool")


def test_without_envpool_its_backend_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "envpool", None)
    with pytest.raises(ImportError, match=r'pip install "tensor-optix\[envpool\]"'):
        make_vector_env("CartPole-v1", 2, "envpool")


def test_a_seed_that_has_just_begun_makes_no_second_pool():
    env = make_vector_env("CartPole-v1", 3, "envpool", seed=5)
    pool = env._pool
    env.reset(5)
    assert env._pool is pool
    first = env.recv().observations.copy()
    env.reset(5)
    assert env._pool is not pool
    np.testing.assert_array_equal(env.recv().observations, first)
    env.close()


def test_a_choice_among_all_combinations_is_the_one_that_is_meant():
    """Minesweeper: the square to open, by row and column; its mask has an entry for every square."""
    env = make_vector_env("Minesweeper-v0", 2, "envpool", seed=0)
    assert env.action_space == Discrete(100)
    step = env.recv()
    env.send(np.array([37, 4]), step.env_ids)
    step = env.recv()
    columns = {field.name: field.columns for field in env.observation_layout.fields}
    boards = step.observations[:, columns["board"]].reshape(2, 10, 10)
    masks = step.observations[:, columns["action_mask"]].reshape(2, 10, 10)
    env.close()
    for board, mask, square in zip(boards, masks, [(3, 7), (0, 4)], strict=True):
        assert (
            np.argwhere(board != -1).tolist() == np.argwhere(mask == 0).tolist() == [list(square)]
        )


def test_without_a_time_limit_of_envpools_there_is_none():
    env = make_vector_env("CliffWalking-v1", 1, "envpool")
    assert env.max_episode_steps is None
    env.close()


def test_an_episode_may_last_until_its_time_limit_where_a_part_counts_the_steps():
    """Snake: turning in circles; EnvPool says Discrete(4000) of a count that ends at 4,000."""
    env = make_vector_env("Snake-v1", 1, "envpool", seed=0)
    env.need_masks(True)
    columns = {field.name: field.columns for field in env.observation_layout.fields}
    assert columns["step_count"].stop - columns["step_count"].start == 4001
    step = env.recv()
    for number in range(4000):
        allowed = step.observations[0, columns["action_mask"]] != 0
        turned = [(number + turn) % 4 for turn in range(4)]
        action = next(turn for turn in turned if allowed[turn])
        env.send(np.array([action]), step.env_ids)
        step = env.recv()
        if step.terminated[0] or step.truncated[0]:
            break
    env.close()
    assert number == 3999
    assert step.terminated[0] or step.truncated[0]
    assert np.argmax(step.end_observations[0, columns["step_count"]]) == 4000


def test_an_agent_for_a_pool_is_made_for_what_pipelines_make_of_it():
    """EnvPool calls Tetris' actions a Box; they are one choice among all combinations."""
    with quiet_making():
        pool = envpool.make("Tetris-v0", env_type="gymnasium", num_envs=2, seed=0)
    pipeline = VectorBatchPipeline(env=pool, window_size=8)
    agent = make_agent(pool, hidden_sizes=(4,), seed=0)
    pipeline.set_agent(agent)
    pipeline.setup()
    assert agent.learn(next(pipeline.episodes())) is not None
    pipeline.teardown()
    pool.close()
