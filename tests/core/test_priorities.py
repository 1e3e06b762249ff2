"""The priorities of a replay, and the sum tree that they are drawn from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tensor_optix.core.replay.priorities import Priorities

ALPHA, EPS = 0.6, 0.01


def rows(*indices: int) -> np.ndarray:
    return np.array(indices, np.int64)


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def draw(priorities: Priorities, count: int = 64, beta: float = 0.4) -> tuple:
    indices, weights = np.zeros(count, np.int64), np.zeros(count, np.float32)
    priorities.sample(count, 1, beta, np.array([7], np.uint64), indices, weights)
    return indices, weights


def num_in(priorities: Priorities) -> int:
    return int(np.count_nonzero(priorities.leaves))


@pytest.mark.parametrize("size", [1, 16, 17, 256, 257, 4096, 4097, 1_000_000])
def test_a_tree_of_any_size_sums_and_draws_its_leaves(size: int) -> None:
    priorities = Priorities(size, alpha=1.0, eps=0.0)
    assert (len(priorities.leaves), priorities.nodes[-1, -1], num_in(priorities)) == (size, 0.0, 0)
    priorities.insert(np.arange(size))
    assert (priorities.nodes[-1, -1], num_in(priorities)) == (size, size)
    priorities.update(np.arange(size), np.full(size, 0.5, np.float32))
    priorities.update(rows(size - 1), floats(size))
    assert priorities.nodes[-1, -1] == size * 1.5 - 0.5
    assert (draw(priorities)[0] == size - 1).sum() >= 40


def test_a_cache_line_of_leaves_begins_where_one_of_memory_does() -> None:
    for size in (1, 1000):
        priorities = Priorities(size)
        for array in (priorities.leaves, priorities.nodes, priorities.raw):
            assert array.ctypes.data % 64 == 0


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, r"state must hold 'raw', got \[\]"),
        ({"raw": np.zeros(2)}, r"'raw' must have shape \(3,\), got \(2,\)"),
        ({"raw": np.array([0, np.nan, 1])}, "'raw' must be finite and not negative, got nan"),
        ({"raw": np.array([0, -1, 1])}, "'raw' must be finite and not negative, got -1.0"),
    ],
)
def test_priorities_that_do_not_fit_are_refused_and_nothing_changes(
    state: dict, message: str
) -> None:
    priorities = Priorities(3, alpha=1.0, eps=0.0)
    priorities.insert(rows(1))
    priorities.update(rows(1), floats(2.0))
    with pytest.raises(ValueError, match=message):
        priorities.load_state_dict(state)
    assert (priorities.leaves.tolist(), priorities.nodes[-1, -1]) == ([0.0, 2.0, 0.0], 2.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "size must be at least 1, got 0"),
        ((5, 1.5), r"alpha must be in \[0, 1\], got 1.5"),
        ((5, 0.5, -1.0), r"eps must be in \[0, 1\], got -1.0"),
        ((5, float("nan")), r"alpha must be in \[0, 1\], got nan"),
    ],
)
def test_a_setting_out_of_range_is_named(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Priorities(*arguments)


def test_a_new_row_enters_with_the_running_maximum_and_alpha_is_applied_once() -> None:
    priorities = Priorities(10, ALPHA, 0.0)
    priorities.insert(rows(0, 1))
    assert priorities.raw[:2].tolist() == [1.0, 1.0]
    priorities.update(rows(0), floats(-100.0))
    priorities.insert(rows(2))
    assert priorities.raw[[0, 2]].tolist() == [100.0, 100.0]
    np.testing.assert_allclose(priorities.leaves[[0, 2]], 100.0**ALPHA, rtol=1e-6)
    assert num_in(priorities) == 3


def test_setting_alpha_keeps_every_row() -> None:
    priorities = Priorities(10, ALPHA, 0.0)
    priorities.insert(rows(0, 1, 2))
    priorities.update(rows(0, 1), floats(4.0, 9.0))
    priorities.remove(rows(2))
    priorities.alpha = 0.5
    assert priorities.leaves[:3].tolist() == [2.0, 3.0, 0.0]
    priorities.alpha = 0.0
    assert priorities.leaves[:3].tolist() == [1.0, 1.0, 0.0]
    assert num_in(priorities) == 2
    with pytest.raises(ValueError, match="alpha must be in"):
        priorities.alpha = 2.0
    assert priorities.alpha == 0.0


def test_a_row_removed_between_sampling_and_updating_stays_out() -> None:
    priorities = Priorities(4)
    priorities.insert(rows(0, 1))
    priorities.remove(rows(1))
    assert priorities.update(rows(0, 1), floats(1.0, 50.0)) == 0
    assert num_in(priorities) == 1
    assert priorities.running_max[0] < 50
    assert set(draw(priorities)[0]) == {0}


def test_nothing_can_be_drawn_while_no_row_is_in() -> None:
    with pytest.raises(ValueError, match="must hold a positive value to be drawn"):
        draw(Priorities(4))


OPERATION = st.tuples(
    st.sampled_from(["insert", "remove", "update", "alpha"]),
    st.lists(
        st.tuples(st.integers(0, 59), st.floats(width=32) | st.just(0.0)), min_size=1, max_size=20
    ),
)


@settings(max_examples=100, deadline=None)
@given(operations=st.lists(OPERATION, max_size=10))
def test_any_sequence_of_operations_agrees_with_a_dictionary(operations: list) -> None:
    priorities, raw, alpha, top = Priorities(60, ALPHA, EPS), {}, ALPHA, 1.0
    for name, pairs in operations:
        indices, errors = rows(*[i for i, _ in pairs]), floats(*[e for _, e in pairs])
        if name == "insert":
            priorities.insert(indices)
            raw |= dict.fromkeys(indices.tolist(), top)
        elif name == "remove":
            priorities.remove(indices)
            raw = {i: p for i, p in raw.items() if i not in indices}
        elif name == "alpha":
            priorities.alpha = alpha = float(indices[0]) / 59
        else:
            refused = priorities.update(indices, errors)
            assert refused == (~np.isfinite(errors)).sum()
            for i, error in zip(indices.tolist(), errors, strict=True):
                if i in raw and np.isfinite(error):
                    raw[i] = float(np.abs(error) + np.float32(EPS))
                    top = max(top, raw[i])
    assert num_in(priorities) == len(raw)
    assert priorities.running_max[0] == top
    expected = np.zeros(60)
    expected[list(raw)] = np.array(list(raw.values())) ** alpha
    np.testing.assert_allclose(priorities.leaves, expected, rtol=2e-7)
    assert priorities.nodes[-1, -1] == pytest.approx(expected.sum(), rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), alpha=st.sampled_from([0.0, 0.6, 1.0]))
def test_a_state_dict_restores_every_draw_bit_for_bit(seed: int, alpha: float) -> None:
    rng = np.random.default_rng(seed)
    priorities, other = Priorities(500, alpha), Priorities(500, alpha)
    priorities.insert(rng.integers(0, 500, 300))
    priorities.update(np.arange(500), rng.standard_normal(500).astype(np.float32))
    priorities.remove(rng.integers(0, 500, 100))
    other.load_state_dict(priorities.state_dict())
    assert num_in(other) == num_in(priorities)
    assert other.running_max[0] == priorities.running_max[0]
    assert other.nodes.tobytes() == priorities.nodes.tobytes()
    for one, two in zip(draw(priorities), draw(other), strict=True):
        assert one.tobytes() == two.tobytes()


@pytest.mark.parametrize("name", ["raw", "rows_in", "running_max"])
def test_a_state_dict_that_does_not_fit_changes_nothing(name: str) -> None:
    priorities = Priorities(3, 1.0, 0.0)
    priorities.insert(rows(0))
    before = priorities.state_dict()
    state = {"raw": floats(5, 5, 5), "rows_in": np.ones(3, bool), "running_max": floats(9)}
    with pytest.raises(ValueError, match=f"'{name}' must have shape"):
        priorities.load_state_dict(state | {name: np.zeros(2)})
    with pytest.raises(ValueError, match=f"state must hold '{name}'"):
        priorities.load_state_dict({k: v for k, v in state.items() if k != name})
    after = priorities.state_dict()
    assert all(after[key].tobytes() == before[key].tobytes() for key in before)
    priorities.load_state_dict(state)
    assert priorities.leaves.tolist() == [5, 5, 5]
