"""Argument checks of the numba kernels: an argument comes in, a clean array or number goes out.

The messages are those of the C++ extension: the argument, what it must be, what came.
"""

import math
from typing import Any, SupportsFloat, SupportsIndex, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

FLOAT32 = ("float32", (np.dtype(np.float32),))
FLOAT64 = ("float64", (np.dtype(np.float64),))
INT32 = ("int32", (np.dtype(np.int32),))
INT64 = ("int64", (np.dtype(np.int64),))
UINT64 = ("uint64", (np.dtype(np.uint64),))
MASK = ("uint8 or bool", (np.dtype(np.uint8), np.dtype(np.bool_)))


def check_array(
    name: str,
    array: object,
    dtype: tuple[str, tuple[np.dtype[Any], ...]] | None,
    shape: tuple[int, ...] | str | None,
    write: bool = False,
) -> Array:
    """Return `array` if it is what a kernel takes; a bool mask as uint8.

    Args:
        name: the argument's name, for the message.
        array: what came.
        dtype: one of this module's constants; None takes any.
        shape: the exact shape; a text such as "[T, N]" asks only for that many axes; None for any.
        write: whether the kernel writes to it.

    Raises:
        TypeError: it is no NumPy array.
        ValueError: its dtype, layout, alignment, writeability or shape is wrong.
    """
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
    if shape is not None:
        _check_shape(name, array, shape)
    return array.view(np.uint8) if dtype is MASK else array


def check_disjoint(outputs: dict[str, Array], inputs: dict[str, Array]) -> None:
    """Raise ValueError if an output shares memory with an input or another output."""
    others = dict(inputs)
    for name, output in outputs.items():
        for other_name, other in others.items():
            if np.may_share_memory(output, other):
                raise ValueError(f"{name} must not share memory with {other_name}")
        others[name] = output


def check_number(name: str, value: object) -> float:
    """Return `value` as a float. Raises TypeError if it is no number."""
    if not isinstance(value, SupportsFloat | SupportsIndex):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    return float(value)


def check_unit(name: str, value: object) -> float:
    """Return `value` as a float in [0, 1]. Raises ValueError outside."""
    number = check_number(name, value)
    if not 0.0 <= number <= 1.0:
        raise ValueError(f"{name} must be in [0, 1], got {number}")
    return number


def check_moments(
    batch: object, mean: object, var: object, count: object
) -> tuple[Array, Array, Array, Array]:
    """Return a batch `[B, D]` and a running state that may be updated.

    Raises:
        TypeError: as `check_array`.
        ValueError: as `check_array` and `check_disjoint`, or count is negative or not finite.
    """
    b = check_array("batch", batch, FLOAT32, "[B, D]")
    m = check_array("mean", mean, FLOAT64, b.shape[1:], write=True)
    v = check_array("var", var, FLOAT64, b.shape[1:], write=True)
    check_disjoint({"var": v, "mean": m}, {"batch": b})
    c = check_array("count", count, FLOAT64, (1,), write=True)
    check_disjoint({"count": c}, {"batch": b, "mean": m, "var": v})
    if not 0.0 <= c[0] < math.inf:
        raise ValueError(f"count must be finite and not negative, got {float(c[0])}")
    return b, m, v, c


def check_normalize(
    batch: Array, state: dict[str, Array], clip: object, epsilon: object, out: object
) -> tuple[float, float, Array]:
    """Return the clipping limit (infinite for none), epsilon and the output of a normalisation.

    Raises:
        TypeError: as `check_array` and `check_number`.
        ValueError: as `check_array` and `check_disjoint`, or epsilon is not positive, clip is NaN.
    """
    bound, eps = check_number("clip", clip), check_number("epsilon", epsilon)
    o = check_array("out", out, FLOAT32, batch.shape, write=True)
    # Element by element, `out` may be the batch itself; part of it would be read after writing.
    same = o.ctypes.data == batch.ctypes.data
    check_disjoint({"out": o}, state if same else state | {"batch": batch})
    if math.isnan(bound):
        raise ValueError("clip must be a number, got nan")
    if not 0.0 < eps < math.inf:
        raise ValueError(f"epsilon must be positive and finite, got {eps}")
    return bound if bound > 0 else math.inf, eps, o


def check_fields(sources: object, indices: Array, outputs: object) -> list[tuple[Array, Array]]:
    """Return the pairs of arrays that `gather` copies between.

    Raises:
        TypeError: an argument is no list of arrays.
        ValueError: as `check_array` and `check_disjoint`, or a pair differs in dtype or shape.
    """
    from_ = _check_list("sources", sources, write=False)
    to = _check_list("outputs", outputs, write=True)
    if len(from_) != len(to):
        raise ValueError(
            f"outputs must have as many arrays as sources, {len(from_)}, got {len(to)}"
        )
    for k, (source, output) in enumerate(zip(from_, to, strict=True)):
        name = f"outputs[{k}]"
        if source.dtype != output.dtype:
            raise ValueError(
                f"{name} must be {source.dtype} as sources[{k}] is, got {output.dtype}"
            )
        _check_shape(name, output, (len(indices), *source.shape[1:]))
        check_disjoint({name: output}, {f"sources[{k}]": source, "indices": indices})
    return list(zip(from_, to, strict=True))


def _check_list(name: str, arrays: object, write: bool) -> list[Array]:
    if not isinstance(arrays, list | tuple):
        raise TypeError(f"{name} must be a list of NumPy arrays, got {type(arrays).__name__}")
    checked = []
    for k, array in enumerate(arrays):
        item = check_array(f"{name}[{k}]", array, None, None, write)
        if item.ndim == 0:
            raise ValueError(f"{name}[{k}] must have shape [rows, ...], got {item.shape}")
        if item.dtype.kind in "mM":
            raise ValueError(f"{name}[{k}] must have a dtype with a plain layout, got {item.dtype}")
        if item.dtype.hasobject:
            raise ValueError(f"{name}[{k}] must not hold Python objects, got dtype {item.dtype}")
        checked.append(item)
    return checked


def _check_shape(name: str, array: Array, shape: tuple[int, ...] | str) -> None:
    fits = array.ndim == shape.count(",") + 1 if isinstance(shape, str) else array.shape == shape
    if not fits:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
