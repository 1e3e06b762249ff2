"""Corrections where diagnostics alarm: another optimizer's suggestion comes in, a corrected one goes out."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

from tensor_optix.core.argument_checks import above, finite_number, instance_of, share, whole_number
from tensor_optix.core.base_optimizer import BaseOptimizer, FixedHyperparams, require_kind
from tensor_optix.core.search_space import SearchSpace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tensor_optix.core.base_optimizer import ForkPlan, Standing
    from tensor_optix.core.types import EvalMetrics, HyperparamSet

logger = logging.getLogger(__name__)

_FARTHEST = 100.0
_RECOVERED = 0.01
_ROUNDING = 1e-6
"""A framework may keep a rate in single precision."""


class Correction:
    """A factor upon one hyperparameter, and what it was and became when it was last applied.

    Args:
        name: Of the hyperparameter.
        step: The factor that an alarm adds.
        bounds: That a correction must not leave; None: there are none.
    """

    def __init__(self, name: str, step: float, bounds: tuple[float, float] | None) -> None:
        self._name = name
        self._step = step
        self._bounds = bounds or (0.0, math.inf)
        self._start: float | None = None
        self.forget()

    def forget(self) -> None:
        """Correct nothing. The first value ever seen is not forgotten."""
        self.factor = 1.0
        self._asked: Any = None
        self._given: float | None = None
        self._before = 0.0

    def undo(self, params: dict[str, Any]) -> None:
        """Put back what was asked for, if the value at hand is what the correction made of it."""
        if self._recognises(params.get(self._name)):
            params[self._name] = self._asked

    def read(self, params: Mapping[str, Any]) -> None:
        """Take note of the value in force; one that someone else has set ends the correction."""
        value = params.get(self._name)
        if self._given is not None and not self._recognises(value):
            self.forget()
        if is_positive(value):
            self._before = float(value)
            self._start = self._before if self._start is None else self._start

    def recover(self) -> None:
        """Go halfway back, as powers of the factor go."""
        self.factor = math.sqrt(self.factor)
        if abs(self.factor - 1.0) < _RECOVERED:
            self.factor = 1.0

    def intensify(self, params: Mapping[str, Any]) -> bool:
        """Correct by one step more; return whether there is room for it."""
        value, factor = params.get(self._name), self.factor
        if is_positive(value):
            self.factor = self._within(value, factor * self._step) / value
        return self.factor != factor

    def apply(self, params: dict[str, Any]) -> None:
        """Correct the value that the inner optimizer asks for."""
        self._asked, self._given = params.get(self._name), None
        if self.factor != 1.0 and is_positive(self._asked):
            self._given = params[self._name] = self._within(self._asked, self.factor)

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes, as plain values."""
        return {
            "start": self._start,
            "factor": self.factor,
            "asked": self._asked,
            "given": self._given,
            "before": self._before,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned.

        Raises:
            ValueError: If it corrects by or to what is no positive number.
        """
        start, given, asked, factor = (state[key] for key in ("start", "given", "asked", "factor"))
        applied = [] if given is None else [given, asked]
        for value in [factor, *applied, *([] if start is None else [start])]:
            if not is_positive(value):
                raise ValueError(f"a correction is made of positive numbers, got {value!r}")
        self._start, self._given, self._asked = start, given, asked
        self.factor, self._before = float(factor), float(state["before"])

    def _within(self, value: float, factor: float) -> float:
        """Return value times factor, as far as there is room; never beyond value the other way."""
        start = value if self._start is None else self._start
        low, high = self._bounds
        if factor < 1.0:
            return max(value * factor, min(value, max(low, start / _FARTHEST)))
        return min(value * factor, max(value, min(high, start * _FARTHEST)))

    def _recognises(self, value: Any) -> bool:
        """Whether an agent made this value of the one given: it may clip, or stay where it was."""
        if self._given is None or not is_positive(value):
            return False
        low, high = sorted((self._before, self._given))
        return low * (1.0 - _ROUNDING) <= value <= high * (1.0 + _ROUNDING)


def is_positive(value: Any) -> TypeGuard[float]:
    """Whether a hyperparameter is a finite number above 0, and so can be multiplied."""
    try:
        return not isinstance(value, bool) and 0.0 < float(value) < math.inf
    except (TypeError, ValueError):
        return False


_LOSS_HORIZON = 10
_LOSSES = ("policy_loss", "loss", "critic_loss")
_KL_EXCESS = 2.0
_AT_FLOOR = 1.05
"""Epsilon is at its floor below this multiple of it, as for `BaseAgent.is_exploring` of DQN."""


@dataclass(frozen=True, kw_only=True)
class DiagnosticSettings:
    """When diagnostics alarm, and what is done about it.

    Raises:
        ValueError: If a number is out of range.
    """

    loss_spike_factor: float = 5.0
    """A loss whose absolute value is more than this times the mean of the last 10 (without zeros, which
    mean that nothing was learned) is a spike."""
    entropy_floor: float = 0.05
    """In nats. The differential entropy of continuous actions may well be negative."""
    target_kl: float = 0.02
    """In nats."""
    epsilon_patience: int = 20
    """Evaluations with epsilon at its floor before the first reset."""
    epsilon_reset_value: float = 0.3
    """What epsilon is raised to."""
    epsilon_score_threshold: float | None = None
    """A score below this is poor. None: epsilon is left alone."""
    min_episodes: int = 5
    """Evaluations before the first correction of a hyperparameter, and between two."""

    def __post_init__(self) -> None:
        above("loss_spike_factor", self.loss_spike_factor, 1)
        finite_number("entropy_floor", self.entropy_floor)
        above("target_kl", self.target_kl, 0)
        whole_number("epsilon_patience", self.epsilon_patience)
        share("epsilon_reset_value", self.epsilon_reset_value)
        if self.epsilon_score_threshold is not None:
            finite_number("epsilon_score_threshold", self.epsilon_score_threshold)
        whole_number("min_episodes", self.min_episodes)


class DiagnosticController(BaseOptimizer):
    """Corrects what another optimizer suggests while the agent's diagnostics alarm.

    * The loss is a spike, or `approx_kl` above twice its target: the learning rate is halved.
    * The entropy is below its floor: `entropy_coef` is doubled.
    * Epsilon has been at `epsilon_min` for long, and the score is poor: epsilon is raised once. Every
      reset doubles the patience, so that a run which stays poor still ends. The agent's own schedule
      brings epsilon down again.

    A correction is a factor upon what the inner optimizer asks for. It is applied at most once in
    `min_episodes` evaluations, stays within the bounds and within a factor of 100 of the first value, and
    goes halfway back (on a logarithmic scale) at each evaluation without the alarm. The inner optimizer
    never sees it: scores are told to it as those of what it asked for. A hyperparameter that anyone else
    changes meanwhile is taken as it is, and its correction is forgotten.

    Args:
        inner: Makes the suggestions. None: nobody, there are corrections only.
        bounds: `{name: (lowest, highest)}` of the agent; None: there are none.
        **rules: Fields of `DiagnosticSettings`.

    Raises:
        TypeError: If `inner` is no optimizer, or on an unknown rule.
        ValueError: If a number is out of range, or the bounds are no bounds.

    Examples:
        >>> from tensor_optix import RLOptimizer, VectorBatchPipeline, make_agent
        >>> pipeline = VectorBatchPipeline(env_id="CartPole-v1", num_envs=8)
        >>> agent = make_agent("CartPole-v1", framework="native")
        >>> optimizer = RLOptimizer(agent, pipeline, diag_entropy_floor=0.05)
    """

    def __init__(
        self,
        inner: BaseOptimizer | None = None,
        *,
        bounds: Mapping[str, tuple[float, float]] | None = None,
        **rules: Any,
    ) -> None:
        self._inner: BaseOptimizer = instance_of(
            "inner", FixedHyperparams() if inner is None else inner, BaseOptimizer
        )
        self._settings = DiagnosticSettings(**rules)
        self._epsilon_patience = int(self._settings.epsilon_patience)
        self._bounds = SearchSpace(bounds or {}).bounds
        self._corrections = {
            name: Correction(name, step, self._bounds.get(name))
            for name, step in (("learning_rate", 0.5), ("entropy_coef", 2.0))
        }
        self._evaluations = 0
        self._corrected_at: dict[str, int] = {}
        self._alarms: dict[str, list[str]] = {}

    @property
    def is_probing(self) -> bool:
        """Whether the inner optimizer is experimenting: a correction is no experiment."""
        return self._inner.is_probing

    def accepted(self, current_hyperparams: HyperparamSet) -> HyperparamSet | None:
        """Return what the inner optimizer accepts, without corrections."""
        return self._inner.accepted(self._uncorrected(current_hyperparams))

    def suggest(
        self, current_hyperparams: HyperparamSet, metrics_history: Sequence[EvalMetrics]
    ) -> HyperparamSet:
        """Return the inner optimizer's suggestion, corrected.

        Args:
            current_hyperparams: Those in force, which made the last score of the history.
            metrics_history: Oldest first. The diagnostics are read from `metrics`, with or without the
                prefix `train_`. Empty: the inner optimizer's answer is returned as it is.
        """
        uncorrected = self._uncorrected(current_hyperparams)
        if not metrics_history:
            return self._inner.suggest(uncorrected, metrics_history)
        for correction in self._corrections.values():
            correction.read(current_hyperparams.params)
        suggestion = self._inner.suggest(uncorrected, metrics_history).copy()
        self._evaluations += 1
        self._alarms = self._find_alarms(metrics_history)
        for name, correction in self._corrections.items():
            if name not in self._alarms:
                correction.recover()
            elif self._may_correct(name) and correction.intensify(suggestion.params):
                self._corrected_at[name] = self._evaluations
                logger.info("%s: %s is corrected", " and ".join(self._alarms[name]), name)
            correction.apply(suggestion.params)
        self._raise_epsilon(suggestion.params, metrics_history)
        return suggestion

    def propose_forks(self, standing: Standing) -> ForkPlan | None:
        """Return what the inner optimizer proposes."""
        return self._inner.propose_forks(standing)

    def on_improvement(self, metrics: EvalMetrics) -> None:
        """Tell the inner optimizer."""
        self._inner.on_improvement(metrics)

    def on_plateau(self, metrics_history: Sequence[EvalMetrics]) -> None:
        """Tell the inner optimizer."""
        self._inner.on_plateau(metrics_history)

    def take_defaults(
        self, param_bounds: Mapping[str, tuple[float, float]], log_params: Sequence[str]
    ) -> None:
        """Tell the inner optimizer."""
        self._inner.take_defaults(param_bounds, log_params)

    def on_restart(self) -> None:
        """Forget the corrections, and tell the inner optimizer: what comes next is as it should be."""
        for correction in self._corrections.values():
            correction.forget()
        self._inner.on_restart()

    def describe(self) -> dict[str, Any]:
        """Return the inner optimizer's numbers, and `alarms` and `corrections` by hyperparameter."""
        factors = {name: correction.factor for name, correction in self._corrections.items()}
        return self._inner.describe() | {
            "alarms": self._alarms,
            "corrections": {name: factor for name, factor in factors.items() if factor != 1.0},
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the corrections, and what the inner optimizer keeps."""
        return {
            "class": type(self).__name__,
            "inner": self._inner.state_dict(),
            "corrections": {name: one.state_dict() for name, one in self._corrections.items()},
            "evaluations": self._evaluations,
            "epsilon_patience": self._epsilon_patience,
            "corrected_at": dict(self._corrected_at),
            "alarms": {name: list(reasons) for name, reasons in self._alarms.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned; for an inner optimizer that keeps nothing, from a restart.

        Raises:
            ValueError: If another kind of tuner made it; like KeyError and TypeError, if it is damaged.
        """
        require_kind(self, state)
        if state["inner"] is None:
            self._inner.on_restart()
        else:
            self._inner.load_state_dict(state["inner"])
        for name, correction in self._corrections.items():
            correction.load_state_dict(state["corrections"][name])
        self._evaluations = int(state["evaluations"])
        self._epsilon_patience = int(state["epsilon_patience"])
        self._corrected_at = {name: int(at) for name, at in state["corrected_at"].items()}
        self._alarms = {name: list(reasons) for name, reasons in state["alarms"].items()}

    def _uncorrected(self, current: HyperparamSet) -> HyperparamSet:
        uncorrected = current.copy()
        for correction in self._corrections.values():
            correction.undo(uncorrected.params)
        return uncorrected

    def _may_correct(self, name: str) -> bool:
        return self._evaluations - self._corrected_at.get(name, 0) >= self._settings.min_episodes

    def _find_alarms(self, history: Sequence[EvalMetrics]) -> dict[str, list[str]]:
        """Return what is wrong, by the hyperparameter that is to be corrected."""
        alarms: dict[str, list[str]] = {}
        loss, usual = _losses(history)
        has_usual = len(usual) >= min(self._settings.min_episodes, _LOSS_HORIZON)
        if has_usual and abs(loss) > self._settings.loss_spike_factor * sum(usual) / len(usual):
            alarms.setdefault("learning_rate", []).append(f"loss {loss:g} is a spike")
        kl = _diagnostic(history[-1], "approx_kl")
        if kl > _KL_EXCESS * self._settings.target_kl:
            alarms.setdefault("learning_rate", []).append(f"approx_kl {kl:g} is too large")
        entropy = _diagnostic(history[-1], "entropy")
        if entropy < self._settings.entropy_floor:
            alarms.setdefault("entropy_coef", []).append(f"entropy {entropy:g} is too low")
        return alarms

    def _raise_epsilon(self, params: dict[str, Any], history: Sequence[EvalMetrics]) -> None:
        """Explore again, if exploring is over and the score is poor."""
        threshold, score = self._settings.epsilon_score_threshold, history[-1].primary_score
        value, floor = params.get("epsilon"), params.get("epsilon_min")
        if threshold is None or not score < threshold or not self._may_correct("epsilon"):
            return
        if not (is_positive(value) and is_positive(floor) and self._has_explored(floor, history)):
            return
        low, high = self._bounds.get("epsilon", (0.0, 1.0))
        params["epsilon"] = max(value, min(max(self._settings.epsilon_reset_value, low), high))
        self._epsilon_patience *= 2
        self._corrected_at["epsilon"] = self._evaluations
        self._alarms["epsilon"] = [f"epsilon is at its floor and the score {score:g} is poor"]
        logger.info("%s: it is raised to %g", self._alarms["epsilon"][0], params["epsilon"])

    def _has_explored(self, floor: float, history: Sequence[EvalMetrics]) -> bool:
        recent = [_diagnostic(metrics, "epsilon") for metrics in history[-self._epsilon_patience :]]
        is_long = len(recent) == self._epsilon_patience
        return is_long and all(epsilon <= _AT_FLOOR * floor for epsilon in recent)


def _losses(history: Sequence[EvalMetrics]) -> tuple[float, list[float]]:
    """Return the last loss and the absolute ones before it; NaN where the agent tells none."""
    name = _loss_name(history[-1])
    before = [abs(_diagnostic(metrics, name)) for metrics in history[-1 - _LOSS_HORIZON : -1]]
    return _diagnostic(history[-1], name), [loss for loss in before if loss > 0.0]


def _loss_name(metrics: EvalMetrics) -> str:
    keys = [key for key in metrics.metrics if "loss" in key and not key.startswith("val_")]
    names = [key.removeprefix("train_") for key in keys]
    told = [name for name in _LOSSES if name in names]
    return next(iter(told or names), "loss")


def _diagnostic(metrics: EvalMetrics, name: str) -> float:
    """Return a diagnostic of the training; NaN, which no comparison holds for, if it is missing."""
    value = metrics.metrics.get(f"train_{name}", metrics.metrics.get(name))
    try:
        return math.nan if value is None else float(value)
    except (TypeError, ValueError):
        return math.nan
