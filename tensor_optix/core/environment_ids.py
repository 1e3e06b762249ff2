"""Environment ids: an id comes in; who makes it, its spaces, or an error that says what to do goes out.

Agents and pipelines look here alike. EnvPool is imported only where it is asked.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import re
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete

from tensor_optix.core.argument_checks import closest
from tensor_optix.core.environment_recipe import EnvironmentRecipe, make_environment
from tensor_optix.core.envpool_import import import_envpool
from tensor_optix.core.named_objects import imported
from tensor_optix.core.observation_layout import ACTION_MASK
from tensor_optix.core.plain_warnings import quiet_making
from tensor_optix.core.problem import Problem, envpool_problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gymnasium.envs.registration import EnvSpec

logger = logging.getLogger(__name__)

ATARI_NAMES = "ALE/"
"""Where the names of ale-py's games begin."""
_MOST_NAMED = 8


def spaces_of_id(env: str | EnvironmentRecipe) -> tuple[Any, Any]:
    """Return the observation and the action space of an environment as pipelines make it.

    It is EnvPool's where nothing else tells it apart from that of `gymnasium.make` (`is_envpools`), and
    neither arguments nor wrappers are given. Its warnings are left to those who step it.

    Raises:
        ValueError: If the id is not known, or the environment has several players.
        ImportError: If a package is missing, with the command that installs it.
    """
    recipe = env if isinstance(env, EnvironmentRecipe) else EnvironmentRecipe(env)
    with warnings.catch_warnings(action="ignore"):
        if recipe.is_plain and is_envpools(recipe.env_id):
            return envpool_problem_of(recipe.env_id).spaces
        with _made(require_gymnasium(recipe.env_id), recipe) as made:
            return made.observation_space, made.action_space


def is_envpools(env_id: str) -> bool:
    """Whether EnvPool makes an environment, where nobody is asked for by name.

    It does where no other has the id, and where it gives the problem that `gymnasium.make` does. Where it
    does not, that is said once.
    """
    if env_id not in envpool_ids():
        return False
    difference = envpool_difference(env_id)
    if difference:
        say_once(
            logging.INFO if _is_gymnasiums_own(env_id) else logging.WARNING,
            f'"{env_id}": taking the environment that is registered with Gymnasium, as EnvPool\'s of that '
            f'name is another problem ({difference}); backend="envpool" takes EnvPool\'s',
        )
    return not difference


def envpool_difference(env_id: str) -> str:
    """Say in what EnvPool's environment is another problem than the one that `gymnasium.make` gives.

    An environment that somebody registered under a name of EnvPool's is theirs, whatever it looks like.

    Returns:
        Nothing where they are the same, or Gymnasium's is not there to compare with.
    """
    spec = gymnasium.registry.get(env_id)
    if spec is None:
        return ""
    if not _is_gymnasiums_own(env_id):
        return f"the name was registered for {_registered(env_id)}"
    with warnings.catch_warnings(action="ignore"):
        try:
            with _made(spec, EnvironmentRecipe(env_id)) as made:
                theirs, tells_masks = _problem_of(made), _tells_masks(made)
        except Exception as error:
            logger.info("Gymnasium cannot make %s: %s", env_id, error)
            return ""
        try:
            found = envpool_problem_of(env_id).differences(theirs)
            if tells_masks and not _envpool_tells_masks(env_id):
                found.append("no masks of the actions")
            return ", ".join(found)
        except Exception as error:
            return f"EnvPool cannot tell its spaces: {error}"


def _tells_masks(env: Any) -> bool:
    """Whether the infos of an environment of Gymnasium's say which actions are allowed."""
    return isinstance(env.action_space, Discrete) and ACTION_MASK in env.reset(seed=0)[1]


def _envpool_tells_masks(env_id: str) -> bool:
    spec = import_envpool().make_spec(env_id)
    return any(name.endswith(ACTION_MASK) for name in spec.state_array_spec)


def envpool_problem_of(env_id: str) -> Problem:
    """Return the problem of an environment that EnvPool has.

    Raises:
        ValueError: If it has several players.
    """
    spec = import_envpool().make_spec(env_id)
    spaces = (spec.gymnasium_observation_space, spec.gymnasium_action_space)
    return envpool_problem(spec.config._asdict(), spaces)


@contextmanager
def _made(spec: EnvSpec, recipe: EnvironmentRecipe) -> Iterator[Any]:
    """Make an environment of Gymnasium's, to be looked at, and close it again.

    Raises:
        ImportError: If a package is missing, with the command that installs it.
    """
    with missing_package_named(spec):
        made = make_environment(spec, recipe)
    try:
        yield made
    finally:
        made.close()


def _problem_of(env: Any) -> Problem:
    limit = None if env.spec is None else env.spec.max_episode_steps
    return Problem(env.observation_space, env.action_space, limit)


def _is_gymnasiums_own(env_id: str) -> bool:
    """Whether Gymnasium itself brought a registered environment, and nobody wrapped it."""
    is_wrapped = bool(gymnasium.registry[env_id].additional_wrappers)
    return _registered(env_id).startswith("gymnasium.") and not is_wrapped


def _registered(env_id: str) -> str:
    """Return `module:name` of what makes a registered environment."""
    entry_point: Any = gymnasium.registry[env_id].entry_point
    if isinstance(entry_point, str):
        return entry_point
    name = getattr(entry_point, "__qualname__", type(entry_point).__name__)
    return f"{entry_point.__module__}:{name}"


say_once = functools.cache(logger.log)
"""Logs a message at its level, unless this process has done so already."""


def envpool_ids() -> list[str]:
    """Return EnvPool's environment ids, none where it is missing or cannot be loaded."""
    try:
        return list(import_envpool().list_all_envs())
    except ImportError as error:
        logger.info("EnvPool is not used: %s", error)
        return []


def gymnasium_spec(env_id: str) -> EnvSpec | None:
    """Return the registered spec, after importing the module of `module:id`; None if unknown.

    Raises:
        ImportError: If the module cannot be imported; with a name that is near, if there is none of its name.
    """
    module, colon, name = env_id.rpartition(":")
    if colon:
        with quiet_making():
            imported(module, f'"{env_id}"')
    if name.startswith(ATARI_NAMES) and name not in gymnasium.registry:
        _import_ale_py(name)
    return gymnasium.registry.get(name)


def _import_ale_py(name: str) -> None:
    """Let ale-py register its games, which Gymnasium does not know before.

    Raises:
        ImportError: If it is missing, with the command that installs it.
    """
    try:
        importlib.import_module("ale_py")
    except ImportError as error:
        raise ImportError(f'"{name}" needs ale-py: pip install "tensor-optix[atari]"') from error


def require_envpool(env_id: str) -> None:
    """Check that EnvPool is installed and has an environment.

    Raises:
        ImportError: If it is not installed, with the command that does so, or cannot be loaded.
        ValueError: If it has no such environment; the message says who has.
    """
    if importlib.util.find_spec("envpool") is None:
        raise ImportError(
            'backend="envpool" needs EnvPool: pip install "tensor-optix[envpool]", or use '
            'backend="auto"'
        )
    try:
        import_envpool()
    except ImportError as error:
        raise ImportError(
            f'backend="envpool" needs EnvPool, which is installed but cannot be loaded: {error}'
        ) from error
    if env_id in envpool_ids():
        return
    if gymnasium_spec(env_id) is None:
        raise _unknown(env_id)
    raise ValueError(f'EnvPool has no environment "{env_id}", but Gymnasium has: backend="auto"')


def require_gymnasium(env_id: str) -> EnvSpec:
    """Return the spec of an environment that is registered with Gymnasium.

    Raises:
        ValueError: If it is not; the message says who has it.
    """
    spec = gymnasium_spec(env_id)
    if spec is not None:
        return spec
    if env_id in envpool_ids():
        raise ValueError(
            f'Gymnasium has no environment "{env_id}" registered, but EnvPool has: '
            f'backend="envpool" of VectorBatchPipeline'
        )
    raise _unknown(env_id)


@contextmanager
def missing_package_named(spec: EnvSpec) -> Iterator[None]:
    """Name the command that installs what Gymnasium misses for an environment while it is made.

    Raises:
        ImportError: With that command.
    """
    try:
        yield
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


def _unknown(env_id: str) -> ValueError:
    module, colon, name = env_id.rpartition(":")
    own = _registered_by(module) if colon else []
    near = closest(name, own) or closest(name, [*gymnasium.registry, *envpool_ids()])
    if near is not None:
        prefix = f"{module}:" if near in own else ""
        remedy = f'did you mean "{prefix}{near}"?'
    elif colon:
        remedy = f'"{module}" registers {", ".join(own[:_MOST_NAMED]) or "none"}'
        remedy += f" and {len(own) - _MOST_NAMED} more" if len(own) > _MOST_NAMED else ""
    else:
        remedy = "import the package that registers it first, or name its module, as in "
        remedy += '"my_package:MyEnv-v0"'
    return ValueError(f'unknown environment "{env_id}"; {remedy}')


def _registered_by(module: str) -> list[str]:
    """Return the ids of the environments that lie in a module's package."""
    package = module.partition(".")[0]
    found = []
    for env_id, spec in gymnasium.registry.items():
        entry = spec.entry_point
        home = entry if isinstance(entry, str) else getattr(entry, "__module__", "")
        if re.split(r"[.:]", home, maxsplit=1)[0] == package:
            found.append(env_id)
    return found


def plain_id(spec: EnvSpec | None) -> str:
    """Return the id from which `gymnasium.make` makes the same environment without further arguments.

    Empty where there is none: it was made by hand, wrapped since, or made with arguments of its own.
    """
    if spec is None or spec.additional_wrappers or spec.id not in gymnasium.registry:
        return ""
    registered = gymnasium.registry[spec.id]
    arguments = {name: value for name, value in spec.kwargs.items() if name != "render_mode"}
    known = {name: value for name, value in registered.kwargs.items() if name != "render_mode"}
    same = spec.max_episode_steps == registered.max_episode_steps and _are_equal(arguments, known)
    return spec.id if same else ""


def _are_equal(one: Any, other: Any) -> bool:
    """Whether two values are the same; arrays and tables compare element by element."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_are_equal(one[key], other[key]) for key in one)
    try:
        return bool(np.all(one == other))
    except ValueError:
        # They differ in shape or labels, or lie in a list: then it is not known.
        return False
