import numpy as np
import pytest

from tensor_optix.core.regime_detector import RegimeDetector
from tensor_optix.core.types import EvalMetrics


def regime(scores, **options):
    return RegimeDetector(**options).detect([EvalMetrics(float(score), {}, 0) for score in scores])


def test_two_scores_range():
    assert regime([1.0, 100.0]) == "ranging"


def test_a_steady_rise_trends_and_a_constant_ranges():
    assert regime(np.linspace(10.0, 20.0, 10)) == "trending"
    assert regime([10.0] * 10) == "ranging"
    assert regime(np.linspace(20.0, 10.0, 10)) == "ranging"


def test_a_steep_line_is_not_volatile_but_swings_are():
    assert regime(np.linspace(1.0, 100.0, 10)) == "trending"
    assert regime([5.0, 15.0] * 5) == "volatile"
    assert regime([5.0, 15.0] * 5, volatility_threshold=0.6) == "ranging"


def test_the_spread_is_the_standard_deviation_around_the_line():
    scores = np.array([10.0, 13.0, 9.0, 12.0, 8.0, 14.0])
    line = np.polyval(np.polyfit(np.arange(6), scores, 1), np.arange(6))
    spread = float(np.std(scores - line) / scores.mean())
    assert regime(scores, volatility_threshold=spread - 1e-6) == "volatile"
    assert regime(scores, volatility_threshold=spread + 1e-6) != "volatile"


def test_only_the_latest_window_counts():
    scores = [5.0, 15.0] * 5 + [10.0] * 5
    assert regime(scores, window=5) == "ranging"
    assert regime(scores, window=15) == "volatile"


def test_negative_scores_and_0_have_regimes_too():
    assert regime(np.linspace(-20.0, -10.0, 10)) == "trending"
    assert regime([0.0] * 5) == "ranging"


def test_a_window_too_short_for_a_line_is_refused():
    with pytest.raises(ValueError, match="window must be at least 3, got 2"):
        RegimeDetector(window=2)


def test_a_subclass_may_detect_in_its_own_way():
    class Always(RegimeDetector):
        def detect(self, history):
            return "calm"

    assert Always().detect([]) == "calm"
