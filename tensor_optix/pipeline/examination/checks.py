"""What random play tells of an environment: a trace comes in, findings go out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tensor_optix.core.decisions.episode_ends import steps_to_end
from tensor_optix.core.discrete_spaces import DiscreteSpace, choice_counts
from tensor_optix.core.observation_layout import ACTION_MASK, Encoding, layout_of
from tensor_optix.pipeline.examination.findings import Finding, note, ok, problem
from tensor_optix.pipeline.observation_report import place_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensor_optix.core.observation_layout import AnySpace
    from tensor_optix.core.types import Array
    from tensor_optix.pipeline.examination.trace import Episode, ObservationFigures, Trace

LARGE, SMALL = 100.0, 1e-3
"""A number is far from unit scale beyond `LARGE`, or if nothing varies by more than `SMALL`."""
FEW_ROWS = 200
"""Fewer observations than that do not tell what is constant, fewer steps not what never ends or pays."""
FEW_EPISODES = 3
"""Fewer do not tell what all have in common."""
MOST_NAMED = 4


def checked(trace: Trace, time_limit: int | None, action_space: AnySpace) -> list[Finding]:
    """Return what a trace tells.

    Args:
        trace: Of random play.
        time_limit: In steps, None where it is not known.
        action_space: What the actions are from.
    """
    return [
        *_flags(trace.episodes, time_limit),
        *_ends(trace, time_limit),
        *_rewards(trace),
        *_observations(trace.observations),
        *_masks(trace, action_space),
    ]


# ---- episodes


def _flags(episodes: Sequence[Episode], limit: int | None) -> list[Finding]:
    """Look at how episodes end; one that ends in the very step of the limit may have both flags."""
    before = [one for one in episodes if one.length != limit]
    both = [one for one in before if one.terminated and one.truncated]
    if both:
        said = f"{len(both)} of {len(episodes)} episodes ended with terminated and truncated both"
        remedy = "set truncated only where a time limit cuts an episode that would go on"
        return [(problem if len(both) == len(before) else note)("flags", f"{said}: {remedy}")]
    at_limit = [one for one in episodes if one.length == limit]
    if at_limit and all(one.terminated for one in at_limit):
        return [
            problem(
                "time-limit",
                f"episodes that reach the limit of {limit:,} steps end with terminated: leave it False "
                "there, or what would have followed counts as nothing",
            )
        ]
    lengths = {one.length for one in episodes}
    is_even = len(lengths) == 1 and lengths.isdisjoint({1, limit})
    if len(episodes) >= FEW_EPISODES and is_even and all(one.terminated for one in episodes):
        return [
            note(
                "time-limit",
                f"all {len(episodes)} episodes were terminated after {lengths.pop():,} steps: if that is a "
                "time limit, end them with truncated instead",
            )
        ]
    return [ok("flags", "episodes end with one flag")] if episodes else []


def _ends(trace: Trace, limit: int | None) -> list[Finding]:
    longest = max([trace.unfinished, *(one.length for one in trace.episodes)])
    if limit is not None and longest > limit:
        return [
            problem(
                "time-limit",
                f"an episode went on for {longest:,} steps, beyond the limit of {limit:,} that its spec "
                "states: end it with truncated, as gymnasium.wrappers.TimeLimit does",
            )
        ]
    if trace.episodes or limit is not None or trace.steps < FEW_ROWS:
        return []
    return [
        note(
            "ends",
            f"no episode ended within {trace.steps:,} steps, and no time limit is known: give it one, with "
            f"max_episode_steps for instance, or one is given up after {steps_to_end(None):,} steps where it "
            "is scored",
        )
    ]


# ---- rewards


def _rewards(trace: Trace) -> list[Finding]:
    rewards = trace.rewards
    bad = np.flatnonzero(~np.isfinite(rewards))
    if len(bad):
        return [
            problem(
                "rewards",
                f"{len(bad):,} of {trace.steps:,} rewards were not finite, the first one, {rewards[bad[0]]}, "
                f"in step {bad[0]:,}: look for a division by zero, a logarithm or a root",
            )
        ]
    largest = float(np.abs(rewards).max())
    found = [] if largest == 0.0 else _reward_scale(largest)
    found += _sparsity(trace, largest)
    return found or [ok("rewards", "rewards are finite")]


def _reward_scale(largest: float) -> list[Finding]:
    if SMALL <= largest <= LARGE:
        return []
    size = "as large as" if largest > LARGE else "no larger than"
    return [
        note(
            "reward-scale",
            f"rewards are {size} {largest:.4g}: --normalize-rewards, which learns from unit returns",
        )
    ]


def _sparsity(trace: Trace, largest: float) -> list[Finding]:
    if largest == 0.0 and trace.steps >= FEW_ROWS:
        return [
            note(
                "sparse",
                f"no reward but 0 in {trace.steps:,} random steps: whoever learns has to find one first; pay "
                "for progress, or expect to need many steps",
            )
        ]
    totals = {one.total for one in trace.episodes}
    if len(trace.episodes) >= FEW_EPISODES and len(totals) == 1:
        return [
            note(
                "sparse",
                f"all {len(trace.episodes)} random episodes paid {totals.pop():.4g}: nothing tells good "
                "actions from bad ones until one pays otherwise; pay for progress, or expect to need many "
                "steps",
            )
        ]
    return []


# ---- observations


def _observations(figures: ObservationFigures | None) -> list[Finding]:
    if figures is None:
        return []
    if figures.has_non_finite:
        return [
            problem(
                "observations",
                "observations hold NaN or infinity: networks turn all they touch into NaN; find where they "
                "come from",
            )
        ]
    if figures.outside is not None:
        return [
            problem(
                "observations",
                f"observations leave the bounds of their space, {figures.outside}: widen the bounds, or clip",
            )
        ]
    found = [*_constants(figures), *_scale(figures)]
    return found or [ok("observations", "observations are in their space, and of a fair scale")]


def _numbers(figures: ObservationFigures) -> Array:
    """Return `[D]` bool, which elements are numbers that networks see as they are."""
    are_numbers = np.zeros(len(figures.low), bool)
    for field in layout_of(figures.space).fields:
        are_numbers[field.columns] = field.encoding is Encoding.VALUES
    return are_numbers


def _constants(figures: ObservationFigures) -> list[Finding]:
    if figures.rows < FEW_ROWS:
        return []
    is_constant = figures.low == figures.high
    if is_constant.all():
        return [
            problem(
                "constant",
                f"the observation was the same in {figures.rows:,} steps: nothing can be learned from it; "
                "return the state after each step",
            )
        ]
    found = np.flatnonzero(is_constant & _numbers(figures))
    if not len(found):
        return []
    return [
        note(
            "constant",
            f"{len(found)} of {len(is_constant)} elements of the observation never changed "
            f"({_named(figures, found)}): leave them out, unless other episodes differ in them",
        )
    ]


def _scale(figures: ObservationFigures) -> list[Finding]:
    if figures.space.dtype == np.uint8:
        return []
    largest = np.maximum(np.abs(figures.low), np.abs(figures.high))
    is_constant = figures.low == figures.high
    is_far = (largest > LARGE) | (~is_constant & (figures.std < SMALL))
    found = np.flatnonzero(is_far & _numbers(figures))
    if not len(found):
        return []
    ranges = ", ".join(
        f"{place_of(figures.space, int(one))} from {figures.low[one]:.4g} to {figures.high[one]:.4g}"
        for one in found[:2]
    )
    more = f" and {len(found) - 2} more" if len(found) > 2 else ""
    return [
        note(
            "observation-scale",
            f"observations are far from unit scale, {ranges}{more}: --normalize-observations",
        )
    ]


def _named(figures: ObservationFigures, columns: Array) -> str:
    names = [place_of(figures.space, int(one)) for one in columns[:MOST_NAMED]]
    more = [f"{len(columns) - MOST_NAMED} more"] if len(columns) > MOST_NAMED else []
    return ", ".join(names + more)


# ---- masks


def _masks(trace: Trace, space: AnySpace) -> list[Finding]:
    masks = trace.masks
    if not masks.told or not isinstance(space, DiscreteSpace):
        return []
    wanted = sum(choice_counts(space))
    if masks.size != wanted:
        return [
            problem(
                "masks",
                f"{ACTION_MASK!r} has {masks.size} numbers, but there are {wanted} actions in {space}: give "
                "it that length, or take it out",
            )
        ]
    if masks.empty:
        return [
            note(
                "masks",
                f"{ACTION_MASK!r} allowed nothing in {masks.empty:,} of {masks.told:,} steps, which counts "
                "as everything: allow what may be done there, or end the episode",
            )
        ]
    if masks.full == masks.told and masks.told >= FEW_ROWS:
        return [
            note(
                "masks",
                f"{ACTION_MASK!r} allowed everything in all {masks.told:,} steps: set to 0 what may not be "
                "done, or take it out",
            )
        ]
    return [
        ok("masks", f"masks tell the actions that are allowed, told in all {masks.told:,} steps")
    ]
