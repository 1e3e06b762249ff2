"""Whether actions matter: a player comes in, which tries them in the same situations; findings go out."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import Box

from tensor_optix.core.discrete_spaces import DiscreteSpace, choice_counts, first_choices
from tensor_optix.pipeline.examination.findings import Finding, note, ok, problem
from tensor_optix.pipeline.examination.player import SEED, action_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tensor_optix.core.observation_layout import AnySpace
    from tensor_optix.pipeline.examination.findings import Deadline
    from tensor_optix.pipeline.examination.player import Player, Row

SITUATIONS = 8
"""In which actions are compared."""
PREFIX = 6
"""So many random steps further into an episode is each situation than the one before."""
HOLD = 4
"""Steps for which an action is held, so that what comes of it shows."""
FEW_SITUATIONS = 3
"""Fewer do not tell that an action never matters."""
MOST_LEVERS = 32
MOST_SETTINGS = 32
MOST_NAMED = 8
UNBOUNDED = 1.0
"""As far from the other bound, or from 0, an action is tried where its space has no bound."""


@dataclass
class _Lever:
    """A part of an action, and what it can be set to."""

    name: str
    """Empty where it is all of the action."""
    settings: dict[str, Any]
    """Whole actions, which differ in this part only, by what messages call them."""
    differing: set[tuple[str, str]] = field(default_factory=set)
    """Settings that did not do the same somewhere."""
    tried: Counter[tuple[str, str]] = field(default_factory=Counter)
    """In how many situations two settings were compared."""

    @property
    def is_known(self) -> bool:
        """Whether every setting was seen to differ from every other."""
        return len(self.differing) == len(self.settings) * (len(self.settings) - 1) // 2

    def compare(self, outcomes: Mapping[str, bytes]) -> None:
        """Take in what came of the settings in one situation, in their order."""
        pairs = list(combinations(outcomes, 2))
        self.tried.update(pairs)
        self.differing |= {(one, other) for one, other in pairs if outcomes[one] != outcomes[other]}

    def groups(self) -> list[list[str]]:
        """Return the settings that always did the same, those of each kind together."""
        alike = {pair for pair, count in self.tried.items() if count >= FEW_SITUATIONS}
        alike -= self.differing
        found = list[list[str]]()
        for name in self.settings:
            home = next((one for one in found if (one[0], name) in alike), None)
            if home is None:
                found.append([name])
            else:
                home.append(name)
        return [one for one in found if len(one) > 1]


def actions_matter(player: Player, deadline: Deadline) -> list[Finding]:
    """Try the actions in the same situations, and compare what comes of them.

    It takes an environment that repeats itself from a seed.
    """
    levers, situations = _levers(player.env.action_space)[:MOST_LEVERS], 0
    for number in range(SITUATIONS):
        open_levers = [one for one in levers if not one.is_known]
        if not open_levers or deadline.is_over:
            break
        prefix, is_over = player.opening(SEED + number, PREFIX * number)
        if is_over:
            prefix = prefix[: len(prefix) // 2]
        for lever in open_levers:
            lever.compare(_outcomes(player, lever, SEED + number, prefix, deadline))
        situations += 1
    return _verdict(levers, situations)


def _levers(space: AnySpace) -> list[_Lever]:
    if isinstance(space, Box):
        return _levers_of_box(space)
    return _levers_of_choices(space) if isinstance(space, DiscreteSpace) else []


def _levers_of_choices(space: DiscreteSpace) -> list[_Lever]:
    counts, levers = choice_counts(space), []
    for place, (count, first) in enumerate(zip(counts, first_choices(space), strict=True)):
        settings = {}
        for number in range(min(count, MOST_SETTINGS)):
            choices = np.zeros(len(counts), np.int64)
            choices[place] = number
            settings[str(first + number)] = action_of(choices, space)
        levers.append(_Lever(f"choice {place}" if len(counts) > 1 else "", settings))
    return levers


def _levers_of_box(space: Box) -> list[_Lever]:
    low = np.where(space.bounded_below, space.low, np.minimum(space.high, 0.0) - UNBOUNDED)
    high = np.where(space.bounded_above, space.high, np.maximum(low + UNBOUNDED, UNBOUNDED))
    middle = (low / 2 + high / 2).astype(space.dtype)
    levers = []
    for place in np.ndindex(space.shape):
        settings = {}
        for name, bound in (("low", low), ("high", high)):
            settings[name] = middle.copy()
            settings[name][place] = bound[place]
        levers.append(_Lever(f"component {', '.join(map(str, place))}".strip(), settings))
    if space.is_bounded("both"):
        inner = (middle / 2 + high / 2).astype(space.dtype)
        levers.insert(0, _Lever("the outer half", {"high": high.copy(), "inner": inner}))
    return levers


def _outcomes(
    player: Player, lever: _Lever, seed: int, prefix: Iterable[Any], deadline: Deadline
) -> dict[str, bytes]:
    """Return what comes of each setting that is allowed, in a form that can be compared."""
    outcomes = {}
    for name, action in lever.settings.items():
        if deadline.is_over:
            break
        player.begin(seed)
        for before in prefix:
            player.step(before)
        if not player.allows(action):
            continue
        digest = hashlib.sha256()
        for _ in range(HOLD):
            row = player.step(action)
            digest.update(_bytes_of(row))
            if row.is_end or not player.allows(action):
                break
        outcomes[name] = digest.digest()
    return outcomes


def _bytes_of(row: Row) -> bytes:
    shown = row.observation
    is_array = isinstance(shown, np.ndarray) and shown.dtype != object
    return (shown.tobytes() if is_array else repr(shown).encode()) + repr(row[1:]).encode()


def _verdict(levers: list[_Lever], situations: int) -> list[Finding]:
    if not any(lever.tried for lever in levers):
        return []
    groups = [(lever, group) for lever in levers for group in lever.groups()]
    dead = [lever.name for lever, group in groups if len(group) == len(lever.settings)]
    if len(dead) == len(levers):
        said = f"no action made a difference in {situations} situations, held for {HOLD} steps each"
        return [problem("actions", f"{said}: let step() use its action")]
    if dead:
        said = f"{', '.join(dead[:MOST_NAMED])} of the action made no difference in {situations} situations"
        return [note("actions", f"{said}: leave out what does nothing")]
    if groups:
        lever, group = groups[0]
        which = f" of {lever.name}" if lever.name else ""
        said = f"actions {', '.join(group[:MOST_NAMED])}{which} did the same in {situations} situations"
        remedy = "fewer of them learn faster, or a mask tells when they are of use"
        return [note("actions", f"{said}: {remedy}")]
    are_known = all(lever.is_known for lever in levers)
    return [ok("actions", "every action makes a difference")] if are_known else []
