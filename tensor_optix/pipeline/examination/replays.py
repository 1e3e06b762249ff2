"""What playing the same thing again tells of an environment: its seeds, and whether its actions matter."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import Box
from gymnasium.utils.env_checker import data_equivalence

from tensor_optix.core.discrete_spaces import DiscreteSpace, choice_counts, first_choices
from tensor_optix.pipeline.examination.findings import Finding, note, ok, problem
from tensor_optix.pipeline.vector_contract import space_dtype

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tensor_optix.core.observation_layout import AnySpace
    from tensor_optix.core.types import Array
    from tensor_optix.pipeline.examination.findings import Deadline
    from tensor_optix.pipeline.examination.player import Player, Row

SEED = 0
REPLAYED_STEPS = 100
RESETS = 4
"""With seeds, and without, to tell what they are for."""
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


# ---- seeds


def seeded(player: Player, deadline: Deadline) -> Finding:
    """Play the same actions twice from one seed, and compare the rows."""
    first = [player.begin(SEED)]
    actions, seen = list[Any](), [first[0]]
    while len(actions) < REPLAYED_STEPS and not deadline.is_over:
        actions.append(player.choose())
        seen.append(player.step(actions[-1]))
    again = [player.begin(SEED)]
    for number, expected in enumerate(seen):
        if number:
            again.append(player.step(actions[number - 1]))
        if not _are_same(expected, again[-1]):
            where = f"in step {number}" if number else "at once"
            return problem(
                "seed",
                f"two resets with seed {SEED} and the same actions differ {where}: draw every random number "
                "from self.np_random, after super().reset(seed=seed)",
            )
    return ok("seed", "one seed gives the same rows again")


def unseeded(player: Player) -> Finding | None:
    """Compare first observations with seeds and without."""
    with_seed = [player.begin(SEED + number) for number in range(RESETS)]
    if all(_are_same(with_seed[0], one) for one in with_seed[1:]):
        return None
    without = [player.begin() for _ in range(RESETS)]
    if not all(_are_same(without[0], one) for one in without[1:]):
        return None
    return problem(
        "reset",
        f"{RESETS} resets without a seed began in the same state, though seeds begin in others: every "
        "episode would be the same; seed only when a seed is given",
    )


def _are_same(one: Row, other: Row) -> bool:
    if not np.array_equal(one[1:], other[1:], equal_nan=True):
        return False
    if isinstance(one.observation, np.ndarray) and one.observation.dtype != object:
        is_float = one.observation.dtype.kind == "f"
        return np.array_equal(one.observation, other.observation, equal_nan=is_float)
    return bool(data_equivalence(one.observation, other.observation))


# ---- actions


@dataclass
class _Lever:
    """A part of an action, and what it can be set to."""

    name: str
    """Empty where it is all of the action."""
    settings: dict[str, Any]
    """Whole actions, which differ in this part only, by what messages call them."""
    differing: set[frozenset[str]] = field(default_factory=set)
    """Settings that did not do the same somewhere."""
    tried: dict[frozenset[str], int] = field(default_factory=lambda: defaultdict(int))
    """In how many situations two settings were compared."""

    @property
    def pairs(self) -> list[frozenset[str]]:
        names = list(self.settings)
        return [frozenset((a, b)) for i, a in enumerate(names) for b in names[:i]]

    @property
    def is_known(self) -> bool:
        """Whether every setting was seen to differ from every other."""
        return len(self.differing) == len(self.pairs)

    def compare(self, outcomes: dict[str, bytes]) -> None:
        for pair in self.pairs:
            one, other = (outcomes.get(name) for name in pair)
            if one is None or other is None:
                continue
            self.tried[pair] += 1
            if one != other:
                self.differing.add(pair)

    def groups(self) -> list[list[str]]:
        """Return the settings that always did the same, those of each kind together."""
        alike = {
            pair
            for pair in self.pairs
            if pair not in self.differing and self.tried[pair] >= FEW_SITUATIONS
        }
        found = list[list[str]]()
        for name in self.settings:
            home = next((one for one in found if frozenset((one[0], name)) in alike), None)
            if home is None:
                found.append([name])
            else:
                home.append(name)
        return [one for one in found if len(one) > 1]


def actions_matter(player: Player, space: AnySpace, deadline: Deadline) -> list[Finding]:
    """Try the actions in the same situations, and compare what comes of them.

    It takes an environment that repeats itself from a seed.
    """
    levers, situations = _levers(space)[:MOST_LEVERS], 0
    for number in range(SITUATIONS):
        open_levers = [one for one in levers if not one.is_known]
        if not open_levers or deadline.is_over:
            break
        prefix = _prefix(player, SEED + number, PREFIX * number)
        for lever in open_levers:
            lever.compare(_outcomes(player, lever, SEED + number, prefix, deadline))
        situations += 1
    return _verdict(levers, situations)


def _levers(space: AnySpace) -> list[_Lever]:
    if isinstance(space, Box):
        return _levers_of_box(space)
    return _levers_of_choices(space) if isinstance(space, DiscreteSpace) else []


def _levers_of_choices(space: DiscreteSpace) -> list[_Lever]:
    counts, first = choice_counts(space), first_choices(space)
    levers = []
    for place, count in enumerate(counts):
        settings = {}
        for number in range(min(count, MOST_SETTINGS)):
            action = first.copy()
            action[place] += number
            shaped = action.reshape(space.shape or ()).astype(space_dtype(space))
            settings[str(int(action[place]))] = shaped
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


def _prefix(player: Player, seed: int, steps: int) -> list[Any]:
    """Return actions that lead into an episode: half as far as it goes, where it ends before."""
    player.begin(seed)
    actions: list[Any] = []
    while len(actions) < steps:
        actions.append(player.choose())
        if player.step(actions[-1]).is_end:
            return actions[: len(actions) // 2]
    return actions


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
        if not _is_allowed(player, action):
            continue
        digest = hashlib.sha256()
        for _ in range(HOLD):
            row = player.step(action)
            digest.update(_bytes_of(row))
            if row.is_end or not _is_allowed(player, action):
                break
        outcomes[name] = digest.digest()
    return outcomes


def _is_allowed(player: Player, action: Array) -> bool:
    space = player.env.action_space
    if player.mask is None or not isinstance(space, DiscreteSpace):
        return True
    counts = np.array(choice_counts(space))
    chosen = np.cumsum(counts) - counts + np.ravel(action) - first_choices(space)
    return bool(player.allowed[chosen].all())


def _bytes_of(row: Row) -> bytes:
    shown = row.observation
    is_array = isinstance(shown, np.ndarray) and shown.dtype != object
    return (shown.tobytes() if is_array else repr(shown).encode()) + repr(row[1:]).encode()


def _verdict(levers: list[_Lever], situations: int) -> list[Finding]:
    groups = {lever.name: lever.groups() for lever in levers}
    dead = [lever for lever in levers if any(len(g) == len(lever.settings) for g in lever.groups())]
    if not any(lever.tried for lever in levers):
        return []
    if len(dead) == len(levers):
        return [
            problem(
                "actions",
                f"no action made a difference in {situations} situations, held for {HOLD} steps each: let "
                "step() use its action",
            )
        ]
    if dead:
        names = ", ".join(lever.name for lever in dead[:MOST_NAMED])
        return [
            note(
                "actions",
                f"{names} of the action made no difference in {situations} situations: leave out what does "
                "nothing",
            )
        ]
    alike = [(name, group) for name, found in groups.items() for group in found]
    if alike:
        name, group = alike[0]
        which = f" of {name}" if name else ""
        return [
            note(
                "actions",
                f"actions {', '.join(group[:MOST_NAMED])}{which} did the same in {situations} situations: "
                "fewer of them learn faster, or a mask tells when they are of use",
            )
        ]
    return (
        [ok("actions", "every action makes a difference")]
        if all(lever.is_known for lever in levers)
        else []
    )
