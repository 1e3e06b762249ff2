"""An environment comes in; what it is, what it did in a moment of random play, and what is wrong go out."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tensor_optix.pipeline.examination.checks import checked
from tensor_optix.pipeline.examination.findings import Deadline, Finding, Grade, note, problem
from tensor_optix.pipeline.examination.player import Player
from tensor_optix.pipeline.examination.replays import RESETS, actions_matter, seeded, unseeded
from tensor_optix.pipeline.examination.returned import (
    BEGINNINGS,
    ENDINGS,
    as_it_returns,
    gymnasium_objects,
)
from tensor_optix.pipeline.examination.trace import trace_of
from tensor_optix.pipeline.vector_contract import VectorEnv
from tensor_optix.pipeline.vector_env import wrap_env

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tensor_optix.pipeline.examination.trace import Trace

TRACE_SHARE = 0.4
"""Of the time, for random play."""
CHECKER_RESETS = 16
"""Gymnasium's checker makes about as many."""


@dataclass(frozen=True)
class Examination:
    """What was found."""

    findings: tuple[Finding, ...]
    trace: Trace | None
    """None where the environment failed before there was any."""
    reset_seconds: float = 0.0
    """How long a reset takes."""

    def of(self, grade: Grade) -> list[Finding]:
        """Return the findings of a grade."""
        return [one for one in self.findings if one.grade is grade]


def examine(env: Any, seconds: float = 1.0) -> Examination:
    """Look an environment over: what it returns, its seeds, ends, rewards, observations and actions.

    It is stepped with random actions, allowed ones where it tells which these are, and what it warns of is
    kept back.

    Args:
        env: A plain environment, whose own door is looked at as well; or one environment of a backend. It
            stays open.
        seconds: How long that may take. Time is looked at between the environment's steps: a reset or a step
            under way is always waited for. What no time is left for is left out, with a note.
    """
    with warnings.catch_warnings(action="ignore"):
        return _Examining(env, Deadline(seconds)).run()


class _Examining:
    """One examination."""

    def __init__(self, env: Any, deadline: Deadline) -> None:
        self._given, self._deadline = env, deadline
        self._is_plain = not isinstance(env, VectorEnv)
        self._left_out: list[str] = []

    def run(self) -> Examination:
        try:
            env = wrap_env(self._given) if self._is_plain else self._given
            self._player = Player(env)
            trace = trace_of(self._player, self._deadline.part(TRACE_SHARE))
        except Exception as error:
            return Examination((_failed("steps", error),), None)
        limit = env.max_episode_steps
        has_limit = limit is not None and limit > 0
        self._found = checked(trace, limit if has_limit else None, env.action_space)
        self._look("seeds", self._repeats, 2)
        # A pool is made anew for each seed: there is no time to come to one situation again and again.
        if self._is_plain:
            self._look("resets", self._begins_anew, 2 * RESETS)
            self._look("actions", self._actions, 2)
            self._look("returned objects", self._returned, BEGINNINGS + ENDINGS)
            self._look("Gymnasium's checker", self._second_opinion, CHECKER_RESETS)
        if self._left_out:
            named = ", ".join(self._left_out)
            self._found.append(note("time", f"no time was left to look at {named}: more --seconds"))
        return Examination(tuple(self._found), trace, self._player.reset_seconds)

    def _look(self, name: str, look: Callable[[], Iterable[Finding]], resets: int) -> None:
        """Add what one look finds, if there is time for as many resets as it takes."""
        if self._deadline.left <= resets * self._player.reset_seconds:
            self._left_out.append(name)
            return
        try:
            self._found += look()
        except Exception as error:
            self._found.append(_failed(name, error))

    def _repeats(self) -> Iterable[Finding]:
        return [seeded(self._player, self._deadline.part(0.3))]

    def _begins_anew(self) -> Iterable[Finding]:
        if self._has("seed", Grade.PROBLEM):
            return []
        return filter(None, [unseeded(self._player)])

    def _actions(self) -> Iterable[Finding]:
        if self._has("seed", Grade.PROBLEM):
            # It could not be told what comes of an action, and what of chance.
            return []
        space = self._player.env.action_space
        return actions_matter(self._player, space, self._deadline.part(0.6))

    def _returned(self) -> Iterable[Finding]:
        return as_it_returns(self._given, self._player, self._deadline.part(0.6))

    def _second_opinion(self) -> Iterable[Finding]:
        is_well = all(one.grade is Grade.OK for one in self._found)
        # It knows of no masks, and would take actions that are not allowed.
        return gymnasium_objects(self._given) if is_well and self._player.mask is None else []

    def _has(self, check: str, grade: Grade) -> bool:
        return any(one.check == check and one.grade is grade for one in self._found)


def _failed(check: str, error: Exception) -> Finding:
    said = " ".join(str(error).split())
    # The library's own messages say what to do.
    kind = "" if isinstance(error, TypeError | ValueError) else f"{type(error).__name__}: "
    return problem(check, f"{kind}{said}" if said else type(error).__name__)
