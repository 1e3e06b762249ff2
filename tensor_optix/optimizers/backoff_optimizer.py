"""Backoff: one hyperparameter at a time, a probe to one side, and back off to the other.

Scores come in, one a window; the base, or the base with one hyperparameter changed, goes out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.core.argument_checks import not_negative
from tensor_optix.optimizers.experimenter import Experimenter, probe_sizes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tensor_optix.core.types import Array, EvalMetrics
    from tensor_optix.optimizers.evidence import Evidence
    from tensor_optix.optimizers.experimenter import Cycle

_LARGEST_DELTA = 0.5
_CLEARLY_WORSE = 2.0


class BackoffOptimizer(Experimenter):
    """Coordinate search in the order of the bounds, with every step tested before it is kept.

    A cycle is one hyperparameter theta: probe theta + delta against the base, and with g = (s+ - s0) / delta

        g > 0: keep theta + delta, if it stands the test; else restore theta
        g <= 0: reverse: probe theta - delta, and keep or restore it likewise

    A step that stood is taken again. Where the upper bound is nearer than half of delta, theta - delta is
    the probe, and the other side is theta itself. delta is a share of the range, 1 at least for an integer.
    It shrinks by a fifth with every improvement, and where both sides are clearly worse. It doubles when a
    plateau begins (then the round starts again at the first hyperparameter), up to 0.5. After a cycle that
    showed nothing it is `perturbation_scale` at least; in a plateau it doubles. `Experimenter` has the
    rules of the test.

    Args:
        param_bounds: `{name: (lowest, highest)}`. None: the agent's own, in a loop; nothing without one.
        perturbation_scale: delta to begin with.
        min_delta: The least delta.
        gradient_threshold: A smaller |g|, in units of the noise per range, counts as 0.
        seed: Nothing is random here: accepted as for the other optimizers.

    Raises:
        ValueError: If a number is out of range, or the bounds are no bounds.

    Examples:
        >>> from tensor_optix import RLOptimizer, BackoffOptimizer, VectorBatchPipeline, make_agent
        >>> tuner = BackoffOptimizer({"entropy_coef": (0.0, 0.05)})
        >>> pipeline = VectorBatchPipeline(env_id="CartPole-v1", num_envs=8)
        >>> agent = make_agent("CartPole-v1", framework="native")
        >>> optimizer = RLOptimizer(agent, pipeline, optimizer=tuner)
    """

    def __init__(
        self,
        param_bounds: Mapping[str, tuple[float, float]] | None = None,
        perturbation_scale: float = 0.05,
        min_delta: float = 1e-4,
        gradient_threshold: float = 1e-10,
        seed: int | None = None,
    ) -> None:
        sizes = probe_sizes("min_delta", min_delta, perturbation_scale, _LARGEST_DELTA)
        super().__init__(param_bounds, sizes, seed=seed)
        self._gradient_threshold = not_negative("gradient_threshold", gradient_threshold)
        self._turn = 0

    def on_plateau(self, metrics_history: Sequence[EvalMetrics]) -> None:
        """As the experimenter does; and begin the round again."""
        if not self._in_plateau:
            self._turn = 0
        super().on_plateau(metrics_history)

    def _attributes(self) -> dict[str, Any]:
        return super()._attributes() | {"turn": self._turn}

    def _take(self, attributes: dict[str, Any]) -> None:
        super()._take(attributes)
        self._turn = int(attributes["turn"])

    def _cycle(self) -> Cycle:
        base = self._base.point
        turn = self._turn % len(base)
        self._turn = turn + 1
        delta = max(self._probe_size, float(self._base.smallest_steps()[turn]))
        is_near_top = base[turn] + 0.5 * delta > 1.0
        step = np.zeros(len(base))
        step[turn] = -delta if is_near_top else delta
        is_kept, first = yield from self._test(np.clip(base + step, 0.0, 1.0))
        if is_kept:
            yield from self._climb(step, first.evidence)
            return True
        slope = first.slopes[turn] * np.sign(step[turn])
        if is_near_top or slope > self._gradient_threshold:
            self._widen()
            return False
        return (yield from self._reverse(-step, first.evidence))

    def _reverse(self, step: Array, other: Evidence) -> Cycle:
        """Try the other side; `other` is the evidence on the first one."""
        point = np.clip(self._base.point + step, 0.0, 1.0)
        if self._base.is_at(point):
            return False
        is_kept, outcome = yield from self._test(point, replace(other, z=-other.z))
        if is_kept:
            yield from self._climb(step, outcome.evidence)
            return True
        if max(other.z, outcome.evidence.z) < -_CLEARLY_WORSE:
            self._narrow()
        else:
            self._widen()
        return False
