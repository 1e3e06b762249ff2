"""Whether an exported policy acts as the policy does: both come in, how far they are apart goes out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from gymnasium.spaces import Box, Dict, Tuple

from tensor_optix.adapters.inference_graph import Stretch
from tensor_optix.core.observation_layout import FlatSpace, layout_of
from tensor_optix.core.observation_values import limits
from tensor_optix.exporting.numpy_reading import allowed_scores, stretched
from tensor_optix.exporting.policy_graph import stored_actor_of
from tensor_optix.pipeline.prediction import Predictor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tensor_optix.adapters.inference_graph import Choose, InferenceGraph
    from tensor_optix.core.observation_layout import AnySpace
    from tensor_optix.core.types import Array
    from tensor_optix.exporting.numpy_reading import Outputs
    from tensor_optix.policies.acting import StoredActor
    from tensor_optix.policies.policy import Policy

OBSERVATIONS = 1000
BATCH = 100
"""Rows that are shown at once: bounds the memory that images take."""
TOLERANCE = 1e-5
"""Of continuous actions, as a share of their range; and within which two scores count as equal, as a share of
the larger one if that is above 1."""
SCORE_TOLERANCE = 1e-4
"""Of scores, as a share of the largest one. Float32 sums in another order differ by some millionths."""
LEAST_SCORE = 0.01
"""What the largest score counts as at least."""
WIDE = 1e6
"""Bounds further apart than that say nothing of what comes between them."""
FAR = 12.0
"""Standard deviations from the mean of the furthest observations where there are no bounds."""


class Disagreement(RuntimeError):
    """An exported policy does not act as the policy does. Nothing was written."""


class Agreement(NamedTuple):
    """How an exported policy compares with the policy."""

    observations: int
    """How many were shown to both."""
    actions: float | None
    """The largest difference of continuous actions, as a share of their range; None: they are discrete, and
    the same."""
    scores: float | None
    """The largest difference of what they are chosen by; None: the format does not give it."""
    ties: int = 0
    """Of the observations: where the two best scores are equal within the tolerance."""


class _Truth(NamedTuple):
    """What the policy makes of observations."""

    actions: Array
    scores: Array


def verify(
    policy: Policy, graph: InferenceGraph, exported: Callable[[Mapping[str, Array]], Outputs]
) -> Agreement:
    """Show both the same observations, samples of the space and its extremes, and compare what they do.

    Raises:
        Disagreement: If they do not act alike.
    """
    actor = stored_actor_of(policy)
    rng = np.random.default_rng(0)
    inputs = sampled_inputs(rng, actor, graph)
    truth = _truth(policy, actor, graph, inputs)
    found = exported(inputs)
    if found.action.shape != truth.actions.shape or found.action.dtype != truth.actions.dtype:
        raise Disagreement(
            f"the exported policy returns actions of {found.action.dtype} in the shape "
            f"{found.action.shape}, where predict's are {truth.actions.dtype} in {truth.actions.shape}"
        )
    _compare_one(exported, inputs, found)
    scores = _compared_scores(found.scores, truth.scores[:, : graph.score_count])
    if isinstance(graph.head, Stretch):
        return Agreement(OBSERVATIONS, _compared_values(graph.head, found.action, truth), scores)
    mask = None if graph.head.mask is None else inputs[graph.head.mask]
    ties = _compared_choices(graph.head, found.action, truth, mask)
    return Agreement(OBSERVATIONS, None, scores, ties)


def _compare_one(
    exported: Callable[[Mapping[str, Array]], Outputs], inputs: Mapping[str, Array], all_: Outputs
) -> None:
    """Check that a batch of one is taken."""
    alone = exported({name: values[:1] for name, values in inputs.items()}).action
    if alone.shape != all_.action[:1].shape:
        raise Disagreement(
            f"the exported policy returns {alone.shape} for one observation, and {all_.action.shape} for "
            f"{len(all_.action)}"
        )


def _truth(
    policy: Policy, actor: StoredActor, graph: InferenceGraph, inputs: Mapping[str, Array]
) -> _Truth:
    """Return what `predict` does, and what the network says."""
    said: list[Array] = []

    def noting(rows: Array) -> Array:
        outputs, masks = actor.outputs(rows)
        said.append(outputs)
        return actor.best(outputs, masks)

    shadow = Predictor(actor, actor.observation_space, policy.action_space, policy.rescale_actions)
    mask = None if isinstance(graph.head, Stretch) else graph.head.mask
    actions = []
    for first in range(0, OBSERVATIONS, BATCH):
        chunk = {name: values[first : first + BATCH] for name, values in inputs.items()}
        masks = None if mask is None else chunk[mask]
        observations = nested(policy.observation_space, actor, graph, chunk)
        actions.append(policy.predict(observations, action_masks=masks))
        shadow(noting, observations, masks)
    return _Truth(np.concatenate(actions), np.concatenate(said))


def nested(
    space: AnySpace, actor: StoredActor, graph: InferenceGraph, inputs: Mapping[str, Array]
) -> Any:
    """Return observations as a vector environment gives them, of those by the names of the inputs."""
    plain = actor.description.plain_space
    if not isinstance(plain, FlatSpace):
        return inputs[graph.inputs[0].name]
    paths = {
        field.path: inputs[one.name]
        for field, one in zip(layout_of(plain).fields, graph.inputs, strict=True)
    }

    def put(part: AnySpace, path: tuple[Any, ...]) -> Any:
        if isinstance(part, Dict):
            return {key: put(inner, (*path, key)) for key, inner in part.spaces.items()}
        if isinstance(part, Tuple):
            return tuple(put(inner, (*path, place)) for place, inner in enumerate(part.spaces))
        return paths.get(path)

    return put(space, ())


def sampled_inputs(
    rng: np.random.Generator, actor: StoredActor, graph: InferenceGraph
) -> dict[str, Array]:
    """Return observations, and masks, to try a policy on, by the names of the inputs."""
    plain = actor.description.plain_space
    fields = layout_of(plain).fields
    normalizer = actor.normalizer
    found = {}
    for field, one in zip(fields, graph.inputs, strict=True):
        mean, deviation = np.zeros(field.size), np.ones(field.size)
        if normalizer is not None:
            mean = normalizer.mean.reshape(-1)[field.columns]
            deviation = np.sqrt(normalizer.var.reshape(-1)[field.columns])
        found[one.name] = sampled(rng, field.space, mean, deviation)
    if not isinstance(graph.head, Stretch) and graph.head.mask is not None:
        masks = rng.integers(0, 2, (OBSERVATIONS, sum(graph.head.counts)), np.int8)
        masks[0], masks[1] = 0, 1
        found[graph.head.mask] = masks
    return found


def sampled(rng: np.random.Generator, space: Any, mean: Array, deviation: Array) -> Array:
    """Return elements `[N, ...]` of a space: its ends, half of the others between them, half around a mean.

    Args:
        rng: Draws.
        space: Of arrays.
        mean: `[D]`, of a Box; where there are no bounds to speak of, all are around it.
        deviation: `[D]`, the standard deviation around it.
    """
    shape, dtype = tuple(space.shape or ()), np.dtype(space.dtype)
    low, high = limits(space)
    if not isinstance(space, Box):
        drawn = rng.integers(low, high, (OBSERVATIONS, *shape), endpoint=True)
        drawn[0], drawn[1] = low, high
        return np.asarray(drawn, dtype)
    low, high = (end.astype(np.float64).reshape(-1) for end in (low, high))
    with np.errstate(over="ignore", invalid="ignore"):
        is_open = ~(high - low <= WIDE)
    normal = mean + deviation * rng.standard_normal((OBSERVATIONS, len(mean)))
    least = np.where(is_open, mean - FAR * deviation, low)
    most = np.where(is_open, mean + FAR * deviation, high)
    uniform = rng.uniform(least, most, normal.shape)
    is_uniform = (np.arange(OBSERVATIONS) % 2 == 0)[:, None]
    drawn = np.where(is_uniform & ~is_open, uniform, normal)
    drawn[0], drawn[1] = least, most
    drawn = np.clip(drawn, low, high)
    if dtype.kind in "iub":
        drawn = np.rint(drawn)
    return np.asarray(drawn, dtype).reshape(OBSERVATIONS, *shape)


def _compared_scores(found: Array | None, expected: Array) -> float | None:
    """Return the largest difference of scores; None where there are none.

    Raises:
        Disagreement: If they are too far apart.
    """
    if found is None:
        return None
    difference = float(np.abs(found - expected).max())
    most = SCORE_TOLERANCE * max(LEAST_SCORE, float(np.abs(expected).max()))
    if not difference <= most:
        raise Disagreement(
            f"the exported network's outputs differ from the policy's by up to {difference:.2g}, where "
            f"{most:.2g} was allowed"
        )
    return difference


def _compared_values(head: Stretch, found: Array, truth: _Truth) -> float:
    """Return the largest difference of continuous actions, as a share of their range.

    Raises:
        Disagreement: If one is too far from what `predict` returns.
    """
    width = np.where(np.isfinite(head.high - head.low), head.high - head.low, 2.0)
    width = np.where(width > 0.0, width, 1.0)
    apart = np.abs(found.astype(np.float64) - truth.actions.astype(np.float64))
    shares = apart.reshape(len(found), -1) / width
    if head.rounds:
        exact = stretched(head, truth.scores)
        is_between = np.abs(exact - np.floor(exact) - 0.5) <= TOLERANCE * width
        near = is_between & (apart.reshape(len(found), -1) <= 1.0)
        shares = np.where(near, 0.0, shares)
    difference = float(shares.max())
    if not difference <= TOLERANCE:
        raise Disagreement(
            f"the exported policy's actions differ from predict's by up to {difference:.2g} of their range, "
            f"where {TOLERANCE:g} was allowed"
        )
    return difference


def _compared_choices(head: Choose, found: Array, truth: _Truth, mask: Array | None) -> int:
    """Compare discrete actions; return on how many observations the two best are as good as equal.

    Raises:
        Disagreement: If one is another, and the scores of the two are not equal within the tolerance.
    """
    differs = (found != truth.actions).reshape(len(found), -1)
    ties = []
    for one in allowed_scores(head, truth.scores, mask):
        if one.shape[2] == 1:
            ties.append(np.zeros(one.shape[:2], bool))
            continue
        best = np.sort(one, axis=2)[:, :, -2:]
        ties.append(
            best[..., 1] - best[..., 0] <= TOLERANCE * np.maximum(1.0, np.abs(best[..., 1]))
        )
    is_tie = np.concatenate(ties, axis=1)
    wrong = (differs & ~is_tie).any(axis=1)
    if wrong.any():
        raise Disagreement(
            f"the exported policy chooses otherwise than predict on {int(wrong.sum())} of {len(found)} "
            "observations"
        )
    return int(is_tie.any(axis=1).sum())
