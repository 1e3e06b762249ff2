"""Parts of a step come in, Markdown goes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

GROUPS = ("environment", "acting", "keeping rows", "learning")


@dataclass(frozen=True)
class Part:
    """What a part of a step takes, in microseconds, against the least that it could."""

    name: str
    time: float
    group: str = ""
    """One of `GROUPS`. None of them: it is within the part before."""
    floor: float | None = None
    floor_is: str = ""


@dataclass(frozen=True)
class Profile:
    """A step of one case.

    Attributes:
        title: The case.
        step: What the step is.
        steps: Environment steps in it.
        total: What it takes in training, in microseconds.
        parts: What was measured apart.
        backend: Who steps the environments.
    """

    title: str
    step: str
    steps: int
    total: float
    parts: Sequence[Part]
    backend: str

    @property
    def remainder(self) -> float:
        """What no part accounts for; negative where parts were slower apart."""
        return self.total - sum(part.time for part in self.parts if part.group)

    def share(self, group: str) -> float:
        """Return which share of a step a group has."""
        return sum(part.time for part in self.parts if part.group == group) / self.total

    @property
    def products(self) -> Part:
        """The products of the updates."""
        return next(part for part in self.parts if part.name == PRODUCTS)


PRODUCTS = "products"


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table whose columns but the first are numbers."""
    lines = [list(heads), ["---", *["---:"] * (len(heads) - 1)], *map(list, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def number(value: float) -> str:
    """Return microseconds with about three digits."""
    return (
        f"{value:,.0f}"
        if abs(value) >= 100
        else f"{value:.1f}"
        if abs(value) >= 1
        else f"{value:.2f}"
    )


def parts_table(profile: Profile) -> str:
    """Return what a step of a case consists of."""
    rows = [_part_row(part, profile.total) for part in profile.parts]
    left = profile.remainder
    rows.append(["what no part accounts for", number(left), _share(left, profile.total), "", ""])
    rows.append(["**in training**", f"**{number(profile.total)}**", "100 %", "", ""])
    return markdown((profile.step, "us", "of the step", "floor, us", "the floor is"), rows)


def _part_row(part: Part, total: float) -> list[str]:
    name = part.name if part.group else f"- of it {part.name}"
    floor = "" if part.floor is None else number(part.floor)
    return [name, number(part.time), _share(part.time, total), floor, part.floor_is]


def _share(time: float, total: float) -> str:
    return f"{100 * time / total:.0f} %"


def summary_table(profiles: Iterable[Profile]) -> str:
    """Return one line a case: which part bounds it."""
    heads = ("case", "steps/s", *GROUPS, "of it products", "the rest", "products over their floor")
    return markdown(heads, map(_summary_row, profiles))


def _summary_row(profile: Profile) -> list[str]:
    products = profile.products
    assert products.floor is not None
    return [
        profile.title,
        f"{1e6 * profile.steps / profile.total:,.0f}",
        *(f"{100 * profile.share(group):.0f} %" for group in GROUPS),
        f"({_share(products.time, profile.total)})",
        _share(profile.remainder, profile.total),
        f"{products.time / products.floor:.2f}x",
    ]
