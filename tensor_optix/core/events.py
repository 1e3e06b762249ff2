"""The decisions of the loop, a class for each kind: what a callback hears, and what `events.jsonl` keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tensor_optix.core.callbacks import LoopEvent

if TYPE_CHECKING:
    from tensor_optix.core.decisions.convergence import PlateauTest


@dataclass(frozen=True, kw_only=True)
class Start(LoopEvent):
    """The run begins."""

    kind = "start"


@dataclass(frozen=True, kw_only=True)
class Baseline(LoopEvent):
    """The first policy that was scored is the best so far."""

    kind = "baseline"
    score: float
    rank: float
    """What it is ranked by: a lower bound of its score, or a score of the user's."""


@dataclass(frozen=True, kw_only=True)
class Best(LoopEvent):
    """A policy is the best so far."""

    kind = "best"
    score: float
    rank: float
    """As of `Baseline`."""


@dataclass(frozen=True, kw_only=True)
class Standstill(LoopEvent):
    """What the scheduler's belief that nothing improves rests on."""

    evaluations: int
    non_improvements: int
    """Evaluations in a row that improved nothing."""
    interval: int
    """Windows from one evaluation to the next."""
    best: float | None
    noise: float
    plateau_test: PlateauTest | None = None
    """The test of the scores, where the scheduler makes one."""

    @property
    def numbers(self) -> dict[str, Any]:
        """The fields; without a test there is no word of it."""
        numbers = super().numbers
        if self.plateau_test is None:
            del numbers["plateau_test"]
        return numbers


@dataclass(frozen=True, kw_only=True)
class Plateau(Standstill):
    """An evaluation left the loop COOLING."""

    kind = "plateau"


@dataclass(frozen=True, kw_only=True)
class Dormant(Standstill):
    """Nothing is left to gain."""

    kind = "dormant"


@dataclass(frozen=True, kw_only=True)
class Degradation(LoopEvent):
    """The score fell away from the best, and the next evaluation confirmed it."""

    kind = "degradation"
    smoothed: float
    best: float | None


@dataclass(frozen=True, kw_only=True)
class Rollback(LoopEvent):
    """After a degradation the best policy was restored."""

    kind = "rollback"
    snapshot: str
    """Its id."""


@dataclass(frozen=True, kw_only=True)
class Recovered(LoopEvent):
    """Learning broke down; the best policy was restored, and learns in smaller steps."""

    kind = "recovered"
    reason: str
    hyperparams: dict[str, Any]
    """Those in force from here on."""


@dataclass(frozen=True, kw_only=True)
class Tuned(LoopEvent):
    """Hyperparameters changed, or were to change."""

    kind = "tuned"
    before: dict[str, Any]
    asked: dict[str, Any]
    """Those that were asked for."""
    effective: dict[str, Any]
    """Those in force afterwards."""
    accepted: dict[str, Any] | None
    """Those in force without the experiment; None where the tuner cannot say."""
    tuner: dict[str, Any]
    """What the tuner says of its last suggestion."""

    @property
    def is_change(self) -> bool:
        """Whether anything changed, or was to change."""
        return self.effective != self.before or self.asked != self.before


@dataclass(frozen=True, kw_only=True)
class Trainee(LoopEvent):
    """From here on another agent is trained."""

    kind = "trainee"


@dataclass(frozen=True, kw_only=True)
class Variant(LoopEvent):
    """Evolution compared a variant with what it was cloned from."""

    kind = "variant"
    number: int
    """How many variants there were, this one included."""
    stays: bool
    p_value: float
    """The probability of such scores if the variant is no better."""
    variant_mean: float
    champion_mean: float
    count: int
    """How many scores of the variant count."""
    test: str
    """The statistical test."""


@dataclass(frozen=True, kw_only=True)
class Finals(LoopEvent):
    """At the end of the run its best policies played fresh episodes."""

    kind = "finals"
    scores: dict[str, float]
    """What each reached, by the id of its snapshot, the best first."""


@dataclass(frozen=True, kw_only=True)
class Stop(LoopEvent):
    """The run is over."""

    kind = "stop"
    reason: str | None
    best: float | None
    """The score of the best policy."""


@dataclass(frozen=True, kw_only=True)
class Error(LoopEvent):
    """An exception ends the run."""

    kind = "error"
    reason: str
