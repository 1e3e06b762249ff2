"""PBT: a population of one, spread over time. It copies from its own past what did well, and perturbs it.

Scores come in, one a window; perturbed hyperparameters go out, every time.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.core.argument_checks import at_least, share
from tensor_optix.core.base_optimizer import BaseOptimizer, require_kind
from tensor_optix.core.search_space import SearchSpace, is_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tensor_optix.core.types import EvalMetrics, HyperparamSet

logger = logging.getLogger(__name__)

_LOG_SCALE_PARAMS = frozenset({"learning_rate", "lr", "alpha", "epsilon", "weight_decay"})
_FEWEST_TO_EXPLOIT = 3


class PBTOptimizer(BaseOptimizer):
    """Population based training (Jaderberg et al., 2017) with the run's own past as the population.

    A score among the lowest of the history: copy the hyperparameters of the best, and perturb them a little
    (exploit). Any other, or a history of fewer than 3: perturb the current ones (explore). A perturbation
    at scale s moves a value by `U(-d, d)`, d = s * (highest - lowest), or multiplies it by `exp(U(-d, d))`,
    d = s * ln(highest / lowest), and clips it into its bounds; integers move to whole numbers.

    It explores all the time and tests nothing: where the score does not depend on the hyperparameters they
    wander. `SPSAOptimizer` and `BackoffOptimizer` keep only what stands a test.

    Args:
        param_bounds: `{name: (lowest, highest)}`. None: the agent's own, in a loop; nothing without one.
        history_size: The latest (hyperparameters, score) pairs that are remembered.
        exploit_percentile: The lowest share of the scores, from where it exploits.
        top_percentile: The highest share of the scores. The best of it is copied.
        explore_scale: Perturbation while exploring, as a share of the range.
        exploit_scale: Perturbation of a copy.
        log_scale_params: Names perturbed by factors. None: learning_rate, lr, alpha, epsilon and
            weight_decay, where their lower bound is above 0; with the agent's bounds also those it names.
        seed: For the perturbations. None: different each time.

    Raises:
        ValueError: If a number is out of range, or the bounds are no bounds.

    Examples:
        >>> from tensor_optix import HyperparamSet, PBTOptimizer
        >>> tuner = PBTOptimizer({"learning_rate": (1e-4, 3e-3)}, seed=0)
        >>> moved = tuner.suggest(HyperparamSet({"learning_rate": 1e-3, "n_epochs": 10}), [])
        >>> 1e-4 <= moved.params["learning_rate"] <= 3e-3, moved.params["n_epochs"]
        (True, 10)
    """

    def __init__(
        self,
        param_bounds: Mapping[str, tuple[float, float]] | None = None,
        history_size: int = 50,
        exploit_percentile: float = 0.20,
        top_percentile: float = 0.20,
        explore_scale: float = 0.10,
        exploit_scale: float = 0.05,
        log_scale_params: Iterable[str] | None = None,
        seed: int | None = None,
    ) -> None:
        at_least("history_size", history_size, _FEWEST_TO_EXPLOIT)
        self._takes_defaults = param_bounds is None
        self._log_scale_params = log_scale_params
        self._space = self._space_within(param_bounds or {})
        self._past: deque[tuple[dict[str, Any], float]] = deque(maxlen=history_size)
        self._exploit_percentile = share("exploit_percentile", exploit_percentile)
        self._top_percentile = share("top_percentile", top_percentile)
        self._explore_scale = share("explore_scale", explore_scale)
        self._exploit_scale = share("exploit_scale", exploit_scale)
        self._rng = np.random.default_rng(seed)
        self._decision: dict[str, Any] = {}
        self._has_said_idle = self._has_warned = False
        self._in_plateau = False

    def take_defaults(
        self, param_bounds: Mapping[str, tuple[float, float]], log_params: Sequence[str]
    ) -> None:
        """Tune within the agent's own bounds, if none were given."""
        if self._takes_defaults:
            self._space = self._space_within(param_bounds, log_params)

    def _space_within(
        self, bounds: Mapping[str, tuple[float, float]], log_params: Sequence[str] = ()
    ) -> SearchSpace:
        names = self._log_scale_params
        if names is None:
            usual = [name for name in _LOG_SCALE_PARAMS & bounds.keys() if bounds[name][0] > 0]
            names = [*usual, *log_params]
        return SearchSpace(bounds, names)

    def suggest(
        self, current_hyperparams: HyperparamSet, metrics_history: Sequence[EvalMetrics]
    ) -> HyperparamSet:
        """Return perturbed hyperparameters, within their bounds.

        Args:
            current_hyperparams: Those in force, which made the last score of the history.
            metrics_history: Oldest first. Empty: a plain copy is returned, and so it is where the last
                score is not finite: that is no evidence.

        Raises:
            ValueError: If a tuned hyperparameter is NaN or infinite.
        """
        current = current_hyperparams.copy()
        names = self._space.names_in(current.params)
        if not names and not self._has_said_idle:
            self._has_said_idle = True
            logger.info("%s tunes nothing: no hyperparameter has bounds", type(self).__name__)
        if not names or not metrics_history:
            return current
        self._warn_of_bounds({name: current.params[name] for name in names})
        score = float(metrics_history[-1].primary_score)
        if not math.isfinite(score):
            return current
        self._past.append(({name: current.params[name] for name in names}, score))
        source, scale = self._choose(score)
        point = self._space.to_unit(source)
        point += scale * self._rng.uniform(-1.0, 1.0, len(point))
        current.params.update(self._space.from_unit(point, source))
        return current

    def _warn_of_bounds(self, values: dict[str, Any]) -> None:
        """Say once which hyperparameters are moved into their bounds."""
        inside = self._space.clip(values)
        outside = sorted(name for name in values if inside[name] != values[name])
        if outside and not self._has_warned:
            self._has_warned = True
            logger.warning("not within bounds, and moved into them: %s", ", ".join(outside))

    def on_improvement(self, metrics: EvalMetrics) -> None:
        """Hear that the score improved: the next plateau is a new one."""
        self._in_plateau = False

    def on_plateau(self, metrics_history: Sequence[EvalMetrics]) -> None:
        """Forget the history, when a plateau begins: what did well has stopped doing well.

        The loop calls at every evaluation without an improvement. A history that is cleared every time
        would never hold the three scores that it takes to exploit.
        """
        if not self._in_plateau:
            self._past.clear()
        self._in_plateau = True

    def on_restart(self) -> None:
        """Forget the history: another policy made it."""
        self._past.clear()

    def describe(self) -> dict[str, Any]:
        """Return `phase` (explore or exploit), the score, and the two scores that it was held against."""
        return dict(self._decision)

    def state_dict(self) -> dict[str, Any]:
        """Return the past, the plateau, and the random generator."""
        return {
            "class": type(self).__name__,
            "past": list(self._past),
            "rng": self._rng.bit_generator.state,
            "decision": dict(self._decision),
            "in_plateau": self._in_plateau,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned.

        Raises:
            ValueError: If another kind of tuner made it; like KeyError and TypeError, if it is damaged.
        """
        require_kind(self, state)
        past = [(_numbers(params), float(score)) for params, score in state["past"]]
        self._past = deque(past, maxlen=self._past.maxlen)
        self._rng.bit_generator.state = state["rng"]
        self._decision = dict(state["decision"])
        self._in_plateau = bool(state["in_plateau"])

    def _choose(self, score: float) -> tuple[dict[str, Any], float]:
        """Return the hyperparameters to perturb, and how much."""
        current = self._past[-1][0]
        scores = np.array([past_score for _, past_score in self._past])
        lowest = float(np.quantile(scores, self._exploit_percentile))
        highest = float(np.quantile(scores, 1.0 - self._top_percentile))
        # A history of equal scores has no bottom.
        exploits = len(scores) >= _FEWEST_TO_EXPLOIT and score <= lowest < highest
        self._decision = {
            "phase": "exploit" if exploits else "explore",
            "score": score,
            "bottom": lowest,
            "top": highest,
        }
        if not exploits:
            return current, self._explore_scale
        best, _ = max(self._past, key=lambda pair: pair[1])
        return best, self._exploit_scale


def _numbers(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of hyperparameters that were stored; ValueError if one is no finite number."""
    for name, value in params.items():
        if not (is_number(value) and math.isfinite(value)):
            raise ValueError(f"{name!r} must be a finite number, got {value!r}")
    return dict(params)
