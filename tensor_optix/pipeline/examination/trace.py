"""What random play shows of an environment: a player comes in, figures of its rows and findings go out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from gymnasium.spaces import Box

from tensor_optix.core.decisions.episode_ends import steps_to_end
from tensor_optix.core.discrete_spaces import DiscreteSpace, choice_counts
from tensor_optix.core.observation_layout import ACTION_MASK, Encoding, layout_of
from tensor_optix.pipeline.examination.findings import Finding, note, ok, problem
from tensor_optix.pipeline.observation_report import first_outside, place_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensor_optix.core.observation_layout import AnySpace
    from tensor_optix.core.types import Array
    from tensor_optix.pipeline.examination.findings import Deadline
    from tensor_optix.pipeline.examination.player import Player

MOST_STEPS = 10_000
"""Of the random play."""
BLOCK_BYTES = 2**22
"""As many observations are summed up at once."""
LARGE, SMALL = 100.0, 1e-3
"""A number is far from unit scale beyond `LARGE`, or if nothing varies by more than `SMALL`."""
FEW_ROWS = 200
"""Fewer observations than that do not tell what is constant, fewer steps not what never ends or pays."""
FEW_EPISODES = 3
"""Fewer do not tell what all have in common."""
MOST_NAMED = 4


class Episode(NamedTuple):
    """One that ended."""

    length: int
    """In steps."""
    total: float
    """The undiscounted sum of its rewards."""
    terminated: bool
    truncated: bool


@dataclass(frozen=True)
class Trace:
    """A stretch of random play."""

    rewards: Array
    """`[T]` float64."""
    episodes: tuple[Episode, ...]
    """Those that ended."""
    unfinished: int
    """Steps of the last one, which did not."""
    observations: ObservationFigures | None
    """None where they are no Box."""
    masks: MaskFigures
    shown: tuple[Any, Any]
    """The first observation, and the one that the first step led to."""

    @property
    def steps(self) -> int:
        """T."""
        return len(self.rewards)

    def findings(self, time_limit: int | None, action_space: AnySpace) -> list[Finding]:
        """Return what it tells.

        Args:
            time_limit: In steps, None where it is not known.
            action_space: What the actions are from.
        """
        found = [_flags(self.episodes, time_limit), _ends(self, time_limit), *_rewards(self)]
        if self.observations is not None:
            found += _observations(self.observations)
        if isinstance(action_space, DiscreteSpace):
            found.append(_masks(self.masks, action_space))
        return [one for one in found if one is not None]


def trace_of(player: Player, deadline: Deadline) -> Trace:
    """Play on with random actions from the player's first reset until time is up: 1 to `MOST_STEPS` steps.

    What the environment raises passes through.
    """
    space, masks = player.env.observation_space, MaskFigures()
    seen = ObservationFigures(space) if isinstance(space, Box) and 0 not in space.shape else None
    rewards, episodes, shown = list[float](), list[Episode](), [player.first.observation]
    length, total = 0, 0.0
    if seen is not None:
        seen.add(shown[0])
    while not rewards or not (deadline.is_over or len(rewards) == MOST_STEPS):
        masks.add(player.mask)
        row = player.step(player.choose())
        rewards.append(row.reward)
        length, total = length + 1, total + row.reward
        if row.is_end:
            episodes.append(Episode(length, total, row.terminated, row.truncated))
            length, total = 0, 0.0
        if seen is not None:
            seen.add(row.observation)
        if len(shown) == 1:
            shown.append(row.observation)
    if seen is not None:
        seen.sum_up()
    return Trace(np.array(rewards), tuple(episodes), length, seen, masks, (shown[0], shown[1]))


# ---- episodes


def _flags(episodes: Sequence[Episode], limit: int | None) -> Finding | None:
    """Look at how episodes end; one that ends in the very step of the limit may have both flags."""
    before = [one for one in episodes if one.length != limit]
    both = [one for one in before if one.terminated and one.truncated]
    if both:
        said = f"{len(both)} of {len(episodes)} episodes ended with terminated and truncated both"
        remedy = "set truncated only where a time limit cuts an episode that would go on"
        return (problem if len(both) == len(before) else note)("flags", f"{said}: {remedy}")
    at_limit = [one for one in episodes if one.length == limit]
    if at_limit and all(one.terminated for one in at_limit):
        said = f"episodes that reach the limit of {limit:,} steps end with terminated"
        remedy = "leave it False there, or what would have followed counts as nothing"
        return problem("time-limit", f"{said}: {remedy}")
    lengths = {one.length for one in episodes}
    is_even = len(lengths) == 1 and lengths.isdisjoint({1, limit})
    if len(episodes) >= FEW_EPISODES and is_even and all(one.terminated for one in episodes):
        said = f"all {len(episodes)} episodes were terminated after {lengths.pop():,} steps"
        remedy = "if that is a time limit, end them with truncated instead"
        return note("time-limit", f"{said}: {remedy}")
    return ok("flags", "episodes end with one flag") if episodes else None


def _ends(trace: Trace, limit: int | None) -> Finding | None:
    longest = max([trace.unfinished, *(one.length for one in trace.episodes)])
    if limit is not None and longest > limit:
        said = f"an episode went on for {longest:,} steps, beyond the limit of {limit:,} that its spec states"
        remedy = "end it with truncated, as gymnasium.wrappers.TimeLimit does"
        return problem("time-limit", f"{said}: {remedy}")
    if trace.episodes or limit is not None or trace.steps < FEW_ROWS:
        return None
    said = f"no episode ended within {trace.steps:,} steps, and no time limit is known"
    remedy = "give it one, with max_episode_steps for instance, or one is given up after "
    return note("ends", f"{said}: {remedy}{steps_to_end(None):,} steps where it is scored")


# ---- rewards


def _rewards(trace: Trace) -> list[Finding]:
    rewards = trace.rewards
    bad = np.flatnonzero(~np.isfinite(rewards))
    if len(bad):
        said = f"{len(bad):,} of {trace.steps:,} rewards were not finite, the first one, "
        said += f"{rewards[bad[0]]}, in step {bad[0]:,}"
        return [problem("rewards", f"{said}: look for a division by zero, a logarithm or a root")]
    largest, found = float(np.abs(rewards).max()), list[Finding]()
    if largest > LARGE or 0.0 < largest < SMALL:
        said = f"rewards are {'as large as' if largest > LARGE else 'no larger than'} {largest:.4g}"
        remedy = "--normalize-rewards, which learns from unit returns"
        found.append(note("reward-scale", f"{said}: {remedy}"))
    totals = {one.total for one in trace.episodes}
    if largest == 0.0 and trace.steps >= FEW_ROWS:
        said = (
            f"no reward but 0 in {trace.steps:,} random steps: whoever learns has to find one first"
        )
    elif len(trace.episodes) >= FEW_EPISODES and len(totals) == 1:
        said = f"all {len(trace.episodes)} random episodes paid {totals.pop():.4g}: nothing tells good "
        said += "actions from bad ones until one pays otherwise"
    else:
        return found or [ok("rewards", "rewards are finite")]
    remedy = "pay for progress, or expect to need many steps"
    return [*found, note("sparse", f"{said}; {remedy}")]


# ---- observations


class ObservationFigures:
    """The numbers of observations in a Box, element by element, row-major.

    Attributes:
        space: The Box.
        rows: How many were summed up.
        low: `[D]` float64, the lowest of each.
        high: `[D]` float64, the highest.
        has_non_finite: Whether there were others, which count as 0.
        outside: The first number outside the bounds of the space, in words.
    """

    def __init__(self, space: Box) -> None:
        size = int(np.prod(space.shape, dtype=np.int64))
        self.space, self.rows = space, 0
        self.low, self.high = np.full(size, np.inf), np.full(size, -np.inf)
        self.has_non_finite = False
        self.outside: str | None = None
        self._sum, self._squares = np.zeros(size), np.zeros(size)
        self._origin = np.zeros(size)
        self._block: list[Array] = []
        self._most = max(1, min(256, BLOCK_BYTES // (8 * size)))

    @property
    def mean(self) -> Array:
        """`[D]` float64."""
        return np.asarray(self._sum / self.rows + self._origin)

    @property
    def std(self) -> Array:
        """`[D]` float64."""
        variance = self._squares / self.rows - (self._sum / self.rows) ** 2
        return np.asarray(np.sqrt(np.maximum(variance, 0.0)))

    def add(self, observation: Array) -> None:
        """Take one in; it counts as soon as a block of them is summed up."""
        self._block.append(np.ravel(observation))
        if len(self._block) == self._most:
            self.sum_up()

    def sum_up(self) -> None:
        """Let all that were taken in count."""
        if not self._block:
            return
        given, self._block = np.stack(self._block), []
        if self.outside is None:
            self.outside = first_outside(given, self.space)
        rows = given.astype(np.float64)
        is_finite = np.isfinite(rows)
        if not is_finite.all():
            self.has_non_finite = True
            rows = np.where(is_finite, rows, 0.0)
        if not self.rows:
            # Sums of differences from one of them lose no digits to a large mean.
            self._origin = rows[0]
        np.minimum(self.low, rows.min(axis=0), out=self.low)
        np.maximum(self.high, rows.max(axis=0), out=self.high)
        rows -= self._origin
        self.rows += len(rows)
        self._sum += rows.sum(axis=0)
        self._squares += np.square(rows).sum(axis=0)


def _observations(figures: ObservationFigures) -> list[Finding]:
    if figures.has_non_finite:
        said = "observations hold NaN or infinity: networks turn all they touch into NaN"
        return [problem("observations", f"{said}; find where they come from")]
    if figures.outside is not None:
        said = f"observations leave the bounds of their space, {figures.outside}"
        return [problem("observations", f"{said}: widen the bounds, or clip")]
    found = [one for one in (_constants(figures), _scale(figures)) if one is not None]
    return found or [ok("observations", "observations are in their space, and of a fair scale")]


def _constants(figures: ObservationFigures) -> Finding | None:
    if figures.rows < FEW_ROWS:
        return None
    is_constant = figures.low == figures.high
    if is_constant.all():
        said = f"the observation was the same in {figures.rows:,} steps: nothing can be learned from it"
        return problem("constant", f"{said}; return the state after each step")
    found = np.flatnonzero(is_constant & _numbers(figures))
    if not len(found):
        return None
    named = [place_of(figures.space, int(one)) for one in found[:MOST_NAMED]]
    named += [f"{len(found) - MOST_NAMED} more"] if len(found) > MOST_NAMED else []
    said = f"{len(found)} of {len(is_constant)} elements of the observation never changed"
    remedy = "leave them out, unless other episodes differ in them"
    return note("constant", f"{said} ({', '.join(named)}): {remedy}")


def _scale(figures: ObservationFigures) -> Finding | None:
    if figures.space.dtype == np.uint8:
        return None
    largest = np.maximum(np.abs(figures.low), np.abs(figures.high))
    is_far = (largest > LARGE) | ((figures.low != figures.high) & (figures.std < SMALL))
    found = np.flatnonzero(is_far & _numbers(figures))
    if not len(found):
        return None
    ranges = ", ".join(
        f"{place_of(figures.space, int(one))} from {figures.low[one]:.4g} to {figures.high[one]:.4g}"
        for one in found[:2]
    )
    more = f" and {len(found) - 2} more" if len(found) > 2 else ""
    said = f"observations are far from unit scale, {ranges}{more}"
    return note("observation-scale", f"{said}: --normalize-observations")


def _numbers(figures: ObservationFigures) -> Array:
    """Return `[D]` bool, which elements are numbers that networks see as they are."""
    are_numbers = np.zeros(len(figures.low), bool)
    for field in layout_of(figures.space).fields:
        are_numbers[field.columns] = field.encoding is Encoding.VALUES
    return are_numbers


# ---- masks


@dataclass
class MaskFigures:
    """What masks of actions told."""

    told: int = 0
    """In how many steps."""
    empty: int = 0
    """In how many of them nothing was allowed."""
    full: int = 0
    """In how many everything was."""
    size: int = 0
    """A, the length of a mask; 0 where none is told."""

    def add(self, mask: Array | None) -> None:
        """Count one, of shape `[A]`."""
        if mask is not None:
            self.told, self.size = self.told + 1, len(mask)
            self.empty += not mask.any()
            self.full += bool(mask.all())


def _masks(masks: MaskFigures, space: DiscreteSpace) -> Finding | None:
    wanted = sum(choice_counts(space))
    if not masks.told:
        return None
    if masks.size != wanted:
        said = (
            f"{ACTION_MASK!r} has {masks.size} numbers, but there are {wanted} actions in {space}"
        )
        return problem("masks", f"{said}: give it that length, or take it out")
    if masks.empty:
        said = f"{ACTION_MASK!r} allowed nothing in {masks.empty:,} of {masks.told:,} steps, which counts as "
        return note("masks", f"{said}everything: allow what may be done there, or end the episode")
    if masks.full == masks.told and masks.told >= FEW_ROWS:
        said = f"{ACTION_MASK!r} allowed everything in all {masks.told:,} steps"
        return note("masks", f"{said}: set to 0 what may not be done, or take it out")
    return ok("masks", f"masks tell the actions that are allowed, told in all {masks.told:,} steps")
