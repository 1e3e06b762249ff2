"""The arguments of the backoff scheduler, checked once."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from numbers import Integral, Real


@dataclass(frozen=True, kw_only=True)
class SchedulerSettings:
    """When to evaluate, and what counts as a plateau, a degradation and an improvement.

    Raises:
        ValueError: If a value is of the wrong kind or out of its range.
    """

    base_interval: int = 1
    """Windows between evaluations while the score improves."""
    backoff_factor: float = 2.0
    """What a non-improving evaluation multiplies the interval by, rounded down."""
    max_interval_episodes: int = 100
    """The longest interval, in windows."""
    plateau_threshold: int = 5
    """Consecutive non-improving evaluations until COOLING."""
    dormant_threshold: int = 20
    """Consecutive non-improving evaluations until DORMANT."""
    degradation_threshold: float = 0.95
    """A score that falls short of the best by more than 1 minus this share of it is degraded."""
    min_degradation_drop: float = 1e-4
    """The least such fall in score units, for a best near 0."""
    min_episodes_before_dormant: int = 0
    """Evaluations before DORMANT may be declared."""
    min_episodes_before_degradation: int = 5
    """Evaluations before a score may be called degraded."""
    noise_k: float = 2.0
    """Standard deviations of the noise that an improvement must exceed."""
    score_window: int = 20
    """Recent scores from which the noise is measured."""
    trend_window: int = 8
    """Recent scores that can show a rise on their own."""

    def __post_init__(self) -> None:
        for field in fields(self):
            # With postponed annotations a field's type is its text.
            _check_kind(field.name, getattr(self, field.name), whole=field.type == "int")
        for name in ("base_interval", "plateau_threshold", "dormant_threshold"):
            _check_least(name, getattr(self, name), 1)
        _check_least("backoff_factor", self.backoff_factor, 1)
        for name in ("min_episodes_before_dormant", "min_episodes_before_degradation"):
            _check_least(name, getattr(self, name), 0)
        for name in ("min_degradation_drop", "noise_k"):
            _check_least(name, getattr(self, name), 0)
        for name in ("score_window", "trend_window"):
            _check_least(name, getattr(self, name), 3)
        if self.max_interval_episodes < self.base_interval:
            raise ValueError(
                f"max_interval_episodes must be at least base_interval={self.base_interval}, "
                f"got {self.max_interval_episodes}"
            )
        if not 0.0 <= self.degradation_threshold <= 1.0:
            raise ValueError(
                f"degradation_threshold must be in [0, 1], got {self.degradation_threshold}"
            )


def _check_kind(name: str, value: object, *, whole: bool) -> None:
    kind = Integral if whole else Real
    is_number = isinstance(value, kind) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value):  # type: ignore[arg-type]
        wanted = "an integer" if whole else "a finite number"
        raise ValueError(f"{name} must be {wanted}, got {value!r}")


def _check_least(name: str, value: float, least: int) -> None:
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
