"""How a run ends: the policies that it kept come in, the best of them goes into the agent."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol

from tensor_optix.core.finals import finalists, play_finals

if TYPE_CHECKING:
    from collections.abc import Callable

    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.best_policy import BestPolicy
    from tensor_optix.core.collector import Collector
    from tensor_optix.core.run_state import RunState

logger = logging.getLogger(__name__)


class Tell(Protocol):
    """Logs a decision with its numbers."""

    def __call__(self, kind: str, **numbers: Any) -> None:
        """Log it."""


class Ending:
    """Chooses the best policy once more, puts it into the agent and tears the pipelines down.

    Args:
        collector: Has the pipelines.
        best: Has the policies.
        agent: Holds the best of them in the end.
        most_finalists: How many policies may play for which is the best.
    """

    def __init__(
        self, collector: Collector, best: BestPolicy, agent: BaseAgent, most_finalists: int
    ) -> None:
        self._collector = collector
        self._best = best
        self._agent = agent
        self._most_finalists = most_finalists

    def close(self, run: RunState, tell: Tell, failed: bool) -> None:
        """Do all of it, each thing whatever becomes of the others.

        Args:
            run: What it did.
            tell: Told what came out of the finals.
            failed: After a failure there are no finals, and what fails here is only logged, so that it
                does not hide the first error.
        """
        with ExitStack() as stack:
            if self._collector.is_set_up:
                if not run.total_steps and not failed:
                    logger.warning("the pipeline gave no window: nothing was learned")
                stack.callback(_attempt, self._collector.teardown_validation, failed)
                stack.callback(_attempt, self._collector.teardown_training, failed)
            stack.callback(_attempt, lambda: self._restore_best(run.total_steps), failed)
            if self._collector.is_set_up and not failed:
                _attempt(lambda: self._play_finals(run, tell), only_log=True)

    def _play_finals(self, run: RunState, tell: Tell) -> None:
        contest = None if self._collector.validation else self._collector.contest()
        if contest is None or self._best.has_external_score:
            return
        registry = self._best.registry
        chosen = finalists(registry, self._most_finalists, run.total_steps, run.episode_id + 1)
        if len(chosen) > 1:
            played = play_finals(registry, chosen, self._agent, contest.score_surely)
            self._best.refresh()
            tell("finals", scores={one.snapshot_id: score for one, score in played})

    def _restore_best(self, steps: int) -> None:
        if self._best.restore(self._agent) is None and steps:
            logger.warning("no policy was ever evaluated; the agent keeps its latest weights")


def _attempt(action: Callable[[], None], only_log: bool) -> None:
    try:
        action()
    except Exception:
        if not only_log:
            raise
        logger.exception("%r failed at the end of the run", action)
