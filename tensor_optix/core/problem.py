"""What an environment asks of an agent, as far as can be seen from outside: spaces and time limit.

In comes what Gymnasium or EnvPool says of an environment; out goes a `Problem`, to be compared with others.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Tuple

from tensor_optix.core.observation_layout import mask_space

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tensor_optix.core.observation_layout import AnySpace
    from tensor_optix.core.types import Array

NO_LIMIT = 2**31 - 1
"""EnvPool's word for a time limit that there is not."""
STEP_COUNT = "step_count"
"""The part of an observation in which tasks of EnvPool's count the steps of an episode."""
LIMIT_TOLERANCE = 1e-4
"""Relative; one writes pi with seven digits, the other with eight."""


@dataclass(frozen=True)
class Problem:
    """Spaces and time limit of an environment."""

    observation_space: AnySpace
    action_space: AnySpace
    max_episode_steps: int | None
    """None where episodes are not cut, or nobody knows when."""

    @property
    def spaces(self) -> tuple[AnySpace, AnySpace]:
        """The observation space and the action space."""
        return self.observation_space, self.action_space

    def differences(self, other: Problem) -> list[str]:
        """Say in what this one differs from `other`; nothing where they are the same to an agent.

        Bounds of observations count where both have some, as many environments give none. Actions may be of
        another float dtype, as they are cast.
        """
        mine, others = self.observation_space, other.observation_space
        found = []
        if not (_agree(mine, others) and mine.dtype == others.dtype):
            found.append(f"observations {_short(mine)} and not {_short(others)}")
        mine, others = self.action_space, other.action_space
        if not (_agree(mine, others) and _are_equally_bounded(mine, others)):
            found.append(f"actions {_short(mine)} and not {_short(others)}")
        if self.max_episode_steps != other.max_episode_steps:
            found.append(
                f"a time limit of {self.max_episode_steps} and not {other.max_episode_steps} steps"
            )
        return found


def envpool_problem(config: Mapping[str, Any], spaces: tuple[AnySpace, AnySpace]) -> Problem:
    """Return the problem of an environment of EnvPool's.

    EnvPool has no sign for an unlimited number and gives the limits of its dtype, often with the least
    positive one as the lower: these are infinite here. Actions that are whole numbers it calls a Box: here
    they are the choices that they are, a MultiDiscrete; and one choice among all combinations, row-major,
    where a mask tells which of these are allowed. A part that counts steps has one number more than EnvPool
    says: the time limit itself.

    Args:
        config: Of the specification or the pool.
        spaces: Its observation space and its action space.

    Raises:
        ValueError: If the environment has several players.
    """
    if config["max_num_players"] != 1:
        raise ValueError(
            f"environments must have one player, got max_num_players={config['max_num_players']}: one "
            "agent acts for one; choose an environment that plays the others itself"
        )
    observations, actions = map(_with_infinities, spaces)
    limit = int(config["max_episode_steps"])
    observations = _with_last_step(observations, limit)
    return Problem(
        observations,
        _with_choices(actions, mask_space(observations)),
        None if limit >= NO_LIMIT else limit,
    )


def _with_infinities(space: AnySpace) -> AnySpace:
    if isinstance(space, Dict):
        # An OrderedDict keeps its order, a dict would be sorted.
        return Dict(
            OrderedDict((key, _with_infinities(part)) for key, part in space.spaces.items())
        )
    if isinstance(space, Tuple):
        return Tuple([_with_infinities(part) for part in space.spaces])
    if not isinstance(space, Box) or not np.issubdtype(space.dtype, np.floating):
        return space
    limits = np.finfo(space.dtype)
    low = np.where(np.isin(space.low, (limits.tiny, limits.min)), -np.inf, space.low)
    high = np.where(space.high == limits.max, np.inf, space.high)
    if np.array_equal(low, space.low) and np.array_equal(high, space.high):
        return space
    return Box(low.astype(space.dtype), high.astype(space.dtype), dtype=space.dtype.type)


def _with_last_step(space: AnySpace, limit: int) -> AnySpace:
    if not isinstance(space, Dict) or space.spaces.get(STEP_COUNT) != Discrete(limit):
        return space
    counted = {STEP_COUNT: Discrete(limit + 1)}
    # An OrderedDict keeps its order, a dict would be sorted.
    return Dict(OrderedDict(space.spaces | counted))


def _with_choices(space: AnySpace, mask: AnySpace | None) -> AnySpace:
    if not isinstance(space, Box) or not np.issubdtype(space.dtype, np.integer):
        return space
    counts = counts_of(space)
    if mask is not None and mask.shape == tuple(counts.ravel()):
        return Discrete(int(counts.prod()))
    return MultiDiscrete(counts, start=space.low.astype(np.int64))


def counts_of(space: Box) -> Array:
    """Return how many whole numbers each component of a Box may be, int64 in its shape."""
    counts: Array = space.high.astype(np.int64) - space.low.astype(np.int64) + 1
    return counts


def _agree(one: AnySpace, other: AnySpace) -> bool:
    if not isinstance(one, Box) or not isinstance(other, Box):
        return one == other
    return (
        one.shape == other.shape
        and one.dtype.kind == other.dtype.kind
        and _are_close(one.low, other.low)
        and _are_close(one.high, other.high)
    )


def _are_close(one: Array, other: Array) -> bool:
    said = np.isfinite(one) & np.isfinite(other)
    return np.allclose(one[said], other[said], rtol=LIMIT_TOLERANCE)


def _are_equally_bounded(one: AnySpace, other: AnySpace) -> bool:
    """Whether agents' actions are stretched alike; two spaces that agree."""
    if not isinstance(one, Box) or not isinstance(other, Box):
        return True
    ends = ((one.low, other.low), (one.high, other.high))
    return all(np.array_equal(np.isfinite(mine), np.isfinite(others)) for mine, others in ends)


def _short(space: AnySpace) -> str:
    if isinstance(space, Box) and 0 not in space.shape:
        return f"Box({space.low.min():.6g}, {space.high.max():.6g}, {space.shape}, {space.dtype})"
    return " ".join(str(space).split())
