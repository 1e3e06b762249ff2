"""The sum tree and the priorities as a replay uses them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tensor_optix.core.replay.priorities import Priorities, SumTree

ALPHA, EPS = 0.6, 0.01


def rows(*indices: int) -> np.ndarray:
    return np.array(indices, np.int64)


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def draw(priorities: Priorities | SumTree, count: int = 64, beta: float = 0.4) -> tuple:
    indices, weights = np.zeros(count, np.int64), np.zeros(count, np.float32)
    priorities.sample(count, 1, beta, np.array([7], np.uint64), indices, weights)
    return indices, weights


@pytest.mark.parametrize("size", [1, 16, 17, 256, 257, 4096, 4097, 1_000_000])
def test_a_tree_of_any_size_sums_and_draws_its_leaves(size: int) -> None:
    tree = SumTree(size)
    assert (len(tree), tree.total, tree.num_positive) == (size, 0.0, 0)
    tree.fill(np.arange(size), 0.5)
    assert (tree.total, tree.num_positive) == (size * 0.5, size)
    tree.set(rows(size - 1), floats(size))
    assert tree.total == size * 1.5 - 0.5
    assert (draw(tree)[0] == size - 1).sum() >= 40


def test_a_cache_line_of_leaves_begins_where_one_of_memory_does() -> None:
    for size in (1, 1000):
        tree = SumTree(size)
        assert (tree.leaves.ctypes.data % 64, tree.nodes.ctypes.data % 64) == (0, 0)


def test_leaves_written_directly_count_after_a_rebuild() -> None:
    tree = SumTree(40)
    tree.leaves[30:] = 2
    tree.rebuild()
    assert (tree.total, tree.num_positive) == (20.0, 10)


def test_a_tree_is_restored_from_its_leaves_alone() -> None:
    tree, other = SumTree(300), SumTree(300)
    tree.set(np.arange(300), np.random.default_rng(0).random(300).astype(np.float32))
    state = tree.state_dict()
    tree.fill(rows(0), 0.0)
    other.load_state_dict(state)
    assert other.leaves[0] > 0
    tree.load_state_dict(state)
    assert other.nodes.tobytes() == tree.nodes.tobytes()
    assert other.num_positive == tree.num_positive == 300


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, r"state must hold 'leaves', got \[\]"),
        ({"leaves": np.zeros(2)}, r"'leaves' must have shape \(3,\), got \(2,\)"),
        ({"leaves": np.array([0, np.nan, 1])}, "'leaves' must be finite and not negative, got nan"),
        ({"leaves": np.array([0, -1, 1])}, "'leaves' must be finite and not negative, got -1.0"),
    ],
)
def test_leaves_that_do_not_fit_are_refused_and_nothing_changes(state: dict, message: str) -> None:
    tree = SumTree(3)
    tree.fill(rows(1), 2.0)
    with pytest.raises(ValueError, match=message):
        tree.load_state_dict(state)
    assert (tree.leaves.tolist(), tree.total) == ([0.0, 2.0, 0.0], 2.0)


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
    np.testing.assert_allclose(priorities.tree.leaves[[0, 2]], 100.0**ALPHA, rtol=1e-6)
    assert priorities.num_rows == 3


def test_setting_alpha_keeps_every_row() -> None:
    priorities = Priorities(10, ALPHA, 0.0)
    priorities.insert(rows(0, 1, 2))
    priorities.update(rows(0, 1), floats(4.0, 9.0))
    priorities.remove(rows(2))
    priorities.alpha = 0.5
    assert priorities.tree.leaves[:3].tolist() == [2.0, 3.0, 0.0]
    priorities.alpha = 0.0
    assert priorities.tree.leaves[:3].tolist() == [1.0, 1.0, 0.0]
    assert priorities.num_rows == 2
    with pytest.raises(ValueError, match="alpha must be in"):
        priorities.alpha = 2.0
    assert priorities.alpha == 0.0


def test_a_row_removed_between_sampling_and_updating_stays_out() -> None:
    priorities = Priorities(4)
    priorities.insert(rows(0, 1))
    priorities.remove(rows(1))
    assert priorities.update(rows(0, 1), floats(1.0, 50.0)) == 0
    assert priorities.num_rows == 1
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
    assert priorities.num_rows == len(raw)
    assert priorities.running_max[0] == top
    expected = np.zeros(60)
    expected[list(raw)] = np.array(list(raw.values())) ** alpha
    np.testing.assert_allclose(priorities.tree.leaves, expected, rtol=2e-7)
    assert priorities.tree.total == pytest.approx(expected.sum(), rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), alpha=st.sampled_from([0.0, 0.6, 1.0]))
def test_a_state_dict_restores_every_draw_bit_for_bit(seed: int, alpha: float) -> None:
    rng = np.random.default_rng(seed)
    priorities, other = Priorities(500, alpha), Priorities(500, alpha)
    priorities.insert(rng.integers(0, 500, 300))
    priorities.update(np.arange(500), rng.standard_normal(500).astype(np.float32))
    priorities.remove(rng.integers(0, 500, 100))
    other.load_state_dict(priorities.state_dict())
    assert other.num_rows == priorities.num_rows
    assert other.running_max[0] == priorities.running_max[0]
    assert other.tree.nodes.tobytes() == priorities.tree.nodes.tobytes()
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
    assert priorities.tree.leaves.tolist() == [5, 5, 5]
