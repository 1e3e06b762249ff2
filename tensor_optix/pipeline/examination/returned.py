"""How a plain environment returns things: the environment itself is stepped, findings go out.

What the library does about it is not in between here: it copies, casts and resets at the right time.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import Box
from gymnasium.utils.env_checker import check_env, data_equivalence

from tensor_optix.pipeline.checked_env import core
from tensor_optix.pipeline.examination.findings import Finding, note, ok, problem

if TYPE_CHECKING:
    from tensor_optix.core.types import Array
    from tensor_optix.pipeline.examination.findings import Deadline
    from tensor_optix.pipeline.examination.player import Player

SEED = 0
KEPT = 4
"""Observations that are kept, to see whether the environment writes over them."""
BEGINNINGS = 16
ENDINGS = 3
MOST_STEPS = 3_000
"""To find some ends of episodes."""


def as_it_returns(env: Any, player: Player, deadline: Deadline) -> list[Finding]:
    """Look at the very objects that an environment returns.

    Args:
        env: A plain environment, that of the player.
        player: Chooses the actions.
        deadline: Of it all.
    """
    actions = _opening(player)
    kept = _Kept()
    observation, _ = env.reset(seed=SEED)
    kept.keep(observation)
    for action in actions:
        observation, _, _, _, _ = env.step(action)
        kept.keep(observation)
    env.reset()
    found = [kept.finding(), *_dtype(observation, env.observation_space)]
    is_number = isinstance(observation, np.ndarray) and observation.dtype.kind in "fiub"
    # Which actions are allowed is known behind the player's door alone.
    if is_number and player.mask is None:
        found += _resets_itself(env, player, deadline)
    return found


def _opening(player: Player) -> list[Any]:
    """Return the first actions of an episode from a seed, none after its end."""
    player.begin(SEED)
    actions: list[Any] = []
    for _ in range(KEPT):
        actions.append(player.choose())
        if player.step(actions[-1]).is_end:
            break
    return actions


@dataclass
class _Kept:
    """Observations as they were returned, and copies of what they were then."""

    pairs: list[tuple[Any, Any]] = field(default_factory=list)

    def keep(self, observation: Any) -> None:
        self.pairs.append((observation, copy.deepcopy(observation)))

    def finding(self) -> Finding:
        if all(data_equivalence(given, was) for given, was in self.pairs):
            return ok("aliasing", "observations stay as they were returned")
        return note(
            "aliasing",
            "the environment writes over observations that it has returned: pipelines copy them; an agent of "
            "your own has to, or return a copy each time",
        )


def _dtype(observation: Any, space: Any) -> list[Finding]:
    if not isinstance(space, Box) or not isinstance(observation, np.ndarray | np.generic):
        return []
    if observation.dtype == space.dtype:
        return []
    return [
        note(
            "dtype",
            f"observations come as {observation.dtype}, their space says {space.dtype}: they are cast in "
            "every step; return them with .astype, or change the space",
        )
    ]


def _resets_itself(env: Any, player: Player, deadline: Deadline) -> list[Finding]:
    """Tell whether step() begins the next episode by itself, and so hides the last observation.

    It does if the environment goes on after its end as if nothing had been, and if all last observations lie
    among the first ones, but others do not.
    """
    firsts = np.stack([np.ravel(env.reset()[0]) for _ in range(BEGINNINGS)])
    inner: list[Array] = []
    lasts: list[Array] = []
    goes_on = True
    for _ in range(MOST_STEPS):
        observation, _, terminated, truncated, _ = env.step(player.choose())
        shown = np.ravel(observation).copy()
        if not (terminated or truncated):
            inner.append(shown)
        elif truncated:
            env.reset()
        else:
            lasts.append(shown)
            goes_on = goes_on and _goes_on(env, player)
            env.reset()
        if len(lasts) == ENDINGS or deadline.is_over:
            break
    if len(lasts) < ENDINGS or not inner or not goes_on:
        return []
    if _are_among(np.stack(lasts), firsts) and not _are_among(np.stack(inner), firsts):
        return [
            problem(
                "last-observation",
                "the last observation of an episode looks like the first one of the next, so step() seems to "
                "reset by itself: return the last one, and leave the reset to who calls it",
            )
        ]
    return []


def _goes_on(env: Any, player: Player) -> bool:
    """Whether a step after the end is taken as any other. Gymnasium leaves open what it does."""
    try:
        _, _, terminated, truncated, _ = env.step(player.choose())
    except Exception:
        return False
    return not (terminated or truncated)


def _are_among(rows: Array, others: Array) -> bool:
    """Whether rows `[M, D]` lie within the least and the largest numbers of others, or a little beyond."""
    low, high = others.min(axis=0), others.max(axis=0)
    slack = 0.5 * (high - low)
    return bool(((rows >= low - slack) & (rows <= high + slack)).all())


def gymnasium_objects(env: Any) -> list[Finding]:
    """Ask Gymnasium's own checker, which looks at more than what training touches."""
    with warnings.catch_warnings(action="ignore"):
        try:
            check_env(core(env), skip_render_check=True, skip_close_check=True)
        except Exception as error:
            said = " ".join(str(error).split())
            return [note("gymnasium", f"gymnasium.utils.env_checker.check_env objects: {said}")]
    return []
