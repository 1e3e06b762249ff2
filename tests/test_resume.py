"""Twice N windows in one process are N windows, a kill, and N windows in another: to the bit."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tensor_optix.core.checkpoints.saved_state import read_state
from tensor_optix.core.replay import segments
from tests.faults.lasting_run import make_run
from tests.frameworks import require
from tests.scripted import KillAt, Killed

if TYPE_CHECKING:
    from pathlib import Path

    from tensor_optix import RLOptimizer

WINDOWS = 12


def run(directory: Path, case: tuple[str, str], kill_at: int | None = None) -> RLOptimizer:
    algorithm, framework = case
    callbacks = [] if kill_at is None else [KillAt(kill_at)]
    settings = {"max_episodes": WINDOWS, "checkpoint_seconds": 0.0, "callbacks": callbacks}
    made = make_run(str(directory), algorithm, framework, **settings)
    if kill_at is None:
        made.run()
    else:
        with pytest.raises(Killed):
            made.run()
    return made


def last_state(directory: Path) -> dict[str, bytes]:
    """Return the files of what learns and of the episodes under way, as the last checkpoint has them."""
    newest = max((directory / "state").glob("ckpt_*"))
    patterns = ("agents/**/*", "agents*", "pipeline*", "replay_*")
    files = [path for pattern in patterns for path in newest.glob(pattern)]
    return {
        str(path.relative_to(newest)): path.read_bytes() for path in sorted(files) if path.is_file()
    }


def windows(directory: Path) -> list[dict[str, Any]]:
    rows = []
    for line in (directory / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        for name in ("seconds", "collect_seconds", "learn_seconds"):
            del row[name]
        rows.append(row)
    return rows


ALGORITHMS = ("ppo", "dqn", "sac", "td3", "ensemble")
OFTEN = [
    *((algorithm, "native") for algorithm in ALGORITHMS),
    ("sac", "torch"),
    ("dqn", "tensorflow"),
]
CASES = [
    (algorithm, framework)
    for framework in ("native", "torch", "tensorflow")
    for algorithm in ALGORITHMS
]


@pytest.fixture
def every_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a checkpoint be taken between any two windows."""
    from tensor_optix.core.checkpoints.run_keeper import RunKeeper

    def is_due(self: RunKeeper) -> bool:
        self.wait()
        return True

    monkeypatch.setattr(RunKeeper, "is_due", property(is_due))


@pytest.mark.parametrize(
    "case",
    [pytest.param(one, marks=() if one in OFTEN else pytest.mark.slow) for one in CASES],
    ids="-".join,
)
@pytest.mark.usefixtures("every_window")
def test_a_run_that_was_killed_ends_with_the_same_bits(
    case: tuple[str, str], tmp_path: Path
) -> None:
    require(case[1])
    run(tmp_path / "straight", case)
    for kill_at in (5, 9):
        run(tmp_path / "killed", case, kill_at)
    run(tmp_path / "killed", case)
    assert windows(tmp_path / "killed") == windows(tmp_path / "straight")
    mine, others = last_state(tmp_path / "killed"), last_state(tmp_path / "straight")
    assert mine.keys() == others.keys()
    assert [name for name in mine if mine[name] != others[name]] == []
    events = [
        [json.loads(line) for line in (tmp_path / name / "events.jsonl").read_text().splitlines()]
        for name in ("straight", "killed")
    ]
    told = [[one["kind"] for one in each if one["kind"] != "resumed"] for each in events]
    assert told[0] == told[1]
    resumed = [one for one in events[1] if one["kind"] == "resumed"]
    assert [(one["windows"], one["episodes_go_on"]) for one in resumed] == [(5, True), (9, True)]


@pytest.mark.usefixtures("every_window")
def test_the_loop_s_own_state_is_the_same(tmp_path: Path) -> None:
    case = ("ppo", "native")
    run(tmp_path / "straight", case)
    run(tmp_path / "killed", case, 5)
    run(tmp_path / "killed", case)
    loops = []
    for name in ("straight", "killed"):
        state = read_state(max((tmp_path / name / "state").glob("ckpt_*")) / "loop")
        loops.append(without_times(state))
    assert loops[0] == loops[1]


def without_times(value: Any) -> Any:
    """Return a state without clocks and random names."""
    if isinstance(value, dict):
        left_out = ("timestamp", "seconds", "run_id", "stored", "best", "held_out")
        return {key: without_times(one) for key, one in value.items() if key not in left_out}
    if isinstance(value, list | tuple):
        return [without_times(one) for one in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


@pytest.mark.usefixtures("every_window")
def test_a_resumed_run_writes_no_row_of_its_replay_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "_SIBLINGS", 100)
    run(tmp_path, ("sac", "native"), 5)
    before = rows_files(tmp_path)
    run(tmp_path, ("sac", "native"))
    after = rows_files(tmp_path)
    assert 3 < len(before) < len(after)
    assert after[: len(before)] == before


def rows_files(directory: Path) -> list[str]:
    """Return the files of rows of the newest checkpoint's replay, the oldest first."""
    newest = max((directory / "state").glob("ckpt_*"))
    manifest = json.loads((newest / "manifest.json").read_text())["manifest"]
    (entry,) = manifest["replays"].values()
    return [one["name"] for one in entry["segments"]]
