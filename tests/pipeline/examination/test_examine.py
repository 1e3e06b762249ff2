"""Every planted defect is found, and in a sound environment there is nothing to find."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tensor_optix.pipeline.examination.examine import examine
from tensor_optix.pipeline.examination.findings import Grade
from tensor_optix.pipeline.examination.rules import REPLAYED_STEPS
from tests.pipeline.examination.planted_envs import PLANTED, SOUND, Crashes, OneBuffer, WalkEnv

if TYPE_CHECKING:
    from tensor_optix.pipeline.examination.examine import Examination

SECONDS = 30.0
"""Of which a slow machine needs little: the steps are bounded, too."""


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr("tensor_optix.pipeline.examination.trace.MOST_STEPS", 600)


def graded(found: Examination) -> dict[tuple[str, str], str]:
    return {(one.check, one.grade.value): one.text for one in found.findings}


@pytest.mark.parametrize("defective", PLANTED)
def test_a_planted_defect_is_found(defective):
    check, grade, words = PLANTED[defective]
    found = graded(examine(defective(), SECONDS))
    assert words in found[check, grade], found


@pytest.mark.parametrize("sound", SOUND)
def test_in_a_sound_environment_all_is_well(sound):
    found = examine(sound(), SECONDS)
    assert {one.grade for one in found.findings} == {Grade.OK}, graded(found)
    assert {one.check for one in found.findings} >= {
        "flags",
        "rewards",
        "seed",
        "actions",
        "aliasing",
    }


@pytest.mark.parametrize("defective", PLANTED)
def test_a_defect_brings_no_crowd_of_findings(defective):
    found = examine(defective(), SECONDS)
    assert sum(one.grade is not Grade.OK for one in found.findings) <= 2, graded(found)


def test_the_same_environment_gives_the_same_findings():
    first, second = (examine(OneBuffer(), SECONDS) for _ in range(2))
    assert first.findings == second.findings
    assert first.trace is not None
    assert second.trace is not None
    np.testing.assert_array_equal(first.trace.rewards, second.trace.rewards)


def test_what_fails_at_once_has_no_trace():
    assert examine(Crashes(), SECONDS).trace is None


def test_where_no_time_is_left_that_is_said_and_one_step_was_taken():
    found = examine(WalkEnv(), 0.0)
    assert found.trace is not None
    assert found.trace.steps == 1
    assert "no time was left" in graded(found)["time", "note"]


class SlowEnv(WalkEnv):
    """Takes a second for a reset, a quarter for a step."""

    clock = 0.0

    def reset(self, **given):
        SlowEnv.clock += 1.0
        return super().reset(**given)

    def step(self, action):
        SlowEnv.clock += 0.25
        return super().step(action)


@pytest.mark.parametrize("seconds", [2.0, 8.0, 40.0])
def test_a_slow_environment_is_given_the_time_that_was_said(monkeypatch, seconds):
    monkeypatch.setattr(SlowEnv, "clock", 0.0)
    monkeypatch.setattr(time, "perf_counter", lambda: SlowEnv.clock)
    found = examine(SlowEnv(), seconds)
    assert found.reset_seconds == 1.0
    assert SlowEnv.clock <= seconds + 0.25 * REPLAYED_STEPS
    assert not found.of(Grade.PROBLEM)


def test_the_figures_are_those_of_the_rows():
    trace = examine(WalkEnv(), SECONDS).trace
    assert trace is not None
    assert trace.steps == 600
    assert sum(one.length for one in trace.episodes) + trace.unfinished == 600
    totals = sum(one.total for one in trace.episodes)
    done = 600 - trace.unfinished
    assert totals == pytest.approx(float(trace.rewards[:done].sum()))
    assert trace.observations is not None
    assert (trace.observations.low <= trace.observations.mean).all()
    assert (trace.observations.mean <= trace.observations.high).all()
    assert (trace.observations.std > 0).all()
