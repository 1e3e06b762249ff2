"""When a tuner is asked, and what comes of it: scores come in, hyperparameters go into the agent."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tensor_optix.core import callbacks as events
from tensor_optix.core.base_optimizer import Standing
from tensor_optix.core.types import HyperparamSet, LoopState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.base_optimizer import BaseOptimizer, ForkPlan
    from tensor_optix.core.decisions.run_state import RunState
    from tensor_optix.core.types import EvalMetrics

logger = logging.getLogger(__name__)

WINDOWS_TO_SHOW = 2
"""A window's score is that of the weights before they learn from it, so that a change made after window k is
first learned with in window k + 1, and first seen in the score of window k + 2."""


class Tuning:
    """Asks a tuner for hyperparameters, once the last score belongs to those in force.

    Args:
        tuner: Makes the suggestions.
    """

    def __init__(self, tuner: BaseOptimizer) -> None:
        self._tuner = tuner
        self._changed_in: int | None = None
        self._has_learned = False
        self._learned_with: HyperparamSet | None = None

    @property
    def is_probing(self) -> bool:
        """Whether the hyperparameters in force are an experiment."""
        return self._tuner.is_probing

    def accepted(self, agent: BaseAgent) -> HyperparamSet | None:
        """Return the agent's hyperparameters without the experiment; None: the tuner cannot say."""
        return self._tuner.accepted(agent.get_hyperparams())

    def begin(self, window_id: int | None = None) -> None:
        """Begin anew: the policy and its hyperparameters were replaced in this window, or the run begins."""
        self._tuner.on_restart()
        self._changed_in = window_id
        self._has_learned = False

    def state_dict(self) -> dict[str, Any]:
        """Return what is known of the last change, and what the tuner keeps."""
        learned = self._learned_with
        return {
            "changed_in": self._changed_in,
            "has_learned": self._has_learned,
            "learned_with": None if learned is None else vars(learned).copy(),
            "tuner": self._tuner.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned; a tuner that keeps nothing begins anew."""
        learned = state["learned_with"]
        self._changed_in = state["changed_in"]
        self._has_learned = bool(state["has_learned"])
        self._learned_with = None if learned is None else HyperparamSet(**learned)
        if state["tuner"] is None:
            self._tuner.on_restart()
        else:
            self._tuner.load_state_dict(state["tuner"])

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

    def adjust(self, agent: BaseAgent, run: RunState, state: LoopState) -> events.Tuned:
        """Give the tuner the last score and what it was judged as, and let it choose."""
        if run.improved:
            self._tuner.on_improvement(run.history[-1])
        elif state is LoopState.COOLING:
            self._tuner.on_plateau(run.history)
        before = agent.get_hyperparams()
        asked = before
        if self._changed_in is None or run.window_id - self._changed_in >= WINDOWS_TO_SHOW:
            asked = self._ask(agent.scheduled_params, before, run.history)
            _put_in_force(agent, asked)
        effective = agent.get_hyperparams()
        if effective.params != before.params:
            self._changed_in = run.window_id
        accepted = self._tuner.accepted(effective)
        return events.Tuned(
            before=before.params,
            asked=dict(asked.params),
            effective=effective.params,
            accepted=dict(accepted.params) if accepted else None,
            tuner=self._tuner.describe(),
        )

    def propose_forks(self, agent: BaseAgent, run: RunState, state: LoopState) -> ForkPlan | None:
        """Return what the tuner wants to be tried in forks; None: nothing."""
        scheduled = agent.scheduled_params
        defaults = agent.default_params
        return self._tuner.propose_forks(
            Standing(
                hyperparams=HyperparamSet(agent.unscheduled_params()),
                defaults={name: defaults[name] for name in defaults if name not in scheduled},
                history=run.history,
                state=state,
                windows=run.next_window_id,
            )
        )

    def _ask(
        self, scheduled: frozenset[str], before: HyperparamSet, history: Sequence[EvalMetrics]
    ) -> HyperparamSet:
        """Let the tuner choose; what follows a schedule is not shown to it, and stays as it is."""
        if not scheduled:
            return self._tuner.suggest(before.copy(), history)
        free = {name: value for name, value in before.params.items() if name not in scheduled}
        asked = self._tuner.suggest(replace(before, params=free), history)
        kept = {name: before.params[name] for name in before.params if name in scheduled}
        return replace(asked, params=asked.params | kept)


def _put_in_force(agent: BaseAgent, asked: HyperparamSet) -> None:
    try:
        agent.set_hyperparams(asked)
    except ValueError as error:
        # A tuner's mistake must not end a run; agents leave everything as it was.
        logger.warning("the agent refused suggested hyperparameters: %s", error)
