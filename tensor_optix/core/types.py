"""The values that travel between the parts of the library. Nothing else is shared.

Shapes, here and everywhere: T rows in time, N environments, R = T * N flat rows (row `t * N + n`),
K finished episodes, A components of an action, `...` the shape of one observation.

A window is what one `learn` gets: an `EpisodeData`, which seldom is one episode of the environment. Names
that say "episode" for it come from version 1: `episode_id` is the number of a window; `episode_count`,
`max_episodes` and `max_interval_episodes` count windows; `min_episodes_before_dormant`,
`min_episodes_before_degradation` and `total_episodes` count evaluations, the windows that were scored.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

Array: TypeAlias = NDArray[Any]
PathLike: TypeAlias = str | Path


class LoopState(Enum):
    """What the loop believes about the training.

    Examples:
        >>> from tensor_optix import LoopState
        >>> [state.value for state in LoopState]
        ['ACTIVE', 'COOLING', 'DORMANT', 'WATCHDOG']
    """

    ACTIVE = "ACTIVE"
    """Learning: the score is improving, or has not stopped improving for long."""
    COOLING = "COOLING"
    """No recent improvement."""
    DORMANT = "DORMANT"
    """Nothing left to gain: the loop stops."""
    WATCHDOG = "WATCHDOG"
    """The score fell; the next evaluation confirms the degradation or clears it."""


@dataclass
class EpisodeData:
    """One window of interaction, time-major.

    With one environment the arrays are `[T, ...]`; with N of them they are flat, `[T * N, ...]`, and
    `grid` gives any of them as `[T, N, ...]`. A window need not start or end with an episode.

    What you hold of a window stays as it is for as long as you hold it: the window, an array, a slice or a
    single row, or what shares its memory, such as a tensor made without a copy. The pipeline fills the
    storage again when nobody holds any of it, so that a loop that keeps nothing allocates nothing; one
    row that is held keeps the storage of its whole window, so copy the rows where you keep few of many.
    An address alone (`array.ctypes.data`) holds nothing.

    All who get a window share its arrays, and the observations and actions that `act` and `observe` got
    while it was collected are rows of them: who writes into them writes for all. Two windows share nothing.

    Examples:
        >>> import numpy as np
        >>> from tensor_optix import EpisodeData
        >>> rows, no = np.zeros((3, 4), np.float32), [False] * 3
        >>> window = EpisodeData(rows, np.zeros(3, int), [1.0, 1.0, 0.5], [False, False, True], no, [], 0)
        >>> window.total_reward, window.dones
        (2.5, [False, False, True])
    """

    observations: Array
    """`[R, ...]`, what each action was chosen from, in the environment's own dtype; `[R]` objects where the
    space has no arrays, as a Dict."""
    actions: Array
    """`[R]` or `[R, A]`; `[R]` objects where the space has no arrays."""
    rewards: Sequence[float] | Array
    """`[R]`, as the environment paid them. Where it clips them for learning, the game's own are in
    `metadata["raw_rewards"]`, and count for the score."""
    terminated: Sequence[bool] | Array
    """`[R]`, the episode ended by its own rules at this row."""
    truncated: Sequence[bool] | Array
    """`[R]`, the episode was cut (a time limit) at this row."""
    infos: list[dict[str, Any]]
    """One dict per row, or empty where the environment's infos are not kept. Copies of the environment's
    own dicts; the values in them are the environment's."""
    episode_id: int
    """The window's number, from 0."""
    values: Array | None = None
    """`[R]`, values of the observations, if the data source has any: `PolicyGradient` then learns by A2C."""
    log_probs: Array | None = None
    """`[R]`, only where another policy than the learner's chose the actions."""
    timestamp: float = field(default_factory=time.time)
    """When it was made, in seconds since 1970; so with the other types."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """What else is known of the window, such as `raw_rewards`."""
    episode_starts: list[int] | None = None
    """Flat rows at which an episode (or this window's part of one) begins; 0 is always among them."""
    final_obs: Array | None = None
    """The observation after the last row: `[...]` with one environment, None if the last row ended
    an episode; `[N, ...]` with several."""
    num_envs: int = 1
    valid: Array | None = None
    """`[R]` bool. False marks rows that are no transition (an environment's own reset step): they are
    never learned from and never counted. None: all are valid."""
    end_rows: Array | None = None
    """`[K]` int, the flat rows at which episodes ended, ascending."""
    end_observations: Array | None = None
    """`[K, ...]`, the true last observation of each of these episodes."""
    finished_returns: Array | None = None
    """`[K]` float, the undiscounted return of each episode that finished in this window, from its own
    first step, also where that lies in an earlier window. None: the data source does not track it."""
    finished_lengths: Array | None = None
    """`[K]` int, their lengths in steps."""
    mask_size: int = 0
    """How many of the last numbers of each observation tell which actions are allowed, 1 or 0, as agents with
    `takes_action_masks` get them. 0: none."""
    finished_rows: Array | None = None
    """`[K]` int, the flat rows at which they ended, ascending. None: `end_rows`. They are fewer where an
    episode to learn from is a part of one that is scored, as a life of an Atari game is."""
    under_way: Array | None = None
    """`[N]` bool, which environments are in the middle of an episode that is scored, after the last row.
    None: the flags of the last row tell."""

    @property
    def dones(self) -> list[bool]:
        """`terminated or truncated`, row by row."""
        ended = np.asarray(self.terminated, bool) | np.asarray(self.truncated, bool)
        return [bool(done) for done in ended]

    @property
    def total_reward(self) -> float:
        """The sum of the rewards."""
        return float(np.sum(self.rewards, dtype=np.float64))

    @property
    def length(self) -> int:
        """The number of rows, valid or not."""
        return len(self.rewards)

    @property
    def num_steps(self) -> int:
        """The number of environment steps: the valid rows."""
        return self.length if self.valid is None else int(np.count_nonzero(self.valid))

    def grid(self, rows: Sequence[Any] | Array, dtype: Any = None) -> Array:
        """Return per-row data `[T * N, ...]` as `[T, N, ...]`."""
        flat = np.asarray(rows, dtype=dtype)
        return flat.reshape(-1, self.num_envs, *flat.shape[1:])


class Transitions(NamedTuple):
    """What happened in B environments in one step, for agents that learn while collecting.

    The arrays are rows of the window that is being collected, or copies, and live as long as those of
    `EpisodeData`: for as long as somebody holds them.
    """

    observations: Array
    """`[B, ...]`, what each action was chosen from, in the environment's own dtype."""
    actions: Array
    """`[B]` or `[B, A]`, as the agent chose them."""
    rewards: Array
    """`[B]` float32."""
    next_observations: Array
    """`[B, ...]`, what the action led to; where an episode ended, its true last observation."""
    terminated: Array
    """`[B]` bool, the episode ended by its own rules."""
    truncated: Array
    """`[B]` bool, the episode was cut (a time limit)."""
    env_ids: Array
    """`[B]` int64, the environment of each row, ascending where all environments are in it."""
    num_envs: int
    """N, how many environments there are. B may be less: reset rows are left out."""


@dataclass
class EvalMetrics:
    """What an evaluator says about a window. Higher `primary_score` is better; NaN: no evidence.

    Examples:
        >>> from tensor_optix import EvalMetrics
        >>> now, before = EvalMetrics(21.0, {}, episode_id=7), EvalMetrics(20.0, {}, episode_id=6)
        >>> now.beats(before), now.beats(before, margin=5.0)
        (True, False)
    """

    primary_score: float
    """What decisions rest on."""
    metrics: dict[str, Any]
    """Whatever else is known of the window, by name; it is kept with a policy."""
    episode_id: int
    """The number of the window."""
    timestamp: float = field(default_factory=time.time)

    def beats(self, other: EvalMetrics, margin: float = 0.0) -> bool:
        """Whether this score is strictly greater than the other's plus `margin`."""
        return self.primary_score > other.primary_score + margin

    @property
    def train_score(self) -> float | None:
        """The training score, where there is a validation score beside it.

        NaN where the environments of training were given as objects, so that there are no others to play
        them greedily in.
        """
        return self.metrics.get("train_score")

    @property
    def val_score(self) -> float | None:
        """The score on held-out data, which is the primary one then; None without such data."""
        return self.metrics.get("val_score")

    @property
    def generalization_gap(self) -> float | None:
        """`train_score - val_score`; None where either is missing or NaN.

        Both are of the same kind of acting: `HeldOut.train_score` says of which.
        """
        if self.train_score is None or self.val_score is None:
            return None
        gap = float(self.train_score) - float(self.val_score)
        return None if math.isnan(gap) else gap

    @property
    def score_count(self) -> int:
        """How many episode returns the score is the mean of; 0 where the evaluator does not say."""
        return int(self._of_score(_SCORE_COUNT, 0))

    @property
    def score_std(self) -> float:
        """The standard deviation of these returns; NaN where the evaluator does not say."""
        return float(self._of_score(_SCORE_STD, math.nan))

    @property
    def episode_length(self) -> float:
        """The mean length of these episodes; NaN where the evaluator does not say."""
        return float(self._of_score("episode_length", math.nan))

    @property
    def is_per_step(self) -> bool:
        """Whether the score is the mean reward a step, as no episode of the task ends."""
        return bool(self._of_score(_PER_STEP, False))

    @property
    def never_scored(self) -> bool:
        """Whether the run ended before anything was scored: its last weights, of which nothing is known."""
        return bool(self.metrics.get(_NEVER_SCORED, False))

    @classmethod
    def unscored(cls, episode_id: int) -> EvalMetrics:
        """Return what is known of weights that were never scored."""
        return cls(math.nan, {_NEVER_SCORED: True}, episode_id)

    def as_per_step(self, score: float) -> EvalMetrics:
        """Return the same with a score that is the mean reward a step."""
        metrics = self.as_mean(score, 0, math.nan)
        return replace(metrics, metrics=metrics.metrics | {_PER_STEP: True})

    def as_mean(self, score: float, count: int, std: float) -> EvalMetrics:
        """Return the same with a score that is the mean of `count` returns with a standard deviation."""
        known = {"primary_score": score, _SCORE_COUNT: count, _SCORE_STD: std}
        return replace(self, primary_score=score, metrics=self.metrics | known)

    def pooled(self, other: EvalMetrics) -> EvalMetrics:
        """Return the score of the episodes of both together, with the other metrics of this one.

        Scores that do not say how many episodes they are the mean of count alike. An other score that is
        not finite, as no episode finished, adds nothing.
        """
        if not math.isfinite(other.primary_score):
            return self
        n, m = self.score_count, other.score_count
        if not (n and m):
            return replace(self, primary_score=(self.primary_score + other.primary_score) / 2.0)
        score = (n * self.primary_score + m * other.primary_score) / (n + m)
        squares = sum(
            k * (one.score_std**2 + (one.primary_score - score) ** 2)
            for k, one in ((n, self), (m, other))
        )
        return self.as_mean(score, n + m, math.sqrt(squares / (n + m)))

    def _of_score(self, name: str, otherwise: float) -> Any:
        """Return a metric of the score that counts, which with held-out data is theirs."""
        prefix = "" if self.val_score is None else "val_"
        return self.metrics.get(prefix + name, otherwise)


_SCORE_COUNT, _SCORE_STD = "score_count", "score_std"
_PER_STEP, _NEVER_SCORED = "is_per_step", "never_scored"


@dataclass
class HyperparamSet:
    """Hyperparameters by name. What they mean is the agent's business.

    Agents of the library take a function for any number, known or the user's own: a schedule,
    `HyperparamSet({"learning_rate": lambda remaining: 3e-4 * remaining})`. A loop calls it before each
    window with the share of the run that is left, of `max_steps` or `max_episodes`, whichever is nearer its
    end: 1 in the first window, above 0 in the last. Each `run()` begins at 1. What an agent tells, and what
    is stored, are the numbers in force.

    Examples:
        >>> from tensor_optix import HyperparamSet, make_agent
        >>> schedule = HyperparamSet({"gamma": 0.98, "learning_rate": lambda remaining: 1e-3 * remaining})
        >>> agent = make_agent("CartPole-v1", framework="native", hyperparams=schedule)
        >>> agent.set_progress(0.5)
        >>> agent.get_hyperparams().params["learning_rate"]
        0.0005
    """

    params: dict[str, Any]
    """Values, or functions for schedules, by name."""
    episode_id: int = 0
    """A number of the user's own, kept with a policy; the library's own sets have 0."""
    timestamp: float = field(default_factory=time.time)

    def copy(self) -> HyperparamSet:
        """Return an independent copy with the same id and timestamp."""
        return replace(self, params=dict(self.params))


@dataclass
class PolicySnapshot:
    """A policy kept on disk, with the score that its very weights made.

    Examples:
        >>> from tensor_optix import CheckpointRegistry, EvalMetrics, make_agent
        >>> agent = make_agent("CartPole-v1", framework="native")
        >>> registry = CheckpointRegistry("kept")
        >>> snapshot = registry.save(agent, EvalMetrics(12.0, {}, episode_id=3), agent.get_hyperparams())
        >>> snapshot.eval_metrics.primary_score, snapshot.episode_id
        (12.0, 3)
    """

    snapshot_id: str
    """Eight hexadecimal digits."""
    eval_metrics: EvalMetrics
    """The score, and what it rests on."""
    hyperparams: HyperparamSet
    """Those that the policy learned with."""
    weights_path: str
    """The directory of its weights, for `load_weights`."""
    episode_id: int
    """The number of the window that was scored."""
    timestamp: float = field(default_factory=time.time)
