"""What the batch and the vector pipeline have in common: collecting windows from a `VectorEnv`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from tensor_optix.core.base_pipeline import BasePipeline
from tensor_optix.pipeline._vector_contract import VectorStep
from tensor_optix.pipeline.action_scaling import environment_actions, kept_dtype
from tensor_optix.pipeline.rollout import EpisodeStatistics, Rollout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.types import Array, EpisodeData
    from tensor_optix.pipeline.vector_env import VectorEnv

Finisher: TypeAlias = Callable[[Rollout, VectorStep], None]
"""What is done with a vector step before the next action is chosen."""


class RolloutPipeline(BasePipeline):
    """Steps a vector environment and yields windows; episodes go on over their borders.

    Two rollouts are used in turn: what a window shows is valid until the next but one is asked for.

    Args:
        make_env: Makes the environments, with a seed or None; called by the first `setup`.
        agent: Chooses the actions; may also be given later, by `set_agent`.
        window_size: Rows per environment and window.
        seed: Where the environments' randomness starts, at every `setup`. None: anywhere.
        rescale_actions: Whether an agent's actions in [-1, 1] are stretched to the action space.
    """

    def __init__(
        self,
        make_env: Callable[[int | None], VectorEnv],
        agent: BaseAgent | None,
        window_size: int,
        seed: int | None,
        rescale_actions: bool = True,
    ) -> None:
        if not isinstance(window_size, int | np.integer) or window_size < 1:
            raise ValueError(f"window_size must be a whole number >= 1, got {window_size!r}")
        self.window_size = window_size
        self._agent = agent
        self._seed = seed
        self._rescale_actions = rescale_actions
        self._make_env = make_env
        self._env: VectorEnv | None = None
        self._rollouts: tuple[Rollout, Rollout] | None = None
        self._is_set_up = False

    @property
    def env(self) -> VectorEnv:
        """The vector environment, made when first asked for."""
        if self._env is None:
            self._env = self._make_env(self._seed)
        return self._env

    @property
    def n_steps(self) -> int:
        """Another name of `window_size`."""
        return self.window_size

    @property
    def is_live(self) -> bool:
        """False: the environments can be reset."""
        return False

    def set_agent(self, agent: BaseAgent) -> None:
        """Let `agent` choose the actions from the next window on.

        Raises:
            ValueError: If its actions cannot be stretched to the action space.
        """
        if self._is_set_up:
            self._fit_to(agent)
        self._agent = agent

    def seed(self, seed: int) -> None:
        """Make the environments follow from `seed`, from the next `setup` on."""
        self._seed = seed

    def setup(self) -> None:
        """Reset the environments; the next window is number 0.

        Raises:
            ValueError: If the agent and the environments do not fit together.
        """
        env = self.env
        if self._agent is not None:
            self._agent.check_spaces(env.observation_space, env.action_space)
            self._fit_to(self._agent)
        env.reset(self._seed)
        self._window = 0
        self._statistics = EpisodeStatistics(env.num_envs)
        shape, dtype = env.observation_space.shape, env.observation_space.dtype
        self._observations = np.zeros((env.num_envs, *(shape or ())), dtype)
        self._all_ids = np.arange(env.num_envs)
        for _ in range(env.num_envs // env.batch_size):
            first = env.recv()
            self._observations[first.env_ids] = first.observations
        self._is_set_up = True

    def restart(self) -> None:
        """Reset the environments without making them anew."""
        self.setup()

    def episodes(self) -> Iterator[EpisodeData]:
        """Yield windows without end."""
        if not self._is_set_up:
            self.setup()
        while True:
            yield self._collect()

    def teardown(self) -> None:
        """Close the environments, if they were made here; a later `setup` makes them again."""
        self._is_set_up = False
        if self._env is not None:
            self._env.close()
            self._env = None
            self._rollouts = None

    def _fit_to(self, agent: BaseAgent) -> None:
        """Choose what is done at every step, so that no step has to ask."""
        space = self.env.action_space
        self._to_env = environment_actions(agent, space, self._rescale_actions)
        self._finish = Rollout.finish if agent.is_on_policy else self._observing(agent)
        dtype, size = kept_dtype(agent, space), self.window_size
        if self._rollouts is None or self._rollouts[0].action_dtype != dtype:
            self._rollouts = (Rollout(self.env, size, dtype), Rollout(self.env, size, dtype))

    def _collect(self) -> EpisodeData:
        if self._agent is None:
            raise RuntimeError(
                f"{type(self).__name__} has no agent: pass agent=, or give the pipeline to RLOptimizer"
            )
        assert self._rollouts is not None
        rollout = self._rollouts[self._window % 2]
        rollout.clear()
        env = self.env
        self._act(rollout, self._all_ids, self._observations)
        in_flight = env.num_envs
        while in_flight:
            step = env.recv()
            self._finish(rollout, step)
            if rollout.is_full:
                self._observations[step.env_ids] = step.observations
                in_flight -= len(step.env_ids)
            else:
                self._act(rollout, step.env_ids, step.observations)
        episode = rollout.to_episode(self._window, self._observations, self._statistics)
        self._window += 1
        return episode

    def _act(self, rollout: Rollout, env_ids: Array, observations: Array) -> None:
        assert self._agent is not None
        actions = self._agent.act_batch(observations)
        self.env.send(self._to_env(rollout.begin(env_ids, observations, actions)), env_ids)

    def _observing(self, agent: BaseAgent) -> Finisher:
        """Return a finisher that shows every step to `agent`, unless it holds nothing but resets."""

        def finish(rollout: Rollout, step: VectorStep) -> None:
            rollout.require_finite(step, self._window)
            transitions = rollout.transitions(step)
            rollout.finish(step)
            if len(transitions.env_ids):
                agent.observe(transitions)

        return finish
