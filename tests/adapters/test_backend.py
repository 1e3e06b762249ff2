"""Counting updates: one that was left out counts for nothing but its number."""

from __future__ import annotations

import math

import pytest

from tensor_optix.adapters.backend import UpdateTally


def test_means_are_over_the_updates_made() -> None:
    tally = UpdateTally()
    tally.add_sums({"loss": 2.0, "skipped": 0.0})
    tally.add_sums({"loss": math.nan, "skipped": 1.0})
    tally.add_sums({"loss": 4.0, "skipped": 1.0}, 2)
    assert tally.means() == {"loss": 3.0, "skipped": 0.5}
    assert tally.take() == {"loss": 3.0, "n_updates": 2, "n_skipped_updates": 2}
    assert tally.take() == {"n_updates": 0, "n_skipped_updates": 0}


def test_means_of_loops_weigh_as_many_updates_as_were_made() -> None:
    tally = UpdateTally()
    tally.add({"loss": 1.0, "skipped": 0.25}, 4)
    tally.add({"loss": 5.0, "skipped": 0.0}, 1)
    tally.add({"loss": math.nan, "skipped": 1.0}, 3)
    assert tally.means() == {"loss": 2.0, "skipped": 0.5}


def test_where_no_update_was_made_there_is_no_mean() -> None:
    tally = UpdateTally()
    tally.add_sums({"loss": 1.0, "skipped": 1.0})
    assert tally.means() == pytest.approx({"loss": math.nan, "skipped": 1.0}, nan_ok=True)


def test_updates_that_are_never_left_out_have_no_share_of_it() -> None:
    tally = UpdateTally()
    tally.add_sums({"loss": 3.0}, 2)
    assert tally.means() == {"loss": 1.5}
