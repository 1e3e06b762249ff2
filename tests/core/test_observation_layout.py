"""Where the parts of an observation lie in its row, against Gymnasium's own flattening."""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import (
    Box,
    Dict,
    Discrete,
    Graph,
    MultiBinary,
    MultiDiscrete,
    OneOf,
    Sequence,
    Space,
    Text,
    Tuple,
)
from gymnasium.spaces.utils import flatten
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array

from tensor_optix.core.observation_layout import (
    Encoding,
    FlatSpace,
    MaskedSpace,
    laid_out,
    layout_of,
    seen_space,
)

VECTOR = Box(-1, 1, (2,), np.float32)
DTYPES = (np.float32, np.float64, np.float16, np.uint8, np.int8, np.int64, np.bool_)


def random_shape(rng: np.random.Generator) -> tuple[int, ...]:
    return tuple(int(size) for size in rng.integers(1, 4, rng.integers(0, 4)))


def random_leaf(rng: np.random.Generator) -> Space[Any]:
    kind = rng.integers(4)
    if kind == 0:
        return Discrete(int(rng.integers(1, 6)), start=int(rng.integers(-3, 4)))
    if kind == 1:
        counts = rng.integers(1, 5, random_shape(rng) or (2,))
        return MultiDiscrete(counts, start=rng.integers(-3, 4, counts.shape))
    if kind == 2:
        return MultiBinary(random_shape(rng) or 3)
    dtype = DTYPES[rng.integers(len(DTYPES))]
    low, high = (0, 1) if dtype in (np.uint8, np.bool_) else (-5, 5)
    return Box(low, high, random_shape(rng), dtype)  # type: ignore[arg-type]


def random_space(rng: np.random.Generator, depth: int = 0) -> Space[Any]:
    if depth and (depth == 3 or rng.random() < 0.6):
        return random_leaf(rng)
    parts = [random_space(rng, depth + 1) for _ in range(rng.integers(1, 4))]
    if rng.random() < 0.5:
        return Tuple(parts)
    return Dict({f"part{rng.integers(100)}-{n}": part for n, part in enumerate(parts)})


def batch(space: Space[Any], elements: list[Any]) -> Any:
    return concatenate(space, elements, create_empty_array(space, len(elements)))


@pytest.mark.parametrize("seed", range(60))
def test_rows_are_what_gymnasium_flattens_to(seed):
    space = random_space(np.random.default_rng(seed))
    space.seed(seed)
    elements = [space.sample() for _ in range(4)]
    flat = laid_out(space)
    expected = np.stack([flatten(space, one) for one in elements]).astype(np.float32)
    rows = np.stack([flat.flattened(one) for one in elements])
    np.testing.assert_array_equal(rows.astype(np.float32), expected)
    assert rows.dtype == flat.dtype
    assert all(row in flat for row in rows)
    together = flat.flattened_batch(batch(space, elements))
    np.testing.assert_array_equal(together, rows)
    assert together.dtype == rows.dtype


@pytest.mark.parametrize("seed", range(20))
def test_columns_are_named_and_have_no_gaps(seed):
    space = random_space(np.random.default_rng(seed))
    layout = layout_of(space)
    ends = [field.columns.stop for field in layout.fields]
    assert [field.first for field in layout.fields] == [0, *ends[:-1]]
    assert layout.size == ends[-1]
    for field in layout.fields:
        part: Any = space
        for key in field.path:
            part = part[key]
        assert part == field.space
        assert field.name == "/".join(map(str, field.path))


def test_the_fields_of_an_example():
    space = Dict(
        camera=Box(0, 255, (4, 4, 3), np.uint8),
        goal=Tuple((Discrete(3, start=-1), MultiDiscrete([[2, 3], [1, 2]]))),
        speed=Box(-1, 1, (), np.float64),
    )
    assert [
        (field.name, field.first, field.shape, field.encoding) for field in layout_of(space).fields
    ] == [
        ("camera", 0, (4, 4, 3), Encoding.IMAGE),
        ("goal/0", 48, (3,), Encoding.ONE_HOT),
        ("goal/1", 51, (8,), Encoding.ONE_HOT),
        ("speed", 59, (), Encoding.VALUES),
    ]


@pytest.mark.parametrize(
    "space", [VECTOR, Discrete(3), MultiDiscrete([2, 3]), MultiBinary(3)], ids=str
)
def test_a_space_of_arrays_is_one_field_and_stays_as_it_is(space):
    (field,) = layout_of(space).fields
    assert (field.name, field.path, field.first) == ("observation", (), 0)
    assert seen_space(space) is space


def test_keys_with_slashes_and_empty_keys_are_not_confused():
    space = Dict(
        {"a": Dict({"b": Discrete(2)}), "a/b": Discrete(3), "": VECTOR, "observation": Discrete(2)}
    )
    observation = {"a": {"b": 1}, "a/b": 2, "": np.array([0.25, 0.5], np.float32), "observation": 0}
    row = laid_out(space).flattened(observation)
    assert row.tolist() == flatten(space, observation).tolist()
    assert {field.path for field in layout_of(space).fields} == {
        ("a", "b"),
        ("a/b",),
        ("",),
        ("observation",),
    }


def test_the_keys_come_in_the_order_of_the_space():
    unsorted = Dict({"b": Discrete(2), "a": Discrete(3)})
    ordered = Dict(OrderedDict(b=Discrete(2), a=Discrete(3)))
    for space in (unsorted, ordered):
        names = [field.name for field in layout_of(space).fields]
        assert names == list(space.spaces)
        given = {"a": 2, "b": 1}
        assert laid_out(space).flattened(given).tolist() == flatten(space, given).tolist()
    assert [field.name for field in layout_of(ordered).fields] == ["b", "a"]


@pytest.mark.parametrize(
    "part",
    [Text(3), Sequence(VECTOR), Graph(VECTOR, None), OneOf((VECTOR, Discrete(2))), Box(0, 1, (0,))],
    ids=lambda space: type(space).__name__,
)
def test_parts_that_are_no_numbers_of_a_fixed_count_are_left_out(part):
    space = Dict(vector=VECTOR, inner=Tuple((part, Discrete(2))))
    layout = layout_of(space)
    assert layout.left_out == ("inner/0",)
    seen = seen_space(space)
    assert seen.shape == (4,)
    assert layout_of(seen) == layout
    row = laid_out(space).flattened({"vector": np.ones(2, np.float32), "inner": ("whatever", 1)})
    assert sorted(row.tolist()) == [0, 1, 1, 1]
    with pytest.raises(ValueError, match=r"no part of the observation space .*leave out only"):
        seen_space(Dict(only=part))


def test_a_mask_alone_is_nothing_to_see():
    with pytest.raises(ValueError, match="no part of the observation space"):
        seen_space(Dict(action_mask=MultiBinary(3)))


def test_rows_are_bytes_where_every_part_fits_and_floats_else():
    assert laid_out(Dict(a=Box(0, 255, (2,), np.uint8), b=Discrete(2))).dtype == np.uint8
    assert laid_out(Tuple((MultiBinary(2), Box(0, 1, (1,), np.bool_)))).dtype == np.uint8
    assert laid_out(Dict(a=Box(0, 255, (2,), np.uint8), b=VECTOR)).dtype == np.float32
    assert laid_out(Dict(a=Box(-3, 3, (2,), np.int8))).dtype == np.float32


def test_bounds_are_those_of_the_parts():
    space = Dict(
        a=Box(-2, 7, (2,), np.int64), b=Discrete(2, start=5), c=Box(-1e300, 1e300, (1,), np.float64)
    )
    flat = laid_out(space)
    assert flat.low.tolist() == [-2, -2, 0, 0, -np.inf]
    assert flat.high.tolist() == [7, 7, 1, 1, np.inf]


WRONG = {
    "missing": ({"a": [0.0, 0.0]}, ValueError, r"got none for b/0: 'b' is not in \['a'\]"),
    "short": ({"a": [0.0, 0.0], "b": ()}, ValueError, "got none for b/0: 0 is not in a tuple"),
    "shape": ({"a": [0.0], "b": (0,)}, ValueError, r"\(part a\) must .* shape \(2,\).* got \(1,\)"),
    "none": ({"a": None, "b": (0,)}, TypeError, r"\(part a\) must return observations of float32"),
    "words": ({"a": "ab", "b": (0,)}, TypeError, "got the str 'ab'"),
    "float": ({"a": [0, 0], "b": (1.0,)}, TypeError, r"\(part b/0\) must .* int64, .*float 1.0"),
    "outside": ({"a": [0, 0], "b": (3,)}, ValueError, r"\(part b/0\) must .*Discrete\(3\), got 3"),
    "large": (
        {"a": [0, 1e39], "b": (0,)},
        ValueError,
        r"\(part a\) must .*within float32.* 1e\+39",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_does_not_fit_is_refused_by_the_name_of_its_part(kind):
    flat = laid_out(Dict(a=VECTOR, b=Tuple((Discrete(3),))))
    observation, error, message = WRONG[kind]
    with pytest.raises(error, match=f"^environment Some: step .*{message}"):
        flat.flattened(observation, "environment Some: step")


def test_the_place_of_a_number_outside_is_named_in_a_batch():
    flat = laid_out(Dict(a=MultiDiscrete([3, 3]), b=MultiBinary((2, 2))))
    fine = {"a": np.zeros((2, 2), int), "b": np.zeros((2, 2, 2), np.int8)}
    assert flat.flattened_batch(fine).shape == (2, 10)
    for key, place, said in (
        ("a", (1, 0), r"got 3 in element 0 from environment 1"),
        ("b", (0, 1, 0), r"got 3 in element 1, 0 from environment 0"),
    ):
        wrong = copy.deepcopy(fine)
        wrong[key][place] = 3
        with pytest.raises(ValueError, match=rf"\(part {key}\) must return .*{said}: correct them"):
            flat.flattened_batch(wrong)


def test_numbers_that_overflow_in_the_row_are_refused():
    flat = laid_out(Dict(a=Box(-np.inf, np.inf, (2,), np.float64)))
    with pytest.raises(
        ValueError, match=r"\(part a\) must .*float32, .*numbers from 0.0 to 1e\+39"
    ):
        flat.flattened({"a": np.array([0, 1e39])})
    row = flat.flattened({"a": np.array([np.inf, np.nan])})
    assert np.isinf(row[0])
    assert np.isnan(row[1])


def test_leaves_of_several_lengths_are_refused():
    flat = laid_out(Dict(a=VECTOR, b=Discrete(2)))
    with pytest.raises(ValueError, match=r"\(part b\) must .*shape \(3,\).*got \(2,\)"):
        flat.flattened_batch({"a": np.zeros((3, 2), np.float32), "b": np.zeros(2, int)})
    with pytest.raises(ValueError, match=r"\(part a\) must .*shape \(4, 2\).*got \(3, 2\)"):
        flat.flattened_batch({"a": np.zeros((3, 2), np.float32), "b": np.zeros(3, int)}, count=4)
    none = {"a": np.zeros((0, 2), np.float32), "b": np.zeros(0, int)}
    assert flat.flattened_batch(none).shape == (0, 4)


MASKS = [
    MultiBinary(4),
    MultiBinary((2, 2)),
    Box(0, 1, (4,), np.int8),
    Box(0, 1, (2, 2), np.float32),
]


@pytest.mark.parametrize("mask", MASKS, ids=str)
def test_a_mask_of_the_actions_comes_last(mask):
    space = Dict({"action_mask": mask, "z": VECTOR, "b": Discrete(2)})
    layout = layout_of(space)
    assert [field.name for field in layout.fields] == ["b", "z", "action_mask"]
    assert layout.mask is not None
    assert layout.mask.columns == slice(4, 8)
    seen = seen_space(space)
    assert isinstance(seen, MaskedSpace)
    assert (seen.mask_size, seen.shape, seen.dtype) == (4, (8,), np.float32)
    assert [field.name for field in layout_of(seen).fields] == ["b", "z", "action_mask"]
    allowed = np.array([1, 0, 0, 1]).reshape(mask.shape).astype(mask.dtype)
    observation = {"action_mask": allowed, "z": np.array([0.5, -0.5], np.float32), "b": 1}
    row = laid_out(space).flattened(observation)
    assert row.tolist() == [0, 1, 0.5, -0.5, 1, 0, 0, 1]
    observations, masks = seen.split(row[None])
    assert observations.tolist() == [[0, 1, 0.5, -0.5]]
    assert masks.tolist() == [[True, False, False, True]]
    assert row in seen


def test_what_is_no_mask_is_a_part_like_others():
    for part in (Discrete(3), Box(0, 1, (), np.float32)):
        assert layout_of(Dict(action_mask=part, a=VECTOR)).mask is None
    assert layout_of(Dict(inner=Dict(action_mask=MultiBinary(2)))).mask is None
    shared = MultiBinary(3)
    layout = layout_of(Dict(action_mask=shared, other=shared))
    assert [field.encoding for field in layout.fields] == [Encoding.VALUES, Encoding.MASK]


@pytest.mark.parametrize(
    "plain",
    [
        VECTOR,
        Box(0, 255, (5, 4, 3), np.uint8),
        Box(-9, 9, (2, 2), np.int64),
        Discrete(7, start=-2),
        MultiDiscrete([[2, 3], [4, 5]]),
        MultiBinary((2, 3)),
        laid_out(Dict(a=VECTOR, b=Discrete(3))),
    ],
    ids=str,
)
def test_masks_that_are_joined_are_split_again(plain):
    space = MaskedSpace(plain, 3)
    plain.seed(0)
    observations = np.stack([plain.sample() for _ in range(4)])
    masks = np.array([[1, 0, 1], [0, 0, 1], [0, 0, 0], [1, 1, 1]], bool)
    rows = space.joined(observations, masks)
    assert (rows.shape, rows.dtype) == ((4, *space.shape), plain.dtype)
    assert all(row in space for row in rows)
    back, allowed = space.split(rows)
    np.testing.assert_array_equal(back, observations)
    assert back.dtype == plain.dtype
    assert allowed.dtype == bool
    assert allowed[[0, 1, 3]].tolist() == masks[[0, 1, 3]].tolist()
    assert allowed[2].all()


def test_a_mask_of_any_numbers_is_one_of_zeros_and_ones():
    space = MaskedSpace(Box(0, 255, (1,), np.uint8), 2)
    rows = space.joined(np.array([[200]], np.uint8), np.array([[0.25, 0.0]]))
    assert rows.tolist() == [[200, 1, 0]]


SPACES = [
    laid_out(Dict(a=VECTOR, b=Discrete(3, start=1), c=MultiDiscrete([2, 2]))),
    seen_space(Dict(a=VECTOR, action_mask=MultiBinary(2))),
    MaskedSpace(Discrete(3), 2),
]


@pytest.mark.parametrize("space", SPACES, ids=lambda space: type(space).__name__)
@pytest.mark.parametrize(
    "copied", [copy.deepcopy, copy.copy, lambda space: pickle.loads(pickle.dumps(space))]
)
def test_spaces_of_rows_can_be_copied_and_sent_to_other_processes(space, copied):
    other = copied(space)
    assert type(other) is type(space)
    assert other == space
    assert layout_of(other) == layout_of(space)
    if isinstance(space, FlatSpace):
        given = {"a": np.ones(2, np.float32), "b": 2, "c": [0, 1]}
        assert other.flattened(given).tolist() == space.flattened(given).tolist()
    assert batch_space(space, 3).shape == (3, *space.shape)


def test_spaces_of_rows_are_equal_where_their_columns_are():
    flat = laid_out(Dict(a=VECTOR))
    alike = [laid_out(Dict(b=VECTOR)), laid_out(Tuple((VECTOR,))), VECTOR]
    assert all(flat != other and other != flat for other in alike)
    assert flat == laid_out(Dict(a=Box(-1, 1, (2,), np.float32)))
    masked = MaskedSpace(flat, 2)
    assert masked == MaskedSpace(laid_out(Dict(a=VECTOR)), 2)
    other_plain = MaskedSpace(alike[0], 2)
    other_size = MaskedSpace(laid_out(Dict(a=Box(-1, 1, (3,), np.float32))), 1)
    assert masked not in (other_plain, other_size)
    assert masked != Box(masked.low, masked.high)
    assert masked != flat
