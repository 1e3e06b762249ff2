"""Plain, slow Python versions of the kernels: obviously right, the truth for every backend."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def gae(
    rewards: Array,
    values: Array,
    dones: Array,
    valid: Array,
    last_values: Array,
    gamma: float,
    gae_lambda: float,
) -> tuple[Array, Array]:
    """Return advantages and returns `[T, N]` in float64, one environment after the other."""
    rows, envs = rewards.shape
    advantages, returns = np.zeros((rows, envs)), np.zeros((rows, envs))
    for n in range(envs):
        carry, next_value = 0.0, float(last_values[n])
        for t in reversed(range(rows)):
            reward, value = float(rewards[t, n]), float(values[t, n])
            if not valid[t, n]:
                carry = 0.0
            elif dones[t, n]:
                carry = reward - value
            else:
                carry = reward + gamma * next_value - value + gamma * gae_lambda * carry
            next_value = value
            advantages[t, n] = carry
            returns[t, n] = carry + value if valid[t, n] else 0.0
    return advantages, returns


def discounted_returns(
    rewards: Array, dones: Array, valid: Array, last_values: Array, gamma: float
) -> Array:
    """Return the discounted returns `[T, N]` in float64."""
    rows, envs = rewards.shape
    returns = np.zeros((rows, envs))
    for n in range(envs):
        carry = float(last_values[n])
        for t in reversed(range(rows)):
            if not valid[t, n]:
                carry = 0.0
            elif dones[t, n]:
                carry = float(rewards[t, n])
            else:
                carry = float(rewards[t, n]) + gamma * carry
            returns[t, n] = carry
    return returns


def moments(batches: list[Array]) -> tuple[Array, Array, int]:
    """Return mean, population variance and number of all finite rows of all batches."""
    rows = np.concatenate(batches).astype(np.float64)
    rows = rows[np.isfinite(rows).all(axis=1)]
    return rows.mean(axis=0), rows.var(axis=0), len(rows)


def normalize(batch: Array, mean: Array, var: Array, clip: float, epsilon: float) -> Array:
    """Return the normalised batch in float64."""
    scaled = (batch.astype(np.float64) - mean) / np.sqrt(var + epsilon)
    return np.clip(scaled, -clip, clip) if clip > 0 else scaled


def shuffle(indices: list[int], state: int) -> tuple[list[int], int]:
    """Return the permuted indices and the generator's next state, in Python's exact integers."""
    mask = 2**64 - 1
    items = list(indices)

    def draw() -> int:
        nonlocal state
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return (z ^ (z >> 31)) >> 32

    for i in reversed(range(1, len(items))):
        bound = i + 1
        product = draw() * bound
        while product % 2**32 < 2**32 % bound:
            product = draw() * bound
        j = product >> 32
        items[i], items[j] = items[j], items[i]
    return items, state


def episode_statistics(
    rewards: Array, dones: Array, valid: Array
) -> list[list[tuple[float, int, int]]]:
    """Return (return, length, env) of the episodes finished at each step of `[T, N]` arrays."""
    rows, envs = rewards.shape
    running: list[list[float]] = [[] for _ in range(envs)]
    steps = []
    for t in range(rows):
        finished = []
        for n in range(envs):
            if valid[t, n]:
                running[n].append(float(rewards[t, n]))
                if dones[t, n]:
                    finished.append((sum(running[n]), len(running[n]), n))
                    running[n] = []
        steps.append(finished)
    return steps
