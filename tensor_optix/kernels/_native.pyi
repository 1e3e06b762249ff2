"""Types of the compiled kernels; `_numba.py` documents the same functions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_F32 = NDArray[np.float32]
_F64 = NDArray[np.float64]
_I64 = NDArray[np.int64]
_Mask = NDArray[np.uint8] | NDArray[np.bool_]

def gae(
    rewards: _F32,
    values: _F32,
    dones: _Mask,
    valid: _Mask,
    last_values: _F32,
    gamma: float,
    gae_lambda: float,
    advantages: _F32,
    returns: _F32,
) -> None: ...
def discounted_returns(
    rewards: _F32, dones: _Mask, valid: _Mask, last_values: _F32, gamma: float, returns: _F32
) -> None: ...
def update_moments(batch: _F32, mean: _F64, var: _F64, count: _F64) -> None: ...
def normalize(
    batch: _F32, mean: _F64, var: _F64, clip: float, epsilon: float, out: _F32
) -> None: ...
def update_and_normalize(
    batch: _F32, mean: _F64, var: _F64, count: _F64, clip: float, epsilon: float, out: _F32
) -> None: ...
def shuffle(indices: NDArray[np.int32], state: NDArray[np.uint64]) -> None: ...
def gather(
    sources: Sequence[NDArray[Any]], indices: NDArray[np.int32], outputs: Sequence[NDArray[Any]]
) -> None: ...
def episode_statistics(
    rewards: _F32,
    dones: _Mask,
    valid: _Mask,
    running_returns: _F64,
    running_lengths: NDArray[np.int64],
    finished_returns: _F64,
    finished_lengths: NDArray[np.int64],
    finished_envs: NDArray[np.int32],
) -> int: ...
def sum_tree_rebuild(leaves: _F32, nodes: _F64) -> int: ...
def sum_tree_set(leaves: _F32, nodes: _F64, indices: NDArray[np.int64], values: _F32) -> int: ...
def sum_tree_fill(leaves: _F32, nodes: _F64, indices: NDArray[np.int64], value: float) -> int: ...
def sum_tree_sample(
    leaves: _F32,
    nodes: _F64,
    count: int,
    batches: int,
    beta: float,
    state: NDArray[np.uint64],
    indices: NDArray[np.int64],
    weights: _F32,
) -> None: ...
def priorities_replace(
    leaves: _F32,
    nodes: _F64,
    raw: _F32,
    changes: _I64,
    counts: _I64,
    alpha: float,
    running_max: _F32,
) -> int: ...
def priorities_update(
    leaves: _F32,
    nodes: _F64,
    raw: _F32,
    indices: NDArray[np.int64],
    td_errors: _F32,
    alpha: float,
    eps: float,
    running_max: _F32,
) -> int: ...
def priorities_rescale(leaves: _F32, nodes: _F64, raw: _F32, alpha: float) -> None: ...
def replay_extend(
    layout: _I64,
    ring: _Mask,
    side: _Mask,
    side_entries: NDArray[np.int32],
    cursors: _I64,
    counters: _I64,
    changes: _I64,
    observations: NDArray[Any],
    actions: NDArray[Any],
    rewards: _F32,
    next_observations: NDArray[Any],
    terminated: _Mask,
    truncated: _Mask,
    env_ids: _I64,
    gamma: float,
    first: int,
) -> int: ...
def replay_flush(
    layout: _I64,
    ring: _Mask,
    side: _Mask,
    side_entries: NDArray[np.int32],
    cursors: _I64,
    counters: _I64,
    changes: _I64,
    gamma: float,
) -> None: ...
def replay_draw(
    layout: _I64,
    ring: _Mask,
    cursors: _I64,
    counters: _I64,
    state: NDArray[np.uint64],
    indices: _I64,
) -> None: ...
def replay_gather(
    layout: _I64,
    ring: _Mask,
    side: _Mask,
    indices: _I64,
    observations: NDArray[Any],
    actions: NDArray[Any],
    rewards: _F32,
    next_observations: NDArray[Any],
    dones: _Mask,
    n_steps: NDArray[np.int32],
) -> None: ...
