"""What random play shows before anything learns: a few environments come in, figures go out."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import Box, Discrete

from tensor_optix.core.episode_returns import EpisodeCounter
from tensor_optix.core.normalizers import RunningMeanStd
from tensor_optix.core.observation_layout import Encoding, layout_of

if TYPE_CHECKING:
    from tensor_optix.core.observation_layout import AnySpace
    from tensor_optix.core.types import Array
    from tensor_optix.pipeline.vector_contract import VectorEnv, VectorStep

MOST_STEPS = 4_000
"""Of all environments together."""
MOST_SECONDS = 4.0
"""No step is begun after them. A step of 0.3 ms was seen on a busy machine: what is chosen is not to depend
on what else runs."""
FEW_EPISODES = 3
"""Fewer do not tell whether one pays more than another."""
FEW_STEPS = 200
"""Fewer do not tell that nothing pays."""
RARE = 0.05
"""A smaller share of the episodes that paid otherwise than most is hardly anything."""
OFF = 1e-3
"""Rewards that are off by more than this share of their spread are not what actions cost."""
ROWS_PER_WEIGHT = 4
"""Fewer would fit anything."""
OUTLIER = 10.0
"""Of the median distance from the median: rewards beyond are no cost of actions."""
LONG_STRETCH = 200
"""Steps, of an episode at least twice as long; what shorter ones pay does not tell what is taken back."""
STRETCHES = 16
"""So many of the longest, at least, in all that was paid."""
SWING = 3.0
"""A variance ratio from which on rewards that follow each other go together."""
TAKEN_BACK = 2.0
"""So many times smaller is the variance ratio of a long stretch than the greatest, where later rewards take
back what earlier ones gave. With random play, 12 seeds each: 3.0 to 5.5 on Swimmer-v5, 1.0 to 1.2 on
HalfCheetah-v5, which swings as well, but gets somewhere, 1.0 to 1.7 on Ant-v5."""


@dataclass(frozen=True)
class FirstLook:
    """A stretch of random play in several environments at once."""

    backend: str
    """Who stepped them, never "auto"."""
    num_envs: int
    """How many there were."""
    time_limit: int | None
    """Of an episode, in steps; None where it is not known."""
    steps: int
    """Of all of them."""
    step_seconds: float
    """What a step of one took, wall clock, while all stepped together."""
    rewards: Array
    """`[steps]` float32, in no particular order."""
    reward_paths: Array
    """`[T, N]` float32, the same for each environment in its order, as far as all of them got."""
    actions: Array | None
    """`[steps, A]` float32, those which the rewards were paid for; None where they are no numbers."""
    returns: Array
    """`[K]` float64, of the episodes that ended."""
    last_rewards: Array
    """`[K]` float32, those of their last steps."""
    lengths: Array
    """`[K]` int64, of the same episodes, in steps."""
    spreads: Array | None
    """`[D]` float64, the standard deviation of each number of an observation; None where they are not
    plain numbers: choices, bytes, images."""
    centers: Array | None
    """`[D]` float64, the means of the same."""

    @property
    def is_blind(self) -> bool:
        """Whether hardly anything that random play met tells good actions from bad ones."""
        if is_blind(self.rewards, self.returns):
            return True
        return self.actions is not None and pays_for_actions_only(
            self.rewards, self.actions, self.lengths
        )

    @property
    def takes_back(self) -> bool:
        """Whether later rewards take back what some of an episode give, in episodes of full length."""
        limit, (length, num_envs) = self.time_limit, self.reward_paths.shape
        if limit is None or any(one != limit for one in self.lengths):
            return False
        longest = min(limit // 2, length // 2, length * num_envs // STRETCHES)
        if longest < LONG_STRETCH:
            return False
        ratios = variance_ratios(self.reward_paths, np.geomspace(3, longest, 6).astype(int))
        return bool(ratios.max() > max(SWING, TAKEN_BACK * ratios[-1]))


def is_blind(rewards: Array, returns: Array) -> bool:
    """Whether hardly anything that random play met tells good actions from bad ones.

    Either no reward but 0 came, or nearly every episode paid the same.

    Args:
        rewards: `[T]`, of each step.
        returns: `[K]`, of the episodes that ended.
    """
    if len(rewards) >= FEW_STEPS and not np.any(rewards):
        return True
    return len(returns) >= FEW_EPISODES and _are_alike(returns)


def pays_for_actions_only(rewards: Array, actions: Array, lengths: Array) -> bool:
    """Whether rewards are what actions cost, whatever they do, but for hardly any.

    The cost of each number of an action is `a + b x + c |x| + d x^2`, by least squares. One reward that is
    off is hardly anything.

    Args:
        rewards: `[T]`, of each step.
        actions: `[T, A]`, which they were paid for.
        lengths: `[K]`, of the episodes that ended: a step that pays by itself tells long from short ones.
    """
    spread = np.median(np.abs(rewards - np.median(rewards)))
    ordinary = np.abs(rewards - np.median(rewards)) <= OUTLIER * spread
    if len(rewards) < FEW_STEPS or not spread > 0.0:
        return False
    terms = np.hstack([np.ones((len(actions), 1)), actions, np.abs(actions), actions**2])
    if np.count_nonzero(ordinary) < ROWS_PER_WEIGHT * terms.shape[1]:
        return False
    weights, *_ = np.linalg.lstsq(terms[ordinary], rewards[ordinary].astype(np.float64), rcond=None)
    off = np.abs(rewards - terms @ weights) > OFF * spread
    by_itself = abs(weights[0]) > OFF * spread
    few = max(1.0, RARE * len(lengths))
    return bool(np.count_nonzero(off) <= few and (_are_alike(lengths) or not by_itself))


def variance_ratios(paths: Array, spans: Array) -> Array:
    """Return how the sums of so many rewards in a row vary, by how they would if none depended on another.

    The variance ratios of Lo and MacKinlay (1988), of overlapping stretches: 1 where rewards are drawn apart,
    more where they go together, less again over spans in which they take each other back.

    Args:
        paths: `[T, N]`, rewards in their order.
        spans: `[K]`, each from 1 to T.

    Returns:
        `[K]` float64; all 0 where the rewards are all the same.
    """
    centered = paths.astype(np.float64) - paths.mean(dtype=np.float64)
    sums = np.concatenate([np.zeros((1, paths.shape[1])), centered.cumsum(axis=0)])
    variance = centered.var()
    if not variance > 0.0:
        return np.zeros(len(spans))
    return np.array(
        [np.mean((sums[span:] - sums[:-span]) ** 2) / (span * variance) for span in spans]
    )


def _are_alike(values: Array) -> bool:
    """Whether nearly all values are the same."""
    _, counts = np.unique(values, return_counts=True)
    return bool(1.0 - counts.max(initial=0) / max(1, len(values)) < RARE)


def look_at(env: VectorEnv, seed: int = 0) -> FirstLook:
    """Play random actions, among those that are allowed, from a reset on.

    What the environments raise passes through.

    Args:
        env: Goes on to belong to whoever made it. Is reset.
        seed: Of the reset and of the actions.
    """
    draw = _Actions(env, seed)
    counter, moments = EpisodeCounter(env.num_envs), _moments(env.observation_space)
    rewards: list[Array] = []
    payers: list[Array] = []
    actions: list[Array] = []
    finals: list[Array] = []
    returns: list[Array] = []
    lengths: list[Array] = []
    env.reset(seed)
    env.need_masks(env.mask_size > 0)
    step = env.recv()
    if moments is not None:
        moments.update(step.observations)
    space: Any = env.action_space
    latest = np.zeros((env.num_envs, *space.shape), space.dtype)
    steps, begun = 0, time.perf_counter()
    while steps < MOST_STEPS and (not steps or time.perf_counter() - begun < MOST_SECONDS):
        drawn = draw(step)
        latest[step.env_ids] = drawn
        env.send(drawn, step.env_ids)
        step = env.recv()
        valid, (paid, ends) = step.valid, step.scored
        rewards.append(paid[valid].astype(np.float32))
        payers.append(step.env_ids[valid])
        actions.append(latest[step.env_ids[valid]])
        _, totals, durations = counter.add_step(step.env_ids[valid], paid[valid], ends[valid])
        returns.append(np.asarray(totals, np.float64))
        lengths.append(np.asarray(durations, np.int64))
        finals.append(paid[valid & ends].astype(np.float32))
        if moments is not None:
            moments.update(step.observations)
        steps += int(np.count_nonzero(valid))
    seconds, paid_in_all = time.perf_counter() - begun, np.concatenate(rewards)
    return FirstLook(
        backend=env.name,
        num_envs=env.num_envs,
        time_limit=env.max_episode_steps,
        steps=steps,
        step_seconds=seconds / max(1, steps),
        rewards=paid_in_all,
        reward_paths=_paths(paid_in_all, np.concatenate(payers), env.num_envs),
        actions=_as_numbers(space, np.concatenate(actions)),
        returns=np.concatenate(returns),
        last_rewards=np.concatenate(finals),
        lengths=np.concatenate(lengths),
        spreads=None if moments is None else np.sqrt(moments.var).ravel(),
        centers=None if moments is None else moments.mean.ravel(),
    )


def _paths(rewards: Array, payers: Array, num_envs: int) -> Array:
    """Return the rewards of each environment in a column of its own."""
    columns = [rewards[payers == one] for one in range(num_envs)]
    shortest = min(map(len, columns))
    return np.stack([one[:shortest] for one in columns], axis=1)


class _Actions:
    """Draws actions for the environments of a step."""

    def __init__(self, env: VectorEnv, seed: int) -> None:
        # The environment's own space keeps its random state.
        self._space: Any = copy.deepcopy(env.action_space)
        self._space.seed(seed)
        self._rng = np.random.default_rng(seed)

    def __call__(self, step: VectorStep) -> Array:
        count, masks = len(step.env_ids), step.action_masks
        drawn = np.stack([self._space.sample() for _ in range(count)])
        if (
            masks is None
            or not isinstance(self._space, Discrete)
            or masks.shape[1] != self._space.n
        ):
            return drawn
        preferred = np.where(masks, self._rng.random(masks.shape), -1.0).argmax(axis=1)
        return np.asarray(preferred + self._space.start, drawn.dtype)


def _as_numbers(space: AnySpace, actions: Array) -> Array | None:
    is_plain = isinstance(space, Box) and np.issubdtype(actions.dtype, np.floating)
    return actions.reshape(len(actions), -1).astype(np.float32) if is_plain else None


def _moments(space: AnySpace) -> RunningMeanStd | None:
    """Return what sums up the numbers of observations; None where they are not plain numbers."""
    is_plain = (
        isinstance(space, Box)
        and space.dtype != np.uint8
        and all(one.encoding is not Encoding.IMAGE for one in layout_of(space).fields)
    )
    return RunningMeanStd(space.shape) if is_plain and space.shape is not None else None
