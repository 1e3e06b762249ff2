"""Argument checks: what passes, and what the errors say."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from tensor_optix.core import argument_checks as checks


@pytest.mark.parametrize(
    ("check", "value", "result"),
    [
        (checks.finite_number, np.float32(0.5), 0.5),
        (checks.integer, np.int64(3), 3),
        (checks.whole_number, 2.0, 2),
        (checks.whole_number, np.int32(1), 1),
        (checks.in_unit_interval, 1, 1.0),
        (checks.share, 1, 1.0),
        (checks.positive, 1e-9, 1e-9),
        (checks.not_negative, 0, 0),
    ],
)
def test_what_fits_comes_back(check, value, result):
    assert check("x", value) == result


@pytest.mark.parametrize(
    ("check", "value", "message"),
    [
        (checks.finite_number, math.nan, "x must be a finite number, got nan"),
        (checks.finite_number, True, "x must be a finite number, got True"),
        (checks.finite_number, "1", "x must be a finite number, got '1'"),
        (checks.integer, 2.0, "x must be an integer, got 2.0"),
        (checks.whole_number, 0, "x must be a whole number of at least 1, got 0"),
        (checks.whole_number, 1.5, "x must be a whole number of at least 1, got 1.5"),
        (checks.whole_number, math.inf, "x must be a whole number of at least 1, got inf"),
        (checks.whole_number, math.nan, "x must be a whole number of at least 1, got nan"),
        (checks.whole_number, True, "x must be a whole number of at least 1, got True"),
        (checks.in_unit_interval, 1.5, "x must be in [0, 1], got 1.5"),
        (checks.in_unit_interval, math.nan, "x must be in [0, 1], got nan"),
        (checks.share, 0.0, "x must be in (0, 1], got 0.0"),
        (checks.share, math.nan, "x must be in (0, 1], got nan"),
        (checks.positive, 0.0, "x must be positive, got 0.0"),
        (checks.positive, math.inf, "x must be positive, got inf"),
        (checks.not_negative, -1, "x must not be negative, got -1"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(check, value, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check("x", value)


def test_ranges_are_named():
    with pytest.raises(ValueError, match=r"^x must be a whole number in \[1, 9\], got 10$"):
        checks.whole_number("x", 10, 1, 9)
    with pytest.raises(ValueError, match=r"^x must be at least 3, got 2$"):
        checks.at_least("x", 2, 3)
    with pytest.raises(ValueError, match=r"^x must be at least 3, got nan$"):
        checks.at_least("x", math.nan, 3)
    assert checks.above("x", 1.5, 1) == 1.5
    with pytest.raises(ValueError, match=r"^x must be above 1, got 1$"):
        checks.above("x", 1, 1)
    with pytest.raises(ValueError, match=r"^x must be above 0, got inf$"):
        checks.above("x", math.inf, 0)


def test_kinds_are_named():
    assert checks.instance_of("x", 1, int) == 1
    with pytest.raises(TypeError, match=r"^x must be a int, got str$"):
        checks.instance_of("x", "1", int)
    with pytest.raises(
        TypeError, match=r"^x must be a dict, got the class list; give an instance$"
    ):
        checks.instance_of("x", list, dict)


def test_what_lacks_a_method_is_named_and_a_class_is_no_object_with_it():
    assert checks.with_method("x", "text", "upper") == "text"
    with pytest.raises(TypeError, match=r"^x must be an object with the method upper, got int$"):
        checks.with_method("x", 1, "upper")
    with pytest.raises(TypeError, match=r"method upper, got the class str; give an instance$"):
        checks.with_method("x", str, "upper")


def test_the_closest_name_is_found_whatever_its_case():
    assert checks.closest("TORHC", ["torch", "TensorFlow"]) == "torch"
    assert checks.closest("tensorflwo", ["torch", "TensorFlow"]) == "TensorFlow"
    assert checks.closest("jax", ["torch", "TensorFlow"]) is None


def test_what_cannot_be_called_is_no_function():
    assert checks.function("x", len) is len
    with pytest.raises(TypeError, match=r"^x must be a function, got None$"):
        checks.function("x", None)
