"""What becomes of an observation before a network sees it: a space comes in, a row of numbers goes out.

Spaces whose elements are arrays stay as they are. Those of several parts, a Dict or a Tuple, are laid side by
side in one row; an `ObservationLayout` names its columns. Masks of the actions that are allowed travel as the
last columns of a row (`MaskedSpace`), so that whatever keeps observations keeps them, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Tuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tensor_optix.core.types import Array

AnySpace: TypeAlias = Space[Any]

ACTION_MASK = "action_mask"
"""The key, of a Dict space or of an info, under which environments tell which actions are allowed."""
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
    """The keys and indices that lead to it, joined by `/`; `"observation"` for a space without parts."""
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
    """The names of parts that are no numbers of a fixed count: Text, Sequence, Graph."""

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

    They are uint8 where every part fits, else float32. A top-level `action_mask` of a Dict is not among the
    columns: see `MaskedSpace`.

    Attributes:
        layout: The columns.
    """

    def __init__(self, layout: ObservationLayout) -> None:
        is_bytes = all(_fits_byte(field) for field in layout.fields)
        dtype = np.uint8 if is_bytes else np.float32
        bounds = [_bounds(field) for field in layout.fields]
        low: Any = np.concatenate([low for low, _ in bounds])
        high: Any = np.concatenate([high for _, high in bounds])
        # Gymnasium would warn that it casts them.
        super().__init__(low.astype(dtype), high.astype(dtype), dtype=dtype)
        self.layout = layout
        self._parts = [(field, _reader(field)) for field in layout.fields]

    def flattened(self, observation: Any) -> Array:
        """Return the row `[D]` of an element.

        Raises:
            ValueError: If a part is missing, has another shape, or a number of a Discrete is outside of it.
        """
        row: Array = self.flattened_batch(_batch_of_one(observation))[0]
        return row

    def flattened_batch(self, observations: Any) -> Array:
        """Return the rows `[N, D]` of N elements: nested as the space, with arrays `[N, ...]` as leaves."""
        columns = [read(_part(observations, field.name), field.name) for field, read in self._parts]
        rows: Array = np.concatenate(columns, axis=1, dtype=self.dtype, casting="unsafe")
        return rows


class MaskedSpace(Box):
    """Observations with the mask of their actions behind them: rows `[D + A]` of the observations' dtype.

    Args:
        plain: The space of the observations, whose elements are arrays.
        mask_size: A, the length of a mask: the number of actions, or the sum of those of every choice.

    Attributes:
        plain, mask_size: The same.
    """

    def __init__(self, plain: AnySpace, mask_size: int) -> None:
        shape = plain.shape or ()
        size = int(np.prod(shape, dtype=np.int64)) + mask_size
        dtype = np.dtype(plain.dtype)
        limits = (
            (-np.inf, np.inf) if dtype.kind == "f" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        )
        super().__init__(*limits, shape=(size,), dtype=dtype.type)  # type: ignore[call-overload]
        self.plain = plain
        self.mask_size = mask_size
        self._plain_shape = shape

    def joined(self, observations: Array, masks: Array) -> Array:
        """Return the rows `[N, D + A]` of observations `[N, ...]` and masks `[N, A]`."""
        flat = observations.reshape(len(observations), -1)
        rows: Array = np.concatenate([flat, masks], axis=1, dtype=self.dtype, casting="unsafe")
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
        mask = Box(0, 1, (space.mask_size,), np.int8)
        return _laid_out(
            [*_parts_again(layout_of(space.plain)), (ACTION_MASK, mask)], has_mask=True
        )
    parts = list(_parts(space, ""))
    masked = mask_space(space)
    if masked is not None:
        parts = [one for one in parts if one[0] != ACTION_MASK] + [(ACTION_MASK, masked)]
    return _laid_out(parts, has_mask=masked is not None)


def has_parts(space: AnySpace) -> bool:
    """Whether a space's elements are several things, which one row can hold."""
    return isinstance(space, Dict | Tuple)


def mask_space(space: AnySpace) -> Box | MultiBinary | Discrete | None:
    """Return the part of a Dict that tells which actions are allowed; None where there is none."""
    part = space.spaces.get(ACTION_MASK) if isinstance(space, Dict) else None
    return (
        part
        if isinstance(part, Box | MultiBinary) and part.shape and len(part.shape) == 1
        else None
    )


def seen_space(space: AnySpace) -> AnySpace:
    """Return the space of arrays that ready-made networks are made for, given that of an environment.

    Raises:
        ValueError: If nothing of it can be laid out in numbers.
    """
    if not has_parts(space):
        return space
    layout = layout_of(space)
    rest = layout.without_mask()
    if not rest.fields:
        raise ValueError(
            f"no part of the observation space {space} is made of numbers of a fixed count: leave out "
            f"{', '.join(layout.left_out) or 'empty spaces'}, or bring an agent of your own"
        )
    flat = FlatSpace(rest)
    return flat if layout.mask is None else MaskedSpace(flat, layout.mask.size)


def _parts(space: AnySpace, name: str) -> Iterator[tuple[str, AnySpace]]:
    """Yield the parts without parts of their own, by name."""
    if isinstance(space, Dict | Tuple):
        items = space.spaces.items() if isinstance(space, Dict) else enumerate(space.spaces)
        for key, part in items:
            yield from _parts(part, f"{name}/{key}" if name else str(key))
    else:
        yield name or ALONE, space


def _parts_again(layout: ObservationLayout) -> list[tuple[str, AnySpace]]:
    return [(field.name, field.space) for field in layout.fields]


def _laid_out(parts: Sequence[tuple[str, AnySpace]], has_mask: bool) -> ObservationLayout:
    fields, left_out, first = [], [], 0
    for number, (name, space) in enumerate(parts):
        is_mask = has_mask and number == len(parts) - 1
        encoding = Encoding.MASK if is_mask else _encoding(space)
        if encoding is None:
            left_out.append(name)
            continue
        field = ObservationField(name, first, _encoded_shape(space), encoding, space)
        fields.append(field)
        first += field.size
    return ObservationLayout(tuple(fields), tuple(left_out))


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
    if isinstance(space, Discrete):
        return (int(space.n),)
    if isinstance(space, MultiDiscrete):
        return (int(space.nvec.sum()),)
    assert space.shape is not None
    return tuple(space.shape)


def _fits_byte(field: ObservationField) -> bool:
    is_bytes = field.space.dtype in (np.uint8, np.bool_)
    return field.encoding is Encoding.ONE_HOT or isinstance(field.space, MultiBinary) or is_bytes


def _bounds(field: ObservationField) -> tuple[Array, Array]:
    """Return the least and the largest numbers of a field's columns."""
    if isinstance(field.space, Box):
        low, high = field.space.low, field.space.high
        return low.astype(np.float64).ravel(), high.astype(np.float64).ravel()
    return np.zeros(field.size), np.ones(field.size)


def _reader(field: ObservationField) -> Callable[[Any, str], Array]:
    """Return the function of a batch of a part to its columns `[N, size]`."""
    space = field.space
    if isinstance(space, Discrete | MultiDiscrete):
        counts = np.ravel(space.nvec if isinstance(space, MultiDiscrete) else [space.n])
        starts = np.ravel(space.start)
        return lambda values, name: _one_hot(values, counts, starts, name)
    shape = field.shape
    return lambda values, name: _values(values, shape, name)


def _values(values: Any, shape: tuple[int, ...], name: str) -> Array:
    given = np.asarray(values)
    if given.shape[1:] != shape:
        raise ValueError(
            f"observations must have the shape {shape} of the observation space in {name}, got "
            f"{given.shape[1:]}: reshape them, or change the space"
        )
    return given.reshape(len(given), -1)


def _one_hot(values: Any, counts: Array, starts: Array, name: str) -> Array:
    numbers = np.asarray(values).reshape(-1, len(counts)) - starts
    if ((numbers < 0) | (numbers >= counts) | (numbers != np.rint(numbers))).any():
        raise ValueError(
            f"observations must be whole numbers within the observation space in {name}, from "
            f"{starts.tolist()} on {counts.tolist()} of them, got {np.asarray(values).tolist()}"
        )
    rows = np.zeros((len(numbers), int(counts.sum())), np.uint8)
    ends = np.concatenate([[0], np.cumsum(counts)[:-1]])
    np.put_along_axis(rows, numbers.astype(np.int64) + ends, 1, axis=1)
    return rows


def _part(observations: Any, name: str) -> Any:
    """Return the part of nested observations that a field's name leads to."""
    if name == ALONE and not isinstance(observations, Mapping):
        return observations
    part = observations
    for key in name.split("/"):
        try:
            part = part[key] if isinstance(part, Mapping) else part[int(key)]
        except (KeyError, IndexError, ValueError, TypeError):
            has = list(part) if isinstance(part, Mapping) else type(part).__name__
            raise ValueError(
                f"observations must have all parts of the observation space, got none for {name}: "
                f"{key!r} is not in {has}"
            ) from None
    return part


def _batch_of_one(observation: Any) -> Any:
    if isinstance(observation, Mapping):
        return {key: _batch_of_one(part) for key, part in observation.items()}
    if isinstance(observation, tuple):
        return tuple(_batch_of_one(part) for part in observation)
    return [observation]
