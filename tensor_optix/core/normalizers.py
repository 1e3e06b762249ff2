"""Normalised observations and rewards: raw ones go in, values of about unit scale come out.

Neither sees a NaN or infinite value in its statistics, and `freeze` holds everything still, for
evaluation.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from tensor_optix import kernels
from tensor_optix.core.argument_checks import in_unit_interval, not_negative

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import ArrayLike

    from tensor_optix.core.types import Array

__all__ = ["ObsNormalizer", "RewardNormalizer", "RunningMeanStd"]

EPSILON = 1e-8
"""Added to the variance before its root is taken, so that a constant divides by no zero."""
_FLOAT32_MAX = float(np.finfo(np.float32).max)
"""Rows with more than that, or with NaN, stay out of the statistics."""


class _Freezable:
    """Something that learns from what it is shown, unless it is frozen."""

    frozen: bool = False
    """While True, nothing changes the statistics."""

    @contextmanager
    def freeze(self) -> Iterator[None]:
        """Freeze within a `with` block; afterwards `frozen` is what it was before."""
        before = self.frozen
        self.frozen = True
        try:
            yield
        finally:
            self.frozen = before


class RunningMeanStd(_Freezable):
    """Mean and population variance of everything seen.

    It starts at mean 0 and variance 1, of which the first rows leave nothing: with a mean of 1e6, the way
    there would be most of the variance. Rows that float32 cannot hold exactly are taken in as float64.

    Args:
        shape: The shape `[...]` of one row.
        epsilon: What `count` starts from; nothing else depends on it.

    Raises:
        ValueError: If `epsilon` is negative.

    Examples:
        >>> import numpy as np
        >>> from tensor_optix import RunningMeanStd
        >>> moments = RunningMeanStd(shape=(2,))
        >>> moments.update(np.array([[1.0, 10.0], [3.0, 30.0]], np.float32))
        >>> moments.mean.tolist()
        [2.0, 20.0]
    """

    def __init__(self, shape: tuple[int, ...] = (), epsilon: float = 1e-4) -> None:
        if not epsilon >= 0:
            raise ValueError(f"epsilon must be >= 0, got {epsilon}")
        self.shape = tuple(shape)
        size = math.prod(self.shape)
        self._mean = np.zeros(size)
        self._var = np.ones(size)
        self._epsilon = float(epsilon)
        self._count = np.zeros(1)

    @property
    def mean(self) -> Array:
        """A copy of the mean, `[...]` float64."""
        return self._mean.reshape(self.shape).copy()

    @property
    def var(self) -> Array:
        """A copy of the variance, `[...]` float64."""
        return self._var.reshape(self.shape).copy()

    @property
    def count(self) -> float:
        """The number of rows seen, plus `epsilon`."""
        return float(self._count[0]) + self._epsilon

    def update(self, x: ArrayLike) -> None:
        """Take in one row `[...]` or a batch of rows `[B, ...]` (any number of leading axes)."""
        if self.frozen:
            return
        rows = self._rows(x)
        if rows.dtype == np.float32:
            kernels.update_moments(rows, self._mean, self._var, self._count)
        else:
            self._merge(rows[np.abs(rows).max(axis=1, initial=0.0) <= _FLOAT32_MAX])

    def normalize(self, x: ArrayLike, clip: float = 10.0) -> Array:
        """Return `(x - mean) / sqrt(var + 1e-8)`, clipped to [-clip, clip] (0: not clipped).

        Args:
            x: `[...]` or `[B, ...]`.
            clip: In standard deviations.

        Returns:
            The same shape, float32.
        """
        rows = self._rows(x)
        out = np.empty(rows.shape, np.float32)
        if rows.dtype == np.float32:
            kernels.normalize(rows, self._mean, self._var, clip, EPSILON, out)
        else:
            limit = clip if clip > 0 else math.inf
            # What float32 cannot hold becomes infinite.
            with np.errstate(over="ignore", invalid="ignore"):
                deviations = (rows - self._mean) / np.sqrt(self._var + EPSILON)
                out[:] = np.clip(deviations, -limit, limit)
        return out.reshape(np.shape(x))

    def update_and_normalize(self, x: ArrayLike, clip: float = 10.0) -> Array:
        """Return what `update` and then `normalize` return, in one call."""
        self.update(x)
        return self.normalize(x, clip)

    def state_dict(self) -> dict[str, Array]:
        """Return copies of `mean` `[...]`, `var` `[...]` and `count` `[1]`, all float64."""
        return {"mean": self.mean, "var": self.var, "count": np.full(1, self.count)}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Take on what `state_dict` returned.

        Raises:
            ValueError: If an array is missing or has another shape; nothing has changed then.
        """
        mean = _stored(state, "mean", self.shape)
        var = _stored(state, "var", self.shape)
        count = _stored(state, "count", (1,))
        # Rounded, because `n + epsilon - epsilon` need not be n.
        count = np.maximum(np.round(count - self._epsilon, 6), 0.0)
        self._mean, self._var, self._count = mean.reshape(-1), var.reshape(-1), count

    def _rows(self, x: ArrayLike) -> Array:
        values = np.asarray(x)
        leading = values.ndim - len(self.shape)
        if leading < 0 or values.shape[leading:] != self.shape:
            raise ValueError(
                f"x must be one row of shape {self.shape} or a batch of them, got {values.shape}"
            )
        # The kernels take float32. Of what does not fit in it, it may hold the mean and nothing else.
        dtype = np.float32 if np.can_cast(values.dtype, np.float32) else np.float64
        return np.ascontiguousarray(values, dtype).reshape(-1, self._mean.size)

    def _merge(self, rows: Array) -> None:
        """Take in rows `[B, D]` float64 as `update_moments` does, Chan, Golub, LeVeque 1983, eq. 2.1."""
        n, before = len(rows), self._count[0]
        if not n:
            return
        mean, share = rows.mean(axis=0), n / (before + n)
        squares = np.square(rows - mean).sum(axis=0)
        delta = mean - self._mean
        self._mean += delta * share
        squares += np.square(delta) * (before * share)
        self._var = (self._var * before + squares) / (before + n)
        self._count += n


class ObsNormalizer(_Freezable):
    """Observations of mean 0 and variance 1 per component.

    Before it has seen any, they pass as they are, but clipped: in its first window a policy acts by these and
    learns from these, afterwards by the moments of all that it has learned from.

    Args:
        obs_shape: The shape `[...]` of one observation.
        clip: Bound of the normalised values, in standard deviations; 0 for none.

    Raises:
        ValueError: If `clip` is negative.

    Examples:
        >>> import numpy as np
        >>> from tensor_optix import ObsNormalizer
        >>> normalizer = ObsNormalizer(obs_shape=(2,))
        >>> rows = np.array([[0.0, 10.0], [2.0, 30.0]], np.float32)
        >>> normalizer.update_and_normalize(rows).tolist()
        [[-1.0, -1.0], [1.0, 1.0]]
    """

    def __init__(self, obs_shape: tuple[int, ...], clip: float = 10.0) -> None:
        self._clip = _checked_clip(clip)
        self._moments = RunningMeanStd(obs_shape)

    @property
    def clip(self) -> float:
        """Bound of the normalised values, in standard deviations; 0 for none."""
        return self._clip

    @property
    def mean(self) -> Array:
        """A copy of the mean, `[...]` float64."""
        return self._moments.mean

    @property
    def var(self) -> Array:
        """A copy of the variance, `[...]` float64."""
        return self._moments.var

    def update(self, obs: ArrayLike) -> None:
        """Take in one observation `[...]` or a batch `[B, ...]`."""
        if not self.frozen:
            self._moments.update(obs)

    def normalize(self, obs: ArrayLike) -> Array:
        """Return one observation `[...]` or a batch `[B, ...]`, normalised, as float32."""
        return self._moments.normalize(obs, self._clip)

    def update_and_normalize(self, obs: ArrayLike) -> Array:
        """Return what `update` and then `normalize` return, in one call."""
        if self.frozen:
            return self.normalize(obs)
        return self._moments.update_and_normalize(obs, self._clip)

    def state_dict(self) -> dict[str, Array]:
        """Return copies of the statistics: `mean`, `var`, `count`."""
        return self._moments.state_dict()

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Take on what `state_dict` returned; ValueError if it does not fit."""
        self._moments.load_state_dict(state)


class RewardNormalizer(_Freezable):
    """Rewards divided by the standard deviation of the discounted return so far.

    Each environment carries a running return `R = gamma * R + r`, which starts again at 0 when its
    episode ends. No mean is subtracted: the sign of a reward is part of the task.

    Args:
        gamma: The discount.
        clip: Bound of the normalised rewards; 0 for none.
        epsilon: Added to the variance before its root is taken.

    Raises:
        ValueError: If `gamma` is outside [0, 1], or `clip` or `epsilon` is negative.

    Examples:
        >>> import numpy as np
        >>> from tensor_optix import RewardNormalizer
        >>> normalizer, rewards = RewardNormalizer(gamma=0.0), np.array([100.0, 300.0])
        >>> normalizer.update(rewards, dones=[False, False])
        >>> normalizer.normalize(rewards).round(2).tolist()
        [1.0, 3.0]
    """

    def __init__(self, gamma: float = 0.99, clip: float = 10.0, epsilon: float = EPSILON) -> None:
        self._gamma = in_unit_interval("gamma", gamma)
        self._clip = _checked_clip(clip)
        self._epsilon = not_negative("epsilon", epsilon)
        self._moments = RunningMeanStd()
        self._returns = np.zeros(0)

    @property
    def var(self) -> float:
        """The variance of the running returns."""
        return float(self._moments.var)

    @property
    def returns(self) -> Array:
        """A copy of the running returns, `[N]` float64; `[0]` after a reset."""
        return self._returns.copy()

    def step(self, reward: ArrayLike, dones: ArrayLike | None = None) -> None:
        """Take in one step: `R = gamma * R + r`, then the statistics, then `R = 0` where done.

        Args:
            reward: A scalar, or `[N]` with one reward per environment.
            dones: The same shape; where an episode ended with this reward. None: nowhere.
        """
        row = np.reshape(np.asarray(reward, np.float64), (1, -1))
        ended = np.zeros(row.shape, bool) if dones is None else np.reshape(dones, (1, -1))
        self.update(row, ended)

    def update(self, rewards: ArrayLike, dones: ArrayLike, valid: ArrayLike | None = None) -> None:
        """Take in a whole window: the same as `step`, row by row.

        A reward that is NaN, or that float32 cannot hold, counts as 0 in R and is left out of the
        statistics.

        Args:
            rewards: `[T, N]`, or `[T]` for one environment.
            dones: The same shape; where an episode ended.
            valid: The same shape; rows with False are passed over. None: all are valid.

        Raises:
            ValueError: If the shapes differ, or N is not that of the steps before.
        """
        values = _columns(rewards, np.float64)
        ended = _columns(dones, bool)
        counted = np.ones(values.shape, bool) if valid is None else _columns(valid, bool)
        if ended.shape != values.shape or counted.shape != values.shape:
            raise ValueError(
                f"dones and valid must have the shape {values.shape} of rewards, "
                f"got {ended.shape} and {counted.shape}"
            )
        num_envs = values.shape[1]
        if self._returns.size not in (0, num_envs):
            raise ValueError(
                f"rewards must be of {self._returns.size} environments, as before, got {num_envs}; "
                "call reset() when the environments change"
            )
        if self.frozen or values.size == 0:
            return
        before = self._returns if self._returns.size else np.zeros(num_envs)
        ended = ended & counted
        # Sums of what float32 holds cannot overflow in float64, and R stays finite.
        known = counted & (np.abs(values) <= _FLOAT32_MAX)
        returns = _running_returns(
            np.where(known, values, 0.0), ended, np.where(counted, self._gamma, 1.0), before
        )
        self._moments.update(np.where(known, returns, np.nan))
        self._returns = np.where(ended[-1], 0.0, returns[-1])

    def normalize(self, rewards: ArrayLike) -> Array:
        """Return `clip(rewards / sqrt(var + epsilon))` in the same shape, as float32."""
        with np.errstate(over="ignore"):
            values = np.ascontiguousarray(rewards, np.float32).reshape(-1, 1)
        out = np.empty_like(values)
        var = self._moments.var.reshape(1)
        kernels.normalize(values, np.zeros(1), var, self._clip, self._epsilon, out)
        return out.reshape(np.shape(rewards))

    def reset(self) -> None:
        """Start every running return at 0 again; the number of environments may change."""
        if not self.frozen:
            self._returns = np.zeros(0)

    def state_dict(self) -> dict[str, Array]:
        """Return copies of `mean`, `var`, `count` and of the running `returns` `[N]`."""
        return {**self._moments.state_dict(), "returns": self.returns}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Take on what `state_dict` returned; ValueError if it does not fit."""
        returns = _stored(state, "returns", None)
        self._moments.load_state_dict(state)
        self._returns = returns.reshape(-1)


def _stored(state: Mapping[str, Array], name: str, shape: tuple[int, ...] | None) -> Array:
    """Return a float64 copy of an array of a state dict; ValueError if absent or misshapen."""
    if name not in state:
        raise ValueError(f"state must hold {name!r}, got {sorted(state)}")
    array: Array = np.array(state[name], np.float64)
    if shape is not None and array.shape != shape:
        raise ValueError(f"{name!r} must have shape {shape}, got {array.shape}")
    return array


def _running_returns(rewards: Array, ended: Array, factors: Array, before: Array) -> Array:
    """Return `R_t = factor_t * R_(t-1) + r_t` for `[T, N]`, R being 0 after an ended row.

    Computed by doubling: after k passes a row holds the sum over the 2^k rows up to it, and the
    factor that the R before those rows still has.
    """
    returns: Array = rewards.copy()
    factors = factors.copy()
    factors[1:][ended[:-1]] = 0.0
    span = 1
    while span < len(returns):
        returns[span:] += factors[span:] * returns[:-span]
        factors[span:] *= factors[:-span].copy()
        span *= 2
    returns += factors * before
    return returns


def _columns(values: ArrayLike, dtype: type) -> Array:
    array: Array = np.asarray(values, dtype)
    return array.reshape(-1, 1) if array.ndim < 2 else array


def _checked_clip(clip: float) -> float:
    if not clip >= 0:
        raise ValueError(f"clip must be >= 0 (0 for none), got {clip}")
    return float(clip)
