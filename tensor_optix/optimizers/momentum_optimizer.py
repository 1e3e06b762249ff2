"""Momentum: finite differences, one hyperparameter after the other, and Adam on their gradient.

Scores come in, one a window; the base, a probe, or a step under test goes out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.core.argument_checks import share
from tensor_optix.optimizers.evidence import together
from tensor_optix.optimizers.experimenter import Experimenter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tensor_optix.core.types import Array
    from tensor_optix.optimizers.experimenter import Cycle


class MomentumOptimizer(Experimenter):
    """Adam (Kingma and Ba, 2015) on finite differences, with every step tested before it is kept.

    A cycle probes every hyperparameter x_i of the unit cube on both sides (one side at a bound), and then
    steps along all of them:

        g_i = shrinkage * (f+ - f-) / (x_i+ - x_i-)
        m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2
        x' = clip(x + alpha * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps), 0, 1)

    f is the score in units of its noise (without noise: of the span of the scores seen); the shrinkage
    `max(0, 1 - 1/t^2)` leaves no gradient without evidence. `Experimenter` has the rules of the test. A step
    that is undone takes the moments with it.

    Args:
        param_bounds: `{name: (lowest, highest)}`. None: the agent's own, in a loop; nothing without one.
        alpha: Step size, as a share of the range.
        beta1: Decay of the mean of the gradients.
        beta2: Decay of the mean of their squares.
        eps: Keeps the division finite.
        probe_scale: How far a probe is from the base, as a share of the range; 1 at least for integers.
        min_delta: A step shorter than this in every coordinate is not worth a test.
        seed: Nothing is random here: accepted as for the other optimizers.

    Raises:
        ValueError: If a number is out of range, or the bounds are no bounds.

    Examples:
        >>> from tensor_optix import RLOptimizer, MomentumOptimizer, VectorBatchPipeline, make_agent
        >>> tuner = MomentumOptimizer({"learning_rate": (1e-4, 3e-3)}, alpha=0.1)
        >>> pipeline = VectorBatchPipeline(env_id="CartPole-v1", num_envs=8)
        >>> agent = make_agent("CartPole-v1", framework="native")
        >>> optimizer = RLOptimizer(agent, pipeline, optimizer=tuner)
    """

    def __init__(
        self,
        param_bounds: Mapping[str, tuple[float, float]] | None = None,
        alpha: float = 0.05,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        probe_scale: float = 0.05,
        min_delta: float = 1e-7,
        seed: int | None = None,
    ) -> None:
        for name, value in (("beta1", beta1), ("beta2", beta2), ("min_delta", min_delta)):
            if not 0.0 <= value < 1.0:
                raise ValueError(f"{name} must be in [0, 1), got {value}")
        size = share("probe_scale", probe_scale)
        super().__init__(param_bounds, (size, size, size), seed=seed)
        self._alpha = share("alpha", alpha)
        self._betas = (beta1, beta2)
        self._eps = share("eps", eps)
        self._min_delta = min_delta
        self._reset()

    def on_restart(self) -> None:
        """Forget the moments, too."""
        super().on_restart()
        self._reset()

    def _attributes(self) -> dict[str, Any]:
        moments = {"mean": self._mean, "square": self._square, "steps": self._steps}
        return super()._attributes() | moments

    def _take(self, attributes: dict[str, Any]) -> None:
        super()._take(attributes)
        self._mean = np.asarray(attributes["mean"], np.float64)
        self._square = np.asarray(attributes["square"], np.float64)
        self._steps = int(attributes["steps"])

    def _reset(self) -> None:
        self._mean = self._square = np.zeros(0)
        self._steps = 0

    def _cycle(self) -> Cycle:
        base = self._base.point
        offsets = np.diag(np.maximum(self._probe_size, self._base.smallest_steps()))
        probes = []
        for offset in offsets:
            probes.append((yield from self._probe(base, offset)))
        gradient = sum(probe.evidence.shrinkage * probe.slopes for probe in probes)
        step = self._adam(np.asarray(gradient)) if np.any(gradient) else np.zeros(len(base))
        if np.abs(step).max() < self._min_delta:
            self._reset()
            self._conclude("no evidence", probes[-1].evidence)
            return False
        has_moved = yield from self._climb(step, together([probe.evidence for probe in probes]))
        if not has_moved:
            self._reset()
        return has_moved

    def _adam(self, gradient: Array) -> Array:
        """Return the step `[D]` of one update."""
        if len(self._mean) != len(gradient):
            self._reset()
            self._mean = self._square = np.zeros(len(gradient))
        beta1, beta2 = self._betas
        self._steps += 1
        self._mean = beta1 * self._mean + (1.0 - beta1) * gradient
        self._square = beta2 * self._square + (1.0 - beta2) * gradient**2
        mean = self._mean / (1.0 - beta1**self._steps)
        square = self._square / (1.0 - beta2**self._steps)
        return np.asarray(self._alpha * mean / (np.sqrt(square) + self._eps))
