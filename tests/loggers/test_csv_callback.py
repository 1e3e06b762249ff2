"""A run as a table."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from tensor_optix.loggers.csv_callback import CSVCallback
from tests.loggers.reports import begin, finish, report, resume, windows

if TYPE_CHECKING:
    from pathlib import Path


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_each_window_is_a_line(tmp_path: Path) -> None:
    made = CSVCallback(tmp_path / "new" / "progress.csv")
    begin(made)
    windows(made, 0, 3)
    finish(made)
    table = lines(tmp_path / "new" / "progress.csv")
    assert [one["time/total_timesteps"] for one in table] == ["100.0", "200.0", "300.0"]
    assert [one["rollout/ep_rew_mean"] for one in table] == ["10.0", "11.0", "12.0"]
    # Known from the second window on.
    assert [one["hyperparams/n_epochs"] for one in table] == ["", "4.0", "4.0"]
    assert [one.name for one in (tmp_path / "new").iterdir()] == ["progress.csv"]


def test_a_figure_may_be_missing(tmp_path: Path) -> None:
    made = CSVCallback(tmp_path / "progress.csv")
    begin(made)
    made.on_window(report(0))
    made.on_window(report(1, score=None))
    finish(made)
    assert [one["rollout/ep_rew_mean"] for one in lines(tmp_path / "progress.csv")] == ["10.0", ""]


def test_a_new_run_begins_the_file_anew(tmp_path: Path) -> None:
    for count in (3, 1):
        made = CSVCallback(tmp_path / "progress.csv")
        begin(made)
        windows(made, 0, count)
        finish(made)
    assert len(lines(tmp_path / "progress.csv")) == 1


def test_a_second_run_goes_on_in_the_file(tmp_path: Path) -> None:
    made = CSVCallback(tmp_path / "progress.csv")
    for first, last in ((0, 2), (2, 3)):
        begin(made)
        windows(made, first, last)
        finish(made)
    steps = [float(one["time/total_timesteps"]) for one in lines(tmp_path / "progress.csv")]
    assert steps == [100, 200, 300]


def test_a_resumed_run_has_no_line_twice(tmp_path: Path) -> None:
    killed = CSVCallback(tmp_path / "progress.csv")
    begin(killed)
    windows(killed, 0, 2)
    state = killed.state_dict()
    windows(killed, 2, 4)
    made = CSVCallback(tmp_path / "progress.csv")
    resume(made, state, 2)
    windows(made, 2, 5)
    finish(made)
    table = lines(tmp_path / "progress.csv")
    assert [float(one["time/total_timesteps"]) for one in table] == [100, 200, 300, 400, 500]
    assert [float(one["train/n_updates"]) for one in table] == [10, 20, 30, 40, 50]


def test_a_resumed_run_without_a_file_begins_one(tmp_path: Path) -> None:
    made = CSVCallback(tmp_path / "progress.csv")
    resume(made, None, 2)
    windows(made, 2, 3)
    assert len(lines(tmp_path / "progress.csv")) == 1
