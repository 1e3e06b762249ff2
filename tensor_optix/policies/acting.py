"""Acting without an agent: what an agent stored of its policy comes in, an actor that only reads goes out.

No framework is imported: the native engine computes, or NumPy where the kernels are not compiled.
"""

from __future__ import annotations

import itertools
import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import Box, Discrete

from tensor_optix import kernels
from tensor_optix.adapters.native import backend
from tensor_optix.adapters.native.perceptron import DenseNetwork
from tensor_optix.adapters.native.views import Activation, BoundPerceptron, DenseView
from tensor_optix.algorithms import distributions
from tensor_optix.algorithms.acting import LAYERS_FILE, POLICY_FILE, epsilon_greedy, with_noise
from tensor_optix.algorithms.agent_factory import acting_network, has_images
from tensor_optix.algorithms.ready_made import sight_of
from tensor_optix.core.checkpoints.saved_state import read_npz, read_safetensors
from tensor_optix.core.discrete_spaces import DiscreteSpace, choice_counts
from tensor_optix.core.normalizers import EPSILON, ObsNormalizer
from tensor_optix.core.observation_layout import MaskedSpace
from tensor_optix.kernels import engine
from tensor_optix.pipeline.action_scaling import few_numbers_stretcher

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tensor_optix.adapters.network_recipes import Sight
    from tensor_optix.algorithms.acting import ActingKind, PolicyDescription
    from tensor_optix.core.observation_layout import AnySpace
    from tensor_optix.core.types import Array

logger = logging.getLogger(__name__)

OBS_NORMALIZER = "obs_normalizer.npz"
FLOAT = 4
"""Bytes of a weight."""
FEW = 8
"""Components of an action, up to which numbers of Python take less time than arrays."""
FITTING: dict[ActingKind | None, Any] = {
    "categorical": DiscreteSpace,
    "values": Discrete,
    "squashed_gaussian": Box,
    "tanh": Box,
}
"""The action spaces of each kind."""


class StoredActor:
    """Acts as the agent did that stored a policy; nothing in it learns.

    Args:
        description: Of the policy, whose kind and spaces are known.
        network: Acts, as it is from now on.
        normalizer: Of observations; None: they are seen as they are.
        exploration: How much it explores where it is to.

    Attributes:
        description, network, normalizer: The same.
        observation_space: Of the rows that it takes. Behind them masks may be, where actions are choices.
    """

    counts_from_zero = True

    def __init__(
        self,
        description: PolicyDescription,
        network: DenseNetwork,
        normalizer: ObsNormalizer | None,
        exploration: float,
    ) -> None:
        self.description, self.network, self.normalizer = description, network, normalizer
        self.has_unit_actions = isinstance(description.action_space, Box)
        self._kind, self._dtype = description.kind, np.dtype(description.dtype)
        self._exploration = exploration
        seen: Any = description.observation_space
        self.observation_space = with_masks(seen, description.action_space)
        space = self.observation_space
        self._masked = space if isinstance(space, MaskedSpace) else None
        self._misses_masks = isinstance(seen, MaskedSpace)
        self._num_actions, self._distribution = 0, distributions.squashed_gaussian
        if not self.has_unit_actions:
            counts = choice_counts(description.action_space)  # type: ignore[arg-type]
            self._num_actions = sum(counts)
            is_one = isinstance(description.action_space, Discrete)
            self._distribution = (
                distributions.categorical if is_one else distributions.factorized(counts)
            )
        self._rng = np.random.default_rng()
        sees_vectors = engine.has_engine and not has_images(description.plain_space)
        self._forward = EngineForward(network) if sees_vectors else _in_numpy(network)

    def seed(self, seed: int) -> None:
        """Make what is drawn follow from `seed`."""
        self._rng = np.random.default_rng(seed)

    def act_greedy(self, rows: Array) -> Array:
        """Return the best actions for rows `[N, ...]`, behind which masks may be."""
        return self.best(*self.outputs(rows))

    def act_batch(self, rows: Array) -> Array:
        """Return actions for the same as the policy draws them."""
        outputs, masks = self.outputs(rows)
        if self._kind == "values":
            best = self.best(outputs, masks)
            return epsilon_greedy(self._rng, best, self._exploration, self._num_actions, masks)
        if self._kind == "tanh":
            return with_noise(self._rng, self.best(outputs, masks), self._exploration)
        drawn = self._distribution.sample(self._rng, distributions.masked_array(outputs, masks))
        return drawn.astype(self._dtype, copy=False) if self.has_unit_actions else drawn

    def best(self, outputs: Array, masks: Array | None) -> Array:
        """Return the best actions for the network's outputs `[N, F]` and masks `[N, A]`."""
        if self._kind == "tanh":
            return np.asarray(np.tanh(outputs))
        best = self._distribution.greedy(distributions.masked_array(outputs, masks))
        return best.astype(self._dtype, copy=False) if self.has_unit_actions else best

    def outputs(self, rows: Array) -> tuple[Array, Array | None]:
        """Return the network's outputs `[N, F]` for rows, and the masks `[N, A]` behind these, if any."""
        observations, masks = rows, None
        if self._masked is not None and rows.shape[1:] == self._masked.shape:
            observations, masks = self._masked.split(rows)
        elif self._misses_masks:
            self._misses_masks = False
            logger.warning(
                "the policy learned where the environment tells which actions are allowed, and chooses among "
                "all of them now: give it action_masks=info['action_mask']"
            )
        if self.normalizer is not None:
            observations = self.normalizer.normalize(observations)
        return self._forward(np.ascontiguousarray(observations)), masks


def with_masks(seen: AnySpace, actions: Any) -> AnySpace:
    """Return observations with masks behind them, where actions are choices."""
    if isinstance(seen, MaskedSpace) or not isinstance(actions, DiscreteSpace):
        return seen
    return MaskedSpace(seen, sum(choice_counts(actions)))


class EngineForward:
    """Lets the native engine compute a network, whose weights must stay as they are.

    Args:
        network: Of dense layers.
    """

    def __init__(self, network: DenseNetwork) -> None:
        self._bound = BoundPerceptron(network)
        self._perceptron = self._bound.engine()
        self._workspace = engine.Workspace(1)
        self.outputs = self._bound.outputs

    def __call__(self, observations: Array) -> Array:
        """Return what the network makes of observations `[N, ...]`, `[N, F]` float32."""
        return self.of_rows(self._bound.rows(observations))

    def of_rows(self, rows: Array) -> Array:
        """Return what it makes of rows `[N, D]` float32."""
        made = np.empty((len(rows), self.outputs), np.float32)
        engine.forward(self._perceptron, rows, made, self._workspace)
        return made


class QuickWay:
    """The best action for one float32 vector, without what other observations and actions need.

    Args:
        actor: Whose network takes vectors as they are.
        to_action: What a `step` takes, of the network's outputs `[1, F]`; None where those are not finite.
    """

    def __init__(self, actor: StoredActor, to_action: Callable[[Array], Any]) -> None:
        self._forward, self._to_action = EngineForward(actor.network), to_action
        self._moments: tuple[Array, Array, float, float] | None = None
        if actor.normalizer is not None:
            one = actor.normalizer
            self._moments = (one.mean, one.var, one.clip, EPSILON)

    def __call__(self, observation: Array) -> Any:
        """Return the action for an observation `[D]`; None where that is not finite."""
        if np.count_nonzero(np.isfinite(observation)) < observation.size:
            return None
        row = np.ascontiguousarray(observation).reshape(1, -1)
        if self._moments is not None:
            seen = np.empty(row.shape, np.float32)
            kernels.normalize(row, *self._moments, seen)
            row = seen
        return self._to_action(self._forward.of_rows(row))


def quick_way(
    actor: StoredActor, description: PolicyDescription, rescales: bool
) -> QuickWay | None:
    """Return the short way of a policy that sees vectors without masks; None where there is none.

    Args:
        actor: Acts.
        description: Of the policy.
        rescales: Whether actions in [-1, 1] are stretched to the bounds of a Box.
    """
    actions, space = description.action_space, description.observation_space
    is_vector = type(space) is Box and len(space.shape) == 1 and space.dtype == np.float32
    if not (is_vector and engine.has_engine) or actor.network.encoding:
        return None
    if isinstance(actions, Discrete):
        start = int(actions.start)
        return QuickWay(actor, lambda outputs: int(outputs.argmax()) + start)
    if rescales and isinstance(actions, Box) and math.prod(actions.shape) <= FEW:
        return QuickWay(actor, _few_numbers(actions))
    return None


def _few_numbers(space: Box) -> Callable[[Array], Any]:
    """Return what makes an action of a Box of the mean before the tanh, the first of the outputs `[1, F]`."""
    stretch, size, tanh = few_numbers_stretcher(space), math.prod(space.shape), math.tanh

    def to_action(outputs: Array) -> Any:
        action = [tanh(number) for number in outputs[0, :size].tolist()]
        return stretch(action) if math.isfinite(sum(action)) else None

    return to_action


def stored_actor(
    description: PolicyDescription, directory: Path, exploration: float
) -> StoredActor:
    """Return what acts by the policy that an agent stored in a directory.

    Raises:
        ValueError: If files are damaged, or do not fit the description.
        OSError: If there are none.
    """
    actions, fitting = description.action_space, FITTING[description.kind]
    if not isinstance(actions, fitting):
        raise ValueError(f"no {description.kind} policy acts in {actions}")
    network = (
        _exported_network(directory, description.activations, description.plain_space.shape)
        if description.recipe is None and description.activations is not None
        else _recipes_network(description, directory)
    )
    if not all(np.isfinite(one).all() for one in network.weights):
        raise ValueError(f"the weights of the {description.network} in {directory} are not finite")
    outputs = network.layers()[-1].weight.shape[0]
    if outputs != _num_outputs(description):
        raise ValueError(
            f"the {description.network} returns {outputs} numbers, and {description.action_space} needs "
            f"{_num_outputs(description)}"
        )
    return StoredActor(description, network, _normalizer(description, directory), exploration)


def _sight(description: PolicyDescription) -> Sight:
    """Return what the networks of a ready-made agent see."""
    channels = None if description.recipe is None else description.recipe.channels
    return sight_of(
        description.plain_space, channels, divides_bytes=description.normalizer_clip is None
    )


def _num_outputs(description: PolicyDescription) -> int:
    space = description.action_space
    if isinstance(space, Box):
        return math.prod(space.shape) * (2 if description.kind == "squashed_gaussian" else 1)
    return sum(choice_counts(space))  # type: ignore[arg-type]


def _recipes_network(description: PolicyDescription, directory: Path) -> DenseNetwork:
    """Return a ready-made network with the weights that an agent of any framework stored of it.

    Raises:
        ValueError: If the file holds the variables of another network.
        OSError: If there is no such file.
    """
    recipe, path = description.recipe, directory / description.network
    assert recipe is not None
    sizes = [*recipe.hidden_sizes, _num_outputs(description)]
    if not has_images(description.plain_space):
        sizes = [_sight(description).features, *sizes]
    needed = FLOAT * sum(a * b for a, b in itertools.pairwise(sizes))
    size = Path(f"{path}.safetensors").stat().st_size
    # Before memory is taken for what a damaged description says.
    if needed > size:
        raise ValueError(f"{path.name} must have {needed:,} bytes of weights, got {size:,}")
    actions, seen = description.action_space, description.observation_space
    assert seen is not None
    made = acting_network(recipe, seen, actions, path)
    assert isinstance(made, DenseNetwork)
    return made


def _exported_network(
    directory: Path, activations: Sequence[str], shape: Sequence[int]
) -> DenseNetwork:
    """Return a perceptron of the user's, of observations of a shape, whose layers the agent wrote apart."""
    stored = read_safetensors(directory / LAYERS_FILE)
    found = [
        DenseView(
            stored[f"{place}.weight"].astype(np.float32),
            stored[f"{place}.bias"].astype(np.float32) if f"{place}.bias" in stored else None,
            Activation[name],
            True,
        )
        for place, name in enumerate(activations)
    ]
    before = math.prod(shape)
    for one in found:
        outputs = one.weight.shape[:1]
        fits = one.bias is None or one.bias.shape == outputs
        if one.weight.shape != (*outputs, before) or not fits:
            raise ValueError(
                f"a layer in {LAYERS_FILE} must take {before} numbers, got {one.weight.shape}"
            )
        (before,) = outputs
    return DenseNetwork(found)


def _normalizer(description: PolicyDescription, directory: Path) -> ObsNormalizer | None:
    path = directory / OBS_NORMALIZER
    if path.exists() != (description.normalizer_clip is not None):
        raise ValueError(f"{path.name} and {POLICY_FILE} disagree about normalised observations")
    if description.normalizer_clip is None:
        return None
    normalizer = ObsNormalizer(description.plain_space.shape, description.normalizer_clip)
    normalizer.load_state_dict(read_npz(path))
    return normalizer


def _in_numpy(network: DenseNetwork) -> Callable[[Array], Array]:
    return lambda observations: backend.forward(network, observations)
