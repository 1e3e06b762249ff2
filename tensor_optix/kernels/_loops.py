"""The raw functions of rollouts and batches in numba: checked arrays come in, outputs are filled.

Operation by operation as in the C++ kernels, in the same order and precision, so that both backends
give the same bits. No fastmath for the same reason.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
jit: Callable[[Callable[..., Any]], Callable[..., Any]] = partial(
    njit, cache=True, error_model="numpy", nogil=True
)

_ZERO = np.float32(0.0)
_CHUNK = 256
_PARTIAL = 4
_WORDS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}

_U0, _U27, _U30, _U31, _U32 = (np.uint64(n) for n in (0, 27, 30, 31, 32))
_LOW = np.uint64(0xFFFFFFFF)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)


@jit
def gae(
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
    """Fill `advantages` and `returns`, last row first."""
    rows, envs = rewards.shape
    discount, decay = np.float32(gamma), np.float32(gamma * gae_lambda)
    for t in range(rows - 1, -1, -1):
        last = t + 1 == rows
        for n in range(envs):
            next_value = last_values[n] if last else values[t + 1, n]
            carry = _ZERO if last else advantages[t + 1, n]
            ended = rewards[t, n] - values[t, n]
            going = (rewards[t, n] + discount * next_value - values[t, n]) + decay * carry
            chosen = ended if dones[t, n] != 0 else going
            advantages[t, n] = chosen if valid[t, n] != 0 else _ZERO
            returns[t, n] = chosen + values[t, n] if valid[t, n] != 0 else _ZERO


@jit
def discounted_returns(
    rewards: Array, dones: Array, valid: Array, last_values: Array, gamma: float, returns: Array
) -> None:
    """Fill `returns`, last row first."""
    rows, envs = rewards.shape
    discount = np.float32(gamma)
    for t in range(rows - 1, -1, -1):
        for n in range(envs):
            carry = last_values[n] if t + 1 == rows else returns[t + 1, n]
            reward = rewards[t, n]
            chosen = reward if dones[t, n] != 0 else reward + discount * carry
            returns[t, n] = chosen if valid[t, n] != 0 else _ZERO


@jit
def _is_finite(batch: Array, row: int) -> bool:
    """Return whether no entry of the row is NaN or infinite."""
    for d in range(batch.shape[1]):  # noqa: SIM110 (numba compiles no all() of a generator)
        if not np.isfinite(batch[row, d]):
            return False
    return True


@jit
def update_moments(batch: Array, mean: Array, var: Array, count: Array) -> None:
    """Merge the finite rows of `batch` into the state, 256 rows at a time."""
    rows, dims = batch.shape
    kept = np.empty(_CHUNK, np.int64)
    for first in range(0, rows, _CHUNK):
        size = 0
        for r in range(first, min(first + _CHUNK, rows)):
            if _is_finite(batch, r):
                kept[size] = r
                size += 1
        if size == 0:
            continue
        for d in range(dims):
            chunk_mean = _sum(batch, kept, size, d, 0.0, False) / size
            chunk_m2 = _sum(batch, kept, size, d, chunk_mean, True)
            total = count[0] + size
            delta = chunk_mean - mean[d]
            mean[d] = mean[d] + delta * (size / total)
            spread = delta * delta * (count[0] * (size / total))
            var[d] = (var[d] * count[0] + chunk_m2 + spread) / total
        count[0] += size


@jit
def _sum(batch: Array, kept: Array, size: int, d: int, shift: float, square: bool) -> float:
    """Return the column's sum of `x - shift`, or of its square, in four partial sums."""
    sums = np.zeros(_PARTIAL)
    for k in range(size):
        x = batch[kept[k], d] - shift
        sums[k % _PARTIAL] += x * x if square else x
    return (sums[0] + sums[1]) + (sums[2] + sums[3])  # type: ignore[no-any-return]


@jit
def normalize(
    batch: Array, mean: Array, var: Array, clip: float, epsilon: float, out: Array
) -> None:
    """Fill `out` with the clipped `(batch - mean) / sqrt(var + epsilon)`."""
    rows, dims = batch.shape
    limit, scale = clip if clip > 0.0 else np.inf, np.empty(dims)
    for d in range(dims):
        scale[d] = 1.0 / np.sqrt(var[d] + epsilon)
    for r in range(rows):
        for d in range(dims):
            y = (batch[r, d] - mean[d]) * scale[d]
            y = limit if y > limit else y
            out[r, d] = -limit if y < -limit else y


@jit
def update_and_normalize(
    batch: Array, mean: Array, var: Array, count: Array, clip: float, epsilon: float, out: Array
) -> None:
    """Merge a batch into the state, then normalise it."""
    update_moments(batch, mean, var, count)
    normalize(batch, mean, var, clip, epsilon, out)


@jit
def splitmix64(state: np.uint64) -> tuple[np.uint64, np.uint64]:
    """Return the next state and its word (Steele, Lea, Flood 2014)."""
    state = state + _GOLDEN
    z = (state ^ (state >> _U30)) * _MIX1
    z = (z ^ (z >> _U27)) * _MIX2
    return state, z ^ (z >> _U31)


@jit
def bounded(state: Array, bound: np.uint64) -> int:
    """Return an unbiased draw from [0, bound)."""
    state[0], word = splitmix64(state[0])
    product = (word >> _U32) * bound
    if (product & _LOW) < bound:
        threshold = ((_LOW - bound) + np.uint64(1)) % bound
        while (product & _LOW) < threshold:
            state[0], word = splitmix64(state[0])
            product = (word >> _U32) * bound
    return np.int64(product >> _U32)  # type: ignore[return-value]


@jit
def shuffle(indices: Array, state: Array) -> None:
    """Permute `indices` in place, from the top; advance `state`."""
    for i in range(len(indices) - 1, 0, -1):
        j = bounded(state, np.uint64(i + 1))
        kept = indices[i]
        indices[i] = indices[j]
        indices[j] = kept


def gather(sources: list[Array], indices: Array, outputs: list[Array]) -> None:
    """Fill `output[i] = source[indices[i]]` of every field, as words where a row has one's size."""
    for source, output in zip(sources, outputs, strict=True):
        row_bytes = source.itemsize * math.prod(source.shape[1:])
        if source.size == 0 or output.size == 0 or row_bytes == 0:
            continue
        from_, to = source.reshape(-1), output.reshape(-1)
        if row_bytes in _WORDS:
            _gather_words(from_.view(_WORDS[row_bytes]), indices, to.view(_WORDS[row_bytes]))
            continue
        from_, to = from_.view(np.uint8), to.view(np.uint8)
        _gather_bytes(from_.reshape(-1, row_bytes), indices, to.reshape(-1, row_bytes))


@jit
def _gather_words(source: Array, indices: Array, output: Array) -> None:
    """Fill `output[i] = source[indices[i]]`; both are flat, one word a row."""
    for i in range(len(indices)):
        output[i] = source[indices[i]]


@jit
def _gather_bytes(source: Array, indices: Array, output: Array) -> None:
    """Fill `output[i] = source[indices[i]]`; both are `[rows, bytes]`."""
    for i in range(len(indices)):
        row = indices[i]
        for b in range(source.shape[1]):
            output[i, b] = source[row, b]


@jit
def episode_statistics(
    rewards: Array,
    dones: Array,
    valid: Array,
    running_returns: Array,
    running_lengths: Array,
    finished_returns: Array,
    finished_lengths: Array,
    finished_envs: Array,
) -> int:
    """Add the valid rows, report the finished episodes; return how many."""
    finished = 0
    rows, envs = rewards.shape
    for t in range(rows):
        for n in range(envs):
            if valid[t, n] == 0:
                continue
            running_returns[n] += rewards[t, n]
            running_lengths[n] += 1
            if dones[t, n] != 0:
                finished_returns[finished] = running_returns[n]
                finished_lengths[finished] = running_lengths[n]
                finished_envs[finished] = n
                running_returns[n] = 0.0
                running_lengths[n] = 0
                finished += 1
    return finished
