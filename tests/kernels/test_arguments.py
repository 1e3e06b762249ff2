"""Every array argument of every kernel is checked, and the error names it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

Arguments = dict[str, Any]

# name -> (valid arguments, names of the arrays that are written)
CALLS: dict[str, tuple[Callable[[], Arguments], set[str]]] = {
    "gae": (
        lambda: {
            "rewards": np.zeros((4, 6), np.float32),
            "values": np.zeros((4, 6), np.float32),
            "dones": np.zeros((4, 6), np.uint8),
            "valid": np.zeros((4, 6), np.uint8),
            "last_values": np.zeros(6, np.float32),
            "gamma": 0.9,
            "gae_lambda": 0.9,
            "advantages": np.zeros((4, 6), np.float32),
            "returns": np.zeros((4, 6), np.float32),
        },
        {"advantages", "returns"},
    ),
    "discounted_returns": (
        lambda: {
            "rewards": np.zeros((4, 6), np.float32),
            "dones": np.zeros((4, 6), np.uint8),
            "valid": np.zeros((4, 6), np.uint8),
            "last_values": np.zeros(6, np.float32),
            "gamma": 0.9,
            "returns": np.zeros((4, 6), np.float32),
        },
        {"returns"},
    ),
    "update_moments": (
        lambda: {
            "batch": np.zeros((4, 6), np.float32),
            "mean": np.zeros(6),
            "var": np.zeros(6),
            "count": np.zeros(1),
        },
        {"mean", "var", "count"},
    ),
    "normalize": (
        lambda: {
            "batch": np.zeros((4, 6), np.float32),
            "mean": np.zeros(6),
            "var": np.zeros(6),
            "clip": 5.0,
            "epsilon": 1e-8,
            "out": np.zeros((4, 6), np.float32),
        },
        {"out"},
    ),
    "update_and_normalize": (
        lambda: {
            "batch": np.zeros((4, 6), np.float32),
            "mean": np.zeros(6),
            "var": np.zeros(6),
            "count": np.zeros(1),
            "clip": 5.0,
            "epsilon": 1e-8,
            "out": np.zeros((4, 6), np.float32),
        },
        {"mean", "var", "count", "out"},
    ),
    "shuffle": (
        lambda: {"indices": np.zeros(6, np.int32), "state": np.zeros(1, np.uint64)},
        {"indices", "state"},
    ),
    "episode_statistics": (
        lambda: {
            "rewards": np.zeros((4, 6), np.float32),
            "dones": np.zeros((4, 6), np.uint8),
            "valid": np.zeros((4, 6), np.uint8),
            "running_returns": np.zeros(6),
            "running_lengths": np.zeros(6, np.int64),
            "finished_returns": np.zeros(24),
            "finished_lengths": np.zeros(24, np.int64),
            "finished_envs": np.zeros(24, np.int32),
        },
        {
            "running_returns",
            "running_lengths",
            "finished_returns",
            "finished_lengths",
            "finished_envs",
        },
    ),
}
ARRAYS = [
    (call, name)
    for call, (make, _) in CALLS.items()
    for name, value in make().items()
    if isinstance(value, np.ndarray)
]
OUTPUTS = [(call, name) for call, (_, names) in CALLS.items() for name in sorted(names)]
each_array = pytest.mark.parametrize(("call", "name"), ARRAYS)
more_than_one = [pair for pair in ARRAYS if pair[1] not in ("count", "state")]
matrices = [pair for pair in ARRAYS if CALLS[pair[0]][0]()[pair[1]].ndim == 2]
wide_dtypes = [pair for pair in ARRAYS if CALLS[pair[0]][0]()[pair[1]].itemsize > 1]
each_output = pytest.mark.parametrize(("call", "name"), OUTPUTS)


def message(
    kernels: Any, call: str, name: str, value: Any, error: type[Exception] = ValueError
) -> str:
    """Return what the call says when one argument is replaced."""
    arguments = CALLS[call][0]()
    getattr(kernels, call)(**arguments)
    arguments[name] = value
    with pytest.raises(error) as caught:
        getattr(kernels, call)(**arguments)
    assert type(caught.value) is error
    return str(caught.value)


def original(call: str, name: str) -> Any:
    return CALLS[call][0]()[name]


@each_array
@pytest.mark.parametrize("dtype", ["f2", "i2", ">f4", ">i8", "i1", "c8", "O"])
def test_a_wrong_dtype_names_the_argument(kernels: Any, call: str, name: str, dtype: str) -> None:
    array = original(call, name)
    said = message(kernels, call, name, array.astype(dtype))
    wanted = "uint8 or bool" if name in ("dones", "valid") else str(array.dtype)
    assert said == f"{name} must be {wanted}, got {np.dtype(dtype)}"


@pytest.mark.parametrize(("call", "name"), more_than_one)
def test_a_strided_view_names_the_argument(kernels: Any, call: str, name: str) -> None:
    array = original(call, name)
    wide = np.zeros((*array.shape[:-1], array.shape[-1] * 2), array.dtype)[..., ::2]
    assert message(kernels, call, name, wide) == f"{name} must be C-contiguous, got a strided view"


@pytest.mark.parametrize(("call", "name"), matrices)
def test_a_column_major_array_names_the_argument(kernels: Any, call: str, name: str) -> None:
    array = original(call, name)
    assert "C-contiguous" in message(kernels, call, name, np.asfortranarray(array))


@each_array
def test_a_wrong_shape_names_the_argument(kernels: Any, call: str, name: str) -> None:
    array = original(call, name)
    said = message(kernels, call, name, np.zeros((*array.shape, 1), array.dtype))
    assert said.startswith(f"{name} must have shape ")
    assert said.endswith(f", got {(*array.shape, 1)}")


@each_array
@pytest.mark.parametrize("value", [None, [0.0, 1.0], 3.0, b"bytes", memoryview(b"1234")])
def test_what_is_no_array_is_a_type_error(kernels: Any, call: str, name: str, value: Any) -> None:
    said = message(kernels, call, name, value, TypeError)
    assert said == f"{name} must be a NumPy array, got {type(value).__name__}"


@pytest.mark.parametrize(("call", "name"), wide_dtypes)
def test_an_unaligned_array_names_the_argument(kernels: Any, call: str, name: str) -> None:
    array = original(call, name)
    raw = np.zeros(array.nbytes + 1, np.uint8)[1:]
    assert "aligned" in message(kernels, call, name, raw.view(array.dtype).reshape(array.shape))


@each_output
def test_a_read_only_output_names_the_argument(kernels: Any, call: str, name: str) -> None:
    array = original(call, name)
    array.flags.writeable = False
    said = message(kernels, call, name, array)
    assert said == f"{name} must be writeable, got a read-only array"


@pytest.mark.parametrize(
    ("call", "name", "source"),
    [
        ("gae", "returns", "values"),
        ("gae", "advantages", "rewards"),
        ("gae", "returns", "advantages"),
        ("discounted_returns", "returns", "rewards"),
        ("update_moments", "mean", "var"),
    ],
)
def test_shared_memory_names_both_arguments(
    kernels: Any, call: str, name: str, source: str
) -> None:
    arguments = CALLS[call][0]()
    arguments[name] = arguments[source]
    with pytest.raises(ValueError, match="must not share memory with") as caught:
        getattr(kernels, call)(**arguments)
    assert {name, source} <= set(str(caught.value).split())


def test_normalizing_into_a_part_of_the_batch_is_refused(kernels: Any) -> None:
    memory = np.zeros((5, 6), np.float32)
    arguments = CALLS["normalize"][0]() | {"batch": memory[:4], "out": memory[1:]}
    with pytest.raises(ValueError, match="out must not share memory with batch"):
        kernels.normalize(**arguments)


@pytest.mark.parametrize(
    ("call", "name", "value", "said"),
    [
        ("gae", "gamma", 1.5, "gamma must be in [0, 1], got 1.5"),
        ("gae", "gae_lambda", -0.1, "gae_lambda must be in [0, 1], got -0.1"),
        ("gae", "gamma", float("nan"), "gamma must be in [0, 1], got nan"),
        ("discounted_returns", "gamma", 2, "gamma must be in [0, 1], got 2.0"),
        ("normalize", "epsilon", 0.0, "epsilon must be positive and finite, got 0.0"),
        ("normalize", "clip", float("nan"), "clip must be a number, got nan"),
        ("update_moments", "count", np.array([-1.0]), "count must be finite and not negative"),
        ("update_moments", "count", np.array([np.nan]), "count must be finite and not negative"),
    ],
)
def test_a_number_out_of_range_names_the_argument(
    kernels: Any, call: str, name: str, value: Any, said: str
) -> None:
    assert message(kernels, call, name, value).startswith(said)


@pytest.mark.parametrize(("call", "name"), [("gae", "gamma"), ("normalize", "clip")])
@pytest.mark.parametrize("value", [None, "0.5", [0.5]])
def test_what_is_no_number_is_a_type_error(kernels: Any, call: str, name: str, value: Any) -> None:
    said = message(kernels, call, name, value, TypeError)
    assert said == f"{name} must be a number, got {type(value).__name__}"


@pytest.mark.parametrize("gamma", [1, np.float32(0.5), np.float64(0.5), np.int64(0), True])
def test_any_real_number_will_do(kernels: Any, gamma: Any) -> None:
    kernels.gae(**CALLS["gae"][0]() | {"gamma": gamma})
