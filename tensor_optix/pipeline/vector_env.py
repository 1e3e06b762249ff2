"""Environments as a pipeline sees them: many at once, one row format, whatever runs them.

In comes an environment id, an environment of the user's or functions that make some; out comes a
`VectorEnv`, whose `VectorStep` rows a pipeline writes into its rollout. The backends are in the
private modules beside this one, the choice between them is made here.
"""

from __future__ import annotations

import copy
import difflib
import functools
import importlib
import importlib.util
import itertools
import logging
import time
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

from tensor_optix.pipeline._envpool_env import is_envpool, make_envpool, quiet_making, wrap_envpool
from tensor_optix.pipeline._gymnasium_env import wrap_gymnasium
from tensor_optix.pipeline._single_env import SingleEnv
from tensor_optix.pipeline._vector_contract import VectorEnv, VectorStep, check_batch_size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gymnasium.envs.registration import EnvSpec

logger = logging.getLogger(__name__)

BACKENDS = ("auto", "envpool", "envpool-async", "sync", "async", "vector")
PROBE_STEPS = 300
PROBE_SECONDS = 0.25


def make_backend(
    env_id: str, num_envs: int, backend: str, seed: int | None, batch_size: int | None
) -> VectorEnv:
    """Make `num_envs` environments of `env_id` on a named backend, or on the best one.

    Only EnvPool takes the seed already when it is made.

    Raises:
        ValueError: If the id, the backend or a size is not known or does not fit.
        ImportError: If a package is missing, with the command that installs it.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
    if batch_size is not None and backend != "envpool-async":
        raise ValueError(f'batch_size needs backend="envpool-async", got {backend!r}')
    check_batch_size(num_envs, batch_size or num_envs)
    if backend == "auto":
        return _make_best(env_id, num_envs, seed)
    if backend.startswith("envpool"):
        _require_envpool(env_id)
        if backend == "envpool":
            batch_size = num_envs
        return make_envpool(env_id, num_envs, batch_size or half_batch(num_envs), seed)
    spec = _require_gymnasium(env_id)
    return _make_gymnasium(spec, num_envs, backend)


def make_from_functions(env_fns: list[Callable[[], Any]], asynchronous: bool) -> VectorEnv:
    """Run one environment per function, in this process or in one worker process each."""
    with quiet_making():
        if asynchronous:
            workers = AsyncVectorEnv(env_fns, copy=False)
            return wrap_gymnasium(workers, "async", owned=True)
        if len(env_fns) == 1:
            single = SingleEnv(env_fns[0](), owned=True)
            single.name = "sync"
            return single
        # A step's observations need to last only until the next one, so no copies.
        return wrap_gymnasium(SyncVectorEnv(env_fns, copy=False), "sync", owned=True)


def half_batch(num_envs: int) -> int:
    """Return the largest divisor of `num_envs` up to its half: two batches are under way."""
    return max(size for size in range(1, max(1, num_envs // 2) + 1) if num_envs % size == 0)


def steps_per_second(env: VectorEnv) -> float:
    """Step `env` with random actions for a moment.

    Returns:
        Environment steps a second, resets not counted.
    """
    # The environment's own space keeps its random state.
    space = copy.deepcopy(env.action_space)
    space.seed(0)
    batches = [np.stack([space.sample() for _ in range(env.batch_size)]) for _ in range(8)]
    env.reset()
    step = env.recv()
    count, start = 0, time.perf_counter()
    for actions in itertools.islice(itertools.cycle(batches), PROBE_STEPS):
        env.send(actions, step.env_ids)
        step = env.recv()
        count += int(np.count_nonzero(step.valid))
        if time.perf_counter() - start > PROBE_SECONDS:
            break
    return count / (time.perf_counter() - start)


def _make_best(env_id: str, num_envs: int, seed: int | None) -> VectorEnv:
    spec = _gymnasium_spec(env_id)
    if env_id in _envpool_ids():
        try:
            return make_envpool(env_id, num_envs, num_envs, seed)
        except Exception as error:
            if spec is None:
                raise
            logger.info("EnvPool cannot make %s (%s): trying Gymnasium", env_id, error)
    spec = _require_gymnasium(env_id)
    names = ["sync"] if spec.vector_entry_point is None else ["vector", "sync"]
    if num_envs > 1:
        names.append("async")
    return _fastest(spec, num_envs, names)


def _fastest(spec: EnvSpec, num_envs: int, names: list[str]) -> VectorEnv:
    """Make each backend in turn and keep the one that steps fastest."""
    best: VectorEnv | None = None
    best_speed = 0.0
    failure: Exception | None = None
    for name in names:
        try:
            env = _make_gymnasium(spec, num_envs, name)
        except Exception as error:
            logger.info("%s: backend %s cannot be made: %s", spec.id, name, error)
            failure = failure or error
            continue
        speed = _measured(env, best) if len(names) > 1 else 0.0
        logger.info("%s: backend %s makes %.0f steps a second", spec.id, name, speed)
        if best is not None and speed <= best_speed:
            env.close()
            continue
        if best is not None:
            best.close()
        best, best_speed = env, speed
    if best is None:
        raise failure or ValueError(f"no backend can make {spec.id}")
    logger.info("%s: using backend %s", spec.id, best.name)
    return best


def _measured(env: VectorEnv, best: VectorEnv | None) -> float:
    """Measure `env`; should it fail, leave nothing open."""
    try:
        return steps_per_second(env)
    except BaseException:
        env.close()
        if best is not None:
            best.close()
        raise


def _make_gymnasium(spec: EnvSpec, num_envs: int, backend: str) -> VectorEnv:
    if backend == "vector" and spec.vector_entry_point is None:
        raise ValueError(
            f'"{spec.id}" has no vector entry point: use backend="sync" or backend="async"'
        )
    try:
        if backend == "vector":
            with quiet_making():
                env = gymnasium.make_vec(spec.id, num_envs, "vector_entry_point")
            return wrap_gymnasium(env, "vector", owned=True)
        env_fns: list[Callable[[], Any]] = [functools.partial(gymnasium.make, spec.id)] * num_envs
        adapter = make_from_functions(env_fns, backend == "async")
        adapter.max_episode_steps = spec.max_episode_steps
        return adapter
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        raise ImportError(
            f'"{spec.id}" needs a package that is not installed: {error}. '
            f"Install it with: {_install_command(spec)}"
        ) from error


def _install_command(spec: EnvSpec) -> str:
    entry_point = spec.entry_point if isinstance(spec.entry_point, str) else ""
    package, *parts = entry_point.partition(":")[0].split(".")
    if package == "gymnasium" and len(parts) > 1:
        return f'pip install "gymnasium[{parts[1].replace("_", "-")}]"'
    return f"pip install {package}" if package else "pip install with the package that it names"


def _require_envpool(env_id: str) -> None:
    if importlib.util.find_spec("envpool") is None:
        raise ImportError(
            'backend="envpool" needs EnvPool: pip install "tensor-optix[envpool]", or use '
            'backend="auto"'
        )
    if env_id in _envpool_ids():
        return
    if _gymnasium_spec(env_id) is None:
        raise _unknown(env_id)
    raise ValueError(f'EnvPool has no environment "{env_id}", but Gymnasium has: backend="auto"')


def _require_gymnasium(env_id: str) -> EnvSpec:
    spec = _gymnasium_spec(env_id)
    if spec is not None:
        return spec
    if env_id in _envpool_ids():
        raise ValueError(
            f'Gymnasium has no environment "{env_id}" registered, but EnvPool has: '
            f'backend="envpool"'
        )
    raise _unknown(env_id)


def _gymnasium_spec(env_id: str) -> EnvSpec | None:
    """Return the registered spec, after importing the module of `module:id`; None if unknown."""
    module, colon, name = env_id.rpartition(":")
    if colon:
        importlib.import_module(module)
    return gymnasium.registry.get(name)


def _envpool_ids() -> list[str]:
    """Return EnvPool's environment ids, none where it is missing or cannot be loaded."""
    try:
        import envpool
    except ImportError as error:
        logger.info("EnvPool is not used: %s", error)
        return []
    return list(envpool.list_all_envs())


def _unknown(env_id: str) -> ValueError:
    known = [*gymnasium.registry, *_envpool_ids()]
    close = difflib.get_close_matches(env_id, known, n=1)
    if close:
        return ValueError(f'unknown environment "{env_id}"; did you mean "{close[0]}"?')
    return ValueError(
        f'unknown environment "{env_id}"; import the package that registers it first, or name its '
        f'module, as in "my_package:MyEnv-v0"'
    )


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
    env = make_backend(env_id, num_envs, backend, seed, batch_size)
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
    return make_from_functions(list(env_fns), asynchronous)
