"""The last word on which policy is the best: stored policies come in, and are played against each other.

While an agent trains, its policies are ranked by the few episodes that a window holds, with exploration. Of
hundreds of windows the luckiest rank highest, so the best few are played again in fresh greedy episodes.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

from tensor_optix.core.snapshot_store import SnapshotError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.checkpoint_registry import CheckpointRegistry
    from tensor_optix.core.types import EvalMetrics, PolicySnapshot

logger = logging.getLogger(__name__)

EPISODES = 20
"""Fresh episodes of each finalist."""
STEP_SHARE = 0.3
"""The finals may take at most this share of the environment steps of the run."""


WINDOWS = 2
"""What finishing the last episodes takes besides, in windows."""


def finalists(
    registry: CheckpointRegistry, most: int, steps: int, windows: int
) -> list[PolicySnapshot]:
    """Return the stored policies that are worth playing again, the best first.

    Args:
        registry: Holds them.
        most: How many at most.
        steps: Environment steps of the run; a long one may spend more on its finals.
        windows: How many windows these were.
    """
    ranked = [one for one in registry.snapshots if math.isfinite(registry.score_of(one))][:most]
    lengths = [one.eval_metrics.metrics.get("episode_length", 0.0) for one in ranked]
    chosen: list[PolicySnapshot] = []
    cost = 0.0
    for snapshot, length in zip(ranked, lengths, strict=True):
        cost += EPISODES * (length if math.isfinite(length) else 0.0)
        cost += WINDOWS * steps / max(windows, 1)
        if cost > STEP_SHARE * steps:
            break
        chosen.append(snapshot)
    return chosen


def play_finals(
    registry: CheckpointRegistry,
    snapshots: list[PolicySnapshot],
    agent: BaseAgent,
    score: Callable[[BaseAgent, int], EvalMetrics],
) -> list[tuple[PolicySnapshot, float]]:
    """Play each stored policy, and let the registry rank them by what they reached, the best first.

    Args:
        registry: Holds the policies.
        snapshots: Of them, best first; of equal scores the one that was ranked higher wins.
        agent: Takes on one policy after the other.
        score: `fn(agent, episodes)` scores the agent by at least so many fresh greedy episodes.

    Returns:
        The policies that could be played, with these scores.
    """
    played: list[tuple[PolicySnapshot, float]] = []
    for snapshot in snapshots:
        try:
            registry.load(snapshot, agent)
        except SnapshotError as error:
            logger.warning("skipping a damaged checkpoint: %s", error)
            continue
        result = score(agent, EPISODES).primary_score
        played.append((snapshot, result if math.isfinite(result) else -math.inf))
    played.sort(key=lambda one: -one[1])
    registry.reorder(played)
    return played
