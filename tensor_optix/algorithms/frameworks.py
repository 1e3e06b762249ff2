"""The frameworks by name: a name comes in, one that is installed goes out. None of them is imported."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, NamedTuple

from tensor_optix.core.argument_checks import closest

if TYPE_CHECKING:
    from collections.abc import Mapping


class Framework(NamedTuple):
    """What agents may compute with."""

    name: str
    """That of its module, and of the extra that installs it."""
    title: str
    """As its makers write it."""
    adapter: str
    """Its package in `adapters`."""
    prefix: str
    """What the modules of its agents begin with."""
    class_prefix: str
    """What the names of its agents begin with."""

    @property
    def is_installed(self) -> bool:
        """Whether it can be imported."""
        return importlib.util.find_spec(self.name) is not None

    @property
    def command(self) -> str:
        """What installs it."""
        return f"pip install 'tensor-optix[{self.name}]'"


FRAMEWORKS: Mapping[str, Framework] = {
    "torch": Framework("torch", "PyTorch", "pytorch", "torch_", "Torch"),
    "tensorflow": Framework("tensorflow", "TensorFlow", "tensorflow", "tf_", "TF"),
}
"""By their names; of those that are installed, the first is the default."""

OTHER_NAMES = {"pytorch": "torch", "tf": "tensorflow", "keras": "tensorflow"}


def find_framework(name: str | None) -> Framework:
    """Return the framework of a name; None: the first that is installed.

    Raises:
        ValueError: If there is none of that name, with the closest match.
        ImportError: If it, or any, is not installed, with the command that does so.
    """
    if name is None:
        return _first_installed()
    if name not in FRAMEWORKS:
        known = {known: known for known in FRAMEWORKS} | OTHER_NAMES
        near = closest(name, known)
        hint = f"; did you mean {known[near]!r}?" if near else ""
        names = ", ".join(map(repr, FRAMEWORKS))
        raise ValueError(f"framework must be one of {names}, got {name!r}{hint}")
    found = FRAMEWORKS[name]
    if not found.is_installed:
        raise ImportError(f"framework {name!r} needs {found.title}: {found.command}")
    return found


def _first_installed() -> Framework:
    for framework in FRAMEWORKS.values():
        if framework.is_installed:
            return framework
    commands = " or ".join(f"{one.command} ({one.title})" for one in FRAMEWORKS.values())
    raise ImportError(f"no framework is installed that an agent could compute with: {commands}")
