"""Environments as a pipeline sees them: many at once, one row format, whatever runs them.

In comes an environment id, an environment of the user's or functions that make some; out comes a
`VectorEnv`, whose `VectorStep` rows a pipeline writes into its rollout. The backends are in
`gymnasium_env` and `envpool_env`; which of them runs an environment is decided here.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import logging
import time
import warnings
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete
from gymnasium.vector import SyncVectorEnv

from tensor_optix.core.environment_ids import (
    envpool_difference,
    gymnasium_spec,
    is_envpools,
    missing_package_named,
    plain_id,
    require_envpool,
    require_gymnasium,
    say_once,
)
from tensor_optix.core.environment_recipe import (
    EnvironmentRecipe,
    arguments_named,
    arguments_of,
    make_environment,
)
from tensor_optix.core.observation_layout import seen_space
from tensor_optix.core.plain_warnings import quiet_making
from tensor_optix.core.problem import Problem
from tensor_optix.pipeline.checked_env import (
    CheckedEnv,
    core,
    cores,
    require_environment,
    require_one_reward,
)
from tensor_optix.pipeline.envpool_env import (
    EnvPoolEnv,
    is_envpool,
    make_envpool,
    require_gymnasium_pool,
)
from tensor_optix.pipeline.foreign_vectors import as_vector
from tensor_optix.pipeline.gymnasium_env import SingleEnv, wrap_gymnasium
from tensor_optix.pipeline.restarting_env import RestartingEnv
from tensor_optix.pipeline.vector_contract import VectorEnv, VectorStep, check_batch_size
from tensor_optix.pipeline.worker_processes import Timeouts, WorkerVectorEnv

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gymnasium.envs.registration import EnvSpec

    from tensor_optix.core.environment_recipe import Wrapper
    from tensor_optix.core.observation_layout import AnySpace
    from tensor_optix.core.types import Array

__all__ = ["VectorEnv", "VectorStep", "from_env_fns", "make_vector_env", "wrap_env"]

logger = logging.getLogger(__name__)

BACKENDS = ("auto", "envpool", "envpool-async", "sync", "async", "vector")
WRAPPING = ("auto", "sync", "async")
"""Backends whose environments are made one by one."""
NO_LIMIT = -1
"""As `gymnasium.make` has it."""
PROBE_STEPS = 300
PROBE_SECONDS = 0.25
REWARD_TOLERANCE = 1e-4
"""Of what is float64 in one, float32 in the other."""


def make_vector_env(
    env_id: str,
    num_envs: int,
    backend: str = "auto",
    seed: int | None = None,
    batch_size: int | None = None,
    *,
    env_kwargs: Mapping[str, Any] | None = None,
    wrappers: Sequence[Wrapper] = (),
    timeouts: Timeouts | None = None,
    restart_environments: bool = False,
) -> VectorEnv:
    """Make `num_envs` environments of a registered id.

    Args:
        env_id: A Gymnasium or EnvPool id; `"module:id"` imports the module first.
        num_envs: N.
        backend: `"envpool"` and `"envpool-async"`, EnvPool in lock step or first come, first
            served; `"sync"` and `"async"`, Gymnasium in this process or in one worker process each;
            `"vector"`, the environment's own vector entry point; `"auto"`, EnvPool where it is
            installed and has the id, else the fastest of the others, measured for a moment; it takes
            only those that give the problem of `gymnasium.make`: its spaces, its rewards, its time
            limit. One that is asked for by name is taken, with a warning that says what differs.
            The choice is in `name`.
        seed: Resets them with this seed at once, so that `recv()` can follow. None leaves that to
            `reset()`.
        batch_size: B, only for `"envpool-async"`: a divisor of N. None: half of N or less.
        env_kwargs: Arguments of the environment's constructor, or of `gymnasium.make`; with an EnvPool
            backend, of `envpool.make`.
        wrappers: Put around each environment, in this order: `gymnasium.Wrapper` classes, functions that
            take an environment and return one, or the names of such as `"module:Class"`. Only
            `"sync"` and `"async"` can. With arguments or wrappers `"auto"` means Gymnasium.
        timeouts: How long they may take in worker processes. None: the usual ones.
        restart_environments: Make one that raises anew, and cut its episode. Only `"sync"` and `"async"` can;
            `"auto"` means one of them.

    Raises:
        ValueError: If the id, the backend, an argument, a wrapper, a size or a space of the environment
            does not fit.
        ImportError: If a package is missing, with the command that installs it.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
    if batch_size is not None and backend != "envpool-async":
        raise ValueError(f'batch_size needs backend="envpool-async", got {backend!r}')
    check_batch_size(num_envs, batch_size or num_envs)
    recipe = EnvironmentRecipe(env_id, env_kwargs or {}, wrappers)
    if recipe.wrappers and backend not in WRAPPING:
        raise ValueError(
            f"wrappers take one environment each, and backend={backend!r} makes many at once: use "
            'backend="sync" or backend="async"'
        )
    if restart_environments and backend not in WRAPPING:
        raise ValueError(
            f'restart_environments needs backend="sync" or "async", got {backend!r}: it makes many at once'
        )
    make = functools.partial(
        _make_gymnasium, timeouts=timeouts, restart_environments=restart_environments
    )
    if backend == "auto":
        env = _make_best(recipe, num_envs, seed, make, restart_environments)
    elif backend.startswith("envpool"):
        require_envpool(env_id)
        _warn_of_another_problem(env_id, "EnvPool's", envpool_difference(env_id))
        size = num_envs if backend == "envpool" else batch_size or half_batch(num_envs)
        env = make_envpool(env_id, num_envs, size, seed, recipe.kwargs)
    else:
        spec = require_gymnasium(env_id)
        env = make(spec, recipe, num_envs, backend)
        if backend == "vector":
            difference = _vector_difference(spec, recipe)
            _warn_of_another_problem(env_id, "its vector entry point", difference or "")
    env.recipe = recipe.recorded()
    if seed is not None:
        env.reset(seed)
    return env


def wrap_env(env: Any) -> VectorEnv:
    """Adapt an environment of the user's: a plain one, a vector one in any reset mode, an EnvPool.

    Its `close()` leaves the environment open, as it was the user who opened it.

    Raises:
        ValueError: If a space is not supported, or one environment is several members of a vector.
        TypeError: If `env` is no environment.
    """
    if is_envpool(env):
        return EnvPoolEnv(env)
    vector = as_vector(env)
    if vector is not None:
        _require_different(cores(vector))
        for each in (vector, *_single_envs(vector)):
            require_one_reward(each)
        name = "sync" if isinstance(vector, SyncVectorEnv) else "vector"
        return _named(wrap_gymnasium(vector, name), *_single_envs(vector))
    checked = CheckedEnv(env)
    return _named(SingleEnv(checked), checked)


def check_env(env: Any) -> None:
    """Check, before anything is done with it, that `wrap_env` takes an object of the user's.

    Raises:
        TypeError: If it is no environment, saying what to do.
    """
    if is_envpool(env):
        require_gymnasium_pool(env)
    elif as_vector(env) is None:
        require_environment(env)


def require_id(
    env_id: str | None, env_kwargs: Mapping[str, Any] | None, wrappers: Sequence[Wrapper]
) -> None:
    """Check that arguments and wrappers come with an id, and have the right form.

    Raises:
        ValueError: If there is no id, or a wrapper is not named as "module:Class".
        TypeError: If they are of another kind.
    """
    if env_id is None and (env_kwargs or wrappers):
        raise ValueError(
            "env_kwargs= and wrappers= say how env_id= is made: leave them out, and give the "
            "environment as it is to be"
        )
    EnvironmentRecipe(env_id or "", env_kwargs or {}, wrappers)


def given_environments(env: Any) -> list[Any]:
    """Return the environments in an object of the user's, without wrappers; none where there is none."""
    return [] if env is None else cores(env)


def from_env_fns(
    env_fns: Sequence[Callable[[], Any]],
    asynchronous: bool = False,
    timeouts: Timeouts | None = None,
    restart_environments: bool = False,
) -> VectorEnv:
    """Make one environment per function.

    Args:
        env_fns: Each returns an environment of its own; lambdas and closures are fine.
        asynchronous: Whether each runs in a process of its own. It pays where a step takes well
            over a tenth of a millisecond.
        timeouts: How long they may take in there. None: the usual ones.
        restart_environments: Make one that raises anew, and cut its episode.

    Raises:
        ValueError: If there are no functions, two return the same object, or a space is not supported.
        TypeError: If one returns no environment.
    """
    if not env_fns:
        raise ValueError("env_fns must name at least one environment, got none")
    in_rows = asynchronous or len(env_fns) > 1
    if restart_environments:
        env_fns = [functools.partial(RestartingEnv, each, n) for n, each in enumerate(env_fns)]
    makers = [functools.partial(_make_checked, each, n, in_rows) for n, each in enumerate(env_fns)]
    with quiet_making():
        if asynchronous:
            return wrap_gymnasium(WorkerVectorEnv(makers, timeouts), "async", owned=True)
        if len(makers) == 1:
            env = makers[0]()
            return _named(SingleEnv(env, "sync", owned=True), env)
        # A step's observations need to last only until the next one, so no copies.
        vector = SyncVectorEnv(makers, copy=False)
    _require_different(cores(vector))
    return _named(wrap_gymnasium(vector, "sync", owned=True), *vector.envs)


def _single_envs(env: gymnasium.vector.VectorEnv[Any, Any, Any]) -> Sequence[Any]:
    """Return what a vector environment steps one by one, where it shows that."""
    return env.envs if isinstance(env, SyncVectorEnv) else ()


def _named(adapter: VectorEnv, *envs: Any) -> VectorEnv:
    """Put down the id of what is adapted, if it is the same for all."""
    ids = {plain_id(env.spec) for env in envs}
    env_id = ids.pop() if len(ids) == 1 else ""
    adapter.recipe = EnvironmentRecipe(env_id) if env_id else None
    return adapter


def half_batch(num_envs: int) -> int:
    """Return the largest divisor of `num_envs` up to its half: two batches are under way."""
    return max(size for size in range(1, max(1, num_envs // 2) + 1) if num_envs % size == 0)


def steps_per_second(env: VectorEnv) -> float:
    """Step `env` for a moment, with random actions, or with allowed ones where it tells which these are.

    Returns:
        Environment steps a second, resets not counted.
    """
    batches = _random_actions(env, 8)
    env.reset()
    env.need_masks(env.mask_size > 0)
    step = env.recv()
    count, start = 0, time.perf_counter()
    for actions in itertools.islice(itertools.cycle(batches), PROBE_STEPS):
        env.send(_allowed(actions, step.action_masks, env.action_space), step.env_ids)
        step = env.recv()
        count += int(np.count_nonzero(step.valid))
        if time.perf_counter() - start > PROBE_SECONDS:
            break
    env.need_masks(False)
    return count / (time.perf_counter() - start)


def _random_actions(env: VectorEnv, count: int) -> list[Array]:
    """Return `count` batches of actions, always the same."""
    # The environment's own space keeps its random state.
    space = copy.deepcopy(env.action_space)
    space.seed(0)
    return [np.stack([space.sample() for _ in range(env.batch_size)]) for _ in range(count)]


def _allowed(actions: Array, masks: Array | None, space: AnySpace) -> Array:
    """Return the actions, or the first that are allowed where `[B, A]` masks of single choices tell."""
    if masks is None or not isinstance(space, Discrete) or masks.shape[1] != space.n:
        return actions
    return np.asarray(np.argmax(masks, axis=1) + space.start, actions.dtype)


def _make_checked(env_fn: Callable[[], Any], number: int, in_rows: bool) -> CheckedEnv:
    """Make environment `number` of several, in a process of its own perhaps.

    Args:
        env_fn: Makes it.
        number: Its number, for messages.
        in_rows: Whether observations of several parts come as rows.
    """
    env = env_fn()
    if is_envpool(env) or as_vector(env) is not None:
        raise TypeError(
            f"env_fns must make one environment each, env_fns[{number}] made the vector environment "
            f"{type(env).__name__}: give it as env="
        )
    return CheckedEnv(env, f"environment {number} ({type(core(env)).__name__})", in_rows)


def _require_different(environments: Sequence[Any]) -> None:
    """Refuse one object in the place of several environments: their episodes would be mixed up."""
    first: dict[int, int] = {}
    for number, env in enumerate(environments):
        same = first.setdefault(id(env), number)
        if same != number:
            raise ValueError(
                f"environments {same} and {number} are one and the same {type(env).__name__}: let each "
                f"function make one of its own, such as lambda: {type(env).__name__}()"
            )


def _make_best(
    recipe: EnvironmentRecipe,
    num_envs: int,
    seed: int | None,
    make: Callable[..., VectorEnv],
    one_by_one: bool,
) -> VectorEnv:
    env_id = recipe.env_id
    if recipe.is_plain and is_envpools(env_id) and not one_by_one:
        try:
            return make_envpool(env_id, num_envs, num_envs, seed)
        except Exception as error:
            if gymnasium_spec(env_id) is None:
                raise
            logger.info("EnvPool cannot make %s (%s): trying Gymnasium", env_id, error)
    spec = require_gymnasium(env_id)
    names = gymnasium_backends(spec, recipe, num_envs)
    if one_by_one:
        names = [name for name in names if name in WRAPPING]
    return _fastest(spec.id, functools.partial(make, spec, recipe, num_envs), names)


def gymnasium_backends(spec: EnvSpec, recipe: EnvironmentRecipe, num_envs: int) -> list[str]:
    """Return the backends of Gymnasium's among which "auto" takes the fastest."""
    names = ["sync"]
    has_vector = spec.vector_entry_point is not None and not recipe.wrappers
    if has_vector and _is_same_as_vector(spec, recipe):
        names.insert(0, "vector")
    if num_envs > 1:
        names.append("async")
    return names


def _is_same_as_vector(spec: EnvSpec, recipe: EnvironmentRecipe) -> bool:
    difference = _vector_difference(spec, recipe)
    if difference:
        say_once(
            logging.INFO,
            f'"{spec.id}": backend vector is another problem than that of gymnasium.make ({difference}) and '
            f'is left out; backend="vector" takes it',
        )
    return difference == ""


def _vector_difference(spec: EnvSpec, recipe: EnvironmentRecipe) -> str | None:
    """Say in what the vector entry point is another problem than `gymnasium.make`.

    Returns:
        Nothing in words where they are the same; None where the two cannot be compared, because one of them
        cannot be made, or takes no such arguments.
    """
    try:
        return _compared_vector(spec, recipe)
    except Exception as error:
        logger.info("%s: backend vector cannot be compared: %s", spec.id, error)
        return None


def _compared_vector(spec: EnvSpec, recipe: EnvironmentRecipe) -> str:
    """Say in what the vector entry point is another problem; nothing where it is the same.

    From the same seed, with the same actions, one environment of each must give the same rewards and ends
    for some hundred steps, as long as that takes no time.
    """
    # Warnings are left to the environments that are kept.
    with contextlib.ExitStack() as opened, warnings.catch_warnings(action="ignore"):
        envs = []
        for name in ("sync", "vector"):
            envs.append(_make_gymnasium(spec, recipe, 1, name))
            opened.callback(envs[-1].close)
        plain, vector = map(_problem_of, envs)
        return ", ".join(vector.differences(plain)) or _row_difference(*envs)


def _problem_of(env: VectorEnv) -> Problem:
    # Rows of several parts come from a vector, objects from a plain environment.
    seen = seen_space(env.observation_space)
    return Problem(seen, env.action_space, env.max_episode_steps)


def _row_difference(plain: VectorEnv, vector: VectorEnv) -> str:
    actions = _random_actions(plain, PROBE_STEPS)
    rows = [_played(env, actions) for env in (plain, vector)]
    for number, (expected, given) in enumerate(zip(*rows, strict=False)):
        if not np.allclose(expected, given, rtol=REWARD_TOLERANCE, atol=REWARD_TOLERANCE):
            reward, *ends = given.tolist()
            return (
                f"the reward {reward:g} and not {expected[0]:g} in step {number} from seed 0"
                if ends == expected[1:].tolist()
                else f"episodes that end otherwise from seed 0, in step {number}"
            )
    return ""


def _played(env: VectorEnv, actions: list[Array]) -> list[Array]:
    """Step one environment for a moment; return of each step the reward, and how its episode ended if so."""
    env.reset(0)
    env.need_masks(env.mask_size > 0)
    step, start = env.recv(), time.perf_counter()
    rows: list[Array] = []
    while len(rows) < len(actions) and time.perf_counter() - start < PROBE_SECONDS:
        allowed = _allowed(actions[len(rows)], step.action_masks, env.action_space)
        env.send(allowed, step.env_ids)
        step = env.recv()
        if step.valid[0]:
            rows.append(np.array([step.rewards[0], step.terminated[0], step.truncated[0]], float))
    return rows


def _warn_of_another_problem(env_id: str, whose: str, difference: str) -> None:
    if difference:
        say_once(
            logging.WARNING,
            f'"{env_id}": {whose} is another problem than that of gymnasium.make ({difference}), so the '
            "scores of the two cannot be compared",
        )


def _fastest(env_id: str, make: Callable[[str], VectorEnv], names: list[str]) -> VectorEnv:
    """Make each backend in turn and keep the one that steps fastest."""
    best: VectorEnv | None = None
    best_speed = 0.0
    failure: Exception | None = None
    for name in names:
        try:
            env = make(name)
        except Exception as error:
            logger.info("%s: backend %s cannot be made: %s", env_id, name, error)
            failure = failure or error
            continue
        speed = _measured(env, best) if len(names) > 1 else 0.0
        logger.info("%s: backend %s makes %.0f steps a second", env_id, name, speed)
        if best is not None and speed <= best_speed:
            env.close()
            continue
        if best is not None:
            best.close()
        best, best_speed = env, speed
    if best is None:
        raise failure or ValueError(f"no backend can make {env_id}")
    logger.info("%s: using backend %s", env_id, best.name)
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


def _make_gymnasium(
    spec: EnvSpec,
    recipe: EnvironmentRecipe,
    num_envs: int,
    backend: str,
    timeouts: Timeouts | None = None,
    restart_environments: bool = False,
) -> VectorEnv:
    if backend == "vector" and spec.vector_entry_point is None:
        raise ValueError(
            f'"{spec.id}" has no vector entry point: use backend="sync" or backend="async"'
        )
    with missing_package_named(spec):
        if backend == "vector":
            takes = functools.partial(arguments_of, spec.vector_entry_point)
            with quiet_making(), arguments_named(spec.id, recipe.kwargs, takes):
                env = gymnasium.make_vec(spec, num_envs, "vector_entry_point", **recipe.kwargs)
            adapter: VectorEnv = wrap_gymnasium(env, "vector", owned=True)
        else:
            make = functools.partial(make_environment, spec, recipe)
            makers = [make] * num_envs
            is_async = backend == "async"
            adapter = from_env_fns(makers, is_async, timeouts, restart_environments)
    known = adapter.max_episode_steps or spec.max_episode_steps
    limit = recipe.kwargs.get("max_episode_steps", known)
    adapter.max_episode_steps = None if limit == NO_LIMIT else limit
    return adapter
