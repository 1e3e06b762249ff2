"""Prioritized replay: rows that surprise are sampled more, and only rows that are ready."""

from __future__ import annotations

import numpy as np
import pytest

from tensor_optix import kernels
from tensor_optix.core.replay_buffer import PrioritizedReplayBuffer
from tests.replay_oracle import ready_indices, walk


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


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
