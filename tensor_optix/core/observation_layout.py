"""What becomes of an observation before a network sees it: a space comes in, a row of numbers goes out.

Spaces whose elements are arrays stay as they are. Those of several parts, a Dict or a Tuple, are laid side by
side in one row; an `ObservationLayout` names its columns. Masks of the actions that are allowed travel as the
last columns of a row (`MaskedSpace`), so that whatever keeps observations keeps them, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Tuple

from tensor_optix.core.discrete_spaces import choice_counts, first_choices
from tensor_optix.core.observation_values import ObservationDoor, limits

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tensor_optix.core.types import Array

AnySpace: TypeAlias = Space[Any]
Path: TypeAlias = "tuple[Any, ...]"

ACTION_MASK = "action_mask"
"""The key, of a Dict space or of an info, under which environments tell which actions are allowed."""
MASK_PATH = (ACTION_MASK,)
IMAGE_AXES = 3
ALONE = "observation"
"""The name of the field of a space that has no parts."""


class Encoding(Enum):
    """What the columns of a field hold."""

    VALUES = "values"
    """The numbers themselves, row-major."""
    ONE_HOT = "one-hot"
    """A unit vector for each number of a Discrete or a MultiDiscrete."""
    IMAGE = "image"
    """The pixels of a Box with three axes, row-major."""
    MASK = "mask"
    """1 where an action is allowed, else 0."""


@dataclass(frozen=True)
class ObservationField:
    """One part of an observation, and where it lies in the row."""

    name: str
    """The path joined by `/`, for people to read; `"observation"` for a space without parts."""
    path: Path
    """The keys of Dicts and the indices of Tuples that lead to it, from the outside in."""
    first: int
    """Its first column."""
    shape: tuple[int, ...]
    """Of what its columns hold."""
    encoding: Encoding
    space: AnySpace
    """Of the part itself."""

    @property
    def size(self) -> int:
        """How many columns it has."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def columns(self) -> slice:
        """Its columns in the row."""
        return slice(self.first, self.first + self.size)


@dataclass(frozen=True)
class ObservationLayout:
    """The row that an observation is laid out in."""

    fields: tuple[ObservationField, ...]
    """In the order of their columns, which have no gaps."""
    left_out: tuple[str, ...] = ()
    """The names of parts that are no numbers of a fixed count: Text, Sequence, Graph, OneOf."""

    @property
    def size(self) -> int:
        """D, the number of columns."""
        return sum(field.size for field in self.fields)

    @property
    def mask(self) -> ObservationField | None:
        """The mask of the actions, the last field; None where there is none."""
        last = self.fields[-1] if self.fields else None
        return last if last is not None and last.encoding is Encoding.MASK else None

    def without_mask(self) -> ObservationLayout:
        """Return the layout of the other fields."""
        fields = self.fields if self.mask is None else self.fields[:-1]
        return ObservationLayout(fields, self.left_out)


class FlatSpace(Box):
    """The rows `[D]` that the elements of a Dict or a Tuple are laid out in.

    They are uint8 where every part fits, else float32. Bounds are those of the parts.

    Attributes:
        layout: The columns.
    """

    def __init__(self, layout: ObservationLayout) -> None:
        is_bytes = all(_fits_byte(field) for field in layout.fields)
        dtype = np.dtype(np.uint8 if is_bytes else np.float32)
        low, high = (_end(layout.fields, end, dtype) for end in (0, 1))
        super().__init__(low, high, dtype=dtype.type)  # type: ignore[arg-type]
        self.layout = layout
        self._columns = [_Columns(field) for field in layout.fields]

    def __eq__(self, other: object) -> bool:
        """Whether the other has the same columns, too."""
        return isinstance(other, FlatSpace) and self.layout == other.layout

    def flattened(self, observation: Any, who: str = "the environment") -> Array:
        """Return the row `[D]` of an element; `who` is the environment in messages.

        Raises:
            TypeError: If a part is not made of numbers, or of floats where the space has integers.
            ValueError: If a part is missing, has another shape, or holds numbers that are not in its space.
        """
        row = np.empty((1, *self.shape), self.dtype)
        with np.errstate(over="raise"):
            for columns in self._columns:
                columns.write(observation, row, who, None)
        kept: Array = row[0]
        return kept

    def flattened_batch(
        self, observations: Any, who: str = "the environment", count: int | None = None
    ) -> Array:
        """Return the rows `[N, D]` of N elements: nested as the space, with arrays `[N, ...]` as leaves.

        Args:
            observations: The elements.
            who: The environment in messages.
            count: N. None: as many as the first leaf has.

        Raises:
            TypeError: Like `flattened`.
            ValueError: Like `flattened`, and if a leaf is not of N elements.
        """
        if count is None:
            count = len(self.first_part(observations, who))
        rows = np.empty((count, *self.shape), self.dtype)
        with np.errstate(over="raise"):
            for columns in self._columns:
                columns.write(observations, rows, who, count)
        return rows

    def first_part(self, observations: Any, who: str = "the environment") -> Any:
        """Return what is given for the first field, of an element or of N; ValueError if nothing is."""
        return self._columns[0].part(observations, who)


class _Columns:
    """Fills the columns of one field. Numbers that overflow are to raise, by the caller's `np.errstate`."""

    def __init__(self, field: ObservationField) -> None:
        space: Any = field.space
        self._field, self._door = field, ObservationDoor(space, field.name)
        self._slice = field.columns
        self._size = int(np.prod(space.shape or (), dtype=np.int64))
        self._is_mask = field.encoding is Encoding.MASK
        self._numbers: Array | None = None
        if field.encoding is Encoding.ONE_HOT:
            counts, starts = choice_counts(space), first_choices(space)
            # Of each column: which of the part's numbers it is for, and for which value of it.
            self._positions = np.repeat(np.arange(len(counts)), counts)
            values = [np.arange(count) + start for count, start in zip(counts, starts, strict=True)]
            self._numbers = np.concatenate(values)

    def write(self, observations: Any, rows: Array, who: str, count: int | None) -> None:
        """Write a part of the observations into `rows` `[N, D]`; `count` is N, or None for one element."""
        part = self._door(self.part(observations, who), who, count)
        values = part.reshape(len(rows), self._size)
        if self._numbers is not None:
            values = values[:, self._positions] == self._numbers
        elif self._is_mask:
            values = values != 0
        try:
            rows[:, self._slice] = values
        except FloatingPointError:
            raise ValueError(
                f"{who} (part {self._field.name}) must return observations within {rows.dtype}, which rows "
                f"of several parts have, got numbers from {values.min()} to {values.max()}: rescale them"
            ) from None

    def part(self, observations: Any, who: str) -> Any:
        """Return what the field's path leads to."""
        part = observations
        for key in self._field.path:
            try:
                part = part[key]
            except (KeyError, IndexError, TypeError):
                has = list(part) if isinstance(part, Mapping) else f"a {type(part).__name__}"
                raise ValueError(
                    f"{who} must return observations with all parts of the observation space, got none for "
                    f"{self._field.name}: {key!r} is not in {has}"
                ) from None
        return part


class MaskedSpace(Box):
    """Observations with the mask of their actions behind them: rows `[D + A]` of the observations' dtype.

    Args:
        plain: The space of the observations, whose elements are arrays.
        mask_size: A, the length of a mask: the number of actions, or the sum of those of every choice.

    Attributes:
        plain, mask_size: The same.
    """

    def __init__(self, plain: AnySpace, mask_size: int) -> None:
        dtype = np.dtype(plain.dtype)
        low, high = (
            np.concatenate([np.ravel(end), np.full(mask_size, masked, dtype)])
            for end, masked in zip(limits(plain), (0, 1), strict=True)
        )
        super().__init__(low, high, dtype=dtype.type)
        self.plain = plain
        self.mask_size = mask_size
        self._plain_shape = plain.shape or ()

    def __eq__(self, other: object) -> bool:
        """Whether the other has the same observations and masks."""
        return (
            isinstance(other, MaskedSpace)
            and self.plain == other.plain
            and self.mask_size == other.mask_size
        )

    def joined(self, observations: Array, masks: Array) -> Array:
        """Return the rows `[N, D + A]` of observations `[N, ...]` and masks `[N, A]`."""
        count, size = len(observations), self.shape[0] - self.mask_size
        rows = np.empty((count, *self.shape), self.dtype)
        rows[:, :size] = observations.reshape(count, size)
        rows[:, size:] = masks != 0
        return rows

    def split(self, rows: Array) -> tuple[Array, Array]:
        """Return the observations `[N, ...]`, and the masks `[N, A]` bool.

        A mask that allows nothing says nothing: there all actions count as allowed.
        """
        observations, masks = rows[:, : -self.mask_size], rows[:, -self.mask_size :] != 0
        allowed = masks | ~masks.any(axis=1, keepdims=True)
        return observations.reshape(len(rows), *self._plain_shape), allowed


def layout_of(space: AnySpace) -> ObservationLayout:
    """Return in which columns the parts of a space's elements lie.

    Of a space whose elements are arrays this is one field, named `"observation"`. A Dict's keys come in the
    order of the space, a top-level `action_mask` last.
    """
    if isinstance(space, FlatSpace):
        return space.layout
    if isinstance(space, MaskedSpace):
        plain, mask = layout_of(space.plain), Box(0, 1, (space.mask_size,), np.int8)
        paths = ((field.path, field.space) for field in plain.fields)
        return _layout(paths, mask, plain.left_out)
    masked = mask_space(space)
    parts = _parts(space, ())
    if masked is not None:
        parts = (one for one in parts if one[0] != MASK_PATH)
    return _layout(parts, masked)


def has_parts(space: AnySpace) -> bool:
    """Whether a space's elements are several things, which one row can hold."""
    return isinstance(space, Dict | Tuple)


def mask_space(space: AnySpace) -> Box | MultiBinary | None:
    """Return the part of a Dict that tells which actions are allowed; None where there is none.

    It may have any number of axes; a mask is laid out row-major.
    """
    part = space.spaces.get(ACTION_MASK) if isinstance(space, Dict) else None
    return part if isinstance(part, Box | MultiBinary) and _encoding(part) and part.shape else None


def seen_space(space: AnySpace) -> AnySpace:
    """Return the space of arrays that ready-made networks are made for, given that of an environment.

    Raises:
        ValueError: If nothing of it can be laid out in numbers.
    """
    if not has_parts(space):
        return space
    layout = laid_out(space).layout
    flat = FlatSpace(layout.without_mask())
    return flat if layout.mask is None else MaskedSpace(flat, layout.mask.size)


def laid_out(space: AnySpace) -> FlatSpace:
    """Return the rows of a Dict or a Tuple, the mask of the actions among their columns where there is one.

    Raises:
        ValueError: If nothing of it can be laid out in numbers.
    """
    layout = layout_of(space)
    if not layout.without_mask().fields:
        raise ValueError(
            f"no part of the observation space {space} is made of numbers of a fixed count: leave out "
            f"{', '.join(layout.left_out) or 'empty spaces'}, or bring an agent of your own"
        )
    return FlatSpace(layout)


def _parts(space: AnySpace, path: Path) -> Iterator[tuple[Path, AnySpace]]:
    """Yield the parts without parts of their own, each with the path to it."""
    if isinstance(space, Dict | Tuple):
        items = space.spaces.items() if isinstance(space, Dict) else enumerate(space.spaces)
        for key, part in items:
            yield from _parts(part, (*path, key))
    else:
        yield path, space


def _layout(
    parts: Iterable[tuple[Path, AnySpace]], mask: AnySpace | None, left_out: tuple[str, ...] = ()
) -> ObservationLayout:
    fields: list[ObservationField] = []
    first = 0
    for path, space in parts:
        name = "/".join(map(str, path)) if path else ALONE
        encoding = _encoding(space)
        if encoding is None:
            left_out = (*left_out, name)
            continue
        fields.append(ObservationField(name, path, first, _encoded_shape(space), encoding, space))
        first += fields[-1].size
    if mask is not None:
        shape = _encoded_shape(mask)
        mask_field = ObservationField(ACTION_MASK, MASK_PATH, first, shape, Encoding.MASK, mask)
        fields.append(mask_field)
    return ObservationLayout(tuple(fields), left_out)


def _encoding(space: AnySpace) -> Encoding | None:
    """Return how a part is laid out; None where it cannot be."""
    if isinstance(space, Discrete | MultiDiscrete):
        return Encoding.ONE_HOT
    if isinstance(space, MultiBinary):
        return Encoding.VALUES
    if isinstance(space, Box) and 0 not in space.shape:
        return Encoding.IMAGE if len(space.shape) == IMAGE_AXES else Encoding.VALUES
    return None


def _encoded_shape(space: AnySpace) -> tuple[int, ...]:
    if isinstance(space, Discrete | MultiDiscrete):
        return (sum(choice_counts(space)),)
    assert space.shape is not None
    return tuple(space.shape)


def _fits_byte(field: ObservationField) -> bool:
    is_bytes = field.space.dtype in (np.uint8, np.bool_)
    return (
        field.encoding in (Encoding.ONE_HOT, Encoding.MASK)
        or is_bytes
        or isinstance(field.space, MultiBinary)
    )


def _end(fields: tuple[ObservationField, ...], end: int, dtype: np.dtype[Any]) -> Array:
    """Return the least (end 0) or the largest (end 1) numbers `[D]` of the fields' columns."""
    columns = [
        np.ravel(limits(field.space)[end])
        if field.encoding in (Encoding.VALUES, Encoding.IMAGE)
        else np.full(field.size, end)
        for field in fields
    ]
    with np.errstate(over="ignore"):
        return np.concatenate([each.astype(dtype) for each in columns])
