"""Calls come in, microseconds go out; and the rates of this machine that floors are made of."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.kernels import engine

if TYPE_CHECKING:
    from collections.abc import Callable

    Call = Callable[[], Any]

SECONDS = 0.3
"""For which a part is repeated."""
REPETITION = 2e-3
"""Seconds that a repetition takes at least, so that the clock costs nothing."""
OWN_SIZE, BLAS_SIZE = 256, 1024
COPIED = 32_768
"""Floats of the copy: 128 KiB and as many again fit into the second cache."""


def microseconds(call: Call, per: int = 1, seconds: float = SECONDS) -> float:
    """Return what the fastest repetition took, for one of the `per` things that a call does."""
    call()
    calls, best = 1, math.inf
    until = time.perf_counter() + seconds
    while True:
        begun = time.perf_counter()
        for _ in range(calls):
            call()
        ended = time.perf_counter()
        if ended - begun < REPETITION:
            calls *= 2
            continue
        best = min(best, (ended - begun) / calls)
        if ended > until:
            return best / per * 1e6


@dataclass(frozen=True)
class Rates:
    """What one thread of this machine does at best."""

    own: float
    """Floating-point operations of the engine's product of 256 x 256 matrices, a microsecond."""
    blas: float
    """Those of NumPy's product of 1024 x 1024 matrices."""
    copied: float
    """Bytes read and written a microsecond, by a copy within the cache."""


def rates() -> Rates:
    """Measure them."""
    rng = np.random.default_rng(0)
    left, right, result = (_normal(rng, OWN_SIZE, OWN_SIZE) for _ in range(3))
    own = partial(engine.product, left, False, right, False, None, result, engine.Workspace())
    large = _normal(rng, BLAS_SIZE, BLAS_SIZE)
    blas = partial(np.matmul, large, large.copy(), out=np.empty_like(large))
    source, target = np.ones(COPIED, np.float32), np.ones(COPIED, np.float32)
    return Rates(
        own=2 * OWN_SIZE**3 / microseconds(own),
        blas=2 * BLAS_SIZE**3 / microseconds(blas, seconds=2.0),
        copied=2 * source.nbytes / microseconds(partial(np.copyto, target, source)),
    )


def _normal(rng: np.random.Generator, *shape: int) -> Any:
    return rng.standard_normal(shape, np.float32)
