"""The names of figures, and when they are written."""

from __future__ import annotations

import pytest

from tensor_optix.core import callbacks as events
from tensor_optix.loggers.scalar_callback import SCALARS, ScalarCallback, scalars
from tests.loggers.reports import begin, finish, report, resume, windows


class Kept(ScalarCallback):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[object] = []

    def open(self) -> None:
        self.calls.append(("open", self.resumed_at))

    def write(self, row, steps):
        self.calls.append((steps, row))

    def tell(self, kind, text, steps):
        self.calls.append((kind, steps, text))

    def close(self) -> None:
        self.calls.append("close")


def test_a_row_has_the_names_of_the_table_and_only_numbers() -> None:
    row = scalars(report(1), 0.5, 30, {"learning_rate": 1e-3, "name": "x", "flag": True})
    assert row == {
        "rollout/ep_rew_mean": 11.0,
        "rollout/best": 20.0,
        "rollout/exploration_rate": 0.05,
        "time/total_timesteps": 200.0,
        "time/iterations": 2.0,
        "time/time_elapsed": 1.0,
        "time/fps": 200.0,
        "train/policy_gradient_loss": 0.25,
        "train/entropy_loss": -0.5,
        "train/approx_kl": 0.01,
        "train/explained_variance": 0.9,
        "train/n_updates": 30.0,
        "train/learning_rate": 1e-3,
        "hyperparams/learning_rate": 1e-3,
    }
    assert row.keys() - SCALARS.keys() == {"hyperparams/learning_rate"}


def test_what_is_not_known_is_left_out() -> None:
    row = scalars(report(0, score=None, best=None, diagnostics={}), 0.0, 0, {})
    assert row.keys() == {"time/total_timesteps", "time/iterations", "time/time_elapsed"}


def test_rows_and_decisions_come_in_order_and_bests_in_rows_only() -> None:
    made = Kept()
    begin(made)
    assert made.calls == []
    windows(made, 0, 2)
    made.on_event(events.Best(total_steps=200, score=11.0, rank=10.0))
    made.on_event(events.Rollback(total_steps=200, snapshot="a"))
    finish(made)
    opened, (first, _), (second, row), rollback, stop, closed = made.calls
    assert (opened, first, second, closed) == (("open", None), 100, 200, "close")
    assert row["train/n_updates"] == 20.0
    assert row["hyperparams/n_epochs"] == 4.0
    assert row["time/fps"] == 200.0
    assert rollback == ("rollback", 200, '{"snapshot": "a"}')
    assert stop[0] == "stop"


def test_a_run_of_nothing_opens_nothing() -> None:
    made = Kept()
    begin(made)
    made.on_loop_stop()
    assert made.calls == []


def test_a_resumed_run_counts_on_and_says_from_where() -> None:
    before, after = Kept(), Kept()
    begin(before)
    windows(before, 0, 2)
    resume(after, before.state_dict(), 2)
    windows(after, 2, 3)
    opened, resumed, (steps, row) = after.calls
    assert opened == ("open", 200)
    assert resumed[:2] == ("resumed", 200)
    assert steps == 300
    assert row["train/n_updates"] == 30.0
    assert row["time/fps"] == pytest.approx(200.0)


def test_a_second_run_opens_again() -> None:
    made = Kept()
    for first, last in ((0, 2), (2, 3)):
        begin(made)
        windows(made, first, last)
        finish(made)
    assert made.calls.count(("open", None)) == made.calls.count("close") == 2
    rows = [one[1] for one in made.calls if isinstance(one[0], int)]
    assert [one["time/fps"] for one in rows] == [200.0] * 3
    assert [one["train/n_updates"] for one in rows] == [10.0, 20.0, 30.0]
