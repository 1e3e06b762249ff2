"""The search space: what goes into the unit cube comes back out, inside the bounds."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensor_optix.core.search_space import SearchSpace

BOUNDS = {"learning_rate": (1e-5, 1e-1), "gamma": (0.9, 0.999), "n_epochs": (1, 20)}
PARAMS = {"learning_rate": 1e-3, "gamma": 0.99, "n_epochs": 10}
SPACE = SearchSpace(BOUNDS, log_params=["learning_rate"])


@given(st.floats(1e-5, 1e-1), st.floats(0.9, 0.999), st.integers(1, 20))
def test_parameters_inside_the_bounds_survive_the_round_trip(learning_rate, gamma, n_epochs):
    params = {"learning_rate": learning_rate, "gamma": gamma, "n_epochs": n_epochs}
    point = SPACE.to_unit(params)
    back = SPACE.from_unit(point, params)
    assert np.all((point >= 0) & (point <= 1))
    assert back["learning_rate"] == pytest.approx(learning_rate, rel=1e-12)
    assert back["gamma"] == pytest.approx(gamma, rel=1e-12)
    assert back["n_epochs"] == n_epochs
    assert type(back["n_epochs"]) is int


@given(
    st.tuples(st.floats(allow_nan=False), st.floats(allow_nan=False)).filter(
        lambda pair: pair[0] < pair[1] and math.isfinite(pair[1] - pair[0])
    ),
    st.floats(-0.5, 1.5),
    st.booleans(),
)
def test_any_point_lands_within_any_bounds(pair, coordinate, log):
    if log and pair[0] <= 0:
        return
    space = SearchSpace({"x": pair}, log_params=["x"] if log else [])
    value = space.from_unit(np.array([coordinate]), {"x": 0.5})["x"]
    assert pair[0] <= value <= pair[1]
    assert 0.0 <= space.to_unit({"x": value})[0] <= 1.0


def test_a_logarithmic_parameter_is_halfway_at_the_geometric_mean():
    assert SPACE.to_unit(PARAMS)[0] == pytest.approx(0.5)
    assert SPACE.from_unit(np.array([0.25, 0, 0]), PARAMS)["learning_rate"] == pytest.approx(1e-4)


def test_a_linear_parameter_is_halfway_at_the_mean():
    assert SPACE.to_unit({**PARAMS, "gamma": (0.9 + 0.999) / 2})[1] == pytest.approx(0.5)


def test_the_corners_are_the_bounds():
    low = SPACE.from_unit(np.zeros(3), PARAMS)
    high = SPACE.from_unit(np.ones(3), PARAMS)
    for name, (lowest, highest) in BOUNDS.items():
        assert low[name] == pytest.approx(lowest, rel=1e-14)
        assert high[name] == pytest.approx(highest, rel=1e-14)


def test_only_numbers_with_bounds_take_part_and_the_rest_passes_through():
    space = SearchSpace({"a": (0, 1), "flag": (0, 1), "name": (0, 1), "absent": (0, 1)})
    params = {"flag": True, "name": "adam", "a": 0.25, "free": 7, "np_flag": np.bool_(True)}
    assert tuple(space.bounds) == ("a", "flag", "name", "absent")
    assert space.names_in(params) == ("a",)
    assert space.to_unit(params).tolist() == [0.25]
    assert space.from_unit(np.array([0.75]), params) == {**params, "a": 0.75}
    assert space.from_unit(np.array([0.75]), params)["flag"] is True


def test_numpy_numbers_take_part_and_come_back_as_plain_ones():
    back = SPACE.from_unit(
        np.full(3, 0.5),
        {"learning_rate": np.float32(1e-3), "gamma": np.float64(0.99), "n_epochs": np.int32(3)},
    )
    assert [type(value) for value in back.values()] == [float, float, int]


def test_values_outside_are_clipped_into_the_bounds():
    params = {"learning_rate": -1.0, "gamma": math.inf, "n_epochs": 99, "other": 5}
    clipped = SPACE.clip(params)
    assert clipped == {"learning_rate": 1e-5, "gamma": 0.999, "n_epochs": 20, "other": 5}
    assert params["n_epochs"] == 99
    assert SPACE.to_unit({**PARAMS, "learning_rate": -1.0, "n_epochs": 99}).tolist()[::2] == [0, 1]


def test_a_whole_number_stays_inside_bounds_that_are_not_whole():
    space = SearchSpace({"k": (1.5, 3.5)})
    values = {space.from_unit(np.array([x]), {"k": 2})["k"] for x in np.linspace(0, 1, 11)}
    assert values == {2, 3}


@pytest.mark.parametrize(
    "pair", [(1, 1), (2, 1), (0, math.inf), (-math.inf, 0), (math.nan, 1), (-1.7e308, 1.7e308)]
)
def test_bounds_must_be_finite_and_ascending(pair):
    with pytest.raises(ValueError, match="bounds of 'x' must be two finite numbers"):
        SearchSpace({"x": pair})


@pytest.mark.parametrize("low", [0, -1])
def test_a_logarithmic_scale_needs_positive_bounds(low):
    with pytest.raises(ValueError, match="above 0 on a logarithmic scale"):
        SearchSpace({"x": (low, 1)}, log_params=["x"])


def test_a_logarithmic_name_without_bounds_is_ignored():
    assert SearchSpace({"x": (0, 1)}, log_params=["lr"]).log_params == frozenset()


def test_no_whole_number_within_the_bounds_is_an_error():
    with pytest.raises(ValueError, match="must hold a whole number"):
        SearchSpace({"k": (0.2, 0.8)}).from_unit(np.array([0.5]), {"k": 1})


@pytest.mark.parametrize("point", [np.zeros(2), np.array([0.5, math.nan, 0.5]), 0.5])
def test_a_point_that_does_not_fit_is_an_error(point):
    with pytest.raises(ValueError, match="point must be 3 numbers"):
        SPACE.from_unit(point, PARAMS)


def test_a_parameter_that_is_not_finite_is_an_error():
    with pytest.raises(ValueError, match="'gamma' must be finite, got nan"):
        SPACE.to_unit({**PARAMS, "gamma": math.nan})
    with pytest.raises(ValueError, match="'gamma' must be a number, got nan"):
        SPACE.clip({**PARAMS, "gamma": math.nan})


def test_the_space_does_not_follow_later_changes_of_the_given_bounds():
    bounds = {"x": (0.0, 1.0)}
    space = SearchSpace(bounds)
    bounds["x"] = (5.0, 6.0)
    space.bounds["x"] = (7.0, 8.0)
    assert space.bounds == {"x": (0.0, 1.0)}
