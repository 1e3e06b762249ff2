"""The scheduler of a run whose user set no thresholds: it stops on a confirmed plateau."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tensor_optix.core.backoff_scheduler import BackoffScheduler
from tensor_optix.core.convergence import PlateauSettings, PlateauTest, plateau_test

_INTERVAL_ARGUMENTS = ("base_interval", "backoff_factor", "max_interval_episodes")
_WINDOWS_PER_INTERVAL = 50
_LEAST_PATIENCE = 20
_PATIENCE_SHARE = 3 / 4


class AutoScheduler(BackoffScheduler):
    """A `BackoffScheduler` that picks what the user left open.

    * Interval: that of the backoff, but no more than 2 % of the windows since the last restart. Passing
      any of `base_interval`, `backoff_factor` or `max_interval_episodes` fixes it.
    * DORMANT: when an evaluation that improved nothing meets a plateau (`plateau_test`), or when 20 of
      them in a row took three quarters of the time so far, unless block means still rise: one lucky
      score, too good to be beaten, must not end a rising run. While nothing has been gained yet, 160
      instead of 20. Time is counted in windows. Passing `dormant_threshold` fixes it and switches the
      test off.
    * A degradation is deeper than the noise explains. Fixed by `degradation_threshold`.
    * An improvement is at least 1 % of what was gained so far, so that an endless creep has an end;
      not so with `dormant_threshold`.

    Args:
        plateau: How much evidence a plateau needs.
        **given: Arguments of `BackoffScheduler`; None means "auto", as does leaving one out.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(self, *, plateau: PlateauSettings | None = None, **given: Any) -> None:
        given = {name: value for name, value in given.items() if value is not None}
        super().__init__(**given)
        self._plateau = plateau or PlateauSettings()
        self._paces_itself = not any(name in given for name in _INTERVAL_ARGUMENTS)
        self._stops_itself = "dormant_threshold" not in given
        self._judges_falls_itself = "degradation_threshold" not in given
        self._windows = 0
        self._restarted_in = 0
        self._times: list[int] = []
        self._improved_at = 0
        self._test: PlateauTest | None = None
        self._tested = (0, 0)

    @property
    def current_interval(self) -> int:
        """Windows from one evaluation to the next, as of the last window asked about."""
        interval = super().current_interval
        if not self._paces_itself:
            return interval
        since = self._windows - self._restarted_in
        return max(1, min(interval, since // _WINDOWS_PER_INTERVAL))

    @property
    def last_plateau_test(self) -> PlateauTest | None:
        """The plateau test of the scores so far; None where `dormant_threshold` switched it off."""
        if not self._stops_itself:
            return None
        now = (len(self._scores), self._restarted_at)
        if self._test is None or self._tested != now:
            self._test = plateau_test(self._scores, self._restarted_at, self._plateau, self._times)
            self._tested = now
        return self._test

    def should_adapt(self, episode_count: int) -> bool:
        """Whether window `episode_count` is to be evaluated: each one, while a fall is in doubt."""
        self._windows = max(self._windows, episode_count)
        return super().should_adapt(episode_count)

    def looks_degraded(self, score: float) -> bool:
        """Whether the score has fallen deeper than its noise explains.

        With a `degradation_threshold` of the user's, `check_degradation` is enough.
        """
        if self._judges_falls_itself:
            return super().looks_degraded(score)
        return self.check_degradation(score)

    def record_score(self, score: float) -> None:
        """Take the score of an evaluation, and when it was made."""
        super().record_score(score)
        self._note_time()

    def record_improvement(self, score: float) -> None:
        """Count an improving evaluation."""
        super().record_improvement(score)
        self._note_time()
        self._improved_at = self._times[-1] if self._times else 0

    def record_restart(self) -> None:
        """Begin anew with another policy, and with close evaluations."""
        super().record_restart()
        self._restarted_in = self._improved_at = self._windows

    def _note_time(self) -> None:
        """Give every score a time: the window last asked about, or where none was, the next number."""
        while len(self._times) < len(self._scores):
            latest = self._times[-1] + 1 if self._times else 0
            self._times.append(max(latest, self._windows))

    def describe(self) -> dict[str, Any]:
        """Return the numbers that the state rests on, those of the plateau test included."""
        test = self.last_plateau_test
        return super().describe() | ({} if test is None else {"plateau_test": asdict(test)})

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes, as JSON values."""
        return super().state_dict() | {
            "windows": self._windows,
            "restarted_in": self._restarted_in,
            "times": list(self._times),
            "improved_at": self._improved_at,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        super().load_state_dict(state)
        self._windows = int(state["windows"])
        self._restarted_in = int(state["restarted_in"])
        self._times = [int(time) for time in state["times"]]
        self._improved_at = int(state["improved_at"])
        self._test = None

    def _least_gain(self, improvement_margin: float) -> float:
        test = self.last_plateau_test
        if test is None or not test.has_gained:
            return improvement_margin
        return max(improvement_margin, self._plateau.negligible_share * test.gain)

    def _is_finished(self) -> bool:
        test = self.last_plateau_test
        if test is None:
            return super()._is_finished()
        if test.is_plateau:
            return True
        least = _LEAST_PATIENCE if test.has_gained else _LEAST_PATIENCE * self._plateau.patience
        if self._non_improvements < least or test.still_rising:
            return False
        now = self._times[-1]
        waited, whole = now - self._improved_at, now - self._restarted_in
        return waited >= _PATIENCE_SHARE * whole
