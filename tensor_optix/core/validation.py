"""Scores on held-out data: an agent and a pipeline come in, the score of whole episodes goes out."""

from __future__ import annotations

import copy
import logging
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from tensor_optix.core.greedy_agent import GreedyAgent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.base_evaluator import BaseEvaluator
    from tensor_optix.core.base_pipeline import BasePipeline
    from tensor_optix.core.types import EpisodeData, EvalMetrics

logger = logging.getLogger(__name__)

MOST_WINDOWS = 100
"""How many further windows an episode may take to end."""


class Validation:
    """Plays the agent's best actions in a pipeline of its own, fresh episodes each time.

    Args:
        pipeline: Held-out; never learned from.
        evaluator: Scores its windows.
        agent: Acts greedily.
    """

    def __init__(self, pipeline: BasePipeline, evaluator: BaseEvaluator, agent: BaseAgent) -> None:
        self._pipeline = pipeline
        self._evaluator = evaluator
        self._agent = GreedyAgent(agent)
        self._is_set_up = False

    def score(self) -> EvalMetrics:
        """Score the agent as it is now."""
        if self._is_set_up:
            self._pipeline.restart()
        else:
            self._is_set_up = True
            self._pipeline.set_agent(self._agent)
            self._pipeline.setup()
        window = whole_episodes(iter(self._pipeline.episodes()))
        return self._evaluator.score_validation(window)

    def teardown(self) -> None:
        """Let go of the pipeline, if it was used."""
        if self._is_set_up:
            self._is_set_up = False
            self._pipeline.teardown()


def whole_episodes(windows: Iterator[EpisodeData]) -> EpisodeData:
    """Return the first window, with the episodes that began in it played to their ends.

    Counting only those that fit into the window would favour short episodes, and score a policy that
    outlives the window not at all. Windows that do not track finished episodes are returned as they are.

    Args:
        windows: Of fresh episodes; further ones are taken until every episode of the first is over.
    """
    first = next(windows)
    pending = _under_way(first)
    if first.finished_returns is None or not pending:
        return first
    first = copy.deepcopy(first)
    finished = _finished(first)
    for window in islice(windows, MOST_WINDOWS):
        for episode in _finished(window):
            if episode[0] % window.num_envs in pending:
                pending.discard(episode[0] % window.num_envs)
                finished.append(episode)
        if not pending:
            break
    else:
        logger.warning(
            "%d validation episodes did not end within %d windows and are not counted; give the "
            "validation pipeline longer windows",
            len(pending),
            MOST_WINDOWS,
        )
    return replace(
        first,
        finished_returns=np.array([episode[1] for episode in finished], np.float64),
        finished_lengths=np.array([episode[2] for episode in finished], np.int64),
    )


def _finished(window: EpisodeData) -> list[tuple[int, float, int]]:
    """Return the last row, the return and the length of each episode that finished."""
    fields = (window.end_rows, window.finished_returns, window.finished_lengths)
    if any(field is None for field in fields):
        return []
    return list(zip(*(np.asarray(field).tolist() for field in fields), strict=True))


def _under_way(window: EpisodeData) -> set[int]:
    """Return the environments that are in the middle of an episode after the window's last row."""
    dones = window.grid(window.dones)[-1]
    valid = np.ones(len(dones), bool) if window.valid is None else window.grid(window.valid)[-1]
    return {int(n) for n in np.flatnonzero(valid & ~dones)}
