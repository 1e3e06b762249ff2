"""What a loaded policy computes, step by step: a `Policy` comes in, an `InferenceGraph` goes out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import Box

from tensor_optix.adapters.backend import LARGEST_BYTE, OPEN
from tensor_optix.adapters.inference_graph import (
    ACTION,
    Branches,
    ChannelsToFront,
    Choose,
    Columns,
    Convolution2D,
    DenseLayer,
    Divide,
    Flatten,
    GraphInput,
    InferenceGraph,
    Normalize,
    OneHot,
    Stretch,
)
from tensor_optix.adapters.native.encodings import NativeByteScale, NativeFlatten, NativeOneHot
from tensor_optix.adapters.native.inference_layers import (
    NativeColumns,
    NativeConvolution,
    NativeFeatures,
    NativeSideBySide,
    NativeTurned,
)
from tensor_optix.core.discrete_spaces import choice_counts, first_choices
from tensor_optix.core.normalizers import EPSILON
from tensor_optix.core.observation_layout import (
    ACTION_MASK,
    ALONE,
    Encoding,
    FlatSpace,
    MaskedSpace,
    layout_of,
)
from tensor_optix.pipeline.action_scaling import finite_bounds
from tensor_optix.policies.acting import StoredActor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensor_optix.adapters.inference_graph import ActivationName, Step
    from tensor_optix.adapters.native.encodings import NativeEncoding
    from tensor_optix.adapters.native.perceptron import DenseNetwork
    from tensor_optix.core.normalizers import ObsNormalizer
    from tensor_optix.core.observation_layout import AnySpace, ObservationField
    from tensor_optix.core.types import Array
    from tensor_optix.policies.policy import Policy

SCORES = {
    "categorical": "logits",
    "values": "q_values",
    "squashed_gaussian": "mean",
    "tanh": "mean",
}
"""What the network of each kind returns. The means are those before the tanh."""


class NotExportable(ValueError):
    """A policy has no such file; the message says why, and what to do."""


def stored_actor_of(policy: Policy) -> StoredActor:
    """Return what acts in a policy, whose network is known.

    Raises:
        NotExportable: If an agent of the user's acts.
    """
    actor = policy.actor
    if not isinstance(actor, StoredActor):
        raise NotExportable(
            f"this policy acts by the {type(actor).__name__} that tensor_optix.load was given, whose way of "
            "acting is not known here: load it without agent= where its agent is make_agent's or its network "
            "a plain perceptron; any other network is exported by its own framework (torch.onnx.export, "
            "model.export)"
        )
    return actor


def graph_of(policy: Policy) -> InferenceGraph:
    """Return what `policy.predict` computes of raw observations, as steps.

    Raises:
        NotExportable: If it cannot be told.
    """
    actor = stored_actor_of(policy)
    plain = actor.description.plain_space
    inputs = _inputs(plain)
    steps = [] if actor.normalizer is None else [_normalization(actor.normalizer)]
    steps += _network(actor.network, tuple(plain.shape or ()))
    scores = SCORES[str(actor.description.kind)]
    names = {ACTION, scores, *(one.name for one in inputs)}
    head = (
        _stretch(policy.action_space, actor, policy.rescale_actions)
        if isinstance(policy.action_space, Box)
        else _choice(policy.action_space, actor, names)
    )
    return InferenceGraph(inputs, tuple(steps), head, scores)


def _inputs(space: AnySpace) -> tuple[GraphInput, ...]:
    """Return the parts of an observation as the environment gives them."""
    if not isinstance(space, FlatSpace):
        return (GraphInput(ALONE, tuple(space.shape or ()), str(space.dtype)),)
    taken = {ACTION, *SCORES.values()}
    found = list[GraphInput]()
    for field in layout_of(space).fields:
        name = free_name(field.name, taken)
        taken.add(name)
        part = field.space
        steps = (_encoded(field),)
        found.append(GraphInput(name, tuple(part.shape or ()), str(part.dtype), steps))
    return tuple(found)


def free_name(name: str, taken: set[str]) -> str:
    """Return the name of an input, which begins with `observation/` where it is taken otherwise."""
    while name in taken:
        name = f"{ALONE}/{name}"
    return name


def _encoded(field: ObservationField) -> Step:
    if field.encoding is not Encoding.ONE_HOT:
        return Flatten()
    space: Any = field.space
    return OneHot(choice_counts(space), tuple(first_choices(space).tolist()))


def _normalization(normalizer: ObsNormalizer) -> Step:
    return Normalize(normalizer.mean, np.sqrt(normalizer.var + EPSILON), normalizer.clip)


def _network(network: DenseNetwork, shape: tuple[int, ...]) -> list[Step]:
    """Return the steps of a network that sees observations of a shape."""
    steps = _encodings(network.encoding, shape)
    if not steps or not isinstance(steps[-1], Flatten | OneHot | Branches):
        steps.append(Flatten())
    for layer in network.layers():
        weight = layer.weight if layer.is_by_outputs else layer.weight.T
        bias = np.zeros(len(weight), np.float32) if layer.bias is None else layer.bias
        name: ActivationName = layer.activation.name.lower()  # type: ignore[assignment]
        steps.append(DenseLayer(weight, bias, name))
    return steps


def _encodings(encodings: Sequence[NativeEncoding], shape: tuple[int, ...]) -> list[Step]:
    return [_encoding(one, shape) for one in encodings]


def _encoding(one: NativeEncoding, shape: tuple[int, ...]) -> Step:
    """Return what an encoding does to observations of a shape.

    Raises:
        NotExportable: If it is of an unknown kind.
    """
    match one:
        case NativeFlatten() | NativeFeatures():
            return Flatten()
        case NativeOneHot():
            return OneHot(one.sizes, one.starts)
        case NativeByteScale():
            return Divide(_divisors(one, shape))
        case NativeColumns():
            return Columns(one.first, one.shape)
        case NativeTurned():
            return ChannelsToFront()
        case NativeConvolution():
            arrays = one.variables()
            return Convolution2D(arrays["weight"], arrays["bias"], one.stride, one.padding)
        case NativeSideBySide():
            return Branches(tuple(tuple(_encodings(each, shape)) for each in one.branches))
    raise NotExportable(f"nothing is known here of what a {type(one).__name__} computes")


def _divisors(scale: NativeByteScale, shape: tuple[int, ...]) -> Array:
    """Return by what each number of an observation is divided; one number where it is the same for all."""
    divisors = scale.read()
    known = np.where(divisors == OPEN, LARGEST_BYTE, divisors).astype(np.float32)
    return known if len(known) == 1 else np.repeat(known, scale.sizes).reshape(shape)


def _choice(space: Any, actor: StoredActor, names: set[str]) -> Choose:
    is_masked = isinstance(actor.description.observation_space, MaskedSpace)
    return Choose(
        choice_counts(space),
        tuple(first_choices(space).tolist()),
        tuple(space.shape or ()),
        str(space.dtype),
        free_name(ACTION_MASK, names) if is_masked else None,
    )


def _stretch(space: Box, actor: StoredActor, rescales: bool) -> Stretch:
    """Return what makes actions of a Box of means before the tanh.

    Raises:
        NotExportable: If the space holds whole numbers, and actions are not stretched to them.
    """
    holds_integers = np.dtype(space.dtype).kind in "iu"
    size = int(np.prod(space.shape))
    if not rescales:
        if holds_integers:
            raise NotExportable(
                f"actions in [-1, 1] are none of {space}, and the run did not stretch them "
                "(rescale_actions=False): train with rescale_actions=True"
            )
        ends = np.full(size, np.inf)
        bounds = np.zeros(size), np.ones(size), -ends, ends
    else:
        low, high = (bound.reshape(-1) for bound in finite_bounds(space))
        bounds = high / 2 + low / 2, high / 2 - low / 2, low, high
    return Stretch(*bounds, tuple(space.shape), str(space.dtype), holds_integers)
