"""Which implementation serves: the C++ extension where it could be built, else loops of numba."""

import importlib
import importlib.util
import os
from collections.abc import Callable
from functools import wraps
from typing import Any, Literal, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_VARIABLE = "TENSOR_OPTIX_KERNELS"
_PACKAGE = __name__.rpartition(".")[0]


def _choose() -> Literal["native", "numba"]:
    """Return the forced backend, else the extension if it is there."""
    forced = os.environ.get(_VARIABLE, "")
    built = importlib.util.find_spec(f"{_PACKAGE}._native") is not None
    if forced not in ("", "native", "numba"):
        raise ValueError(f"{_VARIABLE} must be 'native' or 'numba', got {forced!r}")
    if forced == "native" and not built:
        raise ImportError(
            f"{_VARIABLE} is 'native', but the extension {_PACKAGE}._native was not "
            "built: reinstall tensor-optix with a C++17 compiler, or unset the variable"
        )
    return "native" if built and forced != "numba" else "numba"


BACKEND: Literal["native", "numba"] = _choose()
"""Which implementation serves: `native` or `numba`."""


def raw_functions(loops: str) -> Any:
    """Return the extension, or the module of that name with the same functions in numba.

    They take their arguments by position. The extension refuses, with a TypeError, what does not
    fit, and says no more; numba takes everything for granted.
    """
    return importlib.import_module(f"{_PACKAGE}.{'_native' if BACKEND == 'native' else loops}")


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Let the extension, where it serves, try first what `function` does.

    `function` checks its arguments and calls a raw function. The extension's own checks take a
    tenth of the time, so that `function` runs only to say what is wrong.
    """
    if BACKEND == "numba":
        return function
    raw: Callable[..., R] = getattr(raw_functions("_native"), function.__name__)

    @wraps(function)
    def tried(*arguments: P.args, **named: P.kwargs) -> R:
        try:
            return raw(*arguments, **named)
        except TypeError:
            pass
        return function(*arguments, **named)

    return tried
