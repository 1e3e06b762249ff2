"""What a live data source is, and what may come out of it: five values go in, a checked row comes out.

Every row is a copy: a source may write the next observation into the same array.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tensor_optix.core.types import Array

NUMERIC = "biuf"
FINAL_OBS = "final_obs"
"""Where the info of a row that ends an episode may hold the observation that it led to."""


@runtime_checkable
class DataSource(Protocol):
    """A running system that is observed. It may also have one of the methods of the two below."""

    def stream(self) -> Iterable[tuple[Any, float, bool, bool, dict[str, Any]]]:
        """Yield `(obs, reward, terminated, truncated, info)`; called anew after a disconnect."""


@runtime_checkable
class ActionReceiver(Protocol):
    """A source that carries out what the agent chooses."""

    def send_action(self, action: Any) -> None:
        """Take the action for the last row that was consumed, in the environment's own terms."""


@runtime_checkable
class ActionListener(Protocol):
    """The same under another name."""

    def on_action(self, action: Any) -> None:
        """Take the action for the last row that was consumed, in the environment's own terms."""


class LiveRow(NamedTuple):
    """One row of a stream."""

    observation: Array
    """`[...]`, of the shape and dtype of the first row."""
    reward: float
    terminated: bool
    truncated: bool
    info: dict[str, Any]
    final_obs: Array | None = None
    """`[...]`, the observation that an end led to, where the info holds it."""

    @property
    def done(self) -> bool:
        """Whether an episode ended."""
        return self.terminated or self.truncated


class MalformedRow(ValueError):
    """A source yielded what is no row. Opening it again would not help."""


class RowReader:
    """Checks rows. The first one says what observations look like."""

    def __init__(self) -> None:
        self._count = 0
        self._shape: tuple[int, ...] = ()
        self._dtype: np.dtype[Any] | None = None

    def read(self, item: Any) -> LiveRow:
        """Return what a stream yielded as a row of its own.

        Raises:
            MalformedRow: Naming the row, what was expected and what came.
        """
        if not isinstance(item, tuple | list) or len(item) != 5:
            raise self._malformed(
                "stream() must yield (obs, reward, terminated, truncated, info)", _described(item)
            )
        observation, reward, terminated, truncated, info = item
        if not isinstance(info, dict):
            raise self._malformed("info must be a dict", _described(info))
        row = LiveRow(
            self._observation("obs", observation),
            self._reward(reward),
            self._flag("terminated", terminated),
            self._flag("truncated", truncated),
            info,
        )
        if row.done and info.get(FINAL_OBS) is not None:
            final_obs = self._observation(f"info[{FINAL_OBS!r}]", info[FINAL_OBS])
            row = row._replace(final_obs=final_obs)
        self._count += 1
        return row

    def _observation(self, name: str, value: Any) -> Array:
        array = self._array(name, value)
        if self._dtype is None:
            self._shape, self._dtype = array.shape, array.dtype
        if array.shape != self._shape:
            raise self._malformed(f"{name} must have shape {self._shape}", f"{array.shape}")
        if not np.can_cast(array.dtype, self._dtype, "same_kind"):
            raise self._malformed(f"{name} must be of dtype {self._dtype}", f"{array.dtype}")
        return array.astype(self._dtype, copy=False)

    def _array(self, name: str, value: Any) -> Array:
        try:
            array: Array = np.array(value)
        except ValueError as error:
            raise self._malformed(f"{name} must be an array of numbers", str(error)) from error
        if array.dtype.kind not in NUMERIC:
            raise self._malformed(f"{name} must be an array of numbers", _described(value))
        return array

    def _reward(self, value: Any) -> float:
        try:
            reward = float(value)
        except (TypeError, ValueError) as error:
            raise self._malformed("reward must be a number", _described(value)) from error
        # Learners keep rewards as float32. A comparison with NaN is False.
        if not abs(reward) <= float(np.finfo(np.float32).max):
            raise self._malformed("reward must be a finite float32", f"{reward}")
        return reward

    def _flag(self, name: str, value: Any) -> bool:
        try:
            return bool(value)
        except (TypeError, ValueError) as error:
            raise self._malformed(f"{name} must be True or False", _described(value)) from error

    def _malformed(self, expected: str, got: str) -> MalformedRow:
        return MalformedRow(f"row {self._count} of the data source: {expected}, got {got}")


def _described(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
