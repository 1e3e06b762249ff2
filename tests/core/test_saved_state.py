"""States come back from files to the bit, and what is damaged is said to be so."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tensor_optix.core.checkpoints.saved_state import (
    MOST_JSON,
    CheckpointError,
    read_json,
    read_state,
    write_state,
)

if TYPE_CHECKING:
    from pathlib import Path

PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
ARRAYS = st.sampled_from(["?", "i1", "u8", "i8", "f2", "f4", "f8"]).flatmap(
    lambda dtype: hnp.arrays(np.dtype(dtype), hnp.array_shapes(min_dims=0, min_side=0, max_side=3))
)
KEYS = st.text().filter(lambda key: not key.startswith("$"))
TREES = st.recursive(
    PLAIN | ARRAYS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=3)
    ),
    max_leaves=8,
)


def assert_same(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for mine, yours in zip(one, other, strict=True):
            assert_same(mine, yours)
    elif isinstance(one, np.ndarray):
        assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    elif isinstance(one, float) and math.isnan(one):
        assert math.isnan(other)
    else:
        assert one == other


@given(state=st.dictionaries(KEYS, TREES, max_size=4))
def test_a_state_comes_back_to_the_bit_and_gives_the_same_bytes(
    state: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("state")
    write_state(directory / "one", state)
    back = read_state(directory / "one")
    assert_same(back, state)
    write_state(directory / "two", back)
    for suffix in (".json", ".safetensors"):
        first, second = directory / f"one{suffix}", directory / f"two{suffix}"
        assert first.exists() == second.exists()
        assert not first.exists() or first.read_bytes() == second.read_bytes()


def test_a_generator_s_state_goes_on_with_the_same_numbers(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    rng.normal(size=7)
    write_state(tmp_path / "rng", {"rng": rng.bit_generator.state})
    other = np.random.default_rng()
    other.bit_generator.state = read_state(tmp_path / "rng")["rng"]
    assert np.array_equal(rng.normal(size=9), other.normal(size=9))


@pytest.mark.parametrize("order", ["f", "big-endian", "strided"])
def test_arrays_of_any_layout_come_back(order: str, tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.int32).reshape(3, 4)
    given = {"f": array.T, "big-endian": array.astype(">i4"), "strided": array[:, ::2]}[order]
    write_state(tmp_path / "a", {"a": given})
    assert np.array_equal(read_state(tmp_path / "a")["a"], given)


@pytest.mark.parametrize(
    "value", [object(), np.array([None]), np.array(["a"]), {1: 2}, {"$x": 1}, {1, 2}, b"x"]
)
def test_what_cannot_be_kept_is_named(value: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="part"):
        write_state(tmp_path / "part", {"deep": [value]})


def test_damage_is_a_checkpoint_error(tmp_path: Path) -> None:
    write_state(tmp_path / "a", {"x": np.arange(100.0), "n": {"y": [1, (2, 3)]}})
    rng = np.random.default_rng(0)
    whole = {suffix: (tmp_path / f"a{suffix}").read_bytes() for suffix in (".json", ".safetensors")}
    for _ in range(500):
        for suffix, content in whole.items():
            altered = bytearray(content)
            for _ in range(rng.integers(1, 4)):
                altered[rng.integers(len(altered))] = rng.integers(256)
            if rng.random() < 0.3:
                del altered[rng.integers(len(altered)) :]
            (tmp_path / f"a{suffix}").write_bytes(altered)
        with suppress(CheckpointError):
            read_state(tmp_path / "a")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "3", "[" * 100_000, '{"a": {"$array": "7"}}', '{"a": {"$array": []}}', "\0", "nan"],
)
def test_hostile_json_is_a_checkpoint_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"a(\.json)? cannot be read"):
        read_state(tmp_path / "a")


def test_a_json_file_is_read_only_if_it_is_not_too_large(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    with path.open("wb") as file:
        file.truncate(MOST_JSON + 1)
    with pytest.raises(CheckpointError, match="may have"):
        read_json(path)


def test_a_missing_state_is_a_checkpoint_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"a\.json cannot be read: FileNotFoundError"):
        read_state(tmp_path / "a")
