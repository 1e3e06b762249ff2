"""How fast each backend steps: an environment to be made comes in, environment steps a second go out."""

from __future__ import annotations

import warnings
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tensor_optix.core.environment_ids import envpool_ids, gymnasium_spec, is_envpools
from tensor_optix.pipeline.examination.findings import one_line
from tensor_optix.pipeline.vector_env import gymnasium_backends, make_vector_env, steps_per_second

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensor_optix.core.environment_recipe import EnvironmentRecipe
    from tensor_optix.pipeline.examination.findings import Deadline

SEED = 0


@dataclass(frozen=True)
class Speed:
    """How fast a backend is."""

    backend: str
    steps_per_second: float | None = None
    """Of all environments together; None where it was not measured."""
    reason: str = ""
    """Why it was not."""
    is_chosen: bool = False
    """Whether it is the one that steps the training, where no other is asked for."""


def speeds(
    recipe: EnvironmentRecipe,
    num_envs: int,
    backend: str,
    deadline: Deadline,
    reset_seconds: float = 0.0,
) -> list[Speed]:
    """Measure the backends that may step an environment, for a moment each.

    Args:
        recipe: What is made.
        num_envs: N, how many step together.
        backend: What was asked for; "auto" for all among which that chooses.
        deadline: None is begun for which there is no time, by what N resets or the one before took.
        reset_seconds: How long a reset takes.
    """
    measured, needed = list[Speed](), num_envs * reset_seconds
    for name in _automatic(recipe, num_envs) if backend == "auto" else [backend]:
        begun = deadline.left
        if begun <= needed:
            measured.append(Speed(name, reason="no time was left: --seconds"))
            continue
        with warnings.catch_warnings(action="ignore"):
            measured.append(_stepped(recipe, num_envs, name))
        needed = max(needed, begun - deadline.left)
    chosen = _chosen(measured, recipe) if backend == "auto" else measured[0]
    return [replace(one, is_chosen=one is chosen) for one in measured]


def _chosen(measured: Sequence[Speed], recipe: EnvironmentRecipe) -> Speed | None:
    """Return what "auto" takes: EnvPool's where it is the same problem, else the fastest of the others."""
    pools = [one for one in measured if one.backend == "envpool"]
    if pools and is_envpools(recipe.env_id):
        return pools[0]
    others = [one for one in measured if one not in pools]
    return max(others, key=lambda one: one.steps_per_second or 0.0, default=None)


def _automatic(recipe: EnvironmentRecipe, num_envs: int) -> list[str]:
    spec = gymnasium_spec(recipe.env_id)
    has_pool = recipe.is_plain and recipe.env_id in envpool_ids()
    others = [] if spec is None else gymnasium_backends(spec, recipe, num_envs)
    return ["envpool", *others] if has_pool else others


def _stepped(recipe: EnvironmentRecipe, num_envs: int, backend: str) -> Speed:
    env_id, kwargs, wrappers = recipe.env_id, recipe.kwargs, recipe.wrappers
    try:
        env = make_vector_env(env_id, num_envs, backend, SEED, env_kwargs=kwargs, wrappers=wrappers)
        with closing(env):
            return Speed(backend, steps_per_second(env))
    except Exception as error:
        return Speed(backend, reason=one_line(f"{type(error).__name__}: {error}"))
