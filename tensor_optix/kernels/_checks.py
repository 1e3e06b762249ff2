"""Checks of the kernels' arguments: what does not fit is named, with what it must be and what came."""

import operator
from typing import Any, SupportsFloat, SupportsIndex, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Dtypes: TypeAlias = tuple[str, tuple[np.dtype[Any], ...]]
Shape: TypeAlias = tuple[int, ...] | str

FLOAT32: Dtypes = ("float32", (np.dtype(np.float32),))
FLOAT64: Dtypes = ("float64", (np.dtype(np.float64),))
INT32: Dtypes = ("int32", (np.dtype(np.int32),))
INT64: Dtypes = ("int64", (np.dtype(np.int64),))
UINT64: Dtypes = ("uint64", (np.dtype(np.uint64),))
MASK: Dtypes = ("uint8 or bool", (np.dtype(np.uint8), np.dtype(np.bool_)))

_LARGEST = float(np.finfo(np.float32).max)


class Arguments:
    """The arrays of one call.

    Every check raises TypeError where something is no NumPy array or no number, and ValueError
    where it is one that does not fit.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, Array] = {}
        self._written: list[str] = []

    def read(self, dtype: Dtypes, shape: Shape, **arrays: object) -> list[Array]:
        """Return arrays, by name, that a kernel reads; masks as uint8.

        Args:
            dtype: One of this module's constants.
            shape: The exact shape; a text such as "[T, N]" asks only for that many axes.
            arrays: What came.
        """
        return [self._typed(name, array, dtype, shape, False) for name, array in arrays.items()]

    def write(self, dtype: Dtypes, shape: Shape, **arrays: object) -> list[Array]:
        """Return arrays that a kernel writes to; else as `read`."""
        return [self._typed(name, array, dtype, shape, True) for name, array in arrays.items()]

    def rows(
        self, count: int, row_bytes: int, write: bool = False, **arrays: object
    ) -> list[Array]:
        """Return arrays of any dtype, of `count` rows each, as bytes `[count, row_bytes]`."""
        found = []
        for name, array in arrays.items():
            field = self.any_dtype(name, array, write)
            if field.ndim == 0 or len(field) != count or field.nbytes != count * row_bytes:
                raise ValueError(
                    f"{name} must have shape [{count}, ...] with {row_bytes} bytes a row, "
                    f"got {field.shape}"
                )
            found.append(field.reshape(-1).view(np.uint8).reshape(count, row_bytes))
        return found

    def any_dtype(self, name: str, array: object, write: bool) -> Array:
        """Return an array of a dtype with a plain layout."""
        checked = self._laid_out(name, array, None, write)
        try:
            memoryview(checked)  # type: ignore[arg-type]
        except ValueError:
            raise ValueError(
                f"{name} must have a dtype with a plain layout, got {checked.dtype}"
            ) from None
        return checked

    def check_disjoint(self, in_place: tuple[str, str] | None = None) -> None:
        """Raise ValueError if an array that is written shares memory with another one.

        Args:
            in_place: An output and an input that may be the same, all of it.
        """
        others = dict(self._arrays)
        for name in reversed(self._written):
            written = others.pop(name)
            for other_name, other in others.items():
                same = (name, other_name) == in_place and written.ctypes.data == other.ctypes.data
                if not same and np.may_share_memory(written, other):
                    raise ValueError(f"{name} must not share memory with {other_name}")

    def _typed(self, name: str, array: object, dtype: Dtypes, shape: Shape, write: bool) -> Array:
        checked = self._laid_out(name, array, dtype, write)
        check_shape(name, checked, shape)
        return checked.view(np.uint8) if dtype is MASK else checked

    def _laid_out(self, name: str, array: object, dtype: Dtypes | None, write: bool) -> Array:
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{name} must be a NumPy array, got {type(array).__name__}")
        if dtype is not None and array.dtype not in dtype[1]:
            raise ValueError(f"{name} must be {dtype[0]}, got {array.dtype}")
        if not array.flags.c_contiguous:
            raise ValueError(f"{name} must be C-contiguous, got a strided view")
        if dtype is not None and not array.flags.aligned:
            raise ValueError(f"{name} must be aligned to its dtype, got an unaligned view")
        if write and not array.flags.writeable:
            raise ValueError(f"{name} must be writeable, got a read-only array")
        self._arrays[name] = array
        if write:
            self._written.append(name)
        return array


def check_shape(name: str, array: Array, shape: Shape) -> None:
    """Raise ValueError where an array has another shape, or for a text another number of axes."""
    fits = array.ndim == shape.count(",") + 1 if isinstance(shape, str) else array.shape == shape
    if not fits:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")


def check_bounds(name: str, indices: Array, size: int) -> None:
    """Raise IndexError where an index is outside [0, size); `name` is open: "indices["."""
    outside = np.flatnonzero((indices < 0) | (indices >= size))
    if outside.size:
        at = outside[0]
        raise IndexError(f"{name}{at}] must be in [0, {size}), got {indices[at]}")


def check_number(name: str, value: object) -> float:
    """Return a number as a float. Raises TypeError if it is none."""
    try:
        if isinstance(value, SupportsFloat | SupportsIndex):
            return float(value)
    except TypeError:
        pass
    raise TypeError(f"{name} must be a number, got {type(value).__name__}")


def check_unit(name: str, value: object) -> float:
    """Return a number as a float in [0, 1]. Raises ValueError outside."""
    number = check_number(name, value)
    if not 0.0 <= number <= 1.0:
        raise ValueError(f"{name} must be in [0, 1], got {number}")
    return number


def check_weight(name: str, value: float) -> float:
    """Return a number that a leaf may have. Raises ValueError if it is negative or not finite."""
    if not 0.0 <= value <= _LARGEST:
        raise ValueError(f"{name} must be finite and not negative, got {value}")
    return value


def check_count(name: str, value: object, least: int) -> int:
    """Return a whole number. Raises TypeError if it is none, ValueError below `least`."""
    try:
        count = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name} must be a whole number, got {type(value).__name__}") from None
    if count < least:
        raise ValueError(f"{name} must be at least {least}, got {count}")
    return count
