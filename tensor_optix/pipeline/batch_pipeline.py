"""Windows of a fixed number of steps from one environment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tensor_optix.pipeline.rollout_pipeline import RolloutPipeline
from tensor_optix.pipeline.vector_env import (
    VectorEnv,
    check_env,
    given_environments,
    make_vector_env,
    require_id,
    wrap_env,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tensor_optix.core.environment_recipe import Wrapper
    from tensor_optix.core.foreign_agent import Actor


class BatchPipeline(RolloutPipeline):
    """Steps one environment continuously; it is reset only where an episode ends.

    Args:
        env: A Gymnasium environment, or any object with `reset`, `step` and both spaces; it stays yours and
            is not closed. Or None, with `env_id`. Its spaces may be any, with an agent of your own: where the
            elements of one are no arrays (Dict, Tuple, Text, Sequence, Graph, spaces of yours), `act` gets or
            gives them as they are, and windows keep copies in an array of objects, one a row. Ready-made
            agents see the parts of a Dict or a Tuple in one row; `pipeline.env.observation_layout` names
            its columns. Masks of the actions are heeded as `VectorBatchPipeline` says.
        agent: Chooses the actions: any object with `act`; `RLOptimizer` sets its own.
        window_size: Steps per window.
        env_id: The id of a registered environment, made and closed here.
        n_steps: Another name of `window_size`.
        seed: Makes the environment reproducible.
        rescale_actions: Whether an agent whose actions are in [-1, 1] has them stretched to the bounds of
            the action space; windows keep them as they were chosen.
        env_kwargs: With `env_id`: arguments of the environment's constructor.
        wrappers: With `env_id`: put around the environment, in this order, as `make_vector_env` has it.

    Raises:
        TypeError: If `env` is no environment.
        ValueError: Unless exactly one of `env` and `env_id` is given.

    Examples:
        >>> import gymnasium
        >>> from tensor_optix import BatchPipeline, make_agent
        >>> agent = make_agent("CartPole-v1", framework="native")
        >>> pipeline = BatchPipeline(gymnasium.make("CartPole-v1"), agent, window_size=16, seed=0)
        >>> pipeline.setup()
        >>> next(pipeline.episodes()).observations.shape
        (16, 4)
        >>> pipeline.teardown()
    """

    def __init__(
        self,
        env: Any = None,
        agent: Actor | None = None,
        window_size: int | None = None,
        *,
        env_id: str | None = None,
        n_steps: int | None = None,
        seed: int | None = None,
        rescale_actions: bool = True,
        env_kwargs: Mapping[str, Any] | None = None,
        wrappers: Sequence[Wrapper] = (),
    ) -> None:
        if isinstance(env, str):
            raise TypeError(f"env must be an environment; for an id use env_id={env!r}")
        if (env is None) == (env_id is None):
            raise ValueError("BatchPipeline takes either env= or env_id=")
        require_id(env_id, env_kwargs, wrappers)
        if env is not None:
            check_env(env)
        self._given = env
        if window_size is not None and n_steps is not None and window_size != n_steps:
            raise ValueError(
                f"window_size and n_steps are one thing, got {window_size} and {n_steps}"
            )

        def make_env(seed: int | None, most_envs: int | None = None) -> VectorEnv:
            if env_id is None:
                return _require_one(wrap_env(env))
            return make_vector_env(
                env_id, 1, "sync", seed, env_kwargs=env_kwargs, wrappers=wrappers
            )

        chosen = window_size if window_size is not None else n_steps
        size = 200 if chosen is None else chosen
        super().__init__(make_env, agent, size, seed, rescale_actions, makes_new=env_id is not None)

    @property
    def environments(self) -> Sequence[object]:
        """The environment given, without wrappers; none where it was made here."""
        return given_environments(self._given)


def _require_one(env: VectorEnv) -> VectorEnv:
    if env.num_envs != 1:
        raise ValueError(
            f"BatchPipeline steps one environment, got a vector of {env.num_envs}; use "
            "VectorBatchPipeline(env=...)"
        )
    return env
