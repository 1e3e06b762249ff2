"""How far a variant strays from what it is cloned from: scores come in, noise and hyperparameters go out."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.core.search_space import SearchSpace
from tensor_optix.core.statistics import finite, slope_t

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.types import Array, EvalMetrics

STEADY_RISE = 0.05
"""A score that rises by this share of its mean per evaluation needs no variety at all."""
BASE_NOISE = 0.01
LEAST_NOISE, MOST_NOISE = 0.005, 0.1
"""Bounds of the noise where there are no validation scores."""
RECENT = 10
LEAST_POINTS = 3


def scores_of(history: Sequence[EvalMetrics]) -> Array:
    """Return the finite scores `[n]` of a history."""
    return finite([metrics.primary_score for metrics in history])


def train_and_val(history: Sequence[EvalMetrics]) -> tuple[Array, Array]:
    """Return the training and validation scores, `[n]` each, of the evaluations that have both."""
    pairs = [
        (metrics.metrics["train_score"], metrics.metrics["val_score"])
        for metrics in history
        if "train_score" in metrics.metrics and "val_score" in metrics.metrics
    ]
    both = np.array(pairs, np.float64).reshape(-1, 2)
    both = both[np.isfinite(both).all(axis=1)]
    return both[:, 0], both[:, 1]


def correlation(first: Array, second: Array) -> float | None:
    """Return Pearson's correlation of `[n]` and `[n]`; None with fewer than 3 points or without spread."""
    if len(first) < LEAST_POINTS or np.ptp(first) == 0.0 or np.ptp(second) == 0.0:
        return None
    return float(np.corrcoef(first, second)[0, 1])


def adaptive_noise_scale(
    history: Sequence[EvalMetrics],
    min_scale: float = 0.001,
    max_scale: float = 0.1,
    window: int = 10,
) -> float:
    """Return little noise while training goes well, and much when it does not.

    `max - t (1 - gap / 2) (1 - corr / 2) (max - min)`, with `t` the slope of the score by its mean and by
    0.05, `gap` the mean of training minus validation score by the mean validation score, and `corr` one
    minus their correlation, each clipped into [0, 1]. Without validation scores `gap` and `corr` are 0.

    Args:
        history: Evaluations, oldest first; the last `window` count.
        min_scale: The least noise.
        max_scale: The most, also with fewer than 3 scores or a mean of 0.
        window: How many evaluations count.
    """
    recent = history[-window:]
    scores = scores_of(recent)
    mean = float(scores.mean()) if len(scores) else 0.0
    if len(scores) < LEAST_POINTS or mean == 0.0:
        return max_scale
    progress = _clip(slope_t(scores).slope / abs(mean) / STEADY_RISE)
    train, val = train_and_val(recent)
    gap = divergence = 0.0
    if len(val):
        gap = _clip(float((train - val).mean()) / max(abs(float(val.mean())), 1e-8))
        agreement = correlation(train, val)
        divergence = 0.0 if agreement is None else _clip(1.0 - agreement)
    effect = progress * (1.0 - 0.5 * gap) * (1.0 - 0.5 * divergence)
    return max_scale - effect * (max_scale - min_scale)


def spawn_noise(history: Sequence[EvalMetrics], spawn_count: int) -> float:
    """Return the noise of the next variant.

    With validation scores `adaptive_noise_scale`. Without them `0.01 / (1 + r)`, with `r` the improvement
    over the last 10 scores, `(best - first) / |first|`, and with fewer than 2 scores `0.01 * 2^spawn_count`,
    which widens the search from variant to variant; both are clipped into [0.005, 0.1].
    """
    if len(train_and_val(history)[1]):
        return adaptive_noise_scale(history)
    scores = scores_of(history)[-RECENT:]
    if len(scores) < 2:
        return min(MOST_NOISE, BASE_NOISE * 2.0 ** min(spawn_count, 10))
    gain = float(scores.max() - scores[0]) / max(abs(float(scores[0])), 1e-8)
    return min(max(BASE_NOISE / (1.0 + gain), LEAST_NOISE), MOST_NOISE)


def vary(agent: BaseAgent, noise_scale: float, origin: tuple[float, int]) -> None:
    """Put noise on an agent's weights and hyperparameters.

    Weights are multiplied by `1 + noise_scale * N(0, 1)` where the agent can do that; for the
    hyperparameters see `varied_hyperparams`.

    Args:
        agent: Is changed.
        noise_scale: Relative standard deviation of the noise.
        origin: The score of the policy that the agent holds, and the number of the variant. All random
            choices follow from them, so that a run can be repeated.
    """
    score, number = origin
    bits = int(np.float64(score).view(np.uint64))
    seed, noise_seed = np.random.SeedSequence([bits, number]).generate_state(2)
    agent.seed(int(seed))
    agent.perturb_weights(noise_scale)
    hyperparams = agent.get_hyperparams()
    rng = np.random.default_rng(int(noise_seed))
    varied = varied_hyperparams(agent, hyperparams.params, noise_scale, rng)
    agent.set_hyperparams(replace(hyperparams, params=varied))


def varied_hyperparams(
    agent: BaseAgent, params: Mapping[str, Any], noise_scale: float, rng: np.random.Generator
) -> dict[str, Any]:
    """Return hyperparameters with noise on those that the agent names bounds for.

    Such a number is multiplied by `1 + noise_scale * N(0, 1)`, on a logarithmic scale by
    `exp(noise_scale * N(0, 1))`, and clipped into its bounds; whole numbers stay whole. Everything else
    stays as it is: flags, capacities, and numbers of which nobody says what they may be.
    """
    space = SearchSpace(agent.default_param_bounds, agent.default_log_params)
    varied = dict(params)
    for name in space.names_in(params):
        step = noise_scale * float(rng.standard_normal())
        factor = math.exp(step) if name in space.log_params else 1.0 + step
        value = params[name] * factor
        varied[name] = round(value) if isinstance(params[name], int | np.integer) else value
    return space.clip(varied)


def _clip(value: float) -> float:
    return min(max(value, 0.0), 1.0)
