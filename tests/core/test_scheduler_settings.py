"""The arguments of the scheduler are checked when it is built."""

import math

import pytest

from tensor_optix.core.backoff_scheduler import BackoffScheduler


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"base_interval": 0}, "base_interval must be at least 1, got 0"),
        ({"base_interval": 1.5}, "base_interval must be an integer, got 1.5"),
        ({"base_interval": True}, "base_interval must be an integer, got True"),
        ({"backoff_factor": 0.5}, "backoff_factor must be at least 1, got 0.5"),
        ({"backoff_factor": math.inf}, "backoff_factor must be a finite number, got inf"),
        ({"base_interval": 9, "max_interval_episodes": 8}, "at least base_interval=9, got 8"),
        ({"plateau_threshold": 0}, "plateau_threshold must be at least 1, got 0"),
        ({"dormant_threshold": 0}, "dormant_threshold must be at least 1, got 0"),
        ({"degradation_threshold": 1.5}, r"degradation_threshold must be in \[0, 1\], got 1.5"),
        ({"min_degradation_drop": -1.0}, "min_degradation_drop must be at least 0, got -1.0"),
        ({"min_episodes_before_dormant": -1}, "min_episodes_before_dormant must be at least 0"),
        ({"min_episodes_before_degradation": -1}, "before_degradation must be at least 0, got -1"),
        ({"noise_k": math.nan}, "noise_k must be a finite number, got nan"),
        ({"score_window": 2}, "score_window must be at least 3, got 2"),
        ({"trend_window": "8"}, "trend_window must be an integer, got '8'"),
    ],
)
def test_a_wrong_argument_is_refused_at_construction(argument, message):
    with pytest.raises(ValueError, match=message):
        BackoffScheduler(**argument)
