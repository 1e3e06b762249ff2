"""What agents learn from a window: its rows come in; advantages, minibatches or transitions go out.

`terminated` and `truncated` become one `done` in `episode_advantages`, and nowhere else.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix import kernels
from tensor_optix.core.argument_checks import at_least
from tensor_optix.core.types import Array, EpisodeData, Transitions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def compute_gae(
    rewards: Any,
    values: Any,
    dones: Any,
    gamma: float = 0.99,
    gae_lambda: float = 0.95,
    last_value: Any = 0.0,
    valid: Any = None,
) -> tuple[Array, Array]:
    """Compute generalized advantage estimates (Schulman et al. 2016, eq. 16).

    `delta_t = r_t + gamma * V_{t+1} * (1 - d_t) - V_t`,
    `A_t = delta_t + gamma * lambda * (1 - d_t) * A_{t+1}`, `R_t = A_t + V_t`.

    Args:
        rewards: `[T]` or `[T, N]`.
        values: The same shape, the critic's values of the observations acted on.
        dones: The same shape, whether the episode ended at that row.
        gamma: Discount in [0, 1].
        gae_lambda: In [0, 1].
        last_value: Scalar or `[N]`, the value of the observation after the last row.
        valid: The same shape; rows that are False get zeros and cut the recursion. None: all valid.

    Returns:
        Advantages and returns, float32, shaped as `rewards`.

    Raises:
        ValueError: If a shape or a number does not fit.

    Examples:
        >>> from tensor_optix import compute_gae
        >>> advantages, returns = compute_gae(
        ...     [1.0, 1.0], values=[0.0, 0.0], dones=[False, True], gamma=1.0, gae_lambda=1.0)
        >>> returns.tolist()
        [2.0, 1.0]
    """
    if isinstance(rewards, list | tuple):
        # Made an array once: to ask a list for its shape takes as long.
        rewards = np.asarray(rewards, np.float32)
    shape = np.shape(rewards)
    if len(shape) not in (1, 2):
        raise ValueError(f"rewards must be [T] or [T, N], got shape {shape}")
    grid = shape if len(shape) == 2 else (shape[0], 1)
    last_values = np.asarray(last_value, np.float32).reshape(-1)
    if last_values.shape != grid[1:]:
        last_values = np.broadcast_to(last_values, grid[1:])
    advantages, returns = np.empty(grid, np.float32), np.empty(grid, np.float32)
    kernels.gae(
        _grid(rewards, "rewards", shape, grid, np.float32),
        _grid(values, "values", shape, grid, np.float32),
        _grid(_flags(dones), "dones", shape, grid, np.bool_),
        _all_valid(grid) if valid is None else _grid(valid, "valid", shape, grid, np.bool_),
        np.ascontiguousarray(last_values),
        gamma,
        gae_lambda,
        advantages,
        returns,
    )
    return advantages.reshape(shape), returns.reshape(shape)


def episode_advantages(
    episode: EpisodeData,
    rewards: Array,
    values: Array,
    end_values: Array,
    last_values: Array,
    discounts: tuple[float, float],
) -> tuple[Array, Array, Array]:
    """Compute the advantages of a window, with time limits bootstrapped from the final observation.

    A truncated row is paid `gamma * V(final observation)` and then ends the episode (Pardo et al. 2018).
    Where a source gives no end observations, a truncated last row is bootstrapped from `last_values`. A row
    whose next observation is not known at all is left out, and so is one whose reward or value, or
    whose next one's value, is not finite: its target is unknown, and no other row may catch it.

    Args:
        episode: The window, R = T * N rows.
        rewards: `[R]` float32, normalised or not.
        values: `[R]`, the critic's values of `episode.observations`.
        end_values: `[K]`, its values of `episode.end_observations`; empty where there are none.
        last_values: `[N]`, its values of the observations after the last rows.
        discounts: `(gamma, gae_lambda)`.

    Returns:
        Advantages `[R]`, returns `[R]` and which rows can be learned from, `[R]` bool.
    """
    gamma, gae_lambda = discounts
    terminated = np.asarray(episode.terminated, bool)
    truncated = np.asarray(episode.truncated, bool) & ~terminated
    valid = _valid_rows(episode)
    rewards = np.array(rewards, np.float32)
    if episode.end_rows is not None and len(end_values):
        cut = truncated[episode.end_rows]
        rewards[episode.end_rows[cut]] += np.float32(gamma) * end_values[cut]
        dones = terminated | truncated
    else:
        dones, last_row = terminated, len(rewards) - episode.num_envs
        known = ~truncated
        known[last_row:] = True if episode.final_obs is not None else terminated[last_row:]
        valid &= known
    next_values = np.append(values[episode.num_envs :], last_values)
    valid &= np.isfinite(rewards) & np.isfinite(values) & (dones | np.isfinite(next_values))
    advantages, returns = compute_gae(
        episode.grid(rewards),
        episode.grid(values),
        episode.grid(dones),
        gamma,
        gae_lambda,
        last_values,
        episode.grid(valid),
    )
    return advantages.reshape(-1), returns.reshape(-1), valid


def explained_variance(values: Array, returns: Array) -> float:
    """Return `1 - Var(returns - values) / Var(returns)`: 1 is a perfect critic, 0 a constant one.

    Finite for all finite float32 numbers; 0 where the returns are equal, which leaves nothing to explain.
    """
    # Their squares overflow in single precision.
    returns, values = np.asarray(returns, np.float64), np.asarray(values, np.float64)
    variance = float(np.var(returns))
    return 0.0 if variance < 1e-12 else 1.0 - float(np.var(returns - values)) / variance


def make_minibatches(
    data: Mapping[str, Array],
    minibatch_size: int,
    shuffle: bool = True,
    rng: np.random.Generator | None = None,
) -> Iterator[dict[str, Array]]:
    """Yield the rows of `data` in minibatches; the last one may be short.

    Args:
        data: Arrays `[B, ...]` of one length, by name.
        minibatch_size: Rows of each minibatch.
        shuffle: Whether rows come in random order, the same one in all arrays.
        rng: Draws that order. None: another one each time.

    Raises:
        ValueError: If the lengths differ, or `minibatch_size` is below 1.

    Examples:
        >>> import numpy as np
        >>> from tensor_optix import make_minibatches
        >>> batches = make_minibatches({"rewards": np.arange(5)}, minibatch_size=2, shuffle=False)
        >>> [batch["rewards"].tolist() for batch in batches]
        [[0, 1], [2, 3], [4]]
    """
    at_least("minibatch_size", minibatch_size, 1)
    lengths = {name: len(field) for name, field in data.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"all fields must have the same number of rows, got {lengths}")
    length = next(iter(lengths.values()), 0)
    order = np.arange(length)
    if shuffle:
        (rng or np.random.default_rng()).shuffle(order)
    for start in range(0, length, minibatch_size):
        rows = order[start : start + minibatch_size]
        yield {name: field[rows] for name, field in data.items()}


class MinibatchSampler:
    """Shuffles rows and gathers every field of them into reused buffers, one native call per epoch.

    Args:
        seed: Where the permutations start from.
    """

    def __init__(self, seed: int) -> None:
        self.state = np.array([seed], np.uint64)
        """`[1]` uint64, the generator's state; part of a checkpoint."""
        self._buffers: dict[str, Array] = {}

    def epoch(self, fields: Mapping[str, Array], rows: Array) -> dict[str, Array]:
        """Return `fields[name][rows]` in a fresh random order.

        Args:
            fields: C-contiguous arrays `[R, ...]`.
            rows: `[B]` int32, the rows to use; shuffled in place.

        Returns:
            Arrays `[B, ...]`, valid until the next call.
        """
        self.shuffle(rows)
        gathered = {name: self._buffer(name, field, len(rows)) for name, field in fields.items()}
        kernels.gather(list(fields.values()), rows, list(gathered.values()))
        return gathered

    def shuffle(self, rows: Array) -> Array:
        """Put rows `[B]` int32 into a fresh random order, in place: the one that `epoch` gathers in."""
        kernels.shuffle(rows, self.state)
        return rows

    def _buffer(self, name: str, like: Array, length: int) -> Array:
        buffer = self._buffers.get(name)
        shape = (length, *like.shape[1:])
        if buffer is None or buffer.dtype != like.dtype or buffer.size < math.prod(shape):
            buffer = self._buffers[name] = np.empty(shape, like.dtype)
        return buffer.reshape(-1)[: math.prod(shape)].reshape(shape)


def transitions_of(episode: EpisodeData) -> Iterator[Transitions]:
    """Yield the rows of a window in time order, each environment's with its own next observation.

    Where an episode ended, that is its true last observation. Left out are rows that are not valid, and those
    whose next observation is not known: a truncated row without it, and the last one where the
    window has no `final_obs`. A terminated row never needs it: its own observation stands in.
    """
    num_envs = episode.num_envs
    observations = episode.grid(np.asarray(episode.observations))
    actions = episode.grid(np.asarray(episode.actions))
    rewards = episode.grid(episode.rewards, np.float32)
    terminated = episode.grid(episode.terminated, bool)
    truncated = episode.grid(episode.truncated, bool)
    valid = episode.grid(_valid_rows(episode))
    ends = {}
    if episode.end_rows is not None and episode.end_observations is not None:
        ends = dict(zip(episode.end_rows.tolist(), episode.end_observations, strict=True))
    for t in range(len(rewards)):
        following, known = _following(episode, observations, t)
        dones = terminated[t] | truncated[t]
        usable = valid[t] & known
        for n in np.flatnonzero(dones):
            row = t * num_envs + int(n)
            following[n] = ends.get(row, observations[t, n])
            usable[n] = valid[t, n] & (terminated[t, n] | (row in ends))
        rows = np.flatnonzero(usable)
        if len(rows):
            yield Transitions(
                observations[t][rows],
                actions[t][rows],
                rewards[t][rows],
                following[rows],
                terminated[t][rows],
                truncated[t][rows],
                rows,
                num_envs,
            )


def _following(episode: EpisodeData, observations: Array, t: int) -> tuple[Array, bool]:
    """Return what each environment shows after row `t`, and whether that is known."""
    if t + 1 < len(observations):
        return observations[t + 1].copy(), True
    if episode.final_obs is None:
        return observations[t].copy(), False
    final = np.array(episode.final_obs, observations.dtype)
    return final.reshape(observations[t].shape), True


class ObservedRows:
    """The rows that an agent was shown since the last window it learned from: how many, and the last."""

    def __init__(self) -> None:
        self._rows = 0
        self._last: tuple[int, Array, Array] | None = None

    def add(self, transitions: Transitions) -> None:
        """Count the rows of a vector step and keep a copy of the first."""
        self._rows += len(transitions.rewards)
        observation, action = transitions.observations[0], transitions.actions[0]
        self._last = int(transitions.env_ids[0]), np.array(observation), np.array(action)

    def covers(self, episode: EpisodeData) -> bool:
        """Return whether the rows of a window are among these.

        A count is not enough: what was collected may have been thrown away, as when a run is interrupted.
        """
        if self._last is None or self._rows < episode.num_steps:
            return False
        env_id, observation, action = self._last
        own = np.flatnonzero(_valid_rows(episode)[env_id :: episode.num_envs])
        if env_id >= episode.num_envs or not len(own):
            return False
        row = int(own[-1]) * episode.num_envs + env_id
        return np.array_equal(episode.observations[row], observation, equal_nan=True) and (
            np.array_equal(episode.actions[row], action, equal_nan=True)
        )


def _valid_rows(episode: EpisodeData) -> Array:
    """Return a copy, `[R]` bool."""
    return np.ones(episode.length, bool) if episode.valid is None else np.array(episode.valid, bool)


def _grid(data: Any, name: str, shape: tuple[int, ...], grid: tuple[int, ...], dtype: Any) -> Array:
    array = np.ascontiguousarray(data, dtype)
    if array.shape != shape:
        raise ValueError(f"{name} must have the shape of rewards, {shape}, got {array.shape}")
    return array.reshape(grid)


def _all_valid(grid: tuple[int, ...]) -> Array:
    valid = np.empty(grid, np.bool_)
    valid.fill(True)
    return valid


def _flags(dones: Any) -> Any:
    """Return a list of Python's own flags as an array, in a third of NumPy's time; all else as it is."""
    if isinstance(dones, list):
        try:
            return np.frombuffer(bytes(dones), np.uint8)
        except (TypeError, ValueError):  # other numbers than flags and bytes, or rows of them
            pass
    return dones
