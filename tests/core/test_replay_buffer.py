"""The replay buffers: what agents rely on, in the words of the contract."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tensor_optix.core.replay_buffer import PrioritizedReplayBuffer, ReplayBuffer
from tests.replay_oracle import rows_of, stored, walk

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
