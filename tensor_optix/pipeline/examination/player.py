"""One environment, stepped with random actions that it allows: backends' rows come in, plain rows go out."""

from __future__ import annotations

import copy
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from gymnasium.spaces import Discrete

from tensor_optix.core.discrete_spaces import DiscreteSpace, choice_counts, first_choices
from tensor_optix.core.observation_layout import MaskedSpace, has_parts
from tensor_optix.pipeline.agent_view import FlatView
from tensor_optix.pipeline.vector_contract import has_arrays, objects, space_dtype

if TYPE_CHECKING:
    from tensor_optix.core.observation_layout import AnySpace
    from tensor_optix.core.types import Array
    from tensor_optix.pipeline.vector_contract import VectorEnv, VectorStep


class Row(NamedTuple):
    """What followed from one action, or from a reset."""

    observation: Any
    """The true one: of an episode that ended, its last."""
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False

    @property
    def is_end(self) -> bool:
        """Whether the episode ended."""
        return self.terminated or self.truncated


class Player:
    """Steps one environment as ready-made agents see it: several parts in one row, masks apart.

    Args:
        env: One environment. It is reset at once, and goes on to belong to whoever made it.
        seed: Of the environment, and of the actions.

    Attributes:
        env: As ready-made agents see it.
        first: What the first reset gave.
        reset_seconds: How long it took.
        mask: `[A]` bool, which actions are allowed now; None where the environment does not tell.

    Raises:
        ValueError: If no part of the observations is made of numbers, or masks are no masks.
        TypeError: If what it returns is not what Gymnasium asks for.
    """

    def __init__(self, env: VectorEnv, seed: int = 0) -> None:
        self._space = env.action_space
        self._rng = np.random.default_rng(seed)
        self._draws = _seeded(env.action_space, seed)
        begun = time.perf_counter()
        env.reset(seed)
        self.reset_seconds = time.perf_counter() - begun
        space = env.observation_space
        env.need_masks(isinstance(self._space, DiscreteSpace))
        self.env = FlatView(env) if has_parts(space) or isinstance(space, MaskedSpace) else env
        self.mask: Array | None = None
        self.first = self._begun()

    @property
    def allowed(self) -> Array:
        """`[A]` bool, the actions of every choice that are allowed now; all where nothing is told of them."""
        assert isinstance(self._space, DiscreteSpace)
        size = sum(choice_counts(self._space))
        if self.mask is None or len(self.mask) != size or not self.mask.any():
            return np.ones(size, bool)
        return self.mask

    def begin(self, seed: int | None = None) -> Row:
        """Begin an episode, with a seed or without."""
        self.env.reset(seed)
        return self._begun()

    def choose(self) -> Any:
        """Return a random action that is allowed."""
        if self.mask is None or not isinstance(self._space, DiscreteSpace):
            drawn = self._draws.sample()
            return int(drawn) if isinstance(self._space, Discrete) else drawn
        counts = np.array(choice_counts(self._space))
        parts = np.split(self.allowed, np.cumsum(counts)[:-1])
        chosen = [self._rng.choice(np.flatnonzero(part if part.any() else ~part)) for part in parts]
        row = np.array(chosen) + first_choices(self._space)
        if isinstance(self._space, Discrete):
            return int(row[0])
        return row.reshape(self._space.shape or ()).astype(space_dtype(self._space))

    def step(self, action: Any) -> Row:
        """Take one step of an episode; where it ends, the next one begins."""
        while True:
            self.env.send(_batch_of_one(action, self._space), np.arange(1))
            step = self.env.recv()
            self._received(step)
            if step.valid[0]:
                break
        terminated, truncated = bool(step.terminated[0]), bool(step.truncated[0])
        shown = step.end_observations if terminated or truncated else step.observations
        return Row(_kept(shown[0]), float(step.rewards[0]), terminated, truncated)

    def _begun(self) -> Row:
        step = self.env.recv()
        self._received(step)
        return Row(_kept(step.observations[0]))

    def _received(self, step: VectorStep) -> None:
        self.mask = None if step.action_masks is None else step.action_masks[0].copy()


def _seeded(space: AnySpace, seed: int) -> AnySpace:
    """Return a copy of a space whose samples follow from a seed; its own random state stays as it is."""
    copied = copy.deepcopy(space)
    copied.seed(seed)
    return copied


def _batch_of_one(action: Any, space: AnySpace) -> Array:
    if not has_arrays(space):
        return objects([action])
    return np.asarray(action, space_dtype(space))[None]


def _kept(observation: Any) -> Any:
    return observation.copy() if isinstance(observation, np.ndarray) else observation
