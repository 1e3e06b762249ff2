"""The replay buffers: what agents rely on, in the words of the contract.

Then: rows that surprise are sampled more, and only rows that are ready; what does not fit is named, and
changes nothing.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from tensor_optix import kernels
from tensor_optix.core.replay_buffer import PrioritizedReplayBuffer, ReplayBuffer
from tests.replay_oracle import ready_indices, rows_of, sampleable, stored, walk

EITHER = pytest.mark.parametrize("kind", [ReplayBuffer, PrioritizedReplayBuffer])


def test_the_next_observation_is_of_the_same_environment() -> None:
    """Observations are (environment, time); environments answer in any order."""
    buffer = ReplayBuffer(400, n_step=2, num_envs=5, seed=0)
    rng, time = np.random.default_rng(0), np.zeros(5, np.int64)
    for _ in range(200):
        envs = rng.permutation(5)[: rng.integers(1, 6)]
        now = np.stack([envs, time[envs]], axis=1)
        time[envs] += 1
        then = np.stack([envs, time[envs]], axis=1)
        done = rng.random(len(envs)) < 0.1
        buffer.extend(now, envs, np.zeros(len(envs)), then, done, np.zeros_like(done), envs)
    batch = buffer.sample(1000)
    assert (batch.observations[:, 0] == batch.actions).all()
    assert (batch.next_observations[:, 0] == batch.actions).all()
    assert (batch.next_observations[:, 1] - batch.observations[:, 1] == batch.n_steps).all()


@pytest.mark.parametrize("window", [1, 7, 10])
def test_every_collected_transition_is_stored(window: int) -> None:
    buffer = ReplayBuffer(1000)
    for start in range(0, 70, window):
        walk(buffer, window, start, ends=False)
    assert len(buffer) == 70


@EITHER
def test_every_terminal_reward_is_stored_across_windows(kind: Any) -> None:
    """Episodes of 7 steps, learned from in windows of 10, with n-step 3."""
    buffer = kind(10_000, n_step=3, num_envs=1)
    for _ in range(50):
        walk(buffer, 7)
    batch = stored(buffer)
    assert len(buffer) == 350
    paid = batch.rewards > 0
    assert paid.sum() == 150  # the last three rows of each episode see the end
    assert (batch.dones == paid).all()
    np.testing.assert_allclose(batch.rewards[4:7], [0.99**2, 0.99, 1.0], rtol=1e-6)
    assert batch.n_steps[:7].tolist() == [3, 3, 3, 3, 3, 2, 1]


@pytest.mark.parametrize("n_step", [1, 3])
def test_a_time_limit_is_no_end_and_keeps_the_true_final_observation(n_step: int) -> None:
    buffer = ReplayBuffer(100, n_step=n_step)
    buffer.push([1.0], 0, 1.0, [2.0], False)
    buffer.push([2.0], 0, 1.0, [99.0], False, truncated=True)
    buffer.push([0.0], 0, 1.0, [1.0], False)
    batch = stored(buffer)
    assert not batch.dones.any()
    assert batch.next_observations[1] == 99.0
    assert batch.n_steps[0] == min(n_step, 2)


def test_what_is_both_terminated_and_truncated_is_an_end() -> None:
    buffer = ReplayBuffer(10)
    buffer.push([1.0], 0, 1.0, [2.0], True, truncated=True)
    assert stored(buffer).dones.tolist() == [True]


def test_the_last_rows_of_a_running_episode_wait_and_a_flush_commits_them() -> None:
    buffer = ReplayBuffer(100, n_step=4, gamma=0.5)
    walk(buffer, 6, ends=False)
    assert len(buffer) == 3
    buffer.flush_episode()
    assert len(buffer) == 6
    assert stored(buffer).n_steps.tolist() == [4, 4, 4, 3, 2, 1]
    assert (stored(buffer).next_observations[2:, 0] == 6).all()


def test_two_unrelated_observations_are_never_joined() -> None:
    """A reset in mid-episode: the row before it keeps the observation that it led to."""
    buffer = ReplayBuffer(100, n_step=2, gamma=1.0)
    buffer.push([1.0], 0, 1.0, [2.0], False)
    buffer.push([50.0], 0, 10.0, [51.0], False)
    buffer.push([51.0], 0, 10.0, [52.0], False)
    batch = stored(buffer)
    assert batch.next_observations[:, 0].tolist() == [2.0, 52.0]
    assert batch.rewards.tolist() == [1.0, 20.0]


def test_a_stack_that_is_cut_keeps_frames_that_no_slot_holds() -> None:
    """Its frames are needed by the row before, while the same slots take other ones."""
    frames = np.arange(100, dtype=np.uint8)[:, None, None] * np.ones((2, 2), np.uint8)
    buffer = ReplayBuffer(8, frame_stack=4)
    buffer.push(frames[0:4], 0, 0.0, frames[10:14], False)
    for start in range(20, 60, 8):
        buffer.push(frames[start : start + 4], 0, 0.0, frames[start + 4 : start + 8], False)
    batch = stored(buffer)
    assert batch.next_observations[:, :, 0, 0].tolist() == [
        [10, 11, 12, 13],
        *[list(range(start + 4, start + 8)) for start in range(20, 60, 8)],
    ]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
@EITHER
def test_a_reward_that_is_not_finite_is_never_sampled_and_counted(
    kind: Any, bad: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor any sum that contains it; one warning says so."""
    buffer = kind(100, n_step=2, num_envs=1)
    rewards = [1.0, bad, 1.0, 1.0, bad, 1.0, 1.0]
    for t, reward in enumerate(rewards):
        if t % 2:
            buffer.push([t], t, reward, [t + 1], False)
        else:
            buffer.extend([[t]], [t], [reward], [[t + 1]], [False], [False])
    assert sorted(stored(buffer).actions) == [2, 5]
    assert buffer.num_dropped == 4
    assert len(buffer) == 2
    assert np.isfinite(buffer.sample(200).rewards).all()
    assert [r.levelname for r in caplog.records].count("WARNING") == 1


@pytest.mark.parametrize(
    "shape", [(), (1,), (17,), (84, 84, 3), (4, 84, 84)], ids=lambda shape: str(shape)
)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, np.int64])
@pytest.mark.parametrize("num_envs", [1, 3])
def test_observations_and_actions_come_back_as_they_were(
    shape: tuple[int, ...], dtype: Any, num_envs: int
) -> None:
    rng = np.random.default_rng(0)
    buffer = ReplayBuffer(6 * num_envs, n_step=2, seed=0)
    seen, flags = set(), np.zeros(num_envs, bool)
    for _ in range(9):
        now, then = (rng.integers(0, 200, (num_envs, *shape)).astype(dtype) for _ in range(2))
        action = rng.standard_normal((num_envs, 2))
        seen |= {(o.tobytes(), a.tobytes()) for o, a in zip(now, action, strict=True)}
        buffer.extend(now, action, np.ones(num_envs, np.float32), then, flags, flags)
    batch = buffer.sample(50)
    assert batch.observations.dtype == batch.next_observations.dtype == dtype
    assert batch.observations.shape == (50, *shape)
    assert batch.actions.dtype == np.float64
    assert {(row[0], row[1]) for row in rows_of(batch)} <= seen


def test_batches_are_independent_and_out_is_written_over() -> None:
    buffer = ReplayBuffer(100, seed=5)
    walk(buffer, 50)
    batch = buffer.sample(8, batches=4)
    assert batch.observations.shape == (32, 1)
    before = batch.indices.copy()
    again = buffer.sample(8, batches=4, out=batch)
    assert again is batch
    assert (batch.indices != before).any()
    assert (batch.weights == 1.0).all()
    assert (batch.observations[:, 0] == batch.indices).all()
    with pytest.raises(ValueError, match="out must be a batch of 8 rows, got 32"):
        buffer.sample(8, out=batch)


def test_a_seed_makes_sampling_reproducible() -> None:
    drawn = []
    for _ in range(2):
        buffer = ReplayBuffer(100, seed=11)
        walk(buffer, 60)
        drawn.append(buffer.sample(40).indices.tolist())
    buffer.seed(11)
    assert drawn[0] == drawn[1] == buffer.sample(40).indices.tolist()


# ---- priorities


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_new_row_has_the_largest_priority_so_far() -> None:
    buffer = PrioritizedReplayBuffer(100, alpha=0.6, eps=0.0)
    walk(buffer, 10)
    buffer.update_priorities(np.arange(10), np.linspace(0.1, 5.0, 10))
    walk(buffer, 1)
    assert buffer.priorities is not None
    assert buffer.priorities.raw[10] == pytest.approx(5.0)
    assert buffer.priorities.leaves[10] == pytest.approx(5.0**0.6)


def test_changing_alpha_keeps_all_rows() -> None:
    buffer = PrioritizedReplayBuffer(100, alpha=0.0)
    walk(buffer, 50)
    buffer.update_priorities(np.arange(50), np.arange(50.0))
    buffer.set_params(alpha=1.0, beta=0.5, gamma=0.9)
    assert len(buffer) == 50
    assert (buffer.alpha, buffer.beta, buffer.gamma) == (1.0, 0.5, 0.9)
    share = np.bincount(buffer.sample(20_000).indices, minlength=50) / 20_000
    np.testing.assert_allclose(share, np.arange(50) / 1225, atol=0.005)


def test_a_large_error_is_sampled_more_and_weighs_less() -> None:
    buffer = PrioritizedReplayBuffer(10, alpha=1.0, beta=1.0, eps=0.0, seed=0)
    walk(buffer, 10)
    buffer.update_priorities(np.arange(10), np.array([9.0] + [1.0] * 9))
    batch = buffer.sample(1000)
    assert (batch.indices == 0).mean() == pytest.approx(0.5, abs=0.01)
    assert batch.weights[batch.indices == 0] == pytest.approx(1 / 9)
    assert batch.weights[batch.indices != 0] == pytest.approx(1.0)


@pytest.mark.parametrize("n_step", [1, 3])
def test_a_late_priority_revives_no_row(n_step: int) -> None:
    """Slots of rows that are gone, that wait for rewards or were never written stay out."""
    buffer = PrioritizedReplayBuffer(10, alpha=1.0, n_step=n_step)
    walk(buffer, 25, ends=False)
    assert buffer.storage is not None
    total = buffer.storage.layout.num_slots
    ready = set(ready_indices(buffer).tolist())
    assert len(ready) == 10 < total
    buffer.update_priorities(np.arange(total), np.full(total, 100.0))
    assert buffer.priorities is not None
    assert np.count_nonzero(buffer.priorities.leaves) == 10
    assert set(buffer.sample(500).indices.tolist()) <= ready


def test_priorities_follow_the_rows_through_random_episodes() -> None:
    """After every push exactly the ready rows can be drawn."""
    rng = np.random.default_rng(0)
    buffer = PrioritizedReplayBuffer(9, alpha=0.7, n_step=3, num_envs=1)
    for t in range(300):
        reward = np.nan if rng.random() < 0.1 else 1.0
        buffer.push([float(t)], 0, reward, [t + 1.0], rng.random() < 0.2, rng.random() < 0.2)
        if rng.random() < 0.1:
            buffer.flush_episode()
        leaves = [] if buffer.priorities is None else np.flatnonzero(buffer.priorities.leaves)
        assert sorted(ready_indices(buffer)) == list(leaves)


@pytest.mark.parametrize("n_step", [1, 3])
def test_priorities_follow_the_rows_of_many_environments(n_step: int) -> None:
    """More rows come and go in a call than the tree takes at a time, some of them both."""
    rng = np.random.default_rng(0)
    n = 300
    buffer = PrioritizedReplayBuffer(2 * n, alpha=0.7, n_step=n_step, num_envs=n)
    for t in range(30):
        ended, none = rng.random(n) < 0.3, np.zeros(n, bool)
        observations, rewards = np.full((n, 1), t, np.float32), np.ones(n, np.float32)
        buffer.extend(observations, np.zeros(n), rewards, observations + 1, ended, none)
        assert buffer.priorities is not None
        leaves, nodes = buffer.priorities.leaves, buffer.priorities.nodes
        assert sorted(ready_indices(buffer)) == list(np.flatnonzero(leaves))
        assert np.count_nonzero(leaves) == len(buffer)
        rebuilt = np.zeros_like(nodes)
        kernels.sum_tree_rebuild(leaves, rebuilt)
        assert nodes.tobytes() == rebuilt.tobytes()


@pytest.mark.parametrize("then", ["sample", "extend", "save"])
def test_a_call_that_is_interrupted_leaves_priorities_and_rows_together(
    then: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C after the rows are written, before their priorities are."""
    buffer = PrioritizedReplayBuffer(10, alpha=1.0, n_step=2, seed=0)
    walk(buffer, 15, ends=False)
    with monkeypatch.context() as patch:
        patch.setattr(buffer, "_committed", _interrupt)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                walk(buffer, 1, start=15, ends=False)
    if then == "sample":
        buffer.sample(1)
    elif then == "extend":
        walk(buffer, 1, start=16, ends=False)
    else:
        buffer.state_dict()
    assert buffer.priorities is not None
    assert np.flatnonzero(buffer.priorities.leaves).tolist() == sorted(ready_indices(buffer))


def test_an_interrupted_first_call_leaves_a_buffer_that_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    buffer = PrioritizedReplayBuffer(10)
    with monkeypatch.context() as patch:
        patch.setattr("tensor_optix.core.replay_buffer.Priorities", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            walk(buffer, 1)
    walk(buffer, 4)
    assert set(buffer.sample(100).indices) == set(ready_indices(buffer))


def test_refused_rows_do_not_disturb_priorities() -> None:
    buffer = PrioritizedReplayBuffer(10, alpha=1.0, eps=0.0)
    walk(buffer, 5)
    buffer.update_priorities(np.arange(5), np.array([2.0, 3.0, 4.0, 5.0, 6.0]))
    with pytest.raises(ValueError, match="observations must have shape"):
        buffer.push(np.zeros(2, np.float32), 0, 0.0, np.zeros(2, np.float32), False)
    walk(buffer, 1)
    assert buffer.priorities is not None
    assert buffer.priorities.raw[:6].tolist() == [2.0, 3.0, 4.0, 5.0, 6.0, 6.0]


def test_rows_that_must_be_copied_first_are_no_interrupted_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To look through all rows at each of them would cost seconds."""
    buffer = PrioritizedReplayBuffer(10)
    wide, flag = np.zeros((1, 6), np.float32), np.zeros(1, bool)
    for columns in (slice(0, 3), slice(0, 6, 2)):
        monkeypatch.setattr(buffer, "_recover", lambda _: pytest.fail("not interrupted"))
        now = wide[:, columns]
        buffer.extend(now, np.zeros(1, np.int64), np.zeros(1, np.float32), now, flag, flag)
    assert len(buffer) == 2


# ---- refusals


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"capacity": 0}, "capacity must be a whole number in [1, 2147483647], got 0"),
        ({"capacity": 2.5}, "capacity must be a whole number"),
        ({"capacity": "5"}, "capacity must be a whole number in [1, 2147483647], got '5'"),
        ({"capacity": 5, "n_step": 0}, "n_step must be a whole number in [1, 65535], got 0"),
        ({"capacity": 5, "gamma": 1.5}, "gamma must be in [0, 1], got 1.5"),
        ({"capacity": 5, "num_envs": 6}, "num_envs must be a whole number in [1, 5], got 6"),
        ({"capacity": 5, "frame_stack": 0}, "frame_stack must be"),
        ({"capacity": 5, "alpha": 2}, "alpha must be in [0, 1], got 2"),
        ({"capacity": 5, "beta": -1}, "beta must be in [0, 1], got -1"),
    ],
)
def test_a_setting_out_of_range_is_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        PrioritizedReplayBuffer(**options)


GOOD: dict[str, Any] = {
    "observations": np.zeros((2, 3), np.float32),
    "actions": np.zeros(2, np.int64),
    "rewards": np.zeros(2, np.float32),
    "next_observations": np.zeros((2, 3), np.float32),
    "terminated": np.zeros(2, bool),
    "truncated": np.zeros(2, bool),
}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("observations", np.zeros((2, 4), np.float32), "observations must have shape (2, 3), got"),
        ("observations", np.zeros((2, 3)), "observations must be float32 as the first rows were"),
        ("actions", [0.5, 1.5], "actions must be int64 as the first rows were, got float64"),
        ("actions", np.zeros((2, 1), np.int64), "actions must have shape (2,), got (2, 1)"),
        ("rewards", np.zeros((2, 1)), "rewards must have shape (2,), got (2, 1)"),
        ("rewards", 1.0, "rewards must have shape [B], got a single value: push takes one row"),
        ("rewards", np.zeros(3), "one of each of the 2 environments, got 3"),
        ("next_observations", np.zeros(2), "next_observations must be float32"),
        ("terminated", np.zeros(3, bool), "terminated must have shape (2,), got (3,)"),
        ("truncated", np.zeros(1, bool), "truncated must have shape (2,), got (1,)"),
        ("env_ids", [0, 0], "env_ids[1] must be new in its call, got 0"),
        ("env_ids", [0, 2], "env_ids[1] must be in [0, 2), got 2"),
        ("env_ids", [0.0, 1.0], "env_ids must be integers with shape (2,), got float64 (2,)"),
        ("env_ids", [0], "env_ids must be integers with shape (2,), got int64 (1,)"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_and_nothing_changes(
    name: str, value: Any, said: str
) -> None:
    buffer = ReplayBuffer(20)
    buffer.extend(**GOOD)
    before = sampleable(buffer)
    with pytest.raises(ValueError, match=re.escape(said)):
        buffer.extend(**GOOD | {name: value})
    assert sampleable(buffer) == before


def test_strided_rows_lists_and_other_floats_are_taken() -> None:
    buffer = ReplayBuffer(20)
    buffer.extend(**GOOD)
    wide = np.arange(12, dtype=np.float32).reshape(2, 6)
    buffer.extend(wide[:, ::2], [1, 2], [0.5, 1.5], [[1, 2, 3], [4, 5, 6]], [0, 1], [0, 0])
    batch = stored(buffer)
    assert batch.observations[[1, 3]].tolist() == [[0, 2, 4], [6, 8, 10]]
    assert batch.rewards.tolist() == [0.0, 0.5, 0.0, 1.5]


def test_what_cannot_be_answered_says_why() -> None:
    with pytest.raises(
        ValueError, match="sample must be called when a row has all its rewards, got none"
    ):
        ReplayBuffer(5).sample(1)
    buffer = ReplayBuffer(5)
    with pytest.raises(ValueError, match="num_envs must be given"):
        buffer.extend(**GOOD, env_ids=[0, 1])
    buffer.extend(**GOOD)
    with pytest.raises(ValueError, match="push takes one environment, got 2"):
        buffer.push([0.0], 0, 0.0, [0.0], False)
    with pytest.raises(ValueError, match="batch_size and batches must be >= 1, got 0"):
        buffer.sample(0)
    with pytest.raises(ValueError, match=re.escape("[B, 4, ...] as frame_stack is 4")):
        ReplayBuffer(5, frame_stack=4).extend(**GOOD)


def test_whole_numbers_may_be_written_as_floats() -> None:
    buffer = ReplayBuffer(1e2, n_step=3.0, num_envs=2.0)  # type: ignore[arg-type]
    buffer.extend(**GOOD)
    assert buffer.storage is not None
    assert buffer.storage.layout.rows == 50
    assert [type(value) for value in (buffer.capacity, buffer.n_step)] == [int, int]


def test_no_rows_do_not_settle_what_rows_look_like() -> None:
    buffer = ReplayBuffer(20, num_envs=2)
    with pytest.raises(ValueError, match="the first rows must say what rows look like, got none"):
        buffer.extend([], [], [], [], [], [], [])
    buffer.extend(**GOOD)
    nothing = {name: array[:0] for name, array in GOOD.items()}
    buffer.extend(**nothing, env_ids=[])
    assert len(buffer) == 2


def test_indices_are_not_rounded_and_errors_too_large_leave_their_rows() -> None:
    buffer = PrioritizedReplayBuffer(5, alpha=1.0, eps=0.0)
    buffer.extend(**GOOD)
    with pytest.raises(ValueError, match="indices must be integers with shape"):
        buffer.update_priorities([0.5], [1.0])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=re.escape("td_errors must have shape (2,), got (2, 1)")):
        buffer.update_priorities(np.arange(2), np.ones((2, 1)))
    buffer.update_priorities(np.array([0]), np.array([1e300]))
    assert buffer.priorities is not None
    assert buffer.priorities.raw[0] == 1.0
