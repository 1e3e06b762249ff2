"""Warnings of other packages come through once, without escape codes, by the filters that the user has."""

import itertools
import warnings

import pytest

from tensor_optix.core.plain_warnings import plain_warnings, quiet_making

_numbers = itertools.count()


def new(text="of a package"):
    """Return a text that was not said before in this process."""
    return f"{text} {next(_numbers)}"


def said(text, category=UserWarning, contexts=(quiet_making, quiet_making)):
    """Return what comes through of a warning that is given twice in each context."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for context in contexts:
            with context():
                for _ in range(2):
                    warnings.warn(text, category, stacklevel=1)
    return [(each.category, str(each.message)) for each in caught]


@pytest.mark.parametrize("category", [UserWarning, DeprecationWarning])
def test_each_distinct_warning_comes_once_in_a_process_without_escape_codes(category):
    one, other = new(), new()
    assert said(f"\x1b[33mWARN: {one}\x1b[0m", category) == [(category, f"WARN: {one}")]
    assert said(f"\x1b[33mWARN: {one}\x1b[0m", category) == []
    assert said(other, category) == [(category, other)]


def test_a_context_in_another_says_it_too():
    text = new()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with quiet_making(), quiet_making():
            warnings.warn(text, UserWarning, stacklevel=1)
    assert [str(each.message) for each in caught] == [text]


def test_outside_warnings_are_what_they_were():
    text = f"\x1b[33m{new()}\x1b[0m"
    before = warnings.showwarning
    assert len(said(text)) == 1
    assert warnings.showwarning is before
    with pytest.warns(UserWarning, match=r"\x1b\[33mof a package"):
        warnings.warn(text, UserWarning, stacklevel=1)


def test_the_users_filters_hold():
    with quiet_making(), pytest.raises(UserWarning, match="as an error"):
        warnings.warn(new("as an error"), UserWarning, stacklevel=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with quiet_making():
            warnings.warn(text := new(), UserWarning, stacklevel=1)
    assert said(text) == [(UserWarning, text)], "what was ignored was not said"


def test_what_only_makers_of_packages_can_act_upon_stays_away():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with quiet_making():
            warnings.warn("WARN: Box low's precision lowered by casting", UserWarning, stacklevel=1)
            warnings.warn(
                "builtin type X has no __module__ attribute", DeprecationWarning, stacklevel=1
            )


def test_errors_come_as_often_as_they_happen():
    text = new()
    both = (plain_warnings, plain_warnings)
    assert said(f"\x1b[31m{text}\x1b[0m", contexts=both) == [(UserWarning, text)] * 4
