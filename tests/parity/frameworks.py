"""A function of tensors in both frameworks: arrays come in, values and gradients go out as arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
torch = pytest.importorskip("torch")

from tensor_optix.adapters.pytorch import backend as torch_ops
from tensor_optix.adapters.tensorflow import backend as tf_ops

if TYPE_CHECKING:
    from collections.abc import Callable

    from tensor_optix.core.types import Array

RELATIVE = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-10}
"""The precision asked for. In double precision the formulas themselves are compared."""
ROUNDINGS = 4
"""Of the largest number on the way, which is what a sum that cancels may be off by: two roundings in each of
two frameworks. The floor of every comparison follows from it."""


class Outcome(NamedTuple):
    """What a function returns, and the gradients of `sum(weights * outputs)` with respect to its inputs."""

    values: list[Array]
    gradients: list[Array]


def by_torch(fn: Callable[..., Any], *arrays: Array) -> Outcome:
    """Evaluate `fn(ops, *tensors)` by PyTorch."""
    tensors = [torch.tensor(array) for array in arrays]
    inputs = [tensor.requires_grad_() for tensor in tensors if tensor.is_floating_point()]
    outputs = _as_tuple(fn(torch_ops, *tensors))
    weights = [torch.tensor(_weights(out.shape), dtype=out.dtype) for out in outputs]
    total = sum((w * out).sum() for w, out in zip(weights, outputs, strict=True))
    gradients = torch.autograd.grad(total, inputs, allow_unused=True)
    zeros = [np.zeros(tuple(tensor.shape)) for tensor in inputs]
    return Outcome(
        [out.detach().numpy() for out in outputs],
        [zero if g is None else g.numpy() for g, zero in zip(gradients, zeros, strict=True)],
    )


def by_tensorflow(fn: Callable[..., Any], *arrays: Array) -> Outcome:
    """Evaluate `fn(ops, *tensors)` by TensorFlow."""
    tensors = [tf.constant(array) for array in arrays]
    inputs = [tensor for tensor in tensors if tensor.dtype.is_floating]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = _as_tuple(fn(tf_ops, *tensors))
        weights = [tf.constant(_weights(out.shape), out.dtype) for out in outputs]
        total = tf.add_n([tf.reduce_sum(w * o) for w, o in zip(weights, outputs, strict=True)])
    gradients = tape.gradient(total, inputs, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return Outcome(
        [out.numpy() for out in outputs], [tf.convert_to_tensor(g).numpy() for g in gradients]
    )


def assert_all_agree(
    fn: Callable[..., Any],
    reference: Callable[..., Any],
    *arrays: Array,
    floors: tuple[Any, Any] = (0.0, 0.0),
) -> None:
    """Assert that both frameworks and NumPy in double precision agree, and the frameworks on gradients.

    Args:
        fn: `(ops, *tensors) -> tensor or tensors`.
        reference: `(*arrays) -> array or arrays`, over float64.
        arrays: Its inputs; gradients are taken for those of a floating dtype.
        floors: Absolute ones, of values and of gradients, beside four roundings of the largest number.
    """
    ours, theirs = by_torch(fn, *arrays), by_tensorflow(fn, *arrays)
    doubles = [array.astype(np.float64) if array.dtype.kind == "f" else array for array in arrays]
    expected = _as_tuple(reference(*doubles))
    for mine, other, truth in zip(ours.values, theirs.values, expected, strict=True):
        assert mine.dtype == other.dtype
        assert_same(mine, truth, floors[0])
        assert_same(other, truth, floors[0])
        assert_same(other, mine, floors[0])
    for mine, other in zip(ours.gradients, theirs.gradients, strict=True):
        assert_same(other, mine, floors[1])


def assert_same(
    actual: Any,
    expected: Any,
    floor: Any = 0.0,
    relative: float | None = None,
    roundings: float = ROUNDINGS,
) -> None:
    """Assert equality to `relative` (by default that of the dtype), above a floor of rounding.

    NaN equals NaN, and infinities themselves.

    An element that is what remains of larger ones which cancel has no relative precision of its own, so the
    floor is a share of the largest finite element: so many units in the last place.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"{actual.shape} is not {expected.shape}"
    finite = expected[np.isfinite(expected)]
    largest = float(np.abs(finite).max()) if finite.size else 0.0
    share = RELATIVE[actual.dtype] if relative is None else relative
    rounding = roundings * float(np.finfo(actual.dtype).eps) * largest
    bound = share * np.abs(expected) + rounding + floor
    with np.errstate(invalid="ignore"):
        is_close = (np.abs(actual - expected) <= bound) | (actual == expected)
    is_close |= np.isnan(actual) & np.isnan(expected)
    if not is_close.all():
        worst = np.unravel_index(np.argmin(is_close), is_close.shape)
        raise AssertionError(
            f"{np.count_nonzero(~is_close)} of {is_close.size} elements differ, at {worst}: "
            f"{actual[worst]!r}, expected {expected[worst]!r}"
        )


def _weights(shape: Any) -> Array:
    """Return factors for an output, so that no symmetry hides a gradient."""
    return np.random.default_rng(0).uniform(0.5, 1.5, tuple(shape))


def _as_tuple(outputs: Any) -> tuple[Any, ...]:
    return tuple(outputs) if isinstance(outputs, tuple | list) else (outputs,)
