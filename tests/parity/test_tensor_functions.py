"""The tensor functions of the backends: PyTorch, TensorFlow and NumPy in double precision agree."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax as scipy_log_softmax

pytest.importorskip("tensorflow")
pytest.importorskip("torch")

from tests.parity.frameworks import (
    assert_all_agree,
    assert_same,
    by_tensorflow,
    by_torch,
    tf,
    tf_ops,
    torch,
    torch_ops,
)

RNG = np.random.default_rng(1)
ANY = RNG.standard_normal((7, 4)).astype(np.float32)
ONE = np.array([[0.3]], np.float32)
LARGE = np.array([[-80.0, -30.0, -1e-6, 0.0], [1e-6, 30.0, 80.0, -0.5]], np.float32)
HUGE = np.array([[1e30, -1e30, 3.0, 0.0], [1e-30, -1e-30, 1e10, -1e10]], np.float32)
TIES = np.array([[2.0, 2.0, -1.0, 2.0], [0.0, 0.0, 0.0, 0.0]], np.float32)
POSITIVE = np.array([[1e-30, 1e-6, 1.0, 1.0000001], [3.0, 1e6, 1e30, 0.5]], np.float32)

UNARY = {
    "exp": ("exp", np.exp, (ANY, ONE, LARGE)),
    "square": ("square", np.square, (ANY, ONE, LARGE, np.array([1e18, -1e18], np.float32))),
    "absolute": ("absolute", np.abs, (ANY, ONE, HUGE, TIES)),
    "mean": ("mean", np.mean, (ANY, ONE, LARGE, TIES)),
    "log": ("log", np.log, (POSITIVE, np.abs(ANY))),
    "tanh": ("tanh", np.tanh, (ANY, ONE, LARGE, HUGE)),
    "sum_last": ("sum_last", lambda x: x.sum(-1), (ANY, ONE, LARGE, TIES)),
    "max_last": ("max_last", lambda x: x.max(-1), (ANY, ONE, LARGE, HUGE, TIES)),
    "log_softmax": ("log_softmax", lambda x: scipy_log_softmax(x, -1), (ANY, ONE, LARGE, TIES)),
    "split_last": ("split_last", lambda x: tuple(np.split(x, 2, -1)), (ANY, LARGE, TIES)),
    "flatten_values": ("flatten_values", np.ravel, (ANY[:, :1], ANY[:, 0], ONE)),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", UNARY)
def test_functions_of_one_tensor_agree(case, dtype):
    name, reference, inputs = UNARY[case]
    for array in inputs:
        assert_all_agree(lambda ops, x: getattr(ops, name)(x), reference, array.astype(dtype))


def test_every_component_of_an_ill_scaled_tensor_has_its_own_precision():
    """No component of these functions depends on another, so none may hide behind a larger one."""
    for name in ("exp", "square", "absolute", "tanh"):
        for column in LARGE.reshape(-1, 1):
            assert_all_agree(lambda ops, x, n=name: getattr(ops, n)(x), getattr(np, name), column)


def test_what_overflows_or_is_undefined_does_so_in_both():
    with np.errstate(all="ignore"):
        for name, array in {
            "exp": [100.0, -200.0, np.inf, -np.inf, np.nan],
            "log": [0.0, -1.0, np.inf, np.nan],
            "tanh": [np.inf, -np.inf, np.nan],
        }.items():
            x = np.array(array, np.float32)
            expected = getattr(np, name)(x)
            for outcome in (by_torch, by_tensorflow):
                values = outcome(lambda ops, x, n=name: getattr(ops, n)(x), x).values[0]
                assert_same(values, expected)


def test_log_softmax_of_huge_logits_neither_overflows_nor_loses_a_component():
    logits = np.array([[1e4, 0.0, -1e4], [1e30, 1e30, 0.0], [-1e30, 5.0, 5.0]], np.float32)
    for row in logits:
        assert_all_agree(
            lambda ops, x: ops.log_softmax(x), lambda x: scipy_log_softmax(x, -1), row[None]
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_minimum_agrees(dtype):
    x, y = ANY.astype(dtype), RNG.standard_normal(ANY.shape).astype(dtype)
    assert_all_agree(lambda ops, x, y: ops.minimum(x, y), np.minimum, x, y)


def test_where_two_are_equal_the_gradients_of_their_minimum_share_the_same_sum():
    """PyTorch gives each a half, TensorFlow gives all to the first: both are subgradients."""
    x = np.array([2.0, -1.0, 0.0], np.float32)
    ours, theirs = (
        by(lambda ops, x, y: ops.minimum(x, y), x, x.copy()) for by in (by_torch, by_tensorflow)
    )
    assert_same(theirs.values[0], ours.values[0])
    assert_same(sum(theirs.gradients), sum(ours.gradients))


def test_a_minimum_with_nan_is_nan_in_both():
    x, y = np.array([np.nan, 1.0], np.float32), np.array([1.0, np.nan], np.float32)
    for by in (by_torch, by_tensorflow):
        assert np.isnan(by(lambda ops, x, y: ops.minimum(x, y), x, y).values[0]).all()


@pytest.mark.parametrize("are_tensors", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_clip_agrees_inside_outside_and_exactly_at_its_bounds(dtype, are_tensors):
    x = np.array([-9.0, -5.0, np.nextafter(-5, 0), 0.0, 2.0, np.nextafter(2, 3), 9, 1e30], dtype)

    def clip(ops, x):
        if not are_tensors:
            return ops.clip(x, -5.0, 2.0)
        constant = torch.tensor if ops is torch_ops else tf.constant
        return ops.clip(x, constant(np.array(-5, dtype)), constant(np.array(2, dtype)))

    assert_all_agree(clip, lambda x: np.clip(x, -5, 2), x)


@pytest.mark.parametrize("index_dtype", [np.int64, np.int32])
def test_take_along_agrees(index_dtype):
    index = np.array([0, 3, 1, 1, 2, 0, 3], index_dtype)
    if index_dtype == np.int32:
        # PyTorch takes int64 only, which is what agents hand over.
        values = by_tensorflow(lambda ops, x, i: ops.take_along(x, i), ANY, index).values[0]
        assert_same(values, ANY[np.arange(7), index])
        return
    for x, i in ((ANY, index), (ANY[:1], index[:1]), (HUGE, index[:2]), (ONE, index[:1])):
        assert_all_agree(
            lambda ops, x, i: ops.take_along(x, i), lambda x, i: x[np.arange(len(x)), i], x, i
        )


def test_folded_rows_and_what_is_taken_of_each_agree():
    index = np.array([[0, 1], [1, 1], [0, 0], [1, 0], [0, 1], [1, 1], [0, 0]])
    assert_all_agree(lambda ops, x: ops.fold_last(x, 2), lambda x: x.reshape(-1, 2, 2), ANY)
    assert_all_agree(
        lambda ops, x, i: ops.take_along(ops.fold_last(x, 2), i),
        lambda x, i: np.take_along_axis(x.reshape(-1, 2, 2), i[..., None], axis=-1)[..., 0],
        ANY,
        index,
    )


@pytest.mark.parametrize(
    "observations",
    [
        RNG.integers(0, 256, (3, 4, 4, 2), np.uint8),
        RNG.integers(-9, 9, (3, 2), np.int64),
        RNG.standard_normal((3, 2)),
        RNG.standard_normal((3, 2)).astype(np.float16),
        RNG.standard_normal(3).astype(np.float32),
        np.array([0, 7, 300], np.int64),
        np.array([0, 7, 255], np.uint8),
        np.array([5], np.int32),
        np.array([[True], [False]]),
    ],
    ids=lambda array: f"{array.dtype}{list(array.shape)}",
)
def test_networks_are_given_the_same_numbers_in_the_same_dtype(observations):
    seen = []

    def network(inputs, training=False):
        seen.append(inputs.numpy())
        return inputs

    outputs = (
        torch_ops.forward(network, torch.tensor(observations)),
        tf_ops.forward(network, tf.constant(observations)),
    )
    assert all(output.numpy().dtype == np.float32 for output in outputs)
    ours, theirs = seen
    is_index = observations.ndim == 1 and observations.dtype.kind != "f"
    assert ours.dtype == theirs.dtype == (np.int64 if is_index else np.float32)
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(ours, observations.astype(ours.dtype))


def test_no_gradient_flows_through_what_is_said_to_have_none():
    def fn(ops, x):
        return ops.square(x) * ops.without_gradient(ops.exp)(x)

    outcomes = by_torch(fn, ANY), by_tensorflow(fn, ANY)
    weights = by_torch(lambda ops, x: x, ANY).gradients[0]
    for outcome in outcomes:
        assert_same(outcome.gradients[0], 2.0 * ANY * np.exp(ANY) * weights)
