"""Whether an exported policy acts as the policy does: both come in, how far they are apart goes out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from gymnasium.spaces import MultiBinary

from tensor_optix.adapters.inference_graph import Stretch
from tensor_optix.core.observation_layout import FlatSpace, layout_of
from tensor_optix.exporting.numpy_reading import Outputs, allowed_scores, stretched
from tensor_optix.exporting.policy_graph import stored_actor_of
from tensor_optix.exporting.sampling import elements, nested
from tensor_optix.pipeline.action_scaling import UNIT_WIDTH
from tensor_optix.pipeline.prediction import Predictor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tensor_optix.adapters.inference_graph import Choose, InferenceGraph
    from tensor_optix.core.types import Array
    from tensor_optix.policies.policy import Policy

OBSERVATIONS = 1000
ALONE = 20
"""Of them: that are also shown to `predict` one by one."""
NUMBERS_AT_ONCE = 2**22
"""Of observations that are shown together: bounds the memory that images take."""
TOLERANCE = 1e-5
"""Of continuous actions, as a share of their range; and within which two scores count as equal, as a share of
the observation's largest one if that is above 1."""
SATURATED = 4.0
"""The size of a mean before the tanh from which on the tolerance of actions grows with the largest: float32
rounds sums to a share of their size, and where a large mean crosses 0 the tanh shows all of that."""
SCORE_TOLERANCE = 1e-4
"""Of scores, as a share of the largest one. Float32 sums in another order differ by some millionths."""
LEAST_SCORE = 0.01
"""What the largest score counts as at least."""


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
    """Of the observations: where another action was chosen, whose score equals the best within the
    tolerance."""


Run: TypeAlias = "Callable[[Mapping[str, Array]], Outputs]"
"""B observations, by the names of the inputs, to what an exported policy returns for them."""


def verify(policy: Policy, graph: InferenceGraph, exported: Run) -> Agreement:
    """Show both the same observations, samples of the space and its extremes, and compare what they do.

    Raises:
        Disagreement: If they do not act alike.
    """
    truth = _Truth(policy, graph)
    rng = np.random.default_rng(0)
    count = min(OBSERVATIONS, max(1, NUMBERS_AT_ONCE // truth.numbers))
    found = []
    for first in range(0, OBSERVATIONS, count):
        inputs = truth.sampled(rng, min(count, OBSERVATIONS - first))
        outputs, mask = exported(inputs), truth.mask_of(inputs)
        found.append(_compared(graph, truth(inputs), outputs, mask))
        if first == 0:
            _compare_alone(truth, inputs, exported, outputs)
    return Agreement(
        OBSERVATIONS,
        max((one.actions for one in found if one.actions is not None), default=None),
        max((one.scores for one in found if one.scores is not None), default=None),
        sum(one.ties for one in found),
    )


def _compare_alone(
    truth: _Truth, inputs: Mapping[str, Array], exported: Run, outputs: Outputs
) -> None:
    """Compare `predict` for single observations with the outputs for all, and these with a batch of one."""
    for place in range(min(ALONE, len(outputs.action))):
        row = slice(place, place + 1)
        one = {name: values[row] for name, values in inputs.items()}
        scores = None if outputs.scores is None else outputs.scores[row]
        ours = Outputs(outputs.action[row], scores)
        _compared(truth.graph, truth.alone(inputs, place), ours, truth.mask_of(one))
        if place == 0:
            _compared(truth.graph, truth(one), exported(one), truth.mask_of(one))


class _Truth:
    """What a policy makes of observations by the names of a graph's inputs."""

    def __init__(self, policy: Policy, graph: InferenceGraph) -> None:
        self.graph = graph
        self._policy, self._actor = policy, stored_actor_of(policy)
        seen, self._plain = self._actor.observation_space, self._actor.description.plain_space
        self._predictor = Predictor(self._actor, seen, policy.action_space, policy.rescale_actions)
        self._mask = None if isinstance(graph.head, Stretch) else graph.head.mask
        self.numbers = sum(math.prod(one.shape) for one in graph.signature)
        self._scores: Array = np.empty(0)

    def __call__(self, inputs: Mapping[str, Array]) -> Outputs:
        """Return the actions by `predict`'s own way, and the scores on that way."""
        observations, masks = self._observations(inputs), self.mask_of(inputs)
        actions = self._predictor(self._noting, observations, masks)
        return Outputs(actions, self._scores[:, : self.graph.score_count])

    def mask_of(self, inputs: Mapping[str, Array]) -> Array | None:
        """Return the mask among the inputs; None where the policy takes none."""
        return None if self._mask is None else inputs[self._mask]

    def _noting(self, rows: Array) -> Array:
        """Return the best actions, as the actor does, and keep what they are chosen by."""
        self._scores, masks = self._actor.outputs(rows)
        return self._actor.best(self._scores, masks)

    def alone(self, inputs: Mapping[str, Array], place: int) -> Outputs:
        """Return what `predict` does with one of the observations, as batches of one."""
        one = {name: values[place] for name, values in inputs.items()}
        masks = self.mask_of(one)
        action = self._policy.predict(self._observations(one), action_masks=masks)
        batch = {name: values[place : place + 1] for name, values in inputs.items()}
        return Outputs(np.asarray(action, self.graph.head.dtype)[None], self(batch).scores)

    def _observations(self, inputs: Mapping[str, Array]) -> Any:
        """Return observations as a vector environment gives them."""
        if not isinstance(self._plain, FlatSpace):
            return inputs[self.graph.inputs[0].name]
        paths = {
            field.path: inputs[one.name]
            for field, one in zip(layout_of(self._plain).fields, self.graph.inputs, strict=True)
        }
        return nested(self._policy.observation_space, (), paths)

    def sampled(self, rng: np.random.Generator, count: int) -> dict[str, Array]:
        """Return so many observations, and masks, by the names of the inputs."""
        normalizer = self._actor.normalizer
        found = {}
        for field, one in zip(layout_of(self._plain).fields, self.graph.inputs, strict=True):
            mean, deviation = np.zeros(field.size), np.ones(field.size)
            if normalizer is not None:
                mean = normalizer.mean.reshape(-1)[field.columns]
                deviation = np.sqrt(normalizer.var.reshape(-1)[field.columns])
            found[one.name] = elements(rng, field.space, (mean, deviation), count)
        if self._mask is not None:
            found[self._mask] = elements(
                rng, MultiBinary(self.graph.score_count), (np.zeros(0), np.zeros(0)), count
            )
        return found


def _compared(
    graph: InferenceGraph, expected: Outputs, found: Outputs, mask: Array | None
) -> Agreement:
    """Compare actions and scores for the same observations.

    Raises:
        Disagreement: If they are not alike.
    """
    count, actions = len(expected.action), found.action
    if actions.shape != expected.action.shape or actions.dtype != expected.action.dtype:
        raise Disagreement(
            f"the exported policy returns actions of {actions.dtype} in the shape {actions.shape}, where "
            f"predict's are {expected.action.dtype} in {expected.action.shape}"
        )
    scores = _score_difference(expected, found)
    if isinstance(graph.head, Stretch):
        return Agreement(count, _value_difference(graph.head, expected, actions), scores)
    return Agreement(count, None, scores, _ties(graph.head, expected, actions, mask))


def _score_difference(expected: Outputs, found: Outputs) -> float | None:
    """Return the largest difference of scores; None where there are none."""
    if found.scores is None or expected.scores is None:
        return None
    difference = float(np.abs(found.scores - expected.scores).max())
    most = SCORE_TOLERANCE * max(LEAST_SCORE, _largest(expected))
    if not difference <= most:
        raise Disagreement(
            f"the exported network's outputs differ from the policy's by up to {difference:.2g}, where "
            f"{most:.2g} was allowed"
        )
    return difference


def _largest(expected: Outputs) -> float:
    """Return the largest score."""
    return 0.0 if expected.scores is None else float(np.abs(expected.scores).max())


def _value_difference(head: Stretch, expected: Outputs, actions: Array) -> float:
    """Return the largest difference of continuous actions, as a share of their range."""
    width = head.high - head.low
    width = np.where(np.isfinite(width), np.where(width > 0.0, width, 1.0), UNIT_WIDTH)
    ours, theirs = (one.reshape(len(one), -1) for one in (actions, expected.action))
    apart = np.abs(ours.astype(np.float64) - theirs.astype(np.float64))
    if head.rounds and expected.scores is not None:
        # Halfway between two whole numbers, the last bit decides.
        exact = stretched(head, expected.scores)
        is_between = np.abs(exact - np.floor(exact) - 0.5) <= TOLERANCE * width
        apart = np.where(is_between & (apart <= 1.0), 0.0, apart)
    shares = apart / width
    # Neighbouring numbers of the dtype may be further apart than that.
    least = 0.0 if head.rounds else np.spacing(np.abs(theirs)).astype(np.float64)
    most = TOLERANCE * max(1.0, _largest(expected) / SATURATED)
    is_apart = ~(shares <= most) & ~(apart <= least)
    if is_apart.any():
        raise Disagreement(
            f"the exported policy's actions differ from predict's by up to {shares.max():.2g} of their "
            f"range, where {most:.2g} was allowed"
        )
    return float(shares.max())


def _ties(head: Choose, expected: Outputs, actions: Array, mask: Array | None) -> int:
    """Return for how many observations another action was chosen that is as good as the best."""
    assert expected.scores is not None
    places = (actions.reshape(len(actions), -1) - np.array(head.starts)).astype(np.int64)
    most = TOLERANCE * np.maximum(1.0, np.abs(expected.scores).max(axis=1))
    is_worse, first = np.zeros(len(actions), bool), 0
    for scores in allowed_scores(head, expected.scores, mask):
        chosen = places[:, first : first + scores.shape[1], None]
        best = scores.max(axis=2, keepdims=True)
        lacks = best - np.take_along_axis(scores, chosen, axis=2)
        is_worse |= lacks.max(axis=(1, 2)) > most
        first += scores.shape[1]
    if is_worse.any():
        raise Disagreement(
            f"the exported policy chooses otherwise than predict for {int(is_worse.sum())} of "
            f"{len(actions)} observations"
        )
    return int((actions != expected.action).reshape(len(actions), -1).any(axis=1).sum())
