"""Environments as a pipeline sees them: many at once, one row format, whatever runs them.

In comes an environment id, an environment of the user's or functions that make some; out comes a
`VectorEnv`, whose `VectorStep` rows a pipeline writes into its rollout. The backends are in the
private modules beside this one, the choice between them in `backend_choice`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium

from tensor_optix.pipeline import backend_choice
from tensor_optix.pipeline._envpool_env import is_envpool, wrap_envpool
from tensor_optix.pipeline._gymnasium_env import wrap_gymnasium
from tensor_optix.pipeline._single_env import SingleEnv
from tensor_optix.pipeline._vector_contract import VectorEnv, VectorStep

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["VectorEnv", "VectorStep", "from_env_fns", "make_vector_env", "wrap_env"]


def make_vector_env(
    env_id: str,
    num_envs: int,
    backend: str = "auto",
    seed: int | None = None,
    batch_size: int | None = None,
) -> VectorEnv:
    """Make `num_envs` environments of a registered id.

    Args:
        env_id: A Gymnasium or EnvPool id; `"module:id"` imports the module first.
        num_envs: N.
        backend: `"envpool"` and `"envpool-async"`, EnvPool in lock step or first come, first
            served; `"sync"` and `"async"`, Gymnasium in this process or in one worker process each;
            `"vector"`, the environment's own vector entry point; `"auto"`, EnvPool where it is
            installed and has the id, else the fastest of the others, measured for a moment. The
            choice is in `name`.
        seed: Resets them with this seed at once, so that `recv()` can follow. None leaves that to
            `reset()`.
        batch_size: B, only for `"envpool-async"`: a divisor of N. None: half of N or less.

    Raises:
        ValueError: If the id, the backend, a size or a space of the environment does not fit.
        ImportError: If a package is missing, with the command that installs it.
    """
    env = backend_choice.make_backend(env_id, num_envs, backend, seed, batch_size)
    if seed is not None:
        env.reset(seed)
    return env


def wrap_env(env: Any) -> VectorEnv:
    """Adapt an environment of the user's: a plain one, a vector one in any reset mode, an EnvPool.

    Its `close()` leaves the environment open, as it was the user who opened it.

    Raises:
        ValueError: If a space is not supported.
        TypeError: If `env` is no Gymnasium environment.
    """
    if is_envpool(env):
        return wrap_envpool(env)
    if isinstance(env, gymnasium.vector.VectorEnv):
        return wrap_gymnasium(env, "vector")
    if isinstance(env, gymnasium.Env):
        return SingleEnv(env)
    raise TypeError(
        f"env must be a gymnasium.Env, a gymnasium.vector.VectorEnv or an EnvPool made with "
        f'env_type="gymnasium", got {type(env).__name__}'
    )


def from_env_fns(env_fns: Sequence[Callable[[], Any]], asynchronous: bool = False) -> VectorEnv:
    """Make one environment per function.

    Args:
        env_fns: Each returns a `gymnasium.Env`; lambdas and closures are fine.
        asynchronous: Whether each runs in a process of its own. It pays where a step takes well
            over a tenth of a millisecond.

    Raises:
        ValueError: If there are no functions, or a space is not supported.
    """
    if not env_fns:
        raise ValueError("env_fns must name at least one environment, got none")
    return backend_choice.make_from_functions(list(env_fns), asynchronous)
