"""When the optimizer is asked, and what becomes of its answer: scores come in, hyperparameters go out."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tensor_optix.core.types import LoopState

if TYPE_CHECKING:
    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.base_optimizer import BaseOptimizer
    from tensor_optix.core.decisions.run_state import RunState
    from tensor_optix.core.types import HyperparamSet

logger = logging.getLogger(__name__)

WINDOWS_TO_SHOW = 2
"""A window's score is that of the weights before they learn from it, so that a change made after window k is
first learned with in window k + 1, and first seen in the score of window k + 2."""


@dataclass(frozen=True)
class Change:
    """The hyperparameters before a suggestion, those asked for, and those in force after it."""

    before: dict[str, Any]
    asked: dict[str, Any]
    effective: dict[str, Any]
    accepted: dict[str, Any] | None
    """Those in force without the experiment; None where the optimizer does not tell."""

    @property
    def is_change(self) -> bool:
        """Whether anything changed, or was to change."""
        return self.effective != self.before or self.asked != self.before


class Tuning:
    """Asks an optimizer for hyperparameters, once the last score belongs to those in force.

    Args:
        optimizer: Makes the suggestions.
    """

    def __init__(self, optimizer: BaseOptimizer) -> None:
        self._optimizer = optimizer
        self._changed_in: int | None = None
        self._has_learned = False
        self._learned_with: HyperparamSet | None = None

    @property
    def is_probing(self) -> bool:
        """Whether the hyperparameters in force are an experiment."""
        return self._optimizer.is_probing

    def accepted(self, agent: BaseAgent) -> HyperparamSet | None:
        """Return the agent's hyperparameters without the experiment; None: the optimizer does not tell."""
        return self._optimizer.accepted(agent.get_hyperparams())

    def numbers(self) -> dict[str, Any]:
        """Return what the optimizer says of its last suggestion."""
        return self._optimizer.describe()

    def begin(self, episode_id: int | None = None) -> None:
        """Begin anew: the policy and its hyperparameters were replaced in this window, or the run begins."""
        self._optimizer.on_restart()
        self._changed_in = episode_id
        self._has_learned = False

    def note_learned(self, accepted: HyperparamSet | None) -> None:
        """Note with which accepted hyperparameters the agent has just learned."""
        self._has_learned = True
        self._learned_with = accepted

    def made_with(self, accepted: HyperparamSet | None) -> HyperparamSet | None:
        """Return the accepted hyperparameters that made the present weights; None: they are an experiment's.

        Args:
            accepted: Those accepted now; these are they, where nothing was learned yet.
        """
        if accepted is None or not self._has_learned:
            return accepted
        return self._learned_with

    def adjust(self, agent: BaseAgent, run: RunState, improved: bool, state: LoopState) -> Change:
        """Tell the optimizer what the last score meant, and let it choose."""
        if improved:
            self._optimizer.on_improvement(run.history[-1])
        elif state is LoopState.COOLING:
            self._optimizer.on_plateau(run.history)
        before = agent.get_hyperparams()
        asked = before
        if self._shows(run.episode_id):
            asked = self._optimizer.suggest(before.copy(), run.history)
            _put_in_force(agent, asked)
        effective = agent.get_hyperparams()
        if effective.params != before.params:
            self._changed_in = run.episode_id
        accepted = self._optimizer.accepted(effective)
        return Change(
            before.params, asked.params, effective.params, accepted.params if accepted else None
        )

    def _shows(self, episode_id: int) -> bool:
        return self._changed_in is None or episode_id - self._changed_in >= WINDOWS_TO_SHOW


def _put_in_force(agent: BaseAgent, asked: HyperparamSet) -> None:
    try:
        agent.set_hyperparams(asked)
    except ValueError as error:
        # A tuner's mistake must not end a run; agents leave everything as it was.
        logger.warning("the agent refused suggested hyperparameters: %s", error)
