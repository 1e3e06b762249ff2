"""An environment comes in; what it did in a moment of random play, and what is wrong with it, go out."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tensor_optix.pipeline.examination import rules
from tensor_optix.pipeline.examination.actions import actions_matter
from tensor_optix.pipeline.examination.findings import (
    Deadline,
    Finding,
    Grade,
    note,
    one_line,
    problem,
)
from tensor_optix.pipeline.examination.player import Player
from tensor_optix.pipeline.examination.trace import trace_of
from tensor_optix.pipeline.vector_contract import VectorEnv
from tensor_optix.pipeline.vector_env import wrap_env

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
        return _examined(env, Deadline(seconds))


def _examined(given: Any, deadline: Deadline) -> Examination:
    try:
        env = given if isinstance(given, VectorEnv) else wrap_env(given)
        player = Player(env)
        trace = trace_of(player, deadline.part(TRACE_SHARE))
    except Exception as error:
        return Examination((_failed("steps", error),), None)
    limit = env.max_episode_steps
    has_limit = limit is not None and limit > 0
    found, left_out = trace.findings(limit if has_limit else None, env.action_space), list[str]()
    for name, resets, look in _looks(given, player, deadline, found):
        if deadline.left <= resets * player.reset_seconds:
            left_out.append(name)
            continue
        try:
            found += look()
        except Exception as error:
            found.append(_failed(name, error))
    if left_out:
        named = ", ".join(left_out)
        found.append(note("time", f"no time was left to look at {named}: more --seconds"))
    return Examination(tuple(found), trace, player.reset_seconds)


def _looks(
    given: Any, player: Player, deadline: Deadline, found: list[Finding]
) -> Iterator[tuple[str, int, Callable[[], list[Finding]]]]:
    """Yield the name of each look, how many resets it takes, and what looks; `found` grows meanwhile."""
    part = deadline.part
    yield "seeds", 2, lambda: [rules.seeded(player, part(0.3))]
    if isinstance(given, VectorEnv):
        # A pool is made anew for each seed: there is no time to come to one situation again and again.
        return
    # Otherwise it could not be told what comes of an action, or of a seed, and what of chance.
    repeats = not any(one.check == "seed" and one.grade is Grade.PROBLEM for one in found)
    yield "resets", 2 * rules.RESETS, lambda: rules.unseeded(player) if repeats else []
    yield "actions", 2, lambda: actions_matter(player, part(0.6)) if repeats else []
    resets = rules.BEGINNINGS + rules.ENDINGS
    yield "returned objects", resets, lambda: rules.as_it_returns(given, player, part(0.6))
    # It knows of no masks, and would take actions that are not allowed.
    is_well = all(one.grade is Grade.OK for one in found) and player.mask is None
    yield (
        "Gymnasium's checker",
        CHECKER_RESETS,
        lambda: rules.gymnasium_objects(given) if is_well else [],
    )


def _failed(check: str, error: Exception) -> Finding:
    said = one_line(error)
    # The library's own messages say what to do.
    kind = "" if isinstance(error, TypeError | ValueError) else f"{type(error).__name__}: "
    return problem(check, f"{kind}{said}" if said else type(error).__name__)
