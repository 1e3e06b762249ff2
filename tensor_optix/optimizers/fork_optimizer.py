"""Experiments by forks: where a run stands comes in; which hyperparameters learners are to try goes out.

A run that makes progress is left alone. The loop carries the forks out (`core.decisions.forks`).
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.core.base_optimizer import BaseOptimizer, ForkPlan, OrdinaryRange, require_kind
from tensor_optix.core.search_space import SearchSpace
from tensor_optix.core.types import HyperparamSet, LoopState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tensor_optix.core.base_optimizer import Standing
    from tensor_optix.core.types import EvalMetrics

LOOKS = 3
"""Evaluations, first and latest ones, by which the size of the updates is judged."""
ORDINARY_KL = (4.2e-3, 0.1)
"""How far a window's updates move a policy that learns well: `approx_kl`, nats. Measured with PPO on
CartPole-v1, Acrobot-v1, Pendulum-v1 and LunarLander-v3: 0.0046 to 0.035 with settings that learn fast (the
first updates of six seeds each), 0.0002 to 0.0057, mostly below 0.004, with one epoch, or one update an
epoch, and below 0.0015 with learning rates 30 times too small. Where nothing pays yet (MountainCar-v0,
FrozenLake8x8-v1) it is 0.0022 to 0.006 with settings that learn elsewhere."""
RUINOUS_KL = 1.0
"""A single update that goes so far is enough."""
STUCK_AFTER = 24
"""Evaluations until a run without progress is looked at, about as many windows as the forks take then; twice
as many before the next look. The size of updates is looked at from the start, and as rarely after forks."""
TRIES = 4
"""Sets of hyperparameters that are tried at most beside the present ones. With four in two rounds, and the
present ones in both, that is 9 times what each learns from at first."""
WINDOW_SHARE = 0.03
"""Of the windows so far, what each fork learns from at first, where the run would stop."""
FIRST_WINDOWS = 2
"""The same at the start."""
FAR = 3.0
"""Standard deviations of the latest scores by which these are far above the first."""
NOISE_MEMORY = 32
"""Steps over which exploration lasts, where it is tried."""
HALF_DECADE = 10.0**0.5
LONGER = 3.0
"""How many times longer a horizon, `1 / (1 - gamma)`, is tried."""


class ForkOptimizer(BaseOptimizer):
    """Lets learners with other hyperparameters go on from the present one, where progress is in doubt.

    * At the start, where the first updates move the policy hardly at all, or much too far, and as soon as
      nothing improves while later ones go too far, before the policy is ruined: learning rates over a decade
      and a half to that side.
    * Where nothing was gained in the first evaluations: exploration that lasts, more entropy, learning rates
      to both sides. Not while all scores are alike: those of forks would be, too, and tell nothing.
    * Where the run would stop: the same if nothing was gained, else learning rates to both sides and a longer
      horizon. It stops unless a fork beats the best policy.

    The agent's documented values come first, wherever they differ from the present ones, and what is outside
    the bounds is tried within them.

    Args:
        param_bounds: `{name: (lowest, highest)}`. None: the agent's own, in a loop; nothing is tried without.

    Raises:
        ValueError: If the bounds are no bounds.

    Examples:
        >>> from tensor_optix import RLOptimizer, ForkOptimizer, VectorBatchPipeline, make_agent
        >>> tuner = ForkOptimizer()  # within the bounds that the agent has for itself
        >>> pipeline = VectorBatchPipeline(env_id="CartPole-v1", num_envs=8)
        >>> agent = make_agent("CartPole-v1", framework="native")
        >>> optimizer = RLOptimizer(agent, pipeline, optimizer=tuner)
    """

    def __init__(self, param_bounds: Mapping[str, tuple[float, float]] | None = None) -> None:
        self._takes_defaults = param_bounds is None
        self._bounds = SearchSpace(param_bounds or {}).bounds
        self._has_started = False
        self._stuck_after = STUCK_AFTER
        self._judged_after = LOOKS

    def take_defaults(
        self, param_bounds: Mapping[str, tuple[float, float]], log_params: Sequence[str]
    ) -> None:
        """Stay within the agent's own bounds, if none were given."""
        if self._takes_defaults:
            self._bounds = SearchSpace(param_bounds).bounds

    def suggest(
        self, current_hyperparams: HyperparamSet, metrics_history: Sequence[EvalMetrics]
    ) -> HyperparamSet:
        """Return a copy of what is given: between forks nothing is touched."""
        return current_hyperparams.copy()

    def on_improvement(self, metrics: EvalMetrics) -> None:
        """Do nothing."""

    def on_plateau(self, metrics_history: Sequence[EvalMetrics]) -> None:
        """Do nothing."""

    def propose_forks(self, standing: Standing) -> ForkPlan | None:
        """Return what is to be tried now; None: nothing."""
        if standing.state is LoopState.DORMANT:
            return self._before_the_end(standing)
        evaluations = len(standing.history)
        # What is ruined already is not awaited: forks begin with the best policy, which may be the first one.
        is_ruined = evaluations > 0 and _moved_by(standing) > RUINOUS_KL
        if not self._has_started and (evaluations >= LOOKS or is_ruined):
            self._has_started = True
            plan = self._by_size_of_updates(standing, "the first updates")
            return self._noted(plan, evaluations)
        if standing.state is not LoopState.COOLING:
            return None
        if evaluations >= self._judged_after and _moved_by(standing) > ORDINARY_KL[1]:
            return self._noted(self._by_size_of_updates(standing, "the updates"), evaluations)
        if evaluations < self._stuck_after:
            return None
        self._stuck_after = 2 * evaluations
        if _has_gained(standing) or not _differ(standing):
            return None
        return self._where_nothing_is_gained(standing)

    def state_dict(self) -> dict[str, Any]:
        """Return what was tried already."""
        return {
            "class": type(self).__name__,
            "has_started": self._has_started,
            "stuck_after": self._stuck_after,
            "judged_after": self._judged_after,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned.

        Raises:
            ValueError: If another kind of tuner made it.
        """
        require_kind(self, state)
        self._has_started = bool(state["has_started"])
        self._stuck_after = int(state["stuck_after"])
        self._judged_after = int(state["judged_after"])

    def _noted(self, plan: ForkPlan | None, evaluations: int) -> ForkPlan | None:
        """Leave the size of updates alone for as long again, if there is a plan that is to change it."""
        if plan is not None:
            self._judged_after = max(STUCK_AFTER, 2 * evaluations)
        return plan

    def _by_size_of_updates(self, standing: Standing, which: str) -> ForkPlan | None:
        (least, most), kl = ORDINARY_KL, _moved_by(standing)
        # Where all scores are alike there is little to learn from, and policies move about half as far.
        if math.isnan(kl) or least / (1 if _differ(standing) else 2) <= kl <= most:
            return None
        rate = partial(self._scaled, standing, "learning_rate")
        usual = [self._documented(standing, with_bounds=False), self._documented(standing)]
        if kl < least:
            tries = [*usual, rate(10.0), rate(10.0 * HALF_DECADE), rate(HALF_DECADE)]
        else:
            tries = [self._within_bounds(standing), *usual, rate(0.1), rate(0.1 / HALF_DECADE)]
        how = "hardly move the policy" if kl < least else "move the policy too far"
        reason = f"{which} {how} (KL {kl:.2g})"
        plan = self._plan(standing, tries, FIRST_WINDOWS, reason)
        ordinary = OrdinaryRange("approx_kl", least, most)
        return plan and replace(plan, is_ordered=True, ordinary=ordinary, doubts_present=True)

    def _where_nothing_is_gained(self, standing: Standing) -> ForkPlan | None:
        tries = [
            self._documented(standing, with_bounds=False),
            self._documented(standing),
            self._with_other_noise(standing),
            self._scaled(standing, "entropy_coef", HALF_DECADE),
            self._scaled(standing, "learning_rate", HALF_DECADE),
            self._scaled(standing, "learning_rate", 1.0 / HALF_DECADE),
        ]
        windows = max(FIRST_WINDOWS, round(WINDOW_SHARE * standing.windows))
        plan = self._plan(standing, tries, windows, "nothing was gained so far")
        return plan and replace(plan, is_ordered=True)

    def _before_the_end(self, standing: Standing) -> ForkPlan | None:
        if not _has_gained(standing):
            return self._where_nothing_is_gained(standing)
        tries = [
            self._within_bounds(standing),
            self._documented(standing),
            self._scaled(standing, "learning_rate", 1.0 / HALF_DECADE),
            self._with_longer_horizon(standing),
            self._scaled(standing, "learning_rate", HALF_DECADE),
        ]
        windows = max(1, round(WINDOW_SHARE * standing.windows))
        return self._plan(standing, tries, windows, "nothing left to gain")

    def _plan(
        self, standing: Standing, tries: Sequence[dict[str, Any]], windows: int, reason: str
    ) -> ForkPlan | None:
        """Return a plan of the present hyperparameters and the first few changes; None if there is none."""
        present = standing.hyperparams.params
        changes: list[dict[str, Any]] = []
        for one in tries:
            if one and one not in changes:
                changes.append(one)
        if not changes or not self._bounds:
            return None
        candidates = [HyperparamSet(present | one) for one in ({}, *changes[:TRIES])]
        return ForkPlan(candidates, windows, reason)

    def _within_bounds(self, standing: Standing) -> dict[str, Any]:
        """Return what lies outside the bounds, moved to the nearer one."""
        present = standing.hyperparams.params
        return {
            name: min(max(present[name], low), high)
            for name, (low, high) in self._bounds.items()
            if name in present and not low <= present[name] <= high
        }

    def _documented(self, standing: Standing, with_bounds: bool = True) -> dict[str, Any]:
        """Return the documented values where others are in force; of what has bounds, only if asked for."""
        present = standing.hyperparams.params
        return {
            name: value
            for name, value in standing.defaults.items()
            if name in present
            and (with_bounds or name not in self._bounds)
            and not np.isclose(float(present[name]), float(value), rtol=1e-3)
        }

    def _scaled(self, standing: Standing, name: str, factor: float) -> dict[str, Any]:
        """Return a hyperparameter times a factor, within its bounds; nothing where that changes little."""
        present = standing.hyperparams.params.get(name)
        if present is None or name not in self._bounds or not present > 0.0:
            return {}
        low, high = self._bounds[name]
        value = min(max(present * factor, low), high)
        return {} if abs(math.log(value / present)) < 0.5 else {name: value}

    def _with_other_noise(self, standing: Standing) -> dict[str, Any]:
        """Return exploration that lasts, or not if it does."""
        present = standing.hyperparams.params.get("noise_memory")
        if present is None:
            return {}
        return {"noise_memory": 0 if present else NOISE_MEMORY}

    def _with_longer_horizon(self, standing: Standing) -> dict[str, Any]:
        present = standing.hyperparams.params.get("gamma")
        if present is None or "gamma" not in self._bounds or not present < 1.0:
            return {}
        gamma = min(1.0 - (1.0 - present) / LONGER, self._bounds["gamma"][1])
        return {"gamma": gamma} if gamma > present else {}


def _moved_by(standing: Standing) -> float:
    """Return the median KL of the last few updates; where one of them goes too far for any other, its own."""
    moved = [one.metrics.get("approx_kl", math.nan) for one in standing.history[-LOOKS:]]
    return max(moved) if max(moved) > RUINOUS_KL else float(np.median(moved))


def _differ(standing: Standing) -> bool:
    """Whether any score is another than the first one."""
    return len({one.primary_score for one in standing.history}) > 1


def _has_gained(standing: Standing) -> bool:
    """Whether a score is above the first few by more than these differ, or the latest ones by far."""
    scores = [one.primary_score for one in standing.history]
    first, later = scores[:LOOKS], scores[LOOKS:]
    if not later or max(later) > max(first) + (max(first) - min(first)):
        return True
    latest = scores[-(len(scores) // 3) :]
    rise = np.mean(latest) - np.mean(first)
    return bool(rise > 0.0 and rise > FAR * np.std(latest))
