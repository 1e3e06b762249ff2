"""Who belongs to an ensemble, how much each member's word counts, and how it scored.

Agents and scores come in, weights go out.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.core.base_agent import BaseAgent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensor_optix.core.types import Array

WEIGHT_DIGITS, SCORE_DIGITS = 6, 4
"""Of what is shown."""
NO_SPREAD = 1e-9
"""Scores whose standard deviation is below this share of the largest one differ by rounding only."""


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


class Roster:
    """The members of an ensemble, in the order in which they joined.

    Args:
        score_window: How many scores of each member are remembered.
    """

    def __init__(self, score_window: int) -> None:
        self._score_window = score_window
        self._members: list[Member] = []
        self._joined = 0

    @property
    def members(self) -> tuple[Member, ...]:
        """The members."""
        return tuple(self._members)

    def add(self, agent: BaseAgent, weight: float) -> None:
        """Let an agent join.

        Raises:
            TypeError: If it is no agent.
            ValueError: If the weight is negative or not finite.
        """
        if not isinstance(agent, BaseAgent):
            raise TypeError(f"agent must be a BaseAgent, got {type(agent).__name__}")
        if not (math.isfinite(weight) and weight >= 0.0):
            raise ValueError(f"weight must be a finite number >= 0, got {weight}")
        scores: deque[float] = deque(maxlen=self._score_window)
        self._members.append(Member(agent, float(weight), self._joined, scores))
        self._joined += 1

    def index_of(self, agent: BaseAgent) -> int | None:
        """Return the place of an agent; None if it is no member."""
        places = (i for i, member in enumerate(self._members) if member.agent is agent)
        return next(places, None)

    def remove(self, indices: Sequence[int]) -> list[BaseAgent]:
        """Let members go; return their agents."""
        gone = [self._members[index] for index in indices]
        for member in gone:
            self._members.remove(member)
        return [member.agent for member in gone]

    def reset(self, members: Sequence[Member]) -> None:
        """Make members, also such that had gone, the ensemble."""
        self._members = sorted(members, key=lambda member: member.number)


def lowest_first(members: Sequence[Member]) -> list[int]:
    """Return the places of the members, the lowest weight first; of equals the one that joined last."""
    return sorted(range(len(members)), key=lambda i: (members[i].weight, -members[i].number))


def weights_of_scores(scores: Sequence[float] | Array) -> Array:
    """Turn scores into weights: the softmax of the standardised scores, times their number.

    `w_i = n * exp(z_i) / sum_j exp(z_j)` with `z_i = (s_i - mean) / std`. All are above 0, a higher score
    gives a higher weight, and neither the scale nor the zero of the scores matters. Their mean is 1, the
    weight of a new member, so that weights from different calls compare.

    Args:
        scores: `[n]` finite scores.

    Returns:
        `[n]` float64; all 1 where the scores do not differ.
    """
    values = np.asarray(scores, np.float64)
    spread = float(values.std()) if len(values) else 0.0
    if spread <= NO_SPREAD * float(np.abs(values).max(initial=0.0)):
        return np.ones(len(values))
    powers = np.exp((values - values.mean()) / spread)
    return np.asarray(len(values) * powers / powers.sum())
