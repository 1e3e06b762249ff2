"""Kernels of rollouts and batches: arrays come in, advantages, moments, minibatches go out.

All raise what the package says of its arguments; `Raises` names what comes on top.
"""

import math
from collections.abc import Sequence
from typing import Any

from tensor_optix.kernels._backend import kernel, raw_functions
from tensor_optix.kernels._checks import (
    FLOAT32,
    FLOAT64,
    INT32,
    INT64,
    MASK,
    UINT64,
    Arguments,
    Array,
    check_bounds,
    check_number,
    check_shape,
    check_unit,
)

_raw = raw_functions("_loops")


@kernel
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
    """
    a = Arguments()
    [rewards] = a.read(FLOAT32, "[T, N]", rewards=rewards)
    a.read(FLOAT32, rewards.shape, values=values)
    dones, valid = a.read(MASK, rewards.shape, dones=dones, valid=valid)
    a.read(FLOAT32, rewards.shape[1:], last_values=last_values)
    a.write(FLOAT32, rewards.shape, advantages=advantages, returns=returns)
    a.check_disjoint()
    discount, decay = check_unit("gamma", gamma), check_unit("gae_lambda", gae_lambda)
    _raw.gae(rewards, values, dones, valid, last_values, discount, decay, advantages, returns)


@kernel
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
    """
    a = Arguments()
    [rewards] = a.read(FLOAT32, "[T, N]", rewards=rewards)
    dones, valid = a.read(MASK, rewards.shape, dones=dones, valid=valid)
    a.read(FLOAT32, rewards.shape[1:], last_values=last_values)
    a.write(FLOAT32, rewards.shape, returns=returns)
    a.check_disjoint()
    discount = check_unit("gamma", gamma)
    _raw.discounted_returns(rewards, dones, valid, last_values, discount, returns)


@kernel
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
    """Add the vector steps of a window to the running episodes and report those that they finished.

    Args:
        rewards: `[T, N]` float32.
        dones: `[T, N]` uint8 or bool.
        valid: `[T, N]` uint8 or bool; rows that are not valid are skipped.
        running_returns: `[N]` float64, updated; zeroed where done.
        running_lengths: `[N]` int64, updated; zeroed where done.
        finished_returns: `[T * N]` float64, the first K are written, step by step.
        finished_lengths: `[T * N]` int64, the first K are written.
        finished_envs: `[T * N]` int32, the first K are written, ascending within a step.

    Returns:
        K, the number of finished episodes.
    """
    a = Arguments()
    [rewards] = a.read(FLOAT32, "[T, N]", rewards=rewards)
    envs, most = rewards.shape[1:], (rewards.size,)
    dones, valid = a.read(MASK, rewards.shape, dones=dones, valid=valid)
    running = a.write(FLOAT64, envs, running_returns=running_returns)
    running += a.write(INT64, envs, running_lengths=running_lengths)
    finished = a.write(FLOAT64, most, finished_returns=finished_returns)
    finished += a.write(INT64, most, finished_lengths=finished_lengths)
    finished += a.write(INT32, most, finished_envs=finished_envs)
    a.check_disjoint()
    return int(_raw.episode_statistics(rewards, dones, valid, *running, *finished))


@kernel
def update_moments(batch: Array, mean: Array, var: Array, count: Array) -> None:
    """Merge a batch into a running mean and population variance (Chan, Golub, LeVeque 1983).

    Deviations are taken from the mean of each block of 256 rows, so a large common offset costs no
    digits. A row that holds a NaN or an infinity is left out.

    Args:
        batch: `[B, D]` float32.
        mean: `[D]` float64, updated.
        var: `[D]` float64, updated.
        count: `[1]` float64, the rows seen so far, finite and not negative, updated.
    """
    a = Arguments()
    _check_moments(a, batch, mean, var, count)
    a.check_disjoint()
    _raw.update_moments(batch, mean, var, count)


@kernel
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
    """
    a = Arguments()
    [batch] = a.read(FLOAT32, "[B, D]", batch=batch)
    a.read(FLOAT64, batch.shape[1:], mean=mean, var=var)
    clip, epsilon = _check_normalized(a, batch, clip, epsilon, out)
    _raw.normalize(batch, mean, var, clip, epsilon, out)


@kernel
def update_and_normalize(
    batch: Array, mean: Array, var: Array, count: Array, clip: float, epsilon: float, out: Array
) -> None:
    """Run `update_moments(batch, mean, var, count)`, then `normalize(batch, ..., out)`."""
    a = Arguments()
    _check_moments(a, batch, mean, var, count)
    clip, epsilon = _check_normalized(a, batch, clip, epsilon, out)
    _raw.update_and_normalize(batch, mean, var, count, clip, epsilon, out)


@kernel
def shuffle(indices: Array, state: Array) -> None:
    """Permute `indices` in place, uniformly (Fisher-Yates; Lemire 2019, arXiv:1805.10941).

    Args:
        indices: `[n]` int32, permuted.
        state: `[1]` uint64, the state of a splitmix64 generator, advanced. Any value will do.
    """
    a = Arguments()
    a.write(INT32, "[n]", indices=indices)
    a.write(UINT64, (1,), state=state)
    a.check_disjoint()
    _raw.shuffle(indices, state)


@kernel
def gather(sources: Sequence[Array], indices: Array, outputs: Sequence[Array]) -> None:
    """Write `outputs[k][i] = sources[k][indices[i]]` for every field k, in one call.

    Args:
        sources: list of arrays `[R, ...]` of any dtype but object; R may differ.
        indices: `[B]` int32.
        outputs: list of arrays `[B, ...]`, dtype and trailing shape as in `sources`, written.

    Raises:
        IndexError: an index is outside [0, R). Nothing is written then.
    """
    a = Arguments()
    a.read(INT32, "[B]", indices=indices)
    from_ = _check_fields(a, "sources", sources, write=False)
    to = _check_fields(a, "outputs", outputs, write=True)
    if len(from_) != len(to):
        raise ValueError(
            f"outputs must have as many arrays as sources, {len(from_)}, got {len(to)}"
        )
    for k, (source, output) in enumerate(zip(from_, to, strict=True)):
        if source.dtype != output.dtype:
            raise ValueError(
                f"outputs[{k}] must be {source.dtype} as sources[{k}] is, got {output.dtype}"
            )
        check_shape(f"outputs[{k}]", output, (len(indices), *source.shape[1:]))
    a.check_disjoint()
    if from_:
        check_bounds("indices[", indices, min(map(len, from_)))
    _raw.gather(from_, indices, to)


def _check_moments(a: Arguments, batch: Any, mean: Any, var: Any, count: Any) -> None:
    [batch] = a.read(FLOAT32, "[B, D]", batch=batch)
    a.write(FLOAT64, batch.shape[1:], mean=mean, var=var)
    a.write(FLOAT64, (1,), count=count)
    if not 0.0 <= count[0] < math.inf:
        raise ValueError(f"count must be finite and not negative, got {float(count[0])}")


def _check_normalized(
    a: Arguments, batch: Array, clip: object, epsilon: object, out: object
) -> tuple[float, float]:
    """Return the clipping bound and epsilon."""
    bound, eps = check_number("clip", clip), check_number("epsilon", epsilon)
    a.write(FLOAT32, batch.shape, out=out)
    # Element by element, `out` may be the batch itself; part of it would be read after writing.
    a.check_disjoint(in_place=("out", "batch"))
    if math.isnan(bound):
        raise ValueError("clip must be a number, got nan")
    if not 0.0 < eps < math.inf:
        raise ValueError(f"epsilon must be positive and finite, got {eps}")
    return bound, eps


def _check_fields(a: Arguments, name: str, arrays: object, write: bool) -> list[Array]:
    if not isinstance(arrays, list | tuple):
        raise TypeError(f"{name} must be a list of NumPy arrays, got {type(arrays).__name__}")
    checked = []
    for k, array in enumerate(arrays):
        field = a.any_dtype(f"{name}[{k}]", array, write)
        if field.ndim == 0:
            raise ValueError(f"{name}[{k}] must have shape [rows, ...], got {field.shape}")
        if field.dtype.hasobject:
            raise ValueError(f"{name}[{k}] must not hold Python objects, got dtype {field.dtype}")
        checked.append(field)
    return checked
