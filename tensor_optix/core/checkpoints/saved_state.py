"""States in files: a tree of plain values and arrays goes in, the same one comes out, to the bit.

`NAME.json` holds the tree, `NAME.safetensors` its arrays, where it has any. Neither can hold code, and
what a damaged or hostile file makes of the readers is a `CheckpointError`. The readers of single files are
those of agents, too: they take no more memory than the file is large, but for what JSON is as objects.
"""

from __future__ import annotations

import io
import json
import math
import struct
import tokenize
import zipfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from tensor_optix.core.checkpoints.durable_files import regular_file
from tensor_optix.core.json_values import from_json, require_shallow, to_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tensor_optix.core.types import Array

State: TypeAlias = dict[str, Any]
"""None, bool, int, float, str and NumPy arrays of numbers, in lists, tuples and dicts with string keys."""

_ARRAY = "$array"
_KINDS = "biuf"
MOST_JSON = 256 * 2**20
"""Bytes of JSON that a checkpoint's file may have."""
MOST_SMALL_JSON = 16 * 2**20
"""Bytes of JSON that a file of an agent may have, which holds its arrays elsewhere."""


class CheckpointError(RuntimeError):
    """A checkpoint is missing, incomplete, altered, or does not fit the run. The message says what to do."""


# What readers raise on files that were altered, by reading, converting and allocating.
_DAMAGE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RecursionError,
    MemoryError,
    RuntimeError,
    EOFError,
    struct.error,
    zipfile.BadZipFile,
    SyntaxError,
    tokenize.TokenError,
    SafetensorError,
)


@contextmanager
def reading(part: str) -> Iterator[None]:
    """Turn what a damaged file makes of its readers into a `CheckpointError` that names the part."""
    try:
        yield
    except CheckpointError:
        raise
    except _DAMAGE as error:
        raise CheckpointError(f"{part} cannot be read: {type(error).__name__}: {error}") from error


def write_state(path: Path, state: State) -> None:
    """Write a state to `path`.json and `path`.safetensors; the same state gives the same bytes.

    Raises:
        OSError: If the disk refuses.
        ValueError: If the state holds anything else than `State` says.
    """
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    tree = _packed(state, path.name, arrays)
    require_shallow(tree)
    text = json.dumps(tree, allow_nan=False, separators=(",", ":"))
    _beside(path, ".json").write_text(text, encoding="utf-8")
    if arrays:
        _beside(path, ".safetensors").write_bytes(safetensors.save(arrays))


def read_state(path: Path) -> State:
    """Return what `write_state` was given; NumPy scalars as Python numbers.

    Raises:
        CheckpointError: If it is missing or damaged.
    """
    with reading(path.name):
        tree = read_json(_beside(path, ".json"))
        stored = _beside(path, ".safetensors")
        arrays = read_safetensors(stored) if stored.exists() else {}
        state = from_json(_unpacked(tree, arrays))
        if not isinstance(state, dict):
            raise ValueError(f"{path.name}.json must hold an object")
        return state


def read_json(path: Path, most_bytes: int = MOST_JSON) -> Any:
    """Return the content of a JSON file.

    Raises:
        CheckpointError: If it is missing, damaged, no regular file, or larger than `most_bytes`.
    """
    with reading(path.name):
        size = regular_file(path.parent, path.name).stat().st_size
        if size > most_bytes:
            raise ValueError(f"it may have {most_bytes:,} bytes, got {size:,}")
        tree = json.loads(path.read_bytes())
        require_shallow(tree)
        return tree


def read_safetensors(path: Path) -> dict[str, Array]:
    """Return the arrays of a safetensors file, by name.

    Raises:
        CheckpointError: If it is missing, damaged, or no regular file.
    """
    with reading(path.name):
        return safetensors.load_file(regular_file(path.parent, path.name))


def read_npz(path: Path) -> dict[str, Array]:
    """Return the arrays of numbers that `numpy.savez` wrote, by name.

    Raises:
        CheckpointError: If it is missing, damaged, no regular file, holds anything else or is compressed.
    """
    with reading(path.name):
        size = regular_file(path.parent, path.name).stat().st_size
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            is_stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
            if not is_stored or sum(entry.file_size for entry in entries) > size:
                raise ValueError("its arrays must be stored as they are, not compressed")
            return {
                entry.filename.removesuffix(".npy"): _array(archive.read(entry))
                for entry in entries
            }


def _array(content: bytes) -> Array:
    """Return the array of an npy file, which must be as long as its header says."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"arrays must be of version 1.0 of the npy format, got {version}")
    shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.kind not in _KINDS:
        raise ValueError(f"arrays must be of numbers, got dtype {dtype}")
    promised, found = math.prod(shape) * dtype.itemsize, len(content) - file.tell()
    if promised != found:
        raise ValueError(f"an array of shape {shape} has {promised} bytes, got {found}")
    values = np.frombuffer(content, dtype, offset=file.tell())
    return values.reshape(shape, order="F" if is_fortran else "C").copy()


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _packed(value: Any, name: str, arrays: dict[str, np.ndarray[Any, Any]]) -> Any:
    """Return a tree in JSON form; its arrays are moved to `arrays`, by number."""
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in _KINDS:
            raise ValueError(f"{name} must be an array of numbers, got dtype {value.dtype}")
        number = str(len(arrays))
        # An array of no dimensions would become one of one.
        contiguous = np.ascontiguousarray(value).reshape(value.shape)
        arrays[number] = contiguous.astype(value.dtype.newbyteorder("="), copy=False)
        return {_ARRAY: number}
    if isinstance(value, dict):
        converted = to_json(dict.fromkeys(value), name)  # refuses keys that JSON cannot hold
        packed = (_packed(item, f"{name}[{key!r}]", arrays) for key, item in value.items())
        return dict(zip(converted, packed, strict=True))
    if isinstance(value, list | tuple):
        items = [_packed(item, f"{name}[{i}]", arrays) for i, item in enumerate(value)]
        return items if isinstance(value, list) else {"$tuple": items}
    return to_json(value, name)


def _unpacked(tree: Any, arrays: dict[str, np.ndarray[Any, Any]]) -> Any:
    """Put the arrays back into a tree, which stays in JSON form otherwise."""
    if isinstance(tree, list):
        return [_unpacked(item, arrays) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if tree.keys() == {_ARRAY}:
        return arrays[tree[_ARRAY]]
    return {key: _unpacked(item, arrays) for key, item in tree.items()}
