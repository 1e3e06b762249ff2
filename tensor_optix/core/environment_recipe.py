"""Which environment: an id, arguments and wrappers come in, one of Gymnasium's environments goes out.

What is misspelt is refused in one line, with what it may stand for.
"""

from __future__ import annotations

import inspect
import re
import reprlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING, Any, TypeAlias

import gymnasium
from gymnasium.envs.registration import load_env_creator

from tensor_optix.core.argument_checks import closest
from tensor_optix.core.json_values import to_json
from tensor_optix.core.named_objects import named_object

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gymnasium.envs.registration import EnvSpec

Wrapper: TypeAlias = str | Callable[[Any], Any]
"""`"module:Class"`, or the class itself: a `gymnasium.Wrapper` or a function from an environment to one."""

_UNKNOWN = re.compile(r"unexpected keyword argument '(\w+)'")
_MISSING = re.compile(r"missing \d+ required [\w-]+ arguments?: (.+?)(?: was raised|$)")
_TWICE = re.compile(r"multiple values for (?:keyword )?argument '(\w+)'")
_MOST_NAMED = 12


@dataclass(frozen=True)
class EnvironmentRecipe:
    """All from which the same environment can be made again.

    Raises:
        TypeError: If the arguments are no mapping, or the wrappers no list of texts and functions.
        ValueError: If the text of a wrapper is not of the form `"module:Class"`.
    """

    env_id: str
    """Gymnasium's or EnvPool's; `"module:id"` imports the module first."""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Of `gymnasium.make`, beside the id; of `envpool.make`, where that was asked for."""
    wrappers: Sequence[Wrapper] = ()
    """Put around each environment, the first one innermost."""

    def __post_init__(self) -> None:
        if not isinstance(self.kwargs, Mapping):
            raise TypeError(f"env_kwargs must be a dict, got {self.kwargs!r}")
        if isinstance(self.wrappers, str) or not isinstance(self.wrappers, Sequence):
            raise TypeError(
                'wrappers must be a list of classes or of texts like "module:Class", got '
                f"{self.wrappers!r}"
            )
        for wrapper in self.wrappers:
            _check_form(wrapper)
        object.__setattr__(self, "kwargs", dict(self.kwargs))
        object.__setattr__(self, "wrappers", tuple(self.wrappers))

    @property
    def is_plain(self) -> bool:
        """Whether the id alone says it all."""
        return not self.kwargs and not self.wrappers

    @property
    def title(self) -> str:
        """The environment in words, such as `FrozenLake-v1(map_name='8x8') in TimeAware`."""
        given = ", ".join(f"{name}={reprlib.repr(value)}" for name, value in self.kwargs.items())
        inside = f"{self.env_id}({given})" if given else self.env_id
        return " in ".join([inside, *(_title(one).rpartition(":")[2] for one in self.wrappers)])

    def recorded(self) -> EnvironmentRecipe | None:
        """Return it as a file can hold it, wrappers by their names; None where a file cannot.

        That is so for arguments that JSON does not hold, and for wrappers that no module has by name.
        """
        try:
            to_json(self.kwargs, "env_kwargs")
        except ValueError:
            return None
        names = [_name_of(wrapper) for wrapper in self.wrappers]
        if None in names:
            return None
        return EnvironmentRecipe(self.env_id, self.kwargs, tuple(name for name in names if name))


def make_environment(spec: EnvSpec, recipe: EnvironmentRecipe) -> Any:
    """Make one of Gymnasium's environments, with the recipe's arguments, in its wrappers.

    Args:
        spec: Of the recipe's id. It makes the environment also in a process that has not registered it.
        recipe: The arguments and the wrappers.

    Raises:
        ValueError: If an argument is not known, one is missing, or a wrapper does not fit.
    """
    with arguments_named(spec.id, recipe.kwargs, lambda: arguments_of(spec.entry_point)):
        env = gymnasium.make(spec, **_copied(recipe.kwargs))
    return reduce(lambda inner, wrapper: _wrapped(inner, wrapper, spec.id), recipe.wrappers, env)


@contextmanager
def arguments_named(
    env_id: str, kwargs: Mapping[str, Any], known: Callable[[], Sequence[str]]
) -> Iterator[None]:
    """Say in one line which argument an environment does not take, or lacks, while it is made.

    Args:
        env_id: What errors call the environment.
        kwargs: What was given; errors of other arguments are not the user's.
        known: Tells what there is, if it comes to that.

    Raises:
        ValueError: With that line.
    """
    try:
        yield
    except TypeError as error:
        unknown, missing, twice = (one.search(str(error)) for one in (_UNKNOWN, _MISSING, _TWICE))
        if unknown is not None and unknown[1] in kwargs:
            remedy = _remedy(unknown[1], known())
            raise ValueError(f'"{env_id}" takes no argument "{unknown[1]}"{remedy}') from error
        if missing is not None:
            raise ValueError(
                f'"{env_id}" cannot be made without the argument {missing[1]}: give it by env_kwargs, on '
                "the command line by --env-kwargs"
            ) from error
        if twice is not None and twice[1] in kwargs:
            raise ValueError(
                f'"{twice[1]}" is no argument of "{env_id}" alone: leave it out of env_kwargs'
            ) from error
        raise


def _remedy(name: str, known: Sequence[str]) -> str:
    near = closest(name, known)
    if near is not None:
        return f'; did you mean "{near}"?'
    return f"; it takes {', '.join(known[:_MOST_NAMED])}" if known else ""


def arguments_of(entry_point: Any) -> list[str]:
    """Return the names of what a constructor takes, those of its bases included.

    Args:
        entry_point: As an environment's spec has it: `"module:Class"`, a class or a function.
    """
    creator = entry_point if callable(entry_point) else load_env_creator(str(entry_point))
    makers = [creator]
    if inspect.isclass(creator):
        makers = [vars(base)["__init__"] for base in creator.__mro__ if "__init__" in vars(base)]
    found = [one for maker in makers for one in inspect.signature(maker).parameters.values()]
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    names = [one.name for one in found if one.kind in named and one.name != "self"]
    return list(dict.fromkeys([*names, "max_episode_steps"]))


def _copied(value: Any) -> Any:
    """Return dicts and lists anew: an environment may write into what it is given."""
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if type(value) is list else value


# ---- wrappers


def _title(wrapper: Wrapper) -> str:
    return wrapper if isinstance(wrapper, str) else getattr(wrapper, "__qualname__", repr(wrapper))


def _check_form(wrapper: Any) -> None:
    if not isinstance(wrapper, str):
        if not callable(wrapper):
            raise TypeError(
                f'a wrapper must be a class, a function or a text like "module:Class", got {wrapper!r}'
            )
        return
    module, _, name = wrapper.partition(":")
    if module and name:
        return
    near = closest(wrapper, gymnasium.wrappers.__all__)
    remedy = "" if near is None else f'; did you mean "gymnasium.wrappers:{near}"?'
    raise ValueError(f'a wrapper must be given as "module:Class", got "{wrapper}"{remedy}')


def _name_of(wrapper: Wrapper) -> str | None:
    """Return the name by which a wrapper is found; None if it has none."""
    if isinstance(wrapper, str):
        return wrapper
    module, name = getattr(wrapper, "__module__", ""), getattr(wrapper, "__qualname__", "")
    if not module or module == "__main__" or "<" in name:
        return None
    return f"{module}:{name}"


def _wrapped(env: Any, wrapper: Wrapper, env_id: str) -> Any:
    """Put a wrapper around an environment.

    Raises:
        ValueError: If there is no such wrapper, it is none, needs arguments, or does not fit.
    """
    wrap, said = wrapper, f'wrapper "{_title(wrapper)}"'
    if isinstance(wrap, str):
        wrap = named_object(wrap, said, _can_wrap)
    if not _can_wrap(wrap):
        raise ValueError(
            f"{said} is none: expected a subclass of gymnasium.Wrapper or a function that takes an "
            f"environment and returns one, got {wrap!r}"
        )
    _require_no_arguments(wrap, said)
    try:
        outer = wrap(env)
    except Exception as error:
        raise ValueError(
            f'{said} does not fit "{env_id}": {type(error).__name__}: {error}'
        ) from error
    if not callable(getattr(outer, "step", None)):
        raise ValueError(f"{said} is none: it made no environment, but {outer!r}")
    return outer


def _can_wrap(wrap: Any) -> bool:
    return issubclass(wrap, gymnasium.Wrapper) if inspect.isclass(wrap) else callable(wrap)


def _require_no_arguments(wrap: Callable[..., Any], said: str) -> None:
    """Refuse a wrapper that cannot be made from an environment alone."""
    try:
        signature = inspect.signature(wrap)
    except ValueError:
        return
    try:
        signature.bind(None)
    except TypeError:
        raise ValueError(
            f"{said} needs more than an environment ({', '.join(signature.parameters)}): name a function "
            'of your own instead, such as "my_module:wrapped" with def wrapped(env): return '
            f"{getattr(wrap, '__name__', 'Wrapper')}(env, ...)"
        ) from None
