"""The members of an ensemble: how much each counts, and the one action that comes of all of theirs.

Continuous actions are averaged. Discrete ones cannot be: their probabilities are mixed, and an agent that
has none counts as certain of the action that it chose.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.core.base_agent import BaseAgent
from tensor_optix.core.evolution.variants import SIGNIFICANCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gymnasium.spaces import Discrete

    from tensor_optix.core.types import Array

WEIGHT_DIGITS, SCORE_DIGITS = 6, 4
"""Of what is shown."""
NO_SPREAD = 1e-9
"""Scores whose standard deviation is below this share of the largest one differ by rounding only."""
LEAST_SIZE = 1e-8
"""What a score of 0 counts as, as a share of the largest one."""


class BaseEnsemble(BaseAgent):
    """An agent that acts and learns by several others: what evolution has to know of an ensemble."""

    @abstractmethod
    def without(self, agent: BaseAgent) -> BaseAgent:
        """Return what acts like this one but for the opinion of one agent."""


@dataclass(eq=False)
class Member:
    """An agent of an ensemble."""

    agent: BaseAgent
    weight: float
    number: int
    """Its own for good: members are numbered from 0 as they join."""
    scores: deque[float] = field(default_factory=deque)
    """The latest, oldest first."""

    @property
    def mean_score(self) -> float | None:
        """The mean of the latest scores; None without any."""
        return sum(self.scores) / len(self.scores) if self.scores else None

    def describe(self) -> dict[str, Any]:
        """Return weight and scores, rounded, as JSON can hold them."""
        mean = self.mean_score
        return {
            "weight": round(self.weight, WEIGHT_DIGITS),
            "mean_score": None if mean is None else round(mean, SCORE_DIGITS),
            "recent_scores": [round(score, SCORE_DIGITS) for score in self.scores],
        }


def weights_of_scores(scores: Sequence[float] | Array) -> Array:
    """Turn scores into weights that are proportional to them.

    `w_i ~ s_i + 2 max(0, -min(s))`: where the lowest score is negative, all are shifted by twice its size,
    so that it counts by its size as well, and a small difference stays a small one. All weights are above
    0, and their mean is 1, the weight of a new member, so that weights from different calls compare.

    Args:
        scores: `[n]` finite scores.

    Returns:
        `[n]` float64; all 1 where all scores are 0.
    """
    values = np.asarray(scores, np.float64)
    largest = float(np.abs(values).max(initial=0.0))
    if largest == 0.0:
        return np.ones(len(values))
    sizes = values / largest
    sizes = np.maximum(sizes + 2.0 * max(0.0, -float(sizes.min())), LEAST_SIZE)
    return np.asarray(sizes / sizes.mean())


def stand_out(groups: Sequence[Sequence[float]]) -> bool:
    """Whether the means of groups of scores differ by more than their standard errors explain.

    The chi-squared test of the spread of the means, with the variance within the groups as that of one
    score. Where no group has two scores nothing is known of the noise, and every difference counts.
    """
    arrays = [np.asarray(group, np.float64) for group in groups]
    count = sum(len(array) for array in arrays)
    freedom = count - len(arrays)
    if len(arrays) < 2 or freedom == 0:
        return len(arrays) > 1
    everything = np.concatenate(arrays)
    mean, largest = float(everything.mean()), float(np.abs(everything).max())
    within = sum(float(((array - array.mean()) ** 2).sum()) for array in arrays)
    if within <= count * (NO_SPREAD * largest) ** 2:
        return True
    between = sum(len(array) * (float(array.mean()) - mean) ** 2 for array in arrays)
    # SciPy takes longer to import than the whole package may.
    from scipy.special import chdtrc

    return float(chdtrc(len(arrays) - 1, between * freedom / within)) < SIGNIFICANCE


def common_action(members: Sequence[Member], observation: Any) -> Any:
    """Return the members' common action for one observation; of whole numbers the most probable one.

    A single member acts by itself.
    """
    if len(members) == 1:
        return members[0].agent.act(observation)
    actions = [np.asarray(member.agent.act(observation)) for member in members]
    if not all(are_discrete(action[None]) for action in actions):
        return weighted_mean(members, actions)
    return int(np.argmax(mixed_probs(members, np.asarray(observation)[None])[0]))


def weighted_mean(members: Sequence[Member], values: Sequence[Array]) -> Array:
    """Return `sum_i w_i x_i / sum_i w_i` of one array per member; where all weights are 0, the mean."""
    weights = np.array([member.weight for member in members], np.float64)
    total = weights.sum()
    shares = weights / total if total > 0.0 else np.full(len(weights), 1.0 / len(weights))
    stacked = np.stack([np.asarray(value) for value in values])
    dtype = np.result_type(stacked.dtype, np.float32)
    return np.tensordot(shares, stacked, axes=1).astype(dtype)


def are_discrete(actions: Array) -> bool:
    """Whether `[N, ...]` actions are choices: one whole number each."""
    return actions.ndim == 1 and np.issubdtype(actions.dtype, np.integer)


def action_probs(member: Member, observations: Array) -> Array | None:
    """Return the member's action probabilities `[N, A]` float64; None if it has none."""
    try:
        return np.asarray(member.agent.action_probs(observations), np.float64)
    except NotImplementedError:
        return None


def mixed_probs(
    members: Sequence[Member],
    observations: Array,
    greedy: bool = False,
    space: Discrete | None = None,
) -> Array:
    """Return the weighted mean `[N, A]` of the members' action probabilities.

    Args:
        members: Who chooses.
        observations: `[N, ...]`.
        greedy: Whether members without probabilities vote for their best action, or for the one they take.
        space: The actions. None: from 0 on, and as many as the members name.

    Raises:
        ValueError: If the members do not have the same actions.
    """
    start = 0 if space is None else int(space.start)
    known = [action_probs(member, observations) for member in members]
    votes = [
        _votes(member.agent, observations, greedy, start) if probs is None else None
        for member, probs in zip(members, known, strict=True)
    ]
    sizes = {probs.shape[1] for probs in known if probs is not None}
    if space is not None:
        sizes.add(int(space.n))
    most = max((int(vote.max(initial=0)) for vote in votes if vote is not None), default=0)
    size: int = max(sizes, default=most + 1)
    if len(sizes) > 1 or most >= size:
        raise ValueError(
            f"members must have the same actions, got {sorted(sizes)} actions and votes up to action "
            f"{most + start}"
        )
    probs = [
        np.eye(size)[vote] if own is None else own for vote, own in zip(votes, known, strict=True)
    ]
    return weighted_mean(members, probs)


def sample(probs: Array, rng: np.random.Generator) -> Array:
    """Draw a column `[N]` int64 for each row of `[N, A]` probabilities."""
    edges = np.cumsum(probs, axis=1)
    points = rng.random((len(probs), 1)) * edges[:, -1:]
    # The product may round up to the last edge, beyond which there is no column.
    return np.asarray(np.minimum((edges <= points).sum(axis=1), probs.shape[1] - 1))


def _votes(agent: BaseAgent, observations: Array, greedy: bool, start: int) -> Array:
    """Return which of its actions an agent chooses for `[N, ...]` observations, `[N]`, counted from 0."""
    act = agent.act_greedy if greedy else agent.act_batch
    votes = np.asarray(act(observations)) - start
    if not are_discrete(votes) or votes.min(initial=0) < 0:
        raise ValueError(
            f"members must choose whole numbers from {start} on, {type(agent).__name__} chose "
            f"{votes + start}"
        )
    return votes
