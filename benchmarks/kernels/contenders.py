"""What the kernels are measured against: NumPy as one would write it, and a plain numba loop."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]


def numpy_gae(
    rewards: Array,
    values: Array,
    dones: Array,
    valid: Array,
    last_values: Array,
    gamma: float,
    gae_lambda: float,
    advantages: Array,
    returns: Array,
) -> None:
    """A Python loop over T, vectorised over N."""
    carry, next_values = np.zeros_like(last_values), last_values
    for t in reversed(range(len(rewards))):
        going = rewards[t] + gamma * next_values - values[t] + gamma * gae_lambda * carry
        carry = np.where(dones[t], rewards[t] - values[t], going)
        carry = np.where(valid[t], carry, 0.0)
        advantages[t], next_values = carry, values[t]
    np.copyto(returns, np.where(valid, advantages + values, 0.0))


def numpy_discounted_returns(
    rewards: Array, dones: Array, valid: Array, last_values: Array, gamma: float, returns: Array
) -> None:
    """A Python loop over T, vectorised over N."""
    carry = last_values
    for t in reversed(range(len(rewards))):
        carry = np.where(dones[t], rewards[t], rewards[t] + gamma * carry)
        carry = np.where(valid[t], carry, 0.0)
        returns[t] = carry


def numpy_update_and_normalize(
    batch: Array, mean: Array, var: Array, count: Array, clip: float, epsilon: float, out: Array
) -> None:
    """The merge as it is usually written, and three passes of ufuncs."""
    rows = batch[np.isfinite(batch).all(axis=1)].astype(np.float64)
    total = count[0] + len(rows)
    delta = rows.mean(axis=0) - mean
    m2 = var * count[0] + rows.var(axis=0) * len(rows)
    m2 += delta**2 * count[0] * len(rows) / total
    mean += delta * len(rows) / total
    var[:] = m2 / total
    count[0] = total
    np.copyto(out, np.clip((batch - mean) / np.sqrt(var + epsilon), -clip, clip), "same_kind")


def numpy_shuffle(indices: Array, state: Array) -> None:
    """NumPy's own permutation."""
    np.random.default_rng(int(state[0])).shuffle(indices)
    state += np.uint64(1)


def numpy_gather(sources: list[Array], indices: Array, outputs: list[Array]) -> None:
    """One fancy-indexing call per field."""
    for source, output in zip(sources, outputs, strict=True):
        np.take(source, indices, axis=0, out=output, mode="clip")


def numpy_episode_statistics(
    rewards: Array,
    dones: Array,
    valid: Array,
    running_returns: Array,
    running_lengths: Array,
    finished_returns: Array,
    finished_lengths: Array,
    finished_envs: Array,
) -> int:
    """Masked ufuncs, step by step."""
    mask, finished = valid.astype(bool), 0
    paid, ended = np.where(mask, rewards, 0.0), mask & dones.astype(bool)
    for t in range(len(rewards)):
        running_returns += paid[t]
        running_lengths += mask[t]
        envs = np.flatnonzero(ended[t])
        told = slice(finished, finished + len(envs))
        finished_returns[told] = running_returns[envs]
        finished_lengths[told] = running_lengths[envs]
        finished_envs[told] = envs
        running_returns[envs] = 0.0
        running_lengths[envs] = 0
        finished += len(envs)
    return finished


@njit
def plain_gae(
    rewards: Array,
    values: Array,
    dones: Array,
    valid: Array,
    last_values: Array,
    gamma: float,
    gae_lambda: float,
    advantages: Array,
    returns: Array,
) -> None:
    """One environment after the other, no checks: numba as it is first written."""
    rows, envs = rewards.shape
    for n in range(envs):
        carry, next_value = 0.0, last_values[n]
        for t in range(rows - 1, -1, -1):
            going = 0.0 if dones[t, n] else 1.0
            delta = rewards[t, n] + gamma * next_value * going - values[t, n]
            carry = (delta + gamma * gae_lambda * going * carry) * valid[t, n]
            next_value = values[t, n]
            advantages[t, n] = carry
            returns[t, n] = (carry + values[t, n]) * valid[t, n]


@njit
def plain_discounted_returns(
    rewards: Array, dones: Array, valid: Array, last_values: Array, gamma: float, returns: Array
) -> None:
    """One environment after the other."""
    rows, envs = rewards.shape
    for n in range(envs):
        carry = last_values[n]
        for t in range(rows - 1, -1, -1):
            going = 0.0 if dones[t, n] else 1.0
            carry = (rewards[t, n] + gamma * going * carry) * valid[t, n]
            returns[t, n] = carry


@njit
def plain_update_and_normalize(
    batch: Array, mean: Array, var: Array, count: Array, clip: float, epsilon: float, out: Array
) -> None:
    """Welford row by row, then a normalising loop; no look at finiteness."""
    rows, dims = batch.shape
    for r in range(rows):
        count[0] += 1
        for d in range(dims):
            delta = batch[r, d] - mean[d]
            mean[d] += delta / count[0]
            var[d] += (delta * (batch[r, d] - mean[d]) - var[d]) / count[0]
    for r in range(rows):
        for d in range(dims):
            y = (batch[r, d] - mean[d]) / np.sqrt(var[d] + epsilon)
            out[r, d] = min(max(y, -clip), clip)


@njit
def plain_shuffle(indices: Array, state: Array) -> None:
    """Fisher-Yates over numba's own generator."""
    for i in range(len(indices) - 1, 0, -1):
        j = np.random.randint(0, i + 1)  # noqa: NPY002 (numba knows no Generator here)
        indices[i], indices[j] = indices[j], indices[i]


@njit
def _plain_gather_field(source: Array, indices: Array, output: Array) -> None:
    for i in range(len(indices)):
        output[i] = source[indices[i]]


def plain_gather(sources: list[Array], indices: Array, outputs: list[Array]) -> None:
    """One compiled loop per field."""
    for source, output in zip(sources, outputs, strict=True):
        _plain_gather_field(source, indices, output)


@njit
def plain_episode_statistics(
    rewards: Array,
    dones: Array,
    valid: Array,
    running_returns: Array,
    running_lengths: Array,
    finished_returns: Array,
    finished_lengths: Array,
    finished_envs: Array,
) -> int:
    """The same loop without checks."""
    finished = 0
    for t in range(rewards.shape[0]):
        for n in range(rewards.shape[1]):
            if valid[t, n]:
                running_returns[n] += rewards[t, n]
                running_lengths[n] += 1
                if dones[t, n]:
                    finished_returns[finished] = running_returns[n]
                    finished_lengths[finished] = running_lengths[n]
                    finished_envs[finished] = n
                    running_returns[n], running_lengths[n] = 0.0, 0
                    finished += 1
    return finished
