"""Every argument of the replay kernels is checked, and the error names it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

Arguments = dict[str, Any]


def ring(slots: int = 5) -> Arguments:
    """One environment with 2 rows of a float32 pair and a byte as action; slots of 24 bytes."""
    cursors, counters = np.zeros((1, 8), np.int64), np.zeros(8, np.int64)
    counters[2] = 4
    return {
        "layout": np.array([1, slots, 2, 2, 1, 8, 1, 8, 12], np.int64),
        "ring": np.zeros((slots, 24), np.uint8),
        "side": np.zeros((4, 8), np.uint8),
        "side_entries": np.array([[0, 1, 2, 3], [-1] * 4], np.int32),
        "cursors": cursors,
        "counters": counters,
        "changes": np.zeros((2, 2), np.int64),
    }


def extend_arguments() -> Arguments:
    return ring() | {
        "observations": np.zeros((1, 2), np.float32),
        "actions": np.zeros(1, np.uint8),
        "rewards": np.zeros(1, np.float32),
        "next_observations": np.zeros((1, 2), np.float32),
        "terminated": np.zeros(1, np.uint8),
        "truncated": np.zeros(1, np.bool_),
        "env_ids": np.zeros(1, np.int64),
        "gamma": 0.9,
        "first": 0,
    }


def flush_arguments() -> Arguments:
    return ring() | {"gamma": 0.9}


def draw_arguments() -> Arguments:
    arguments = {name: ring()[name] for name in ("layout", "ring", "cursors", "counters")}
    arguments["cursors"][0, :4] = [2, 1, 1, 1]
    arguments["counters"][0] = 1
    return arguments | {"state": np.zeros(1, np.uint64), "indices": np.zeros(3, np.int64)}


def gather_arguments() -> Arguments:
    return {name: ring()[name] for name in ("layout", "ring", "side")} | {
        "indices": np.zeros(3, np.int64),
        "observations": np.zeros((3, 2), np.float32),
        "actions": np.zeros(3, np.uint8),
        "rewards": np.zeros(3, np.float32),
        "next_observations": np.zeros((3, 2), np.float32),
        "dones": np.zeros(3, np.bool_),
        "n_steps": np.zeros(3, np.int32),
    }


CALLS = {
    "replay_extend": (extend_arguments, ["ring", "side", "side_entries", "cursors", "counters"]),
    "replay_flush": (flush_arguments, ["ring", "cursors", "counters", "changes"]),
    "replay_draw": (draw_arguments, ["cursors", "state", "indices"]),
    "replay_gather": (
        gather_arguments,
        ["observations", "actions", "rewards", "next_observations", "dones", "n_steps"],
    ),
}
ARRAYS = [
    (call, name)
    for call, (make, _) in CALLS.items()
    for name, value in make().items()
    if isinstance(value, np.ndarray)
]
WRITTEN = [(call, name) for call, (_, names) in CALLS.items() for name in names]


def refusal(kernels: Any, call: str, changed: Arguments, error: Any = ValueError) -> str:
    """Return what a call says that works until some arguments are changed."""
    make, _ = CALLS[call]
    getattr(kernels, call)(**make())
    with pytest.raises(error) as caught:
        getattr(kernels, call)(**make() | changed)
    return str(caught.value)


@pytest.mark.parametrize(("call", "name"), ARRAYS)
def test_an_argument_that_is_no_array_is_named(kernels: Any, call: str, name: str) -> None:
    said = refusal(kernels, call, {name: [1]}, TypeError)
    assert said == f"{name} must be a NumPy array, got list"


@pytest.mark.parametrize(("call", "name"), ARRAYS)
def test_a_wrong_shape_is_named(kernels: Any, call: str, name: str) -> None:
    array = CALLS[call][0]()[name]
    longer = np.zeros((len(array) + 1, *array.shape[1:], 2), array.dtype)
    assert re.match(
        rf"({name}|layout) must (have shape|be \()", refusal(kernels, call, {name: longer})
    )


@pytest.mark.parametrize(("call", "name"), ARRAYS)
def test_a_strided_view_is_named(kernels: Any, call: str, name: str) -> None:
    array = CALLS[call][0]()[name]
    view = np.zeros((*array.shape[:-1], array.shape[-1] * 2), array.dtype)[..., ::2]
    if array.size > 1:
        said = refusal(kernels, call, {name: view})
        assert said == f"{name} must be C-contiguous, got a strided view"


@pytest.mark.parametrize(("call", "name"), WRITTEN)
def test_a_read_only_output_is_named(kernels: Any, call: str, name: str) -> None:
    array = CALLS[call][0]()[name]
    array.flags.writeable = False
    said = refusal(kernels, call, {name: array})
    assert said == f"{name} must be writeable, got a read-only array"


TYPED = [pair for pair in ARRAYS if pair[1] not in ("observations", "next_observations", "actions")]


@pytest.mark.parametrize(("call", "name"), TYPED)
def test_a_wrong_dtype_is_named(kernels: Any, call: str, name: str) -> None:
    array = CALLS[call][0]()[name].astype(np.float16)
    assert refusal(kernels, call, {name: array}).startswith(f"{name} must be ")


@pytest.mark.parametrize("at", range(9))
def test_a_layout_that_does_not_fit_the_ring_is_refused(kernels: Any, at: int) -> None:
    for number in (-1, 0, 2**20, 2**62):
        layout = ring()["layout"]
        if layout[at] == number or (at, number) == (6, 0):  # no action is legal
            continue
        layout[at] = number
        said = refusal(kernels, "replay_flush", {"layout": layout})
        assert re.match("(layout|ring|side) must", said)


@pytest.mark.parametrize(
    ("call", "changed", "said"),
    [
        ("replay_extend", {"env_ids": np.array([1])}, r"env_ids\[0\] must be in \[0, 1\), got 1"),
        ("replay_extend", {"env_ids": np.array([-1])}, r"env_ids\[0\] must be in .* got -1"),
        ("replay_extend", {"gamma": 1.5}, r"gamma must be in \[0, 1\], got 1.5"),
        ("replay_flush", {"gamma": np.nan}, r"gamma must be in \[0, 1\], got nan"),
        ("replay_extend", {"first": -1}, "first must be at least 0, got -1"),
        ("replay_extend", {"counters": np.array([0, 0, 5] + [0] * 5)}, r"counters\[2\] must be"),
        ("replay_extend", {"changes": np.zeros((2, 1), int)}, r"changes must .* at least 2, got"),
        ("replay_draw", {"counters": np.zeros(8, int)}, "counters must count the rows .*, got 0"),
        ("replay_draw", {"counters": np.full(8, 2)}, "counters must count the rows .*, got 2"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(
    kernels: Any, call: str, changed: Arguments, said: str
) -> None:
    assert re.match(said, refusal(kernels, call, changed))


@pytest.mark.parametrize(
    "cursor", [[5, 0, 0, 0], [-1, 0, 0, 0], [0, 2, 0, 1], [0, 0, 3, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
)
@pytest.mark.parametrize("call", ["replay_extend", "replay_flush", "replay_draw"])
def test_a_cursor_that_is_no_state_of_the_ring_is_refused(
    kernels: Any, call: str, cursor: list[int]
) -> None:
    cursors = np.array([[*cursor, 0, 0, 0, 0]])
    said = refusal(kernels, call, {"cursors": cursors})
    assert said == "cursors[0] must be a state of this ring"


@pytest.mark.parametrize("first", [None, 0.5, "0"])
def test_first_is_a_whole_number(kernels: Any, first: Any) -> None:
    said = refusal(kernels, "replay_extend", {"first": first}, TypeError)
    assert said == f"first must be a whole number, got {type(first).__name__}"


@pytest.mark.parametrize("name", ["observations", "actions", "next_observations"])
def test_a_dtype_without_a_plain_layout_is_named(kernels: Any, name: str) -> None:
    array = np.zeros(1, "M8[s]")
    said = refusal(kernels, "replay_extend", {name: array})
    assert said == f"{name} must have a dtype with a plain layout, got datetime64[s]"


def test_an_environment_comes_once_in_a_call(kernels: Any) -> None:
    arguments = extend_arguments() | {"layout": np.array([2, 5, 2, 2, 1, 8, 1, 8, 12])}
    arguments |= {"ring": np.zeros((10, 24), np.uint8), "cursors": np.zeros((2, 8), np.int64)}
    for name in ("observations", "actions", "rewards", "next_observations"):
        arguments[name] = np.repeat(arguments[name], 2, axis=0)
    arguments |= {"terminated": np.zeros(2, bool), "truncated": np.zeros(2, bool)}
    arguments |= {"env_ids": np.array([1, 1]), "changes": np.zeros((2, 4), np.int64)}
    with pytest.raises(ValueError, match=r"env_ids\[1\] must be new in its call, got 1"):
        kernels.replay_extend(**arguments)
    assert not arguments["ring"].any()


@pytest.mark.parametrize("bad", [-1, 5, 2**62])
def test_an_index_out_of_bounds_is_named(kernels: Any, bad: int) -> None:
    said = refusal(kernels, "replay_gather", {"indices": np.array([0, bad, 0])}, IndexError)
    assert said == f"indices[1] must be in [0, 5), got {bad}"


@pytest.mark.parametrize("reference", [5, -5, 2**31 - 1, -(2**31)])
def test_a_reference_to_no_frame_is_found(kernels: Any, reference: int) -> None:
    slots = ring()["ring"]
    slots.view(np.int32)[3, 4] = reference
    said = refusal(kernels, "replay_gather", {"ring": slots, "indices": np.array([0, 3, 1])})
    assert said.endswith("got a damaged row at index 3")


def test_a_damaged_free_list_is_found(kernels: Any) -> None:
    entries = np.array([[0, 1, 2, 99], [-1] * 4], np.int32)
    changed = {"side_entries": entries, "terminated": np.ones(1, bool)}
    said = refusal(kernels, "replay_extend", changed)
    assert said == "side_entries must list the free side frames, got other numbers"


@pytest.mark.parametrize(
    ("call", "name", "source"),
    [
        ("replay_extend", "counters", "cursors"),
        ("replay_extend", "ring", "observations"),
        ("replay_extend", "changes", "env_ids"),
        ("replay_flush", "side", "ring"),
        ("replay_draw", "state", "counters"),
        ("replay_draw", "indices", "cursors"),
        ("replay_gather", "rewards", "n_steps"),
        ("replay_gather", "next_observations", "observations"),
        ("replay_gather", "observations", "side"),
    ],
)
def test_shared_memory_is_refused(kernels: Any, call: str, name: str, source: str) -> None:
    arguments = CALLS[call][0]()
    memory = np.zeros(256, np.uint8)
    for shared in (name, source):
        array = arguments[shared]
        arguments[shared] = memory[: array.nbytes].view(array.dtype).reshape(array.shape)
    if "counters" in arguments:
        arguments["counters"][2] = 0
    with pytest.raises(ValueError, match="must not share memory with"):
        getattr(kernels, call)(**arguments)
