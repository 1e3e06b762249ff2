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
    from tensor_optix.core.types import Array
    from tensor_optix.pipeline.vector_contract import VectorEnv, VectorStep

SEED = 0
"""Of the environment, and of the actions."""


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

    Attributes:
        env: As ready-made agents see it.
        first: What the first reset gave.
        reset_seconds: How long it took.
        mask: `[A]` bool, which actions are allowed now; None where the environment does not tell.

    Raises:
        ValueError: If no part of the observations is made of numbers, or masks are no masks.
        TypeError: If what it returns is not what Gymnasium asks for.
    """

    def __init__(self, env: VectorEnv) -> None:
        self._space = env.action_space
        self._rng = np.random.default_rng(SEED)
        # The environment's own space keeps its random state.
        self._draws = copy.deepcopy(env.action_space)
        self._draws.seed(SEED)
        begun = time.perf_counter()
        env.reset(SEED)
        self.reset_seconds = time.perf_counter() - begun
        space = env.observation_space
        env.need_masks(isinstance(self._space, DiscreteSpace))
        self.env = FlatView(env) if has_parts(space) or isinstance(space, MaskedSpace) else env
        self.mask: Array | None = None
        self.first = self._begun()

    def begin(self, seed: int | None = None) -> Row:
        """Begin an episode, with a seed or without."""
        self.env.reset(seed)
        return self._begun()

    def opening(self, seed: int, steps: int) -> tuple[list[Any], bool]:
        """Begin an episode, and play so many random steps of it; return them, and whether it ended."""
        row, actions = self.begin(seed), list[Any]()
        while len(actions) < steps and not row.is_end:
            actions.append(self.choose())
            row = self.step(actions[-1])
        return actions, row.is_end

    def choose(self) -> Any:
        """Return a random action that is allowed."""
        if self.mask is None or not isinstance(self._space, DiscreteSpace):
            drawn = self._draws.sample()
            return int(drawn) if isinstance(self._space, Discrete) else drawn
        parts = np.split(self._allowed(), np.cumsum(choice_counts(self._space))[:-1])
        chosen = [self._rng.choice(np.flatnonzero(part if part.any() else ~part)) for part in parts]
        return action_of(np.array(chosen), self._space)

    def allows(self, action: Any) -> bool:
        """Whether every choice of an action is allowed now."""
        if self.mask is None or not isinstance(self._space, DiscreteSpace):
            return True
        counts = np.array(choice_counts(self._space))
        chosen = np.cumsum(counts) - counts + np.ravel(action) - first_choices(self._space)
        return bool(self._allowed()[chosen].all())

    def step(self, action: Any) -> Row:
        """Take one step of an episode; where it ends, the next one begins."""
        is_array = has_arrays(self._space)
        batch = (
            np.asarray(action, space_dtype(self._space))[None] if is_array else objects([action])
        )
        while True:
            self.env.send(batch, np.arange(1))
            step = self._received()
            if step.valid[0]:
                break
        ends = bool(step.terminated[0]), bool(step.truncated[0])
        shown = step.end_observations if any(ends) else step.observations
        return Row(_kept(shown[0]), float(step.rewards[0]), *ends)

    def _begun(self) -> Row:
        return Row(_kept(self._received().observations[0]))

    def _received(self) -> VectorStep:
        step = self.env.recv()
        self.mask = None if step.action_masks is None else step.action_masks[0].copy()
        return step

    def _allowed(self) -> Array:
        """Return `[A]` bool, the actions of every choice that are allowed; all where no mask tells."""
        assert isinstance(self._space, DiscreteSpace)
        size = sum(choice_counts(self._space))
        if self.mask is None or len(self.mask) != size or not self.mask.any():
            return np.ones(size, bool)
        return self.mask


def action_of(choices: Array, space: DiscreteSpace) -> Any:
    """Return the action that takes choices `[K]`, which are counted from 0."""
    row = choices + first_choices(space)
    if isinstance(space, Discrete):
        return int(row[0])
    return row.reshape(space.shape or ()).astype(space_dtype(space))


def _kept(observation: Any) -> Any:
    return observation.copy() if isinstance(observation, np.ndarray) else observation
