"""What is shown: figures in words, the panel in a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from tensor_optix.core.callbacks import (
    Baseline,
    Best,
    Degradation,
    Dormant,
    Finals,
    Forked,
    Forking,
    Plateau,
    Recovered,
    Trainee,
    Tuned,
    WindowReport,
)
from tensor_optix.core.decisions.convergence import plateau_test
from tensor_optix.core.types import LoopState
from tensor_optix.runs import words
from tensor_optix.runs.display import LiveDisplay, PlainDisplay, announced
from tensor_optix.runs.record import MOST_POINTS, Decision, TrainingRecord, merged
from tensor_optix.runs.report import Ending, Outcome, closing_report
from tensor_optix.runs.run_directory import RunConfig, RunDirectory

CONFIG = RunConfig(
    env_id="Cart-v1",
    backend="envpool",
    seed=9,
    num_envs=8,
    window_size=256,
    max_steps=None,
    hidden_sizes=(64, 64),
    device="auto",
    hyperparams={},
    framework="tensorflow",
    computed_on="gpu",
)


def window(index: int, score: float | None, **changes: Any) -> WindowReport:
    figures: dict[str, Any] = {
        "episode_id": index,
        "num_steps": 100,
        "total_steps": 100 * (index + 1),
        "seconds": 0.5 * (index + 1),
        "collect_seconds": 0.1,
        "learn_seconds": 0.1,
        "score": score,
        "smoothed": score,
        "best": score,
        "state": LoopState.ACTIVE,
        "interval": 1,
    }
    return WindowReport(**(figures | changes))


def fed(*displays: Any, record: TrainingRecord) -> None:
    """Let everyone hear a little training."""
    hearers = (record, *displays)
    for index, score in enumerate([10.0, 20.0, 30.0]):
        kind = Best if index else Baseline
        event = kind(index, 100 * (index + 1), score=score, rank=score)
        for hearer in hearers:
            hearer.on_event(event)
        for hearer in hearers:
            hearer.on_window(window(index, score))
    event = Degradation(3, 400, smoothed=5.0, best=30.0)
    for hearer in hearers:
        hearer.on_event(event)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (float("nan"), "-"),
        (0.0, "0"),
        (487.25, "487.2"),
        (-12345.6, "-12,346"),
        (1.2346, "1.235"),
        (0.01234, "0.01234"),
        (2.5e7, "25,000,000"),
        (2.5e10, "2.5e+10"),
    ],
)
def test_numbers_are_short(value: float | None, text: str) -> None:
    assert words.number(value) == text


def test_durations_read_as_clocks() -> None:
    assert words.clock(65) == "01:05"
    assert words.clock(3725) == "1:02:05"


def test_a_sparkline_rises_with_its_values_and_fits() -> None:
    assert words.sparkline([1, 2, 3, 4, 5, 6, 7, 8], 8) == "▁▂▃▄▅▆▇█"
    assert len(words.sparkline(list(range(1000)), 40)) == 40
    assert words.sparkline([3.0, float("nan"), 3.0], 10) == "▁▁"
    assert words.sparkline([], 10) == ""


STANDSTILL = {"evaluations": 80, "interval": 1, "best": 403.0, "noise": 3.0}


def dormant(**test: Any) -> Dormant:
    """The event as the loop sends it, with the real test of a curve that has come to rest."""
    scores = [*np.linspace(0.0, 400.0, 20), *(400.0 + np.tile([3.0, -3.0], 30))]
    tested = replace(plateau_test(scores), **test)
    return Dormant(4, 500, non_improvements=33, plateau_test=tested, **STANDSTILL)


def test_a_confirmed_plateau_is_told_with_its_numbers() -> None:
    text = words.plateau(dormant(improvements=(0.5, -1.25), gain=403.0))
    assert text.startswith(
        "A plateau is confirmed. Evaluations changed by +0.5 over the last 10 windows "
    )
    assert "-1.25 over the last 19 windows (noise alone makes up to " in text
    assert text.endswith("small against the 403 gained since the start.")


def test_a_counter_that_ran_out_is_told_as_such() -> None:
    text = words.plateau(dormant(is_plateau=False))
    assert text.startswith("33 evaluations in a row brought no improvement. Evaluations changed")
    assert words.plateau(Dormant(non_improvements=21, **STANDSTILL)) == (
        "21 evaluations in a row brought no improvement."
    )


def test_a_best_that_is_only_surer_is_not_called_a_new_best() -> None:
    record = TrainingRecord()
    for score in (10.0, 30.0, 29.0, 31.0):
        record.on_event(Best(score=score, rank=score))
    assert [made.kind for made in record.decisions] == ["best", "best", "surer", "best"]


def test_each_score_names_the_episodes_that_it_is_the_mean_of() -> None:
    record = TrainingRecord()
    record.on_event(Baseline(score=1.0, rank=0.5, episodes=1))
    for score, episodes in ((3.0, 2), (2.0, 40), (4.0, 0)):
        record.on_event(Best(score=score, rank=score, episodes=episodes))
    assert [words.decision(made) for made in record.decisions] == [
        "first score 1 (1 episode)",
        "new best 3 (2 episodes)",
        "kept a surer policy, score 2 (40 episodes)",
        "new best 4",
    ]


def test_a_series_of_decisions_is_one() -> None:
    best, other = Best(score=1.0, rank=1.0), Trainee()
    made = [Decision(event, 0.0) for event in (best, best, other, best)]
    assert [count for _, count in merged(made)] == [2, 1, 1]


def tuned(before: float, effective: float, accepted: float | None) -> Tuned:
    return Tuned(
        before={"learning_rate": before},
        asked={"learning_rate": effective},
        effective={"learning_rate": effective},
        accepted=None if accepted is None else {"learning_rate": accepted},
        tuner={},
    )


def test_experiments_are_not_told_but_what_was_accepted_is() -> None:
    record = TrainingRecord()
    record.on_event(tuned(0.1, 0.2, 0.1))
    record.on_event(tuned(0.2, 0.05, 0.1))
    assert record.decisions == []
    record.on_event(tuned(0.05, 0.2, 0.2))
    record.on_event(tuned(0.2, 0.3, None))
    assert [words.decision(made) for made in record.decisions] == [
        "tuned: learning_rate 0.1 -> 0.2"
    ]


def test_the_finals_and_a_recovery_are_told_in_words() -> None:
    record = TrainingRecord()
    record.on_event(Finals(scores={"a": 200.5, "b": -3.0}, episodes=20))
    record.on_event(Recovered(reason="the weights are not finite", hyperparams={}))
    assert [words.decision(made) for made in record.decisions] == [
        "2 policies played for the best (20 episodes): 200.5, -3",
        "the weights are not finite: went back to the best policy, with smaller steps",
    ]


def test_forks_are_told_when_they_begin_and_by_what_each_reached() -> None:
    tried: list[dict[str, Any]] = [{}, {"gamma": 0.999}, {"n_epochs": 10, "learning_rate": 3e-4}]
    told: dict[str, Any] = {
        "reason": "nothing left to gain",
        "tried": tried,
        "scores": [1.0, None, 2.5],
        "windows": [2, 1, 2],
        "gain": 1.5,
        "error": 0.5,
        "steps": 1234,
        "hyperparams": {},
    }
    record = TrainingRecord()
    record.on_event(Forking(reason="nothing left to gain", tried=tried))
    record.on_event(Forked(**told, winner=2, has_gained=True, total_steps=5000))
    record.on_event(Forked(**told, winner=0, has_gained=True, total_steps=5000))
    record.on_event(Forked(**told, winner=0, has_gained=False, total_steps=5000))
    reached = "as it was 1, gamma 0.999 -, n_epochs 10 and learning_rate 0.0003 2.5"
    assert [words.decision(made) for made in record.decisions] == [
        "nothing left to gain: trying 2 other settings",
        f"went on with n_epochs 10 and learning_rate 0.0003 (tried in 1,234 steps: {reached})",
        f"went on with the same settings from the best policy (tried in 1,234 steps: {reached})",
        f"no other settings were better (tried in 1,234 steps: {reached})",
    ]
    assert record.total_steps == 5000


def test_only_the_first_of_several_plateaus_is_a_decision() -> None:
    record = TrainingRecord()
    for index in range(3):
        record.on_event(Plateau(non_improvements=5, **STANDSTILL))
        record.on_window(window(index, 1.0, state=LoopState.COOLING))
    assert len(record.decisions) == 1


@pytest.mark.parametrize(
    ("figures", "text"),
    [
        (
            {"loss": 0.5, "epsilon": 0.25, "buffer_size": 12345},
            "loss 0.5, epsilon 0.25, replay 12,345",
        ),
        ({"critic_loss": 2.0, "alpha": 0.1, "actor_loss": 1.0}, "critic loss 2, alpha 0.1"),
        ({"entropy": 0.6, "approx_kl": 0.01, "n_updates": 4}, "entropy 0.6, KL 0.01"),
        ({}, ""),
    ],
)
def test_each_algorithm_tells_how_learning_goes_in_its_own_figures(
    figures: dict[str, Any], text: str
) -> None:
    assert words.diagnostics(figures) == text


def test_figures_that_come_late_or_not_always_stay_in_line_with_the_steps() -> None:
    record = TrainingRecord()
    for index, figures in enumerate([{}, {"loss": 1.0}, {"epsilon": 0.5, "note": "text"}]):
        record.on_window(window(index, None, diagnostics=figures))
    assert record.learning_steps == [100, 200, 300]
    np.testing.assert_array_equal(record.learning["loss"], [np.nan, 1.0, np.nan])
    np.testing.assert_array_equal(record.learning["epsilon"], [np.nan, np.nan, 0.5])


@pytest.mark.parametrize("width", [80, 120])
def test_the_panel_fits_the_terminal_and_shows_the_run(width: int) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    record = TrainingRecord()
    display = LiveDisplay(record, CONFIG, console)
    fed(display, record=record)
    with console.capture() as capture:
        display.close()
    shown = [line for line in capture.get().splitlines() if any(edge in line for edge in "│╭╰")]
    text = "\n".join(shown)
    for part in (
        "Cart-v1",
        "ppo (TensorFlow, gpu), 8 environments on envpool, seed 9",
        "300",
        "learning, every window",
        "▁▅█",
    ):
        assert part in text
    assert "new best 30 (2 in a row)" in text
    assert "the score fell to 5 from 30" in text
    assert {len(line) for line in shown if line.startswith(("│", "╰"))} == {min(width - 2, 100)}


def test_the_panel_comes_after_a_line_that_says_what_is_waited_for() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    display = LiveDisplay(TrainingRecord(), CONFIG, console)
    with console.capture() as capture:
        display.on_loop_start()
    assert "the first window is under way" in capture.get()
    display.close()


def test_a_wait_is_announced_to_a_terminal_and_to_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with announced("loading TensorFlow ...", plain=True):
        assert capsys.readouterr().out == ""
    monkeypatch.setenv("FORCE_COLOR", "1")
    with announced("loading TensorFlow ...", plain=True):
        assert capsys.readouterr().out == "loading TensorFlow ...\n"


def test_plain_lines_have_progress_and_decisions() -> None:
    console = Console(file=io.StringIO(), width=80)
    record = TrainingRecord()
    display = PlainDisplay(record, CONFIG, console)
    with console.capture() as capture:
        display.on_loop_start()
        fed(display, record=record)
    lines = capture.get().splitlines()
    assert lines[0] == "Cart-v1: ppo (TensorFlow, gpu), 8 environments on envpool, seed 9"
    assert lines[1].endswith("score 10  best 10  200 steps/s  learning")
    # The other windows came within the second.
    assert lines[2].endswith("400 steps  the score fell to 5 from 30")
    assert len(lines) == 3


def test_the_report_of_a_run_that_rests_gives_the_numbers_of_the_test(tmp_path: Any) -> None:
    record = TrainingRecord()
    fed(record=record)
    record.on_event(dormant(improvements=(0.5, 0.25)))
    outcome = Outcome(Ending.FINISHED, None)
    report = closing_report(record, CONFIG, RunDirectory(tmp_path / "run"), outcome)
    text = " ".join(report.split())
    assert "nothing is left to gain. A plateau is confirmed. Evaluations changed by +0.5" in text
    assert "the score fell to 5 from 30" in text
    assert "evaluate " not in report


def test_a_long_record_keeps_its_first_and_last_point_in_bounded_memory():
    record = TrainingRecord()
    for index in range(3 * MOST_POINTS + 1):
        record.on_window(window(index, float(index), diagnostics={"loss": 1.0}))
        assert record.steps[0] == record.learning_steps[0] == 100
        assert len(record.steps) == len(record.scores) == len(record.bests) <= MOST_POINTS
        assert len(record.learning_steps) == len(record.learning["loss"]) <= MOST_POINTS
    assert record.steps[-1] == record.learning_steps[-1] == record.total_steps
