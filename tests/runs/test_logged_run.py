"""A log tells again what its run was, whether or not the run has ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tensor_optix.core.callbacks import (
    Chosen,
    Ending,
    Forked,
    Forking,
    Rescored,
    Resumed,
    RunLog,
    Stop,
    Tuned,
)
from tensor_optix.core.types import LoopState
from tensor_optix.runs.logged_run import read_run
from tensor_optix.runs.run_directory import RunDirectoryError
from tests.runs.made_runs import HYPERPARAMS, made_run

OLD_RUNS = Path(__file__).parents[1] / "core" / "runs_of_format_1"


def forks(window: int, steps: int) -> list[Any]:
    tried = [{}, {"learning_rate": 1e-3}]
    place = {"episode_id": window}
    return [
        Forking(**place, total_steps=steps, reason="nothing was gained", tried=tried),
        Forked(
            **place,
            total_steps=steps + 500,
            reason="nothing was gained",
            tried=tried,
            scores=[1.0, None],
            windows=[2, 2],
            winner=1,
            gain=1.0,
            error=0.5,
            has_gained=True,
            steps=500,
            hyperparams=HYPERPARAMS | {"learning_rate": 1e-3},
        ),
    ]


def tuned(window: int, before: float, effective: float, accepted: float) -> Tuned:
    sets = [HYPERPARAMS | {"learning_rate": one} for one in (before, effective, accepted)]
    return Tuned(
        window,
        1000 * (window + 1),
        before=sets[0],
        asked=sets[1],
        effective=sets[1],
        accepted=sets[2],
        tuner={},
    )


def test_scores_bests_and_steps_come_back(tmp_path: Path) -> None:
    run = read_run(made_run(tmp_path / "run", [1.0, None, 5.0, 3.0]))
    assert run.record.steps == [1000, 3000, 4000]
    assert run.record.scores == [1.0, 5.0, 3.0]
    assert run.record.bests == [1.0, 5.0, 5.0]
    assert (run.final_score, run.damaged, run.has_scores) == (5.0, 0, True)
    assert run.record.stop is not None
    assert run.record.stop.ending is Ending.FINISHED


def test_time_goes_with_the_steps(tmp_path: Path) -> None:
    run = read_run(made_run(tmp_path / "run", [1.0, 2.0]))
    assert run.seconds_at([0, 500, 1000, 2000]).tolist() == [0.0, 0.25, 0.5, 1.0]
    assert float(read_run(made_run(tmp_path / "none", [])).seconds_at(10)) == 0.0


def test_a_killed_run_is_read_but_for_what_it_left_unfinished(tmp_path: Path) -> None:
    path = made_run(tmp_path / "run", [1.0, 2.0], ending=None)
    with (path / "metrics.jsonl").open("ab") as file:
        file.write(b'nonsense\n[1]\n{"episode_id": 2}\n\xff\xfe\n{"episode_id": 3, "total')
    with (path / "events.jsonl").open("a") as file:
        file.write(
            '{"kind": "best", "episode_id": 1, "total_steps": "many"}\n{"kind": "later"}\n{"ki'
        )
    run = read_run(path)
    assert run.record.scores == [1.0, 2.0]
    assert run.record.stop is None
    assert run.damaged == 7
    assert run.damage == "7 lines of the log cannot be read, and are left out"


@pytest.mark.parametrize(
    "change",
    [
        {"score": "high"},
        {"diagnostics": None},
        {"diagnostics": [1]},
        {"state": "ASLEEP"},
        {"total_steps": None},
        {"total_steps": 1.5},
        {"seconds": [1]},
        {"best": {}},
    ],
)
def test_a_line_of_other_values_is_damaged(tmp_path: Path, change: dict[str, Any]) -> None:
    path = made_run(tmp_path / "run", [1.0, 2.0, 3.0])
    lines = (path / "metrics.jsonl").read_text().splitlines()
    lines[1] = json.dumps(json.loads(lines[1]) | change)
    (path / "metrics.jsonl").write_text("\n".join(lines))
    run = read_run(path)
    assert (run.record.scores, run.damaged) == ([1.0, 3.0], 1)


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="is no directory; give that of a run"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(RunDirectoryError, match=r"holds no run \(no run.json\)"):
        read_run(tmp_path)


def test_experiments_are_the_steps_with_other_hyperparameters_than_the_accepted(
    tmp_path: Path,
) -> None:
    events = [
        tuned(1, 3e-4, 4e-4, 3e-4),
        tuned(2, 4e-4, 2e-4, 3e-4),
        tuned(3, 2e-4, 3e-4, 3e-4),
        *forks(5, 6000),
        tuned(7, 1e-3, 2e-3, 1e-3),
    ]
    run = read_run(made_run(tmp_path / "run", [1.0] * 9, events))
    assert run.experiments == [(2000, 4000), (6000, 6500), (8000, 9000)]


def test_what_was_chosen_is_known_from_what_was_given(tmp_path: Path) -> None:
    event = Chosen(option="hyperparams.gamma", value=0.99, reason="episodes are long")
    assert read_run(made_run(tmp_path / "run", [1.0], [event])).chosen == {"hyperparams.gamma"}


def test_scores_of_another_kind_begin_anew(tmp_path: Path) -> None:
    run = read_run(
        made_run(
            tmp_path / "run", [9.0, 8.0, 0.5, 0.6], [Rescored(2, 3000, per_step=True, windows=3)]
        )
    )
    assert run.record.scores == [0.5, 0.6]
    assert run.record.is_per_step


def test_the_pause_before_a_run_goes_on_is_not_training(tmp_path: Path) -> None:
    path = made_run(tmp_path / "run", [1.0, 2.0], ending=Ending.INTERRUPTED)
    log = RunLog(path, resume=True)
    log.on_loop_start()
    figures = {"windows": 2, "seconds": 1.0, "after": "interrupted", "episodes_go_on": True}
    log.on_event(Resumed(1, 2000, **figures, state=LoopState.ACTIVE.value))
    log.on_loop_stop()
    lines = (path / "events.jsonl").read_text().splitlines()
    late = [json.dumps(json.loads(line) | {"time": 1e10}) for line in lines[-1:]]
    (path / "events.jsonl").write_text("\n".join([*lines[:-1], *late]))
    run = read_run(path)
    assert run.record.stop is None, "it is under way again"
    assert run.decisions[-1].seconds == pytest.approx(1.0, abs=0.1)


def test_an_end_that_is_followed_by_another_run_is_none(tmp_path: Path) -> None:
    path = made_run(tmp_path / "run", [1.0])
    log = RunLog(path, resume=True)
    log.on_loop_start()
    log._resume = False
    log.on_event(Stop(0, 1000, reason=None, best=None, ending=Ending.CRASHED))
    log.on_loop_stop()
    run = read_run(path)
    assert run.record.stop is not None
    assert run.record.stop.ending is Ending.CRASHED
    assert run.final_score == 1.0


@pytest.mark.parametrize("name", ["dqn", "ppo"])
def test_runs_of_earlier_versions_are_read(name: str) -> None:
    run = read_run(OLD_RUNS / name)
    assert run.damaged == 0
    assert len(run.record.scores) == 4
    assert np.isfinite(run.final_score)
