"""Options in files: a file comes in, options of a subcommand go out; and back.

The names are those of the options, with `-` or `_`. A hyperparameter stands by itself, or in a table of its
algorithm's name. A run directory is read by its `run.json`.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import fields
from functools import partial
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, get_args, get_type_hints

from tensor_optix.algorithms.catalogue import ALGORITHMS, find_algorithm
from tensor_optix.cli.errors import CommandError
from tensor_optix.cli.options import (
    AUTO,
    GROUPS,
    OTHER_NAMES,
    LearnerOptions,
    TrainOptions,
    whole_number,
)
from tensor_optix.core.argument_checks import closest
from tensor_optix.core.json_values import to_readable_json
from tensor_optix.runs.run_directory import RunConfig, RunDirectory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Options = TypeVar("Options", bound=LearnerOptions)

SUFFIXES = (".toml", ".yaml", ".yml", ".json")
OF_ONE_CALL = ("config", "save_config", "dry_run", "resume", "plain")
"""Options that no file holds."""
_CALLED_ELSE = {"algorithm": "algo", "wrappers": "wrapper", "callbacks": "callback"}
"""What `run.json` calls an option otherwise."""
_RECORDED = {one.name for one in fields(RunConfig)}
_CALLED_ALIKE = [one.name for one in fields(TrainOptions) if one.name in _RECORDED]


# ---- options from values


def options_of(kind: type[Options], values: Mapping[str, Any], source: str) -> Options:
    """Return options from their values; what is missing has its default, an environment's id is empty.

    Args:
        kind: The options of a subcommand.
        values: By name. None: the default.
        source: Where they come from, for errors.

    Raises:
        ValueError: If there is no such option, or a value is of the wrong kind.
    """
    hints = {name: hint for name, hint in get_type_hints(kind).items() if name not in OF_ONE_CALL}
    named = {own_name(name): value for name, value in values.items() if value is not None}
    algo = str(named.get("algo", AUTO)).lower()
    algorithms = list(ALGORITHMS) if algo == AUTO else [find_algorithm(algo).name]
    own: dict[str, Any] = {"env_id": ""}
    params: dict[str, dict[str, Any]] = {name: {} for name in GROUPS}
    for name, value in named.items():
        if name in GROUPS:
            params[name] |= _read(name, dict[str, Any], value, source)
        elif name in hints:
            own[name] = _read(name, hints[name], value, source)
        else:
            for owner in _owners(name, algorithms, hints, source):
                params[owner][name] = value
    groups = {name: _group(name, given, source) for name, given in params.items()}
    return kind(**own, **groups)


def own_name(name: str) -> str:
    """Return what an option is called here, with `_`."""
    typed = name.replace("_", "-")
    return OTHER_NAMES.get(typed, typed).replace("-", "_")


def _group(algorithm: str, params: Mapping[str, Any], source: str) -> Any:
    group = GROUPS[algorithm]
    hints = get_type_hints(group)
    for name in params:
        _owners(name, [algorithm], {}, source)
    return group(
        **{name: _read(name, hints[name], value, source) for name, value in params.items()}
    )


def _owners(name: str, algorithms: list[str], options: Mapping[str, Any], source: str) -> list[str]:
    """Return those of the algorithms that have a hyperparameter of a name."""
    known = {one: ALGORITHMS[one].default_params().keys() for one in algorithms}
    found = [one for one in algorithms if name in known[one]]
    if found:
        return found
    near = closest(name, [*options, *set[str]().union(*known.values())])
    hint = "" if near is None else f'; did you mean "{near}"?'
    of = f" of {algorithms[0]}" if len(algorithms) == 1 else ""
    raise ValueError(f'{source}: there is no option{of} "{name}"{hint}')


# ---- values of a kind


def _read(name: str, hint: Any, value: Any, source: str) -> Any:
    """Return the value of an option, of the kind that it is declared to be."""
    kinds = [one for one in get_args(hint) if one is not NoneType]
    kind = kinds[0] if NoneType in get_args(hint) else hint
    expected, read = _READERS.get(kind, (f"one of {', '.join(map(str, kinds))}", _text))
    try:
        found = read(value)
        if kind not in _READERS and found not in kinds:
            raise ValueError
    except (ValueError, TypeError, AttributeError):
        raise ValueError(f"{source}: {name} must be {expected}, got {value!r}") from None
    return found


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _whole(value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError
    return whole_number(str(value))


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError
    return float(value)


def _several(read: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    """Return a reader of a list, or of one alone."""

    def several(value: Any) -> tuple[Any, ...]:
        return tuple(map(read, value if isinstance(value, list | tuple) else [value]))

    return several


def _arguments(value: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    """Return the arguments of an environment as they are typed."""
    words = tuple(f"{name}={item!r}" for name, item in value.items())
    return (words,) if words else ()


_READERS: Mapping[Any, tuple[str, Callable[[Any], Any]]] = {
    bool: ("true or false", _boolean),
    int: ("a whole number", _whole),
    float: ("a number", _number),
    str: ("a text", _text),
    Path: ("a path", Path),
    tuple[int, ...]: ("a list of whole numbers", _several(_whole)),
    tuple[str, ...]: ("a list of texts", _several(_text)),
    tuple[tuple[str, ...], ...]: ("a table of names and values", _arguments),
    dict[str, Any]: ("a table of hyperparameters", dict),
}
"""What a value of each kind is called, and what reads it."""


# ---- values in files


def read_options(kind: type[Options], path: Path, algo: str | None) -> Options:
    """Return options from a file, or from the directory of a run.

    Args:
        kind: The options of a subcommand.
        path: Of the file or the directory.
        algo: The algorithm, where another one is asked for than the file's.

    Raises:
        CommandError: If there is none, or it cannot be read.
        ValueError: If there is no such option, or a value is of the wrong kind.
    """
    values = dict(_values_in(kind, path.expanduser()))
    return options_of(kind, values if algo is None else {**values, "algo": algo}, str(path))


def _values_in(kind: type[LearnerOptions], path: Path) -> Mapping[str, Any]:
    if path.is_dir():
        return _values_of_run(kind, path)
    form = _form(path, "read")
    try:
        found = form.read(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from error
    except (form.error, UnicodeDecodeError) as error:
        raise CommandError(f"{path} is no {form.title}: {error}") from error
    if not isinstance(found, dict):
        raise CommandError(f"{path} must hold options by name, got {found!r}")
    return _values_of_run(kind, path.parent) if found.keys() >= {"format", "env_id"} else found


def _values_of_run(kind: type[LearnerOptions], path: Path) -> Mapping[str, Any]:
    config = RunDirectory(path).read_config()
    if not (config.is_rebuildable and config.channels is None and config.rescale_actions):
        raise CommandError(f"the run in {path} was made by a program, which alone knows its parts")
    known = {one.name for one in fields(kind)}
    return {name: value for name, value in values_of(config).items() if name in known}


def values_of(config: RunConfig) -> dict[str, Any]:
    """Return the values of all options that a run was, or is to be, made with."""
    values: dict[str, Any] = {"env_id": config.env_id, "algo": config.algorithm}
    values |= {name: getattr(config, name) for name in _CALLED_ALIKE}
    values |= {option: getattr(config, name) for name, option in _CALLED_ELSE.items()}
    # What that stands for is among the others.
    values |= {"atari": False, config.algorithm: dict(config.hyperparams)}
    return {name: value for name, value in values.items() if value is not None}


def save_options(config: RunConfig, path: Path) -> None:
    """Write the options of a run to a file, whole or not at all.

    Raises:
        CommandError: If it cannot be written, or a value has no form in such a file.
    """
    form = _form(path, "write")
    try:
        text = form.write(to_readable_json(values_of(config)))
    except TypeError as error:
        raise CommandError(f"{path}: {form.title} cannot hold an option: {error}") from error
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text.rstrip() + "\n")
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror}") from error


def require_writable(path: Path) -> None:
    """Check that options can be saved in a file that is not there yet.

    Raises:
        CommandError: If they cannot.
    """
    _form(path, "write")
    if path.exists():
        raise CommandError(f"{path} exists; remove it, or choose another --save-config")
    if not path.parent.is_dir():
        raise CommandError(f"cannot write {path}: there is no directory {path.parent}")


class _Form(NamedTuple):
    """A way to write values down."""

    title: str
    read: Callable[[str], Any]
    write: Callable[[Mapping[str, Any]], str]
    error: type[Exception]


def _form(path: Path, purpose: str) -> _Form:
    """Return the way that the ending of a file says. Raises CommandError if it says none."""
    match path.suffix.lower():
        case ".toml":
            import tomli_w

            return _Form("TOML", tomllib.loads, tomli_w.dumps, tomllib.TOMLDecodeError)
        case ".yaml" | ".yml":
            import yaml

            write = partial(yaml.safe_dump, sort_keys=False)
            return _Form("YAML", yaml.safe_load, write, yaml.YAMLError)
        case ".json":
            write = partial(json.dumps, indent=1)
            return _Form("JSON", json.loads, write, json.JSONDecodeError)
    raise CommandError(f"can {purpose} options in {', '.join(SUFFIXES)} files, got {path}")
