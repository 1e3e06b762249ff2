"""An ensemble on disk: members, their numbers and weights go into plain files, and come back.

<directory>/                    the primary agent's files
    ensemble.json               {"weights": {"0": 1.0, "2": 0.4}}, by the members' numbers
    members/<number>/           the files of each other member
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.policy_manager import PolicyManager
    from tensor_optix.core.roster import Member

_ROSTER = "ensemble.json"


class EnsembleFiles:
    """Saves and loads the agents of a `PolicyManager` together.

    Who was saved is remembered, so that a stored ensemble can come back after a member has left.

    Args:
        policy_manager: Holds the members.
        primary_agent: Its files are at the top; saved also when it is no member.
    """

    def __init__(self, policy_manager: PolicyManager, primary_agent: BaseAgent) -> None:
        self._manager = policy_manager
        self._primary = primary_agent
        self._saved: dict[int, Member] = {}

    def save(self, directory: Path, write: Callable[[BaseAgent, Path], None]) -> None:
        """Write everything; `write(agent, directory)` writes one agent."""
        for agent, place in self._places():
            write(agent, directory / place)
        members = self._manager.members
        self._saved |= {member.number: member for member in members}
        _write_roster(directory, {member.number: member.weight for member in members})

    def load(self, directory: Path, read: Callable[[BaseAgent, Path], None]) -> None:
        """Make the stored members the ensemble; `read(agent, directory)` reads one agent.

        What a single agent wrote goes into the primary agent.

        Raises:
            ValueError: If the stored ensemble has members that this one never had; nothing has changed then.
        """
        roster = _read_roster(directory)
        if roster is None:
            read(self._primary, directory)
            return
        known = self._saved | {member.number: member for member in self._manager.members}
        if not roster.keys() <= known.keys():
            raise ValueError(
                f"the ensemble in {directory} has the members {sorted(roster)}, this one knows "
                f"{sorted(known)}; add agents to its PolicyManager until it has them all"
            )
        for number, weight in roster.items():
            known[number].weight = weight
        self._manager.reset_members([known[number] for number in roster])
        for agent, place in self._places():
            read(agent, directory / place)

    def average(self, directories: Sequence[Path]) -> bool:
        """Take on the mean of stored ensembles, agent by agent, and of their weights.

        Returns:
            False if an agent cannot, or if they do not have the present members.
        """
        rosters = [_read_roster(directory) for directory in directories]
        members = self._manager.members
        numbers = {member.number for member in members}
        same = [roster for roster in rosters if roster is not None and roster.keys() == numbers]
        if len(same) < len(rosters):
            return False
        if not all(
            agent.average_weights([directory / place for directory in directories])
            for agent, place in self._places()
        ):
            return False
        for member in members:
            member.weight = sum(roster[member.number] for roster in same) / len(same)
        return True

    def _places(self) -> list[tuple[BaseAgent, str]]:
        """Return every agent with its place below a directory, the primary one first."""
        others = [one for one in self._manager.members if one.agent is not self._primary]
        return [(self._primary, "."), *((one.agent, f"members/{one.number}") for one in others)]


def _write_roster(directory: Path, weights: Mapping[int, float]) -> None:
    content = {"weights": {str(number): weight for number, weight in weights.items()}}
    (directory / _ROSTER).write_text(json.dumps(content), encoding="utf-8")


def _read_roster(directory: Path) -> dict[int, float] | None:
    """Return the weights by the members' numbers; None if no ensemble wrote the directory."""
    path = directory / _ROSTER
    if not path.exists():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    return {int(number): float(weight) for number, weight in content["weights"].items()}
