"""The engine's products of matrices against NumPy's in double precision."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tensor_optix.kernels import engine
from tests.kernels.engine_parts import normal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Array = NDArray[Any]

GUARD = 40  # floats before and behind the result, which nothing may write
Shape = tuple[int, int, int]  # rows, columns, depth
workspace = engine.Workspace()


def transposed_if(is_transposed: bool, matrix: Array) -> Array:
    return np.ascontiguousarray(matrix.T) if is_transposed else matrix


def product(
    left: Array,
    right: Array,
    bias: Array | None = None,
    transpositions: tuple[bool, bool] = (False, False),
) -> Array:
    """Return the engine's product of these; either is handed over transposed where asked for."""
    rows, columns = len(left), right.shape[1]
    memory = np.full(rows * columns + 2 * GUARD, 7.0, np.float32)
    result = memory[GUARD : GUARD + rows * columns].reshape(rows, columns)
    first, second = transpositions
    engine.product(
        transposed_if(first, left),
        first,
        transposed_if(second, right),
        second,
        bias,
        result,
        workspace,
    )
    assert (memory[:GUARD] == 7.0).all()
    assert (memory[GUARD + rows * columns :] == 7.0).all()
    return result


def assert_product(
    rng: np.random.Generator, shape: Shape, transpositions: tuple[bool, bool]
) -> None:
    """Within the error that a sum of so many rounded products may have, in any order."""
    rows, columns, depth = shape
    left, right, bias = normal(rng, rows, depth), normal(rng, depth, columns), normal(rng, columns)
    l64, r64 = left.astype(float), right.astype(float)
    expected = l64 @ r64
    most = (depth + 1) * 2.0**-23 * (np.abs(l64) @ np.abs(r64) + np.abs(bias) + 1e-30)
    plain = product(left, right, None, transpositions)
    assert (np.abs(plain - expected) <= most).all(), shape
    biased = product(left, right, bias, transpositions)
    assert (np.abs(biased - (expected + bias)) <= most).all(), shape


def small_shapes() -> Iterator[Shape]:
    """Every number of rows with every one of columns, and with every depth, the third going round."""
    around = itertools.count()
    for rows, columns in itertools.product(range(1, 21), range(1, 71)):
        yield rows, columns, 1 + next(around) % 20
    for rows, depth in itertools.product(range(1, 21), range(1, 21)):
        yield rows, 1 + next(around) * 11 % 70, depth
    for columns, depth in itertools.product(range(1, 71), range(1, 21)):
        yield 1 + next(around) * 7 % 20, columns, depth


BORDERS = [511, 512, 513, 1023, 1024, 1025, 1030]
LARGE = [
    *(
        (rows, columns, depth)
        for depth in BORDERS
        for rows, columns in [(1, 1), (7, 33), (9, 64), (20, 5)]
    ),
    *((rows, columns, depth) for rows in BORDERS for columns, depth in [(1, 3), (17, 1), (33, 20)]),
    *((rows, columns, depth) for columns in BORDERS for rows, depth in [(1, 3), (6, 17), (13, 20)]),
    (600, 70, 530),
]
every_way = pytest.mark.parametrize(
    "transpositions", list(itertools.product([False, True], repeat=2))
)


@every_way
def test_small_shapes_around_every_border_of_blocks(transpositions: tuple[bool, bool]) -> None:
    rng = np.random.default_rng(1)
    for shape in small_shapes():
        assert_product(rng, shape, transpositions)


@every_way
@pytest.mark.parametrize("shape", LARGE, ids=str)
def test_large_shapes(shape: Shape, transpositions: tuple[bool, bool]) -> None:
    assert_product(np.random.default_rng(2), shape, transpositions)


@every_way
def test_shapes_at_random(transpositions: tuple[bool, bool]) -> None:
    rng = np.random.default_rng(3)
    for _ in range(300):
        rows, columns, depth = (int(number) for number in np.exp(rng.uniform(0.0, 5.5, 3)))
        assert_product(rng, (rows, columns, depth), transpositions)


@every_way
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 4), (9, 37, 19), (17, 70, 515)], ids=str)
def test_what_is_not_finite_passes_through(
    shape: Shape, value: float, transpositions: tuple[bool, bool]
) -> None:
    """And goes nowhere else: only into the row, or the column, that it is of."""
    rows, columns, depth = shape
    rng = np.random.default_rng(4)
    for side, _ in itertools.product(["left", "right", "both", "bias"], range(4)):
        left, right = normal(rng, rows, depth), normal(rng, depth, columns)
        bias = normal(rng, columns)
        if side in ("left", "both"):
            left[rng.integers(rows), rng.integers(depth)] = value
        if side in ("right", "both"):
            right[rng.integers(depth), rng.integers(columns)] = value
        if side == "bias":
            bias[rng.integers(columns)] = value
        # Zeros make what is infinite NaN.
        left[rng.integers(rows), rng.integers(depth)] = 0.0
        with np.errstate(invalid="ignore"):
            expected = left.astype(float) @ right.astype(float) + bias
        found = product(left, right, bias, transpositions)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


@every_way
def test_no_depth_leaves_the_bias(transpositions: tuple[bool, bool]) -> None:
    left, right = np.empty((3, 0), np.float32), np.empty((0, 5), np.float32)
    bias = np.arange(5, dtype=np.float32)
    assert (product(left, right, bias, transpositions) == bias).all()
    assert not product(left, right, None, transpositions).any()


@every_way
@pytest.mark.parametrize("shape", [(0, 5, 3), (4, 0, 3), (0, 0, 0)], ids=str)
def test_nothing_makes_nothing(shape: Shape, transpositions: tuple[bool, bool]) -> None:
    rows, columns, depth = shape
    left, right = np.zeros((rows, depth), np.float32), np.zeros((depth, columns), np.float32)
    product(left, right, np.zeros(columns, np.float32), transpositions)


@every_way
def test_a_row_of_the_result_does_not_depend_on_the_others(
    transpositions: tuple[bool, bool],
) -> None:
    rng = np.random.default_rng(5)
    for columns, depth in [(1, 5), (7, 3), (33, 20), (64, 64), (70, 530)]:
        left, right, bias = (
            normal(rng, 23, depth),
            normal(rng, depth, columns),
            normal(rng, columns),
        )
        whole = product(left, right, bias, transpositions)
        for i in range(len(left)):
            alone = product(left[i : i + 1], right, bias, transpositions)
            assert alone.tobytes() == whole[i].tobytes()


@every_way
def test_the_same_call_twice_gives_the_same_bits(transpositions: tuple[bool, bool]) -> None:
    rng = np.random.default_rng(6)
    for rows, columns, depth in [(5, 3, 2), (64, 64, 64), (13, 37, 700)]:
        left, right, bias = (
            normal(rng, rows, depth),
            normal(rng, depth, columns),
            normal(rng, columns),
        )
        first = product(left, right, bias, transpositions)
        product(np.full((3, 3), np.nan, np.float32), normal(rng, 3, 600))  # leaves its own behind
        assert product(left, right, bias, transpositions).tobytes() == first.tobytes()
