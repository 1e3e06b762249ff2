"""Shuffling and gathering: the two halves of making minibatches."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy import stats

from tests import oracle

if TYPE_CHECKING:
    from numpy.typing import NDArray


def shuffled(kernels: Any, count: int, seed: int) -> tuple[NDArray[np.int32], int]:
    indices, state = np.arange(count, dtype=np.int32), np.array([seed], np.uint64)
    kernels.shuffle(indices, state)
    return indices, int(state[0])


@pytest.mark.parametrize("count", [0, 1, 2, 3, 100, 4097])
@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1])
def test_shuffle_follows_the_oracle_draw_by_draw(kernels: Any, count: int, seed: int) -> None:
    indices, state = shuffled(kernels, count, seed)
    expected, expected_state = oracle.shuffle(list(range(count)), seed)
    assert indices.tolist() == expected
    assert state == expected_state


def test_a_draw_that_would_bias_the_shuffle_is_repeated(kernels: Any) -> None:
    """From this state the first word's upper half is 0, which 3 possible places must reject."""
    seed = 0x83C953D1D0EE9FB1
    indices, state = shuffled(kernels, 3, seed)
    assert (indices.tolist(), state) == oracle.shuffle([0, 1, 2], seed)
    draws = (state - seed) * pow(0x9E3779B97F4A7C15, -1, 2**64) % 2**64
    assert draws == 3


def test_shuffle_is_a_permutation_and_goes_on_from_its_state(kernels: Any) -> None:
    indices, state = np.arange(1000, dtype=np.int32), np.array([5], np.uint64)
    kernels.shuffle(indices, state)
    first = indices.copy()
    kernels.shuffle(indices, state)
    assert sorted(indices) == sorted(first) == list(range(1000))
    assert (indices != first).sum() > 950


def test_every_permutation_is_equally_likely(kernels: Any) -> None:
    """24 orders of 4 items, 24000 draws, chi-square."""
    counts: dict[tuple[int, ...], int] = {}
    state = np.array([2024], np.uint64)
    indices = np.empty(4, np.int32)
    for _ in range(24_000):
        indices[:] = range(4)
        kernels.shuffle(indices, state)
        key = tuple(indices.tolist())
        counts[key] = counts.get(key, 0) + 1
    assert len(counts) == 24
    assert stats.chisquare(list(counts.values())).pvalue > 1e-3


DTYPES = ["u1", "?", "f2", "f4", "f8", "i8", "c16", "S3", [("a", "f4"), ("b", "u1")]]
TRAILING: list[tuple[int, ...]] = [(), (1,), (2,), (3,), (17,), (4, 5), (0,)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gather_equals_fancy_indexing(kernels: Any, dtype: Any) -> None:
    rng = np.random.default_rng(3)
    sources = []
    for shape in TRAILING:
        size = 50 * int(np.prod(shape)) * np.dtype(dtype).itemsize
        raw = rng.integers(0, 2, size, np.uint8).tobytes()
        sources.append(np.frombuffer(raw, dtype).reshape(50, *shape))
    indices = rng.integers(0, 50, 133).astype(np.int32)
    outputs = [np.zeros((133, *source.shape[1:]), dtype) for source in sources]
    kernels.gather(sources, indices, outputs)
    for source, output in zip(sources, outputs, strict=True):
        assert output.tobytes() == source[indices].tobytes()


def test_sources_of_different_dtypes_and_lengths_go_in_one_call(kernels: Any) -> None:
    sources = [np.arange(9.0), np.arange(20, dtype=np.uint8).reshape(10, 2)]
    outputs = [np.zeros(3), np.zeros((3, 2), np.uint8)]
    kernels.gather(tuple(sources), np.array([8, 0, 8], np.int32), outputs)
    assert outputs[0].tolist() == [8.0, 0.0, 8.0]
    assert outputs[1].tolist() == [[16, 17], [0, 1], [16, 17]]


@pytest.mark.parametrize("bad", [-1, 9, 2**31 - 1, -(2**31)])
@pytest.mark.parametrize("count", [3, 100])
def test_an_index_out_of_bounds_is_named_and_nothing_is_written(
    kernels: Any, bad: int, count: int
) -> None:
    sources, outputs = [np.arange(10.0), np.arange(9.0)], [np.zeros(count), np.zeros(count)]
    indices = np.zeros(count, np.int32)
    indices[count - 2 :] = bad
    expected = rf"indices\[{count - 2}\] must be in \[0, 9\), got {bad}$"
    with pytest.raises(IndexError, match=expected):
        kernels.gather(sources, indices, outputs)
    assert not outputs[0].any()


def test_no_indices_no_sources_and_no_rows_are_legal(kernels: Any) -> None:
    none = np.empty(0, np.int32)
    kernels.gather([], np.array([5], np.int32), [])
    kernels.gather([np.arange(3.0)], none, [np.empty(0)])
    kernels.gather([np.empty((0, 4))], none, [np.empty((0, 4))])
    with pytest.raises(IndexError, match=r"indices\[0\] must be in \[0, 0\), got 0"):
        kernels.gather([np.empty((0, 4))], np.zeros(1, np.int32), [np.empty((1, 4))])


@pytest.mark.parametrize(
    ("sources", "outputs", "message"),
    [
        ([np.zeros(3)], [], "outputs must have as many arrays as sources, 1, got 0"),
        ([np.zeros(3)], [np.zeros(2, "f4")], "outputs[0] must be float64 as sources[0] is"),
        ([np.zeros(3)], [np.zeros(3)], "outputs[0] must have shape (2,), got (3,)"),
        ([np.zeros((3, 4))], [np.zeros((2, 3))], "outputs[0] must have shape (2, 4), got (2, 3)"),
        ([np.zeros((3, 4))], [np.zeros(2)], "outputs[0] must have shape (2, 4), got (2,)"),
        ([np.zeros((3, 4))[:, ::2]], [np.zeros((2, 2))], "sources[0] must be C-contiguous"),
        ([np.zeros(())], [np.zeros(2)], "sources[0] must have shape [rows, ...], got ()"),
        ([np.zeros(3, object)], [np.zeros(2, object)], "sources[0] must not hold Python objects"),
        ([np.zeros(3, "M8[s]")], [np.zeros(2, "M8[s]")], "got datetime64[s]"),
        ([np.zeros(3)] * 2, [np.zeros(2)] * 2, "outputs[1] must not share memory with outputs[0]"),
    ],
)
def test_a_pair_that_does_not_fit_is_named(
    kernels: Any, sources: list[Any], outputs: list[Any], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        kernels.gather(sources, np.zeros(2, np.int32), outputs)


@pytest.mark.parametrize("sources", [np.zeros(3), None, [[1.0, 2.0]]])
def test_what_is_no_list_of_arrays_is_a_type_error(kernels: Any, sources: Any) -> None:
    with pytest.raises(TypeError, match="sources"):
        kernels.gather(sources, np.zeros(2, np.int32), [np.zeros(2)])
