"""A class for each kind of event."""

from __future__ import annotations

import io

import pytest

from tensor_optix.core import callbacks as events
from tensor_optix.core.callbacks import LoopEvent, VerboseCallback, WindowReport
from tensor_optix.core.decisions.convergence import plateau_test
from tensor_optix.core.types import LoopState

KINDS = {
    one.kind: one
    for one in vars(events).values()
    if isinstance(one, type) and issubclass(one, LoopEvent) and hasattr(one, "kind")
}


def test_the_kinds_are_those_that_the_log_has_always_had():
    assert set(KINDS) == {
        *("start", "baseline", "best", "plateau", "degradation", "rollback", "recovered"),
        *("tuned", "dormant", "trainee", "variant", "finals", "stop", "error"),
        *("rescored", "resumed", "unsaved", "looked", "chosen", "forking", "forked"),
    }
    assert all(one.__name__.lower() == kind for kind, one in KINDS.items())


def test_the_numbers_are_the_fields_of_the_kind_in_order():
    event = events.Degradation(3, 400, smoothed=5.0, best=30.0)
    assert (event.kind, event.episode_id, event.total_steps) == ("degradation", 3, 400)
    assert list(event.numbers.items()) == [("smoothed", 5.0), ("best", 30.0)]
    assert events.Start().numbers == {}


@pytest.mark.parametrize("kind", [events.Plateau, events.Dormant])
def test_a_standstill_has_the_numbers_of_its_test_where_there_is_one(kind):
    known = {"evaluations": 3, "non_improvements": 2, "interval": 1, "best": 1.0, "noise": 0.5}
    assert kind(**known).numbers == known
    tested = kind(**known, plateau_test=plateau_test([1.0, 2.0])).numbers
    assert tested["plateau_test"]["evaluations"] == 2


@pytest.mark.parametrize(
    ("score", "text"),
    [
        (20.0, "   20.0"),
        (0.0, "    0.0"),
        (-1234.56, "-1234.6"),
        (9.504, "   9.50"),
        (0.012345, " 0.0123"),
        (-1.234e-5, "-1.23e-05"),
        (1.5e7, "15000000.0"),
    ],
)
def test_the_verbose_line_keeps_three_significant_digits(score, text):
    stream = io.StringIO()
    VerboseCallback(stream).on_window(
        WindowReport(
            episode_id=0,
            num_steps=10,
            total_steps=10,
            seconds=1.0,
            collect_seconds=0.5,
            learn_seconds=0.5,
            score=score,
            smoothed=score,
            best=score,
            state=LoopState.ACTIVE,
            interval=1,
        )
    )
    assert f"raw={text}  smoothed={text}  state" in stream.getvalue()
