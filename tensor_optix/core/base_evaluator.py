"""The contract of an evaluator, and the default one: the mean return of finished episodes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.core.types import Array, EpisodeData, EvalMetrics

if TYPE_CHECKING:
    from collections.abc import Callable


RAW_REWARDS = "raw_rewards"
"""Metadata of a window whose rewards were changed for learning: those that count for its score."""


class BaseEvaluator(ABC):
    """Turns a window into a score.

    Examples:
        >>> from tensor_optix import BaseEvaluator, EvalMetrics
        >>> class TotalReward(BaseEvaluator):
        ...     def score(self, episode_data, train_diagnostics):
        ...         total = episode_data.total_reward
        ...         return EvalMetrics(total, {"steps": episode_data.num_steps}, episode_data.episode_id)
    """

    @abstractmethod
    def score(self, episode_data: EpisodeData, train_diagnostics: dict[str, Any]) -> EvalMetrics:
        """Score a window. A NaN `primary_score` says that the window holds no evidence."""

    def score_validation(self, episode_data: EpisodeData) -> EvalMetrics:
        """Score a window of held-out data, which has no diagnostics."""
        return self.score(episode_data, {})

    def combine(self, train: EvalMetrics, val: EvalMetrics) -> EvalMetrics:
        """Join a training and a validation score; the validation score is the one that counts."""
        metrics: dict[str, Any] = {f"train_{name}": value for name, value in train.metrics.items()}
        metrics |= {f"val_{name}": value for name, value in val.metrics.items()}
        metrics["train_score"] = train.primary_score
        metrics["val_score"] = val.primary_score
        metrics["generalization_gap"] = train.primary_score - val.primary_score
        return EvalMetrics(val.primary_score, metrics, train.episode_id)

    @property
    def has_step_score(self) -> bool:
        """Whether `per_step` has a score for tasks whose episodes do not end."""
        return False

    def per_step(self, metrics: EvalMetrics) -> EvalMetrics:
        """Return a window's metrics with the score that it has in a task whose episodes do not end."""
        return metrics

    def compare(self, candidate: EvalMetrics, baseline: EvalMetrics) -> bool:
        """Whether `candidate` is the better one."""
        return candidate.beats(baseline)

    def state_dict(self) -> dict[str, Any] | None:
        """Return what a resumed run needs to score as before; None: the evaluator remembers nothing.

        Plain values and NumPy arrays, as `core.checkpoints.saved_state` has them.
        """
        return None

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take on what `state_dict` returned.

        Raises:
            ValueError: If it does not fit; also KeyError and TypeError are understood as that.
        """


class CheckedEvaluator(BaseEvaluator):
    """An evaluator of the user's, whose every answer is checked.

    Args:
        evaluator: Scores.

    Raises:
        TypeError: By every method, if the evaluator answers with anything else than `EvalMetrics`.
    """

    def __init__(self, evaluator: BaseEvaluator) -> None:
        self._evaluator = evaluator

    def score(self, episode_data: EpisodeData, train_diagnostics: dict[str, Any]) -> EvalMetrics:
        """Score a window."""
        return self._checked("score", self._evaluator.score(episode_data, train_diagnostics))

    def score_validation(self, episode_data: EpisodeData) -> EvalMetrics:
        """Score a window of held-out data."""
        score = self._evaluator.score_validation(episode_data)
        return self._checked("score_validation", score)

    def combine(self, train: EvalMetrics, val: EvalMetrics) -> EvalMetrics:
        """Join a training and a validation score."""
        return self._checked("combine", self._evaluator.combine(train, val))

    def compare(self, candidate: EvalMetrics, baseline: EvalMetrics) -> bool:
        """Whether `candidate` is the better one."""
        return self._evaluator.compare(candidate, baseline)

    @property
    def has_step_score(self) -> bool:
        """Whether the evaluator can score by the step."""
        return self._evaluator.has_step_score

    def per_step(self, metrics: EvalMetrics) -> EvalMetrics:
        """Return metrics with the score by the step."""
        return self._checked("per_step", self._evaluator.per_step(metrics))

    def state_dict(self) -> dict[str, Any] | None:
        """Return what the evaluator keeps."""
        return self._evaluator.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Give the evaluator back what it kept."""
        self._evaluator.load_state_dict(state)

    def _checked(self, method: str, score: Any) -> EvalMetrics:
        if isinstance(score, EvalMetrics):
            return score
        got = "None" if score is None else f"the {type(score).__name__} {score!r}"
        raise TypeError(
            f"{type(self._evaluator).__name__}.{method} must return EvalMetrics, got {got}: return "
            "EvalMetrics(primary_score=SCORE, metrics={}, episode_id=episode_data.episode_id)"
        )


class MeanReturnEvaluator(BaseEvaluator):
    """Score a window by the mean return of the episodes that finished in it.

    Returns are counted from each episode's own first step, over window borders, where the data source
    tracks them (`EpisodeData.finished_returns`); otherwise from the window's first row. A window in
    which no episode finished scores NaN: it says nothing about the policy. Where none finishes for so
    long that the task seems to have no ends, the loop lets windows be scored by the mean reward a step.

    Args:
        primary_score_fn: `fn(episode_data, train_diagnostics) -> float` that replaces both.

    Examples:
        >>> import numpy as np
        >>> from tensor_optix import EpisodeData, MeanReturnEvaluator
        >>> rows = np.zeros((4, 1), np.float32)
        >>> ends = [False, True, False, True]
        >>> window = EpisodeData(rows, rows[:, 0], [1.0, 1.0, 2.0, 4.0], ends, [False] * 4, [], episode_id=0)
        >>> MeanReturnEvaluator().score(window, {}).primary_score
        4.0
    """

    # For subclasses with a constructor and a score of their own.
    _primary_score_fn: Callable[[EpisodeData, dict[str, Any]], float] | None = None

    def __init__(
        self, primary_score_fn: Callable[[EpisodeData, dict[str, Any]], float] | None = None
    ) -> None:
        self._primary_score_fn = primary_score_fn

    def score(self, episode_data: EpisodeData, train_diagnostics: dict[str, Any]) -> EvalMetrics:
        """Score a window; the metrics hold the reward statistics and every numeric diagnostic."""
        returns, lengths = finished_episodes(episode_data)
        if self._primary_score_fn is not None:
            primary = float(self._primary_score_fn(episode_data, train_diagnostics))
        else:
            primary = _mean(returns)
        rewards = _valid_rewards(episode_data)
        metrics: dict[str, Any] = {
            name: float(value)
            for name, value in train_diagnostics.items()
            if isinstance(value, Real | np.number)
        }
        metrics |= {
            "primary_score": primary,
            "total_reward": float(rewards.sum()),
            "mean_reward": _mean(rewards),
            "reward_std": _std(rewards),
            "episode_length": _mean(lengths),
        }
        scored = EvalMetrics(primary, metrics, episode_data.episode_id)
        if self._primary_score_fn is not None:
            return scored
        return scored.as_mean(primary, len(returns), _std(returns))

    @property
    def has_step_score(self) -> bool:
        """Whether the mean reward a step may be the score: not beside a score of the user's."""
        return self._primary_score_fn is None

    def per_step(self, metrics: EvalMetrics) -> EvalMetrics:
        """Return a window's metrics with the mean reward a step as its score."""
        return metrics.as_per_step(float(metrics.metrics.get("mean_reward", math.nan)))


def finished_episodes(episode: EpisodeData) -> tuple[Array, Array]:
    """Return the returns `[K]` and lengths `[K]` of the episodes that finished in a window."""
    if episode.finished_returns is not None and episode.finished_lengths is not None:
        return episode.finished_returns, episode.finished_lengths
    rewards = episode.grid(episode.metadata.get(RAW_REWARDS, episode.rewards), np.float64)
    dones = episode.grid(episode.dones)
    valid = np.ones(dones.shape, bool) if episode.valid is None else episode.grid(episode.valid)
    returns: list[float] = []
    lengths: list[int] = []
    for n in range(episode.num_envs):
        start = 0
        for end in np.flatnonzero(dones[:, n] & valid[:, n]):
            rows = valid[start : end + 1, n]
            returns.append(float(rewards[start : end + 1, n][rows].sum()))
            lengths.append(int(rows.sum()))
            start = int(end) + 1
    return np.asarray(returns), np.asarray(lengths, np.int64)


def _valid_rewards(episode: EpisodeData) -> Array:
    rewards = np.asarray(episode.metadata.get(RAW_REWARDS, episode.rewards), np.float64)
    return rewards if episode.valid is None else rewards[np.asarray(episode.valid, bool)]


def _mean(values: Array) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def _std(values: Array) -> float:
    with np.errstate(invalid="ignore"):
        return float(np.std(values)) if len(values) else math.nan
