"""Option groups of hyperparameters: the catalogue of algorithms comes in, what the parser reads goes out.

An option that is not given stays None, so that the one place with the defaults is the catalogue, and
an option of another algorithm than the chosen one can be told from none.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from dataclasses import field, fields, make_dataclass
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import tyro

if TYPE_CHECKING:
    from tensor_optix.algorithms.catalogue import Algorithm
    from tensor_optix.algorithms.network_agent import Hyperparams


def option_group(algorithm: Algorithm) -> type:
    """Return a dataclass with a field for each hyperparameter of an algorithm, None where not given."""
    hints = get_type_hints(algorithm.hyperparams_type)
    meanings = _meanings(algorithm.hyperparams_type)
    entries: list[Any] = []
    for name, default in algorithm.default_params().items():
        kind = hints[name]
        option = tyro.conf.arg(
            help=meanings[name],
            metavar=kind.__name__.upper(),
            help_behavior_hint=_default_text(algorithm, name, default),
        )
        entries.append((name, Annotated[kind | None, option], field(default=None)))
    group = make_dataclass(f"{algorithm.name.upper()}Options", entries, frozen=True)
    group.__doc__ = algorithm.hyperparams_type.__doc__
    return group


def given(options: Any) -> dict[str, Any]:
    """Return the hyperparameters that were given of a group."""
    values = {one.name: getattr(options, one.name) for one in fields(options)}
    return {name: value for name, value in values.items() if value is not None}


def _default_text(algorithm: Algorithm, name: str, default: Any) -> str:
    if name not in algorithm.image_defaults:
        return f"(default: {default})"
    return f"(default: {default}; images: {algorithm.image_defaults[name]})"


def _meanings(hyperparams_type: type[Hyperparams]) -> dict[str, str]:
    """Return the docstring of each field, as it stands below the field in the source."""
    found: dict[str, str] = {}
    for one in reversed(hyperparams_type.__mro__[:-1]):
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(one))).body
        assert isinstance(definition, ast.ClassDef)
        for entry, below in zip(definition.body, definition.body[1:], strict=False):
            match entry, below:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    found[name] = " ".join(text.split())
    return found
