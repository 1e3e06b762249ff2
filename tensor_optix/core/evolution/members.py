"""The members of an ensemble: how much each counts, and the one action that comes of all of theirs.

Continuous actions are averaged. Discrete ones cannot be: their probabilities are mixed, and an agent that
has none counts as certain of the action that it chose.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tensor_optix.core.base_agent import BaseAgent
from tensor_optix.core.discrete_spaces import DiscreteSpace, choice_counts, first_choices
from tensor_optix.core.evolution.variants import SIGNIFICANCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensor_optix.core.types import Array

WEIGHT_DIGITS, SCORE_DIGITS = 6, 4
"""Of what is shown."""
NO_SPREAD = 1e-9
"""Scores whose standard deviation is below this share of the largest one differ by rounding only."""
LEAST_SIZE = 1e-8
"""What a score of 0 counts as, as a share of the largest one."""


class BaseEnsemble(BaseAgent):
    """An agent that acts and learns by several others: what evolution has to know of an ensemble."""

    @property
    @abstractmethod
    def stored_members(self) -> dict[int, Member]:
        """Members of the ensembles that were stored, present and past, by number: they may come back."""

    @abstractmethod
    def without(self, agent: BaseAgent) -> BaseAgent:
        """Return what acts like this one but for the opinion of one agent."""


class Choices(NamedTuple):
    """What members choose of, where actions are discrete."""

    counts: tuple[int, ...]
    """`[K]`, among how many actions each choice is."""
    first: Array
    """`[K]` int64, the number of the first action of each, as members name it."""
    shape: tuple[int, ...]
    """Of one action as members give it: `()` where it is one number."""

    @classmethod
    def of(cls, space: DiscreteSpace, counts_from_zero: bool) -> Choices:
        """Return those of an action space, as agents with or without `counts_from_zero` name them."""
        counts, first, shape = choice_counts(space), first_choices(space), tuple(space.shape or ())
        if counts_from_zero:
            return cls(counts, np.zeros_like(first), (len(counts),) if shape else ())
        return cls(counts, first, shape)

    def actions(self, probs: Array, rng: np.random.Generator | None = None) -> Array:
        """Return actions `[N, ...]` of probabilities `[N, A]`: drawn, without `rng` the likeliest."""
        parts = np.split(probs, np.cumsum(self.counts)[:-1], axis=1)
        picked = [np.argmax(part, axis=1) if rng is None else sample(part, rng) for part in parts]
        actions: Array = np.stack(picked, axis=1) + self.first
        return actions.reshape(len(probs), *self.shape)

    def numbers(self, actions: Array) -> Array:
        """Return actions `[N, ...]` as rows `[N, K]` int64 that are counted from 0."""
        rows: Array = np.asarray(actions).reshape(len(actions), len(self.counts)) - self.first
        return rows

    def shown(self, numbers: Array | int) -> Any:
        """Return numbers `[K]` that are counted from 0 as members name them, to be shown."""
        named = (self.first + numbers).tolist()
        return named if self.shape else named[0]

    def probs_of(self, actions: Array, probs: Array) -> Array:
        """Return the probability `[N, K]` of each choice in actions `[N, ...]`."""
        begins = np.cumsum((0, *self.counts[:-1]))
        return np.take_along_axis(probs, self.numbers(actions) + begins, axis=1)

    def certain(self, numbers: Array) -> Array:
        """Return the probabilities `[N, sum(counts)]` of who is certain of `numbers` `[N, K]`."""
        columns = [np.eye(n)[numbers[:, k]] for k, n in enumerate(self.counts)]
        return np.concatenate(columns, axis=1)


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

    Raises:
        ValueError: If actions are rows of choices, of which nothing is known here.
    """
    if len(members) == 1:
        return members[0].agent.act(observation)
    actions = [np.asarray(member.agent.act(observation)) for member in members]
    require_no_rows(members, actions)
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


def require_no_rows(members: Sequence[Member], actions: Sequence[Array]) -> None:
    """Refuse rows of choices of an action space that nobody has named: they have no mean.

    Raises:
        ValueError: If a member that counts from 0 gave one.
    """
    for member, action in zip(members, actions, strict=True):
        if member.agent.counts_from_zero and action.ndim and action.dtype.kind in "iu":
            raise ValueError(
                f"an ensemble must know the action space of several choices, got actions {action.tolist()} "
                "of an unknown one: use EnsembleAgent, and call its check_spaces first, as pipelines do"
            )


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
    choices: Choices | None = None,
) -> Array:
    """Return the weighted mean `[N, A]` of the members' action probabilities; choices are side by side.

    Args:
        members: Who chooses.
        observations: `[N, ...]`.
        greedy: Whether members without probabilities vote for their best action, or for the one they take.
        choices: The actions. None: one choice, from 0 on, and as many as the members name.

    Raises:
        ValueError: If the members do not have the same actions.
    """
    known = [action_probs(member, observations) for member in members]
    named = choices or Choices((0,), np.zeros(1, np.int64), ())
    votes = {
        n: _votes(member.agent, observations, greedy, named)
        for n, member in enumerate(members)
        if known[n] is None
    }
    sizes = {probs.shape[1] for probs in known if probs is not None}
    none = np.zeros((1, len(named.counts)), np.int64)
    most = np.concatenate([none, *votes.values()]).max(axis=0)
    if choices is None:
        named = named._replace(counts=(max(sizes, default=int(most[0]) + 1),))
    sizes.add(sum(named.counts))
    if len(sizes) > 1 or (most >= named.counts).any():
        raise ValueError(
            f"members must have the same actions, got {sorted(sizes)} actions and votes up to action "
            f"{named.shown(most)}"
        )
    probs = [named.certain(votes[n]) if own is None else own for n, own in enumerate(known)]
    return weighted_mean(members, probs)


def sample(probs: Array, rng: np.random.Generator) -> Array:
    """Draw a column `[N]` int64 for each row of `[N, A]` probabilities."""
    edges = np.cumsum(probs, axis=1)
    points = rng.random((len(probs), 1)) * edges[:, -1:]
    # The product may round up to the last edge, beyond which there is no column.
    return np.asarray(np.minimum((edges <= points).sum(axis=1), probs.shape[1] - 1))


def _votes(agent: BaseAgent, observations: Array, greedy: bool, choices: Choices) -> Array:
    """Return which of its actions an agent chooses for `[N, ...]` observations, `[N, K]`, counted from 0."""
    act = agent.act_greedy if greedy else agent.act_batch
    actions = np.asarray(act(observations))
    is_fitting = actions.shape[1:] == choices.shape and actions.dtype.kind in "iu"
    if not is_fitting or choices.numbers(actions).min(initial=0) < 0:
        raise ValueError(
            f"members must choose whole numbers from {choices.shown(0)} on, {type(agent).__name__} chose "
            f"{actions}"
        )
    return choices.numbers(actions)
