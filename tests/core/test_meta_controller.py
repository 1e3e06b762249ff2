import numpy as np
import pytest

from tensor_optix.core.meta_controller import MetaAction, MetaController
from tensor_optix.core.types import EvalMetrics

OPEN = {"budget_exhausted": False}


def history(scores, gaps=None):
    """Evaluations whose training score is above the validation score by a share of it."""
    if gaps is None:
        return [EvalMetrics(float(score), {}, 0) for score in scores]
    return [
        EvalMetrics(float(score), {"train_score": score * (1 + gap), "val_score": score}, 0)
        for score, gap in zip(scores, gaps, strict=True)
    ]


RISING = np.linspace(10.0, 20.0, 10)


def test_an_exhausted_budget_stops_whatever_the_scores():
    assert MetaController().decide([], {"budget_exhausted": True}) is MetaAction.STOP


def test_two_scores_are_no_evidence():
    assert MetaController().decide(history([10.0, 10.0]), OPEN) is MetaAction.NO_OP


def test_progress_is_left_alone_and_its_end_calls_for_a_variant():
    meta = MetaController()
    assert meta.decide(history(RISING), OPEN) is MetaAction.NO_OP
    assert meta.decide(history([10.0] * 5), OPEN) is MetaAction.SPAWN
    assert meta.decide(history(-RISING), OPEN) is MetaAction.SPAWN


def test_a_wide_gap_prunes():
    assert MetaController().decide(history(RISING, [0.3] * 10), OPEN) is MetaAction.PRUNE
    assert MetaController(gap_threshold=0.4).decide(history(RISING, [0.3] * 10), OPEN) is (
        MetaAction.NO_OP
    )


def test_a_widening_gap_prunes_before_it_is_wide():
    gaps = np.linspace(-0.3, 0.0, 10)
    assert MetaController().decide(history(RISING, gaps), OPEN) is MetaAction.PRUNE
    assert MetaController(0.3, 0.05, 0.01).decide(history(RISING, gaps), OPEN) is MetaAction.NO_OP


def test_low_correlation_calls_for_a_variant_only_where_asked_for():
    scores = [
        EvalMetrics(score, {"train_score": score + noise, "val_score": score}, 0)
        for score, noise in zip(RISING, [-3, 3, -6, 3, -8, 4, -9, 2, -9, -9], strict=True)
    ]
    assert MetaController().decide(scores, OPEN) is MetaAction.NO_OP
    assert MetaController(corr_threshold=0.9).decide(scores, OPEN) is MetaAction.SPAWN


def test_only_the_latest_window_counts():
    scores = [*RISING, *[20.0] * 5]
    assert MetaController(window=5).decide(history(scores), OPEN) is MetaAction.SPAWN
    assert MetaController(window=15).decide(history(scores), OPEN) is MetaAction.NO_OP


def test_a_score_of_0_and_missing_scores_do_no_harm():
    assert MetaController().decide(history([0.0] * 4, [0.1] * 4), OPEN) is MetaAction.SPAWN
    assert MetaController().decide(history([np.nan] * 5), OPEN) is MetaAction.NO_OP


def test_a_window_too_short_for_a_slope_is_refused():
    with pytest.raises(ValueError, match="window must be at least 3, got 2"):
        MetaController(window=2)
