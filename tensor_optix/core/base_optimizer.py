"""The contract of a hyperparameter optimizer."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tensor_optix.core.types import EvalMetrics, HyperparamSet, LoopState


@dataclass(frozen=True)
class Standing:
    """Where a run stands, for a tuner that may propose forks."""

    hyperparams: HyperparamSet
    """Those in force, but for what follows a schedule of the user's."""
    defaults: Mapping[str, Any]
    """Those that the agent documents, as far as they can be changed while it trains; as far as it has any."""
    history: Sequence[EvalMetrics]
    """The evaluations that are remembered, oldest first."""
    state: LoopState
    """DORMANT: the run ends unless a fork gains something."""
    windows: int
    """How many were taken."""


@dataclass(frozen=True)
class OrdinaryRange:
    """Of a figure that `learn` returns, above 0: what it is where learning goes well."""

    figure: str
    low: float
    high: float

    def distance(self, values: Sequence[float]) -> float:
        """Return by which factor the median of values is outside, as a logarithm; infinity for none."""
        known = sorted(value for value in values if value > 0.0)
        if not known:
            return math.inf
        middle = known[len(known) // 2]
        return max(0.0, math.log(self.low / middle), math.log(middle / self.high))


@dataclass(frozen=True)
class ForkPlan:
    """What several learners are to try, all of them from one moment on."""

    candidates: Sequence[HyperparamSet]
    """Those in force come first, and are always tried with the others; what is not named stays."""
    windows: int
    """How many each learns from until they are compared for the first time; later it is twice as many."""
    reason: str
    """Why, in words."""
    is_ordered: bool = False
    """Whether the others stand in the order of what speaks for them, which decides what comparisons leave
    open."""
    ordinary: OrdinaryRange | None = None
    """What decides before the order does: who learns nearest to this comes first."""
    doubts_present: bool = False
    """Whether there is evidence against those in force already, that outweighs a short comparison: they stay
    only if all others break down."""


class BaseOptimizer(ABC):
    """Proposes the hyperparameters of the next window from the scores so far.

    Examples:
        >>> from tensor_optix import BaseOptimizer
        >>> class Shrinking(BaseOptimizer):
        ...     def suggest(self, current_hyperparams, metrics_history):
        ...         current_hyperparams.params["learning_rate"] *= 0.99
        ...         return current_hyperparams
        ...     def on_improvement(self, metrics): ...
        ...     def on_plateau(self, metrics_history): ...
    """

    @abstractmethod
    def suggest(
        self, current_hyperparams: HyperparamSet, metrics_history: Sequence[EvalMetrics]
    ) -> HyperparamSet:
        """Return the next hyperparameters. The history is oldest first; if empty, a plain copy.

        What follows a schedule of the user's is not among them.
        """

    @abstractmethod
    def on_improvement(self, metrics: EvalMetrics) -> None:
        """Called after an evaluation that improved the score, before `suggest`."""

    @abstractmethod
    def on_plateau(self, metrics_history: Sequence[EvalMetrics]) -> None:
        """Called after an evaluation that left the loop COOLING, before `suggest`."""

    @property
    def is_probing(self) -> bool:
        """Whether the hyperparameters in force are an experiment: no degradation is declared then."""
        return False

    def accepted(self, current_hyperparams: HyperparamSet) -> HyperparamSet | None:
        """Return the hyperparameters in force without the experiment; None if they are unknown.

        They are kept with a policy that shows while an experiment is under way. Without them such a
        policy is never the best.
        """
        return None if self.is_probing else current_hyperparams.copy()

    def take_defaults(
        self, param_bounds: Mapping[str, tuple[float, float]], log_params: Sequence[str]
    ) -> None:
        """Called by a loop with the agent's own bounds, for a tuner that was given none.

        Args:
            param_bounds: `{name: (lowest, highest)}`.
            log_params: Names searched on a logarithmic scale.
        """

    def propose_forks(self, standing: Standing) -> ForkPlan | None:
        """Return what is to be tried in forks now; None: the run is left alone.

        Called after each evaluation but the first, when `suggest` has been asked; and before a run ends
        for want of progress, which it does unless a fork of the plan gains something.
        """
        return None

    def on_restart(self) -> None:
        """Called when the policy and its hyperparameters were replaced: an experiment under way is void."""

    def describe(self) -> dict[str, Any]:
        """Return the numbers that the last suggestion rests on, for the log of decisions."""
        return {}

    def state_dict(self) -> dict[str, Any] | None:
        """Return what a resumed run needs to go on with the same suggestions, within an experiment as well.

        Called between two windows. Plain values and NumPy arrays, as `core.checkpoints.saved_state` has
        them. None: nothing is kept, and `on_restart` is called when the run is resumed.
        """
        return None

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take on what `state_dict` returned.

        Raises:
            ValueError: If it does not fit; also KeyError and TypeError are understood as that.
        """


class FixedHyperparams(BaseOptimizer):
    """Leaves the hyperparameters as they are: for `RLOptimizer(optimizer=...)`, to switch tuning off.

    Examples:
        >>> from tensor_optix import FixedHyperparams, HyperparamSet
        >>> FixedHyperparams().suggest(HyperparamSet({"gamma": 0.9}), []).params
        {'gamma': 0.9}
    """

    def suggest(
        self, current_hyperparams: HyperparamSet, metrics_history: Sequence[EvalMetrics]
    ) -> HyperparamSet:
        """Return a copy of what is given."""
        return current_hyperparams.copy()

    def on_improvement(self, metrics: EvalMetrics) -> None:
        """Do nothing."""

    def on_plateau(self, metrics_history: Sequence[EvalMetrics]) -> None:
        """Do nothing."""

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: there is nothing to remember."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Refuse the state of a tuner that remembers something."""
        if state:
            require_kind(self, state)


def require_kind(tuner: BaseOptimizer, state: Mapping[str, Any]) -> None:
    """Refuse a state whose `class` is another than the tuner's own.

    Raises:
        ValueError: Naming both.
    """
    own, kept_by = type(tuner).__name__, state.get("class", FixedHyperparams.__name__)
    if kept_by != own:
        raise ValueError(
            f"the tuner's state must be one of {own}, got one of {kept_by}: go on with the tuner that the "
            "run began with"
        )
