"""How fast each backend steps: an environment to be made comes in, environment steps a second go out."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tensor_optix.core.environment_ids import (
    envpool_ids,
    gymnasium_spec,
    is_envpools,
    require_gymnasium,
)
from tensor_optix.pipeline.vector_env import gymnasium_backends, make_vector_env, steps_per_second

if TYPE_CHECKING:
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
    names = _automatic(recipe, num_envs) if backend == "auto" else [backend]
    measured, needed = list[Speed](), num_envs * reset_seconds
    for name in names:
        begun = deadline.left
        if begun <= needed:
            measured.append(Speed(name, reason="no time was left: --seconds"))
            continue
        with warnings.catch_warnings(action="ignore"):
            measured.append(_stepped(recipe, num_envs, name))
        needed = max(needed, begun - deadline.left)
    if not measured:
        return []
    fastest = max(measured, key=lambda one: one.steps_per_second or 0.0)
    chosen = measured[0] if names[0].startswith("envpool") and _is_pools(recipe) else fastest
    return [replace(one, is_chosen=one is chosen) for one in measured]


def _automatic(recipe: EnvironmentRecipe, num_envs: int) -> list[str]:
    has_pool = recipe.is_plain and recipe.env_id in envpool_ids()
    names = ["envpool"] if has_pool else []
    if gymnasium_spec(recipe.env_id) is not None:
        names += gymnasium_backends(require_gymnasium(recipe.env_id), recipe, num_envs)
    return names


def _is_pools(recipe: EnvironmentRecipe) -> bool:
    """Whether EnvPool is taken for being EnvPool, and not for its speed."""
    return gymnasium_spec(recipe.env_id) is None or is_envpools(recipe.env_id)


def _stepped(recipe: EnvironmentRecipe, num_envs: int, backend: str) -> Speed:
    try:
        env = make_vector_env(
            recipe.env_id,
            num_envs,
            backend,
            SEED,
            env_kwargs=recipe.kwargs,
            wrappers=recipe.wrappers,
        )
    except Exception as error:
        return Speed(backend, reason=_one_line(error))
    try:
        return Speed(backend, steps_per_second(env))
    except Exception as error:
        return Speed(backend, reason=_one_line(error))
    finally:
        env.close()


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
