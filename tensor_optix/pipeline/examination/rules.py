"""Whether an environment keeps to Gymnasium's rules: it is played with, findings go out.

They are about seeds, which a player shows, and about the very objects that a plain environment returns. What
the library does about these is not in between then: it copies, casts and resets at the right time.
"""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import Box
from gymnasium.utils.env_checker import check_env, data_equivalence

from tensor_optix.pipeline.checked_env import core
from tensor_optix.pipeline.examination.findings import Finding, note, ok, one_line, problem
from tensor_optix.pipeline.examination.player import SEED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tensor_optix.core.types import Array
    from tensor_optix.pipeline.examination.findings import Deadline
    from tensor_optix.pipeline.examination.player import Player, Row

REPLAYED_STEPS = 100
RESETS = 4
"""With seeds, and without, to tell what they are for."""
KEPT = 4
"""Observations that are kept, to see whether the environment writes over them."""
BEGINNINGS = 16
ENDINGS = 3
MOST_STEPS = 3_000
"""To find some ends of episodes."""


# ---- seeds


def seeded(player: Player, deadline: Deadline) -> Finding:
    """Play the same actions twice from one seed, and compare the rows."""
    actions, seen = list[Any](), [player.begin(SEED)]
    while len(actions) < REPLAYED_STEPS and not deadline.is_over:
        actions.append(player.choose())
        seen.append(player.step(actions[-1]))
    for number, expected in enumerate(seen):
        row = player.step(actions[number - 1]) if number else player.begin(SEED)
        if not _are_same(expected, row):
            where = f"in step {number}" if number else "at once"
            said = f"two resets with seed {SEED} and the same actions differ {where}"
            remedy = "draw every random number from self.np_random, after super().reset(seed=seed)"
            return problem("seed", f"{said}: {remedy}")
    return ok("seed", "one seed gives the same rows again")


def unseeded(player: Player) -> list[Finding]:
    """Compare first observations with seeds and without."""
    if _begins_alike(player, range(SEED, SEED + RESETS)) or not _begins_alike(
        player, [None] * RESETS
    ):
        return []
    said = f"{RESETS} resets without a seed began in the same state, though seeds begin in others"
    remedy = "every episode would be the same; seed only when a seed is given"
    return [problem("reset", f"{said}: {remedy}")]


def _begins_alike(player: Player, seeds: Iterable[int | None]) -> bool:
    first, *others = [player.begin(seed) for seed in seeds]
    return all(_are_same(first, one) for one in others)


def _are_same(one: Row, other: Row) -> bool:
    if not np.array_equal(one[1:], other[1:], equal_nan=True):
        return False
    if isinstance(one.observation, np.ndarray) and one.observation.dtype != object:
        is_float = one.observation.dtype.kind == "f"
        return np.array_equal(one.observation, other.observation, equal_nan=is_float)
    return bool(data_equivalence(one.observation, other.observation))


# ---- what is returned


def as_it_returns(env: Any, player: Player, deadline: Deadline) -> list[Finding]:
    """Look at the very objects that an environment returns.

    Args:
        env: A plain environment, that of the player.
        player: Chooses the actions.
        deadline: Of it all.
    """
    actions, _ = player.opening(SEED, KEPT)
    given = [env.reset(seed=SEED)[0]]
    were = [copy.deepcopy(given[0])]
    for action in actions:
        given.append(env.step(action)[0])
        were.append(copy.deepcopy(given[-1]))
    env.reset()
    found = [_aliasing(given, were), *_dtype(given[-1], env.observation_space)]
    is_number = isinstance(given[-1], np.ndarray) and given[-1].dtype.kind in "fiub"
    # Which actions are allowed is known behind the player's door alone.
    if is_number and player.mask is None:
        found += _resets_itself(env, player, deadline)
    return found


def _aliasing(given: list[Any], were: list[Any]) -> Finding:
    """Compare observations as they are now with what they were when they were returned."""
    if all(map(data_equivalence, given, were)):
        return ok("aliasing", "observations stay as they were returned")
    said = "the environment writes over observations that it has returned: pipelines copy them"
    return note("aliasing", f"{said}; an agent of your own has to, or return a copy each time")


def _dtype(observation: Any, space: Any) -> list[Finding]:
    if not isinstance(space, Box) or not isinstance(observation, np.ndarray | np.generic):
        return []
    if observation.dtype == space.dtype:
        return []
    said = f"observations come as {observation.dtype}, their space says {space.dtype}"
    remedy = "they are cast in every step; return them with .astype, or change the space"
    return [note("dtype", f"{said}: {remedy}")]


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
    if not _are_among(np.stack(lasts), firsts) or _are_among(np.stack(inner), firsts):
        return []
    said = "the last observation of an episode looks like the first one of the next, so step() seems to "
    remedy = "return the last one, and leave the reset to who calls it"
    return [problem("last-observation", f"{said}reset by itself: {remedy}")]


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
            said = f"gymnasium.utils.env_checker.check_env objects: {one_line(error)}"
            return [note("gymnasium", said)]
    return []
