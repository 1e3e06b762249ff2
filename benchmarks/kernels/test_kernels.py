"""Every kernel at rollout sizes: ours (native, numba) against NumPy and a plain numba loop.

Each row says which share of the machine's copy bandwidth it reaches: the time of a memory copy that
moves as many bytes (reads plus writes), divided by the kernel's best time.
"""

from __future__ import annotations

import math
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from benchmarks.kernels import contenders
from tests.kernels.conftest import load

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_benchmark.fixture import BenchmarkFixture

SIZES = [(2048, 1), (128, 8), (128, 64), (128, 1024)]
DIMS = 17
DRAM_BYTES = 256 * 2**20
RNG = np.random.default_rng(0)

Case = tuple[list[Any], int]


@lru_cache
def copy_bandwidth(moved: int) -> float:
    """Return bytes moved (read plus written) per second by the best copy of `moved // 2` bytes."""
    source, target = np.ones(moved // 2, np.uint8), np.zeros(moved // 2, np.uint8)
    best = math.inf
    loops = max(1, 2**20 // moved)
    for _ in range(max(10, min(2000, 2**30 // moved))):
        start = time.perf_counter()
        for _ in range(loops):
            np.copyto(target, source)
        best = min(best, (time.perf_counter() - start) / loops)
    return moved / best


def floats(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.normal(size=shape).astype(np.float32)


def masks(*shape: int) -> list[np.ndarray[Any, Any]]:
    return [(RNG.random(shape) < 0.02).astype(np.uint8), np.ones(shape, np.uint8)]


def gae(t: int, n: int) -> Case:
    arrays = [floats(t, n), floats(t, n), *masks(t, n), floats(n)]
    return [*arrays, 0.99, 0.95, floats(t, n), floats(t, n)], 18 * t * n


def discounted_returns(t: int, n: int) -> Case:
    return [floats(t, n), *masks(t, n), floats(n), 0.99, floats(t, n)], 10 * t * n


def update_and_normalize(t: int, n: int) -> Case:
    state = [np.zeros(DIMS), np.ones(DIMS), np.zeros(1)]
    return [floats(t * n, DIMS), *state, 10.0, 1e-8, floats(t * n, DIMS)], 8 * t * n * DIMS


def shuffle(t: int, n: int) -> Case:
    return [np.arange(t * n, dtype=np.int32), np.array([1], np.uint64)], 8 * t * n


def gather(t: int, n: int) -> Case:
    """One epoch of PPO: observations, actions, log-probs, advantages, returns."""
    rows = t * n
    sources = [floats(rows, DIMS), RNG.integers(0, 4, rows), *(floats(rows) for _ in range(3))]
    indices = RNG.permutation(rows).astype(np.int32)
    row_bytes = sum(source[0].nbytes for source in sources)
    return [sources, indices, [source.copy() for source in sources]], rows * (4 + 2 * row_bytes)


def episode_statistics(t: int, n: int) -> Case:
    most = t * n
    running = [np.zeros(n), np.zeros(n, np.int64)]
    finished = [np.zeros(most), np.zeros(most, np.int64), np.zeros(most, np.int32)]
    return [floats(t, n), *masks(t, n), *running, *finished], 6 * most


CASES: dict[str, Callable[[int, int], Case]] = {
    case.__name__: case
    for case in (gae, discounted_returns, update_and_normalize, shuffle, gather, episode_statistics)
}


def function(contender: str, kernel: str) -> Callable[..., Any]:
    if contender in ("native", "numba"):
        return getattr(load(contender), kernel)  # type: ignore[no-any-return]
    return getattr(contenders, f"{contender}_{kernel}")  # type: ignore[no-any-return]


@pytest.mark.parametrize("contender", ["native", "numba", "plain", "numpy"])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("kernel", list(CASES))
def test_kernel(
    benchmark: BenchmarkFixture, kernel: str, size: tuple[int, int], contender: str
) -> None:
    arguments, moved = CASES[kernel](*size)
    call = function(contender, kernel)
    call(*arguments)
    benchmark.group = f"{kernel} {size[0]}x{size[1]}"
    benchmark(call, *arguments)
    best = benchmark.stats.stats.min
    benchmark.extra_info["microseconds"] = round(best * 1e6, 2)
    benchmark.extra_info["bytes_moved"] = moved
    for name, copied in (("same_size", moved), ("dram", DRAM_BYTES)):
        share = moved / best / copy_bandwidth(copied)
        benchmark.extra_info[f"share_of_{name}_copy"] = round(share, 3)
