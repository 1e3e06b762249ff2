"""SPSA: all hyperparameters are tuned at once, from one pair of probes, however many there are.

Scores come in, one a window; the base, a probe, or a step under test goes out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tensor_optix.core.argument_checks import above
from tensor_optix.optimizers.experimenter import Experimenter, probe_sizes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tensor_optix.optimizers.experimenter import Cycle

_LARGEST_PERTURBATION = 0.2


class SPSAOptimizer(Experimenter):
    """Simultaneous perturbation stochastic approximation, with every step tested before it is kept.

    With x the tuned hyperparameters in the unit cube (Spall, "Multivariate stochastic approximation using
    a simultaneous perturbation gradient approximation", 1992):

        delta in {-1, +1}^D at random; probe x + c delta and x - c delta
        g_i = (f+ - f-) / (2 c delta_i), within +-gradient_clip
        x' = clip(x + learning_rate * shrinkage * g, 0, 1)

    f is the score in units of its noise (without noise: of the span of the scores seen, so that nothing
    changes for scores between 0 and 1). The shrinkage `max(0, 1 - 1/t^2)` of the difference leaves the step
    whole without noise, and takes none without evidence. An integer is probed, and steps, by 1 at least.

    The base moves only to points that stand a test against it, and a step that stood is taken again;
    `Experimenter` has the rules.

    Args:
        param_bounds: `{name: (lowest, highest)}`. None: the agent's own, in a loop; nothing without one.
        perturbation_scale: c, as a share of the range.
        learning_rate: The longest step is this times `gradient_clip`, as a share of the range.
        min_perturbation: c falls by a fifth with every improvement, down to this. It doubles when a plateau
            begins, up to 0.2. After a cycle that moved nothing it is what it was at first, at least;
            in a plateau it doubles.
        gradient_clip: The largest |g_i|.
        log_params: Names searched on a logarithmic scale. None: the agent's own, with its bounds.
        seed: For the directions. None: different each time.

    Raises:
        ValueError: If a number is out of range, or the bounds are no bounds.

    Examples:
        >>> from tensor_optix import RLOptimizer, SPSAOptimizer, VectorBatchPipeline, make_agent
        >>> tuner = SPSAOptimizer({"learning_rate": (1e-4, 3e-3), "gamma": (0.95, 0.999)})
        >>> pipeline = VectorBatchPipeline(env_id="CartPole-v1", num_envs=8)
        >>> agent = make_agent("CartPole-v1", framework="native")
        >>> optimizer = RLOptimizer(agent, pipeline, optimizer=tuner)
    """

    def __init__(
        self,
        param_bounds: Mapping[str, tuple[float, float]] | None = None,
        perturbation_scale: float = 0.05,
        learning_rate: float = 0.1,
        min_perturbation: float = 1e-4,
        gradient_clip: float = 1.0,
        log_params: Sequence[str] | None = None,
        seed: int | None = None,
    ) -> None:
        sizes = probe_sizes(
            "min_perturbation", min_perturbation, perturbation_scale, _LARGEST_PERTURBATION
        )
        super().__init__(param_bounds, sizes, log_params, seed)
        self._learning_rate = above("learning_rate", learning_rate, 0)
        self._gradient_clip = above("gradient_clip", gradient_clip, 0)

    def _cycle(self) -> Cycle:
        base = self._base.point
        signs = self._rng.choice([-1.0, 1.0], len(base))
        offset = signs * np.maximum(self._probe_size, self._base.smallest_steps())
        probe = yield from self._probe(base, offset)
        evidence = probe.evidence
        gradient = np.clip(probe.slopes, -self._gradient_clip, self._gradient_clip)
        step = self._learning_rate * evidence.shrinkage * gradient
        if not step.any():
            self._conclude("no evidence", evidence)
            self._widen()
            return False
        whole = np.maximum(np.abs(step), self._base.smallest_steps())
        supports = replace(evidence, z=abs(evidence.z))
        has_moved = yield from self._climb(np.sign(step) * whole, supports)
        if not has_moved:
            self._widen()
        return has_moved
