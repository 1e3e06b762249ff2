"""Windows from many environments that step together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tensor_optix.pipeline._rollout_pipeline import RolloutPipeline
from tensor_optix.pipeline.vector_env import VectorEnv, from_env_fns, make_vector_env

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tensor_optix.core.base_agent import BaseAgent


class VectorBatchPipeline(RolloutPipeline):
    """Steps N environments at once and lets the agent act on all of them in one call.

    Args:
        env_fns: Functions that each make one Gymnasium environment. Or None, with `env_id`.
        agent: Chooses the actions; `RLOptimizer` sets its own.
        window_size: Steps per environment; a window holds `window_size * n_envs` rows.
        async_envs: Run the `env_fns` in a process each.
        env_id: The id of an environment that EnvPool or Gymnasium knows.
        num_envs: How many of it, 8 if not given.
        backend: Who steps them: "envpool", "envpool-async", "sync", "async", "vector", or "auto": EnvPool
            where it has the environment, else the fastest of the others by a short measurement.
        seed: Makes the environments reproducible.

    Raises:
        ValueError: Unless exactly one of `env_fns` and `env_id` is given.
    """

    def __init__(
        self,
        env_fns: Sequence[Callable[[], Any]] | None = None,
        agent: BaseAgent | None = None,
        window_size: int = 256,
        async_envs: bool = False,
        *,
        env_id: str | None = None,
        num_envs: int | None = None,
        backend: str = "auto",
        seed: int | None = None,
    ) -> None:
        if (env_fns is None) == (env_id is None):
            raise ValueError("VectorBatchPipeline takes either env_fns= or env_id=")
        if env_fns is not None and num_envs not in (None, len(env_fns)):
            raise ValueError(f"num_envs is {num_envs}, but there are {len(env_fns)} env_fns")

        def make_env(seed: int | None) -> VectorEnv:
            if env_fns is not None:
                return from_env_fns(env_fns, asynchronous=async_envs)
            assert env_id is not None
            return make_vector_env(env_id, num_envs=num_envs or 8, backend=backend, seed=seed)

        super().__init__(make_env, agent, window_size, seed)

    @property
    def n_envs(self) -> int:
        """The number of environments."""
        return self.env.num_envs
