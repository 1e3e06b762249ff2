"""One action out of several agents' actions: agents and weights come in, actions go out.

Continuous actions are averaged. Discrete ones cannot be: their probabilities are mixed, and an agent that
does not tell its own counts as certain of the action that it chose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.types import Array


class Ballot(NamedTuple):
    """What discrete agents say of N observations."""

    agents: Sequence[BaseAgent]
    observations: Array
    """`[N, ...]`."""
    start: int = 0
    """The lowest action."""
    n_actions: int | None = None
    """A. None: as many as the agents name."""


def common_action(agents: Sequence[BaseAgent], weights: Sequence[float], observation: Any) -> Any:
    """Return the agents' common action for one observation; of whole numbers the most probable one.

    A single agent acts by itself.
    """
    if len(agents) == 1:
        return agents[0].act(observation)
    actions = [np.asarray(agent.act(observation)) for agent in agents]
    if not all(are_discrete(action[None]) for action in actions):
        return mean_action(actions, weights)
    ballot = Ballot(agents, np.asarray(observation)[None])
    return int(np.argmax(mixed_probs(ballot, weights, greedy=False)[0]))


def shares(weights: Sequence[float] | Array) -> Array:
    """Return weights as shares `[M]` that sum to 1; equal ones where all weights are 0."""
    values = np.asarray(weights, np.float64)
    total = values.sum()
    return values / total if total > 0.0 else np.full(len(values), 1.0 / len(values))


def mean_action(actions: Sequence[Array], weights: Sequence[float] | Array) -> Array:
    """Return `sum_i w_i a_i / sum_i w_i` of M actions of one shape."""
    stacked = np.stack([np.asarray(action) for action in actions])
    dtype = np.result_type(stacked.dtype, np.float32)
    return np.tensordot(shares(weights), stacked, axes=1).astype(dtype)


def are_discrete(actions: Array) -> bool:
    """Whether `[N, ...]` actions are choices: one whole number each."""
    return actions.ndim == 1 and np.issubdtype(actions.dtype, np.integer)


def told_probs(ballot: Ballot) -> list[Array | None]:
    """Return the action probabilities `[N, A]` of each agent; None for one that does not tell them."""
    return [_told(agent, ballot.observations) for agent in ballot.agents]


def mixed_probs(ballot: Ballot, weights: Sequence[float] | Array, greedy: bool) -> Array:
    """Return the mean `[N, A]` of the agents' action probabilities, weighted.

    Args:
        ballot: The agents and what they see.
        weights: `[M]`.
        greedy: Whether agents without probabilities vote for their best action, or for the one they take.

    Raises:
        ValueError: If the agents do not have the same actions.
    """
    told = told_probs(ballot)
    votes = [
        _votes(agent, ballot, greedy) if probs is None else None
        for agent, probs in zip(ballot.agents, told, strict=True)
    ]
    size = _size(told, votes, ballot)
    probs = [
        np.eye(size)[vote] if known is None else known
        for known, vote in zip(told, votes, strict=True)
    ]
    return np.asarray(np.tensordot(shares(weights), np.stack(probs), axes=1))


def sample(probs: Array, rng: np.random.Generator) -> Array:
    """Draw a column `[N]` int64 for each row of `[N, A]` probabilities."""
    edges = np.cumsum(probs, axis=1)
    points = rng.random((len(probs), 1)) * edges[:, -1:]
    # The product may round up to the last edge, beyond which there is no column.
    return np.asarray(np.minimum((edges <= points).sum(axis=1), probs.shape[1] - 1))


def _told(agent: BaseAgent, observations: Array) -> Array | None:
    try:
        return np.asarray(agent.action_probs(observations), np.float64)
    except NotImplementedError:
        return None


def _votes(agent: BaseAgent, ballot: Ballot, greedy: bool) -> Array:
    act = agent.act_greedy if greedy else agent.act_batch
    votes = np.asarray(act(ballot.observations)) - ballot.start
    if not are_discrete(votes) or votes.min(initial=0) < 0:
        raise ValueError(
            f"members must choose whole numbers from {ballot.start} on, {type(agent).__name__} chose "
            f"{votes + ballot.start}"
        )
    return votes


def _size(told: list[Array | None], votes: list[Array | None], ballot: Ballot) -> int:
    sizes = {probs.shape[1] for probs in told if probs is not None}
    if ballot.n_actions is not None:
        sizes.add(ballot.n_actions)
    named = [int(vote.max(initial=0)) for vote in votes if vote is not None]
    needed = 1 + max(named, default=0)
    size: int = max(sizes, default=needed)
    if len(sizes) > 1 or needed > size:
        raise ValueError(
            f"members must have the same actions, got {sorted(sizes)} actions and votes up to action "
            f"{needed - 1 + ballot.start}"
        )
    return size
