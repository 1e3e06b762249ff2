"""What an examination says, in one line with a grade, and the time that it has."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import Enum


class Grade(Enum):
    """What a finding means for training."""

    OK = "ok"
    NOTE = "note"
    """Training works, and might be better, or the user may have meant something else."""
    PROBLEM = "problem"
    """What is learned, or scored, is wrong, or nothing can be learned."""


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    check: str
    """The name of the check: one word or two, joined by a hyphen."""
    grade: Grade
    text: str
    """One line; with a remedy unless all is well."""


def ok(check: str, text: str) -> Finding:
    """Return that all is well."""
    return Finding(check, Grade.OK, text)


def note(check: str, text: str) -> Finding:
    """Return what is worth knowing."""
    return Finding(check, Grade.NOTE, text)


def problem(check: str, text: str) -> Finding:
    """Return what has to be mended."""
    return Finding(check, Grade.PROBLEM, text)


def one_line(error: object) -> str:
    """Return what an error says, in one line."""
    return " ".join(str(error).split())


class Deadline:
    """A span of time that begins now. It is asked between calls of an environment, and interrupts none.

    Args:
        seconds: How long it is.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.perf_counter() + seconds

    @property
    def left(self) -> float:
        """The seconds that are left, never below 0."""
        return max(0.0, self._end - time.perf_counter())

    @property
    def is_over(self) -> bool:
        """Whether nothing is left."""
        return self.left == 0.0

    def part(self, share: float) -> Deadline:
        """Return a deadline that leaves the rest to others: now, and a share of what is left."""
        return Deadline(share * self.left)
