"""What a contender must show before its times count. An AssertionError says what it failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.replay.contenders import ALPHA, BETA, Rows
from benchmarks.replay.stream import make_stream

if TYPE_CHECKING:
    from benchmarks.replay.contenders import Contender

SMALL_LENGTH = 2000
DRAWS = 2**16
LARGE_ERROR = 1e5


def check_rows(contender: Contender) -> None:
    """Assert that the buffer is full and that each sampled row is a row of the stream, whole."""
    if len(contender) != contender.stream.num_rows:
        raise AssertionError(f"{contender.name} holds {len(contender)} rows, not all of the stream")
    rows = contender.rows(contender.sample(DRAWS))
    expected = contender.stream.look_up(rows.observations)
    expected_rows = Rows(*expected[:4], expected.terminated, None, None)
    for name, got, wanted in zip(Rows._fields[:5], rows, expected_rows, strict=False):
        if not np.array_equal(got, wanted):
            raise AssertionError(f"{contender.name}: sampled {name} are not those put in")
    if len(np.unique(rows.observations[:, 0])) < DRAWS // 4:
        raise AssertionError(f"{contender.name}: few different rows in a sample of {DRAWS}")
    if contender.prioritized:
        _check_weights(contender, rows)


def _check_weights(contender: Contender, rows: Rows) -> None:
    weights = rows.weights
    if weights is None or weights.shape != (DRAWS,):
        raise AssertionError(f"{contender.name}: a sample of {DRAWS} needs as many weights")
    if not ((weights > 0) & (weights <= 1)).all():
        raise AssertionError(f"{contender.name}: weights must be in (0, 1], got {weights}")


def check_priorities(kind: type[Contender]) -> None:
    """Assert, on a small buffer, that one row's priority decides its share and its weight."""
    contender = kind(make_stream(SMALL_LENGTH), prioritized=True)
    count = contender.stream.num_rows
    chosen = contender.rows(contender.sample(1))
    contender.prepare_update(chosen.indices, np.full(1, LARGE_ERROR, np.float32))()
    rows = contender.rows(contender.sample(DRAWS))
    mine = rows.indices == chosen.indices
    # All other rows still have the priority of a new one, 1.
    expected = LARGE_ERROR**ALPHA / (LARGE_ERROR**ALPHA + count - 1)
    # Five standard deviations.
    if abs(mine.mean() - expected) > 5 * np.sqrt(expected / DRAWS):
        raise AssertionError(f"{contender.name}: a share of {mine.mean()}, expected {expected}")
    ratio = rows.weights[mine].max() / rows.weights[~mine].max()
    if not np.isclose(ratio, LARGE_ERROR ** (-ALPHA * BETA), rtol=1e-3):
        raise AssertionError(f"{contender.name}: a weight of {ratio}")
    check_rows(contender)
