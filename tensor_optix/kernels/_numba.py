"""The numba backend: the functions of `tensor_optix.kernels` where no C++ compiler was at hand.

Every function checks its arguments (`_checks.py`) and runs a compiled loop (`_loops.py`). The first
call of each compiles, for seconds; the result is cached on disk. Moments and normalisation use
small scratch arrays of their own.
"""

import math
from collections.abc import Sequence

import numpy as np

from tensor_optix.kernels import _loops
from tensor_optix.kernels._checks import (
    FLOAT32,
    FLOAT64,
    INT32,
    INT64,
    MASK,
    UINT64,
    Array,
    check_array,
    check_disjoint,
    check_fields,
    check_moments,
    check_normalize,
    check_unit,
)
from tensor_optix.kernels._numba_replay import *  # noqa: F403 (the backend is one module)
from tensor_optix.kernels._numba_sum_tree import *  # noqa: F403 (the backend is one module)

_WORDS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def gae(
    rewards: Array,
    values: Array,
    dones: Array,
    valid: Array,
    last_values: Array,
    gamma: float,
    gae_lambda: float,
    advantages: Array,
    returns: Array,
) -> None:
    """Write generalised advantages and returns (Schulman et al. 2016, arXiv:1506.02438, eq. 16).

    `A = delta + gamma * gae_lambda * A_next` with `delta = r + gamma * v_next - v`; where done,
    `A = r - v`; where not valid, `A = R = 0` and nothing is carried back. `R = A + v`. A row before
    an invalid one, if not done, bootstraps from the invalid row's value.

    Args:
        rewards: `[T, N]` float32.
        values: `[T, N]` float32, of the observations the rows start from.
        dones: `[T, N]` uint8 or bool, the episode ended with this row.
        valid: `[T, N]` uint8 or bool, the row is a transition.
        last_values: `[N]` float32, the values after the last row.
        gamma: in [0, 1].
        gae_lambda: in [0, 1]; the product with gamma is formed in double precision, then rounded.
        advantages: `[T, N]` float32, written.
        returns: `[T, N]` float32, written.

    Raises:
        TypeError: an argument is no array, or no number.
        ValueError: an array has the wrong dtype, layout or shape; a number is outside [0, 1].
    """
    r = check_array("rewards", rewards, FLOAT32, "[T, N]")
    v = check_array("values", values, FLOAT32, r.shape)
    d = check_array("dones", dones, MASK, r.shape)
    ok = check_array("valid", valid, MASK, r.shape)
    last = check_array("last_values", last_values, FLOAT32, r.shape[1:])
    adv = check_array("advantages", advantages, FLOAT32, r.shape, write=True)
    ret = check_array("returns", returns, FLOAT32, r.shape, write=True)
    inputs = {"rewards": r, "values": v, "dones": d, "valid": ok, "last_values": last}
    check_disjoint({"returns": ret, "advantages": adv}, inputs)
    discount = check_unit("gamma", gamma)
    decay = discount * check_unit("gae_lambda", gae_lambda)
    _loops.gae_loop(r, v, d, ok, last, np.float32(discount), np.float32(decay), adv, ret)


def discounted_returns(
    rewards: Array, dones: Array, valid: Array, last_values: Array, gamma: float, returns: Array
) -> None:
    """Write discounted returns, `G = r + gamma * G_next`, cut where done, 0 where not valid.

    Args:
        rewards: `[T, N]` float32.
        dones: `[T, N]` uint8 or bool.
        valid: `[T, N]` uint8 or bool.
        last_values: `[N]` float32, `G` after the last row.
        gamma: in [0, 1].
        returns: `[T, N]` float32, written.

    Raises:
        TypeError: an argument is no array, or no number.
        ValueError: an array has the wrong dtype, layout or shape; gamma is outside [0, 1].
    """
    r = check_array("rewards", rewards, FLOAT32, "[T, N]")
    d = check_array("dones", dones, MASK, r.shape)
    ok = check_array("valid", valid, MASK, r.shape)
    last = check_array("last_values", last_values, FLOAT32, r.shape[1:])
    ret = check_array("returns", returns, FLOAT32, r.shape, write=True)
    inputs = {"rewards": r, "dones": d, "valid": ok, "last_values": last}
    check_disjoint({"returns": ret}, inputs)
    _loops.returns_loop(r, d, ok, last, np.float32(check_unit("gamma", gamma)), ret)


def update_moments(batch: Array, mean: Array, var: Array, count: Array) -> None:
    """Merge a batch into a running mean and population variance (Chan, Golub, LeVeque 1983).

    Deviations are taken from the mean of each block of 256 rows, so a large common offset costs no
    digits. A row that holds a NaN or an infinity is left out.

    Args:
        batch: `[B, D]` float32.
        mean: `[D]` float64, updated.
        var: `[D]` float64, updated.
        count: `[1]` float64, the rows seen so far, updated.

    Raises:
        TypeError: an argument is no array.
        ValueError: an array has the wrong dtype, layout or shape; count is negative or not finite.
    """
    _loops.moments_loop(*check_moments(batch, mean, var, count))


def normalize(
    batch: Array, mean: Array, var: Array, clip: float, epsilon: float, out: Array
) -> None:
    """Write `(batch - mean) / sqrt(var + epsilon)`, clipped to `[-clip, clip]`. NaN stays NaN.

    Args:
        batch: `[B, D]` float32.
        mean: `[D]` float64.
        var: `[D]` float64.
        clip: the bound; 0 or less does not clip.
        epsilon: positive.
        out: `[B, D]` float32, written; may be `batch` itself.

    Raises:
        TypeError: an argument is no array, or no number.
        ValueError: an array has the wrong dtype, layout or shape; epsilon is not positive.
    """
    b = check_array("batch", batch, FLOAT32, "[B, D]")
    m = check_array("mean", mean, FLOAT64, b.shape[1:])
    v = check_array("var", var, FLOAT64, b.shape[1:])
    limit, eps, o = check_normalize(b, {"mean": m, "var": v}, clip, epsilon, out)
    _loops.normalize_loop(b, m, v, limit, eps, o)


def update_and_normalize(
    batch: Array,
    mean: Array,
    var: Array,
    count: Array,
    clip: float,
    epsilon: float,
    out: Array,
) -> None:
    """Run `update_moments(batch, ...)`, then `normalize(batch, ..., out)`.

    Args:
        batch: `[B, D]` float32.
        mean: `[D]` float64, updated.
        var: `[D]` float64, updated.
        count: `[1]` float64, updated.
        clip: the bound; 0 or less does not clip.
        epsilon: positive.
        out: `[B, D]` float32, written; may be `batch` itself.

    Raises:
        TypeError: as the two functions.
        ValueError: as the two functions.
    """
    b, m, v, c = check_moments(batch, mean, var, count)
    state = {"mean": m, "var": v, "count": c}
    limit, eps, o = check_normalize(b, state, clip, epsilon, out)
    _loops.moments_loop(b, m, v, c)
    _loops.normalize_loop(b, m, v, limit, eps, o)


def shuffle(indices: Array, state: Array) -> None:
    """Permute `indices` in place, uniformly (Fisher-Yates; Lemire 2019, arXiv:1805.10941).

    Args:
        indices: `[n]` int32, permuted.
        state: `[1]` uint64, the state of a splitmix64 generator, advanced. Any value will do.

    Raises:
        TypeError: an argument is no array.
        ValueError: an array has the wrong dtype, layout or shape.
    """
    i = check_array("indices", indices, INT32, "[n]", write=True)
    s = check_array("state", state, UINT64, (1,), write=True)
    check_disjoint({"indices": i}, {"state": s})
    _loops.shuffle_loop(i, s)


def gather(sources: Sequence[Array], indices: Array, outputs: Sequence[Array]) -> None:
    """Write `outputs[k][i] = sources[k][indices[i]]` for every field k, in one call.

    Args:
        sources: list of arrays `[R, ...]` of any dtype but object; R may differ.
        indices: `[B]` int32.
        outputs: list of arrays `[B, ...]`, dtype and trailing shape as in `sources`, written.

    Raises:
        IndexError: an index is outside [0, R). Nothing is written then.
        TypeError: an argument is no array, or no list of arrays.
        ValueError: an array has the wrong dtype, layout or shape.
    """
    i = check_array("indices", indices, INT32, "[B]")
    fields = check_fields(sources, i, outputs)
    rows = min((len(source) for source, _ in fields), default=None)
    if rows is not None:
        outside = np.flatnonzero((i < 0) | (i >= rows))
        if outside.size:
            at = outside[0]
            raise IndexError(f"indices[{at}] must be in [0, {rows}), got {i[at]}")
    for source, output in fields:
        _gather_field(source, i, output)


def episode_statistics(
    rewards: Array,
    dones: Array,
    valid: Array,
    running_returns: Array,
    running_lengths: Array,
    finished_returns: Array,
    finished_lengths: Array,
    finished_envs: Array,
) -> int:
    """Add one vector step to the running episodes and report those that it finished.

    Args:
        rewards: `[N]` float32.
        dones: `[N]` uint8 or bool.
        valid: `[N]` uint8 or bool; rows that are not valid are skipped.
        running_returns: `[N]` float64, updated; zeroed where done.
        running_lengths: `[N]` int64, updated; zeroed where done.
        finished_returns: `[N]` float64, the first K are written.
        finished_lengths: `[N]` int64, the first K are written.
        finished_envs: `[N]` int32, the first K are written, ascending.

    Returns:
        K, the number of finished episodes.

    Raises:
        TypeError: an argument is no array.
        ValueError: an array has the wrong dtype, layout or shape.
    """
    r = check_array("rewards", rewards, FLOAT32, "[N]")
    d = check_array("dones", dones, MASK, r.shape)
    ok = check_array("valid", valid, MASK, r.shape)
    run_ret = check_array("running_returns", running_returns, FLOAT64, r.shape, write=True)
    run_len = check_array("running_lengths", running_lengths, INT64, r.shape, write=True)
    end_ret = check_array("finished_returns", finished_returns, FLOAT64, r.shape, write=True)
    end_len = check_array("finished_lengths", finished_lengths, INT64, r.shape, write=True)
    end_env = check_array("finished_envs", finished_envs, INT32, r.shape, write=True)
    running = {"running_lengths": run_len, "running_returns": run_ret}
    finished = {
        "finished_envs": end_env,
        "finished_lengths": end_len,
        "finished_returns": end_ret,
    }
    check_disjoint(running | finished, {"rewards": r, "dones": d, "valid": ok})
    arrays = (r, d, ok, run_ret, run_len, end_ret, end_len, end_env)
    return int(_loops.episodes_loop(*arrays))


def _gather_field(source: Array, indices: Array, output: Array) -> None:
    """Copy rows as bytes, or as words where a row has the size of one."""
    row_bytes = source.itemsize * math.prod(source.shape[1:])
    if source.size == 0 or output.size == 0 or row_bytes == 0:
        return
    flat_source, flat_output = source.reshape(-1), output.reshape(-1)
    if row_bytes in _WORDS:
        word = _WORDS[row_bytes]
        _loops.gather_words(flat_source.view(word), indices, flat_output.view(word))
        return
    source_bytes = flat_source.view(np.uint8).reshape(-1, row_bytes)
    _loops.gather_bytes(source_bytes, indices, flat_output.view(np.uint8).reshape(-1, row_bytes))
