"""Environments as an agent sees them: in come a backend's rows, out go those that fit the agent.

Ready-made agents see the parts of a Dict or a Tuple side by side in one row, and behind them which actions
are allowed, if the environment tells it; an agent of the user's sees what the environment gave.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.core.discrete_spaces import DiscreteSpace, choice_counts
from tensor_optix.core.observation_layout import (
    ACTION_MASK,
    MaskedSpace,
    has_parts,
    laid_out,
    seen_space,
)
from tensor_optix.pipeline.vector_contract import VectorEnv, VectorStep, has_arrays

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.observation_layout import AnySpace
    from tensor_optix.core.types import Array


def seen_by(agent: BaseAgent, env: VectorEnv) -> VectorEnv:
    """Return `env`, which was reset, as `agent` sees it: itself where nothing has to be translated.

    Raises:
        ValueError: If no part of the observation space is made of numbers, or masks do not fit the actions.
    """
    are_choices = isinstance(env.action_space, DiscreteSpace)
    env.need_masks(are_choices and agent.takes_action_masks)
    space = env.observation_space
    if agent.sees_rows and (has_parts(space) or isinstance(space, MaskedSpace)):
        env = FlatView(env)
    if env.needs_masks and env.mask_size and has_arrays(env.observation_space):
        return MaskedView(env)
    return env


class View(VectorEnv):
    """Environments whose observations are translated.

    Args:
        env: It is stepped, reset and closed through this view.
        space: Of an observation, as it is seen.
    """

    def __init__(self, env: VectorEnv, space: AnySpace) -> None:
        super().__init__(
            env.name, (space, env.action_space), env.num_envs, env.batch_size, env.max_episode_steps
        )
        self._env = env
        self.recipe, self.info_keys, self.label = env.recipe, env.info_keys, env.label
        self.mask_size, self.needs_masks = env.mask_size, env.needs_masks

    def reset(self, seed: int | None = None) -> None:
        """Reset every environment."""
        self._env.reset(seed)

    def send(self, actions: Array, env_ids: Array) -> None:
        """Send one action to each environment."""
        self._env.send(actions, env_ids)

    def episode_states(self) -> list[dict[str, Any]] | None:
        """Return what the episodes under way can be rebuilt from."""
        return self._env.episode_states()

    def rebuild(self, states: Sequence[dict[str, Any]]) -> bool:
        """Go on with the episodes of `episode_states`."""
        return self._env.rebuild(states)

    def close(self) -> None:
        """Close what the library made."""
        self._env.close()


class FlatView(View):
    """Environments whose observations are seen as rows of numbers, and an `action_mask` among them apart.

    Args:
        env: Its observations come as objects, or as rows with masks behind them.
    """

    def __init__(self, env: VectorEnv) -> None:
        whole = env.observation_space
        space = seen_space(whole)
        masked = space if isinstance(space, MaskedSpace) else None
        super().__init__(env, space if masked is None else masked.plain)
        self._flat = laid_out(whole) if has_parts(whole) else None
        self._masked = masked
        if masked is not None:
            self.mask_size = masked.mask_size

    def recv(self) -> VectorStep:
        """Wait for rows, and lay their observations out."""
        step = self._env.recv()
        rows, ends = self._rows(step.observations), self._rows(step.end_observations)
        if self._masked is None:
            return step._replace(observations=rows, end_observations=ends)
        (shown, masks), (last, end_masks) = self._masked.split(rows), self._masked.split(ends)
        dtype = self.observation_space.dtype
        return step._replace(
            observations=shown.astype(dtype, copy=False),
            end_observations=last.astype(dtype, copy=False),
            action_masks=masks,
            end_masks=end_masks,
        )

    def _rows(self, observations: Array) -> Array:
        if self._flat is None:
            return observations
        rows = [self._flat.flattened(one, self.label) for one in observations]
        return np.stack(rows) if rows else np.empty((0, *self._flat.shape), self._flat.dtype)


class MaskedView(View):
    """Environments that tell which actions are allowed, with these masks behind their observations.

    Args:
        env: It is stepped, reset and closed through this view.

    Raises:
        ValueError: If the masks have not one number for each action of every choice.
    """

    def __init__(self, env: VectorEnv) -> None:
        assert isinstance(env.action_space, DiscreteSpace)
        choices = np.array(choice_counts(env.action_space), np.int64)
        if env.mask_size != choices.sum():
            raise ValueError(
                f"{ACTION_MASK!r} must have a number for each of the {choices.sum()} actions of "
                f"{env.action_space}, got {env.mask_size}: give it that length, or take it out of infos and "
                "observations"
            )
        self._space = MaskedSpace(env.observation_space, env.mask_size)
        super().__init__(env, self._space)
        self._choices, self._firsts = choices, np.cumsum(choices) - choices

    def recv(self) -> VectorStep:
        """Wait for rows, and put their masks behind their observations."""
        step = self._env.recv()
        return step._replace(
            observations=self._joined(step.observations, step.action_masks),
            end_observations=self._joined(step.end_observations, step.end_masks),
            action_masks=None,
            end_masks=None,
        )

    def _joined(self, observations: Array, masks: Array | None) -> Array:
        assert masks is not None
        # Of a choice of which nothing is allowed nothing is said.
        is_silent = ~np.logical_or.reduceat(masks, self._firsts, axis=1)
        masks = masks | np.repeat(is_silent, self._choices, axis=1)
        return self._space.joined(observations, masks)
