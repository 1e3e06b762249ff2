"""The frameworks by name: a name comes in, one that is installed goes out. None of them is imported."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, NamedTuple

from tensor_optix.core.argument_checks import closest
from tensor_optix.kernels.engine import has_engine

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
    def remedy(self) -> str:
        """What to do where it is not installed."""
        return f"pip install 'tensor-optix[{self.name}]'"


class NativeFramework(Framework):
    """The networks of this library, which the native engine trains: no other package is needed."""

    __slots__ = ()

    @property
    def is_installed(self) -> bool:
        """Whether the engine can be used: the kernels are compiled, and serve."""
        return has_engine

    @property
    def remedy(self) -> str:
        """What to do where it is not there."""
        return (
            "reinstall tensor-optix where there is a C++17 compiler, and leave the environment variable "
            "TENSOR_OPTIX_KERNELS unset"
        )


NATIVE = NativeFramework("native", "compiled kernels", "native", "native_", "Native")
FRAMEWORKS: Mapping[str, Framework] = {
    "torch": Framework("torch", "PyTorch", "pytorch", "torch_", "Torch"),
    "tensorflow": Framework("tensorflow", "TensorFlow", "tensorflow", "tf_", "TF"),
    "native": NATIVE,
}
"""By their names; of those that are installed, the first is the default."""
CPU = ("auto", "cpu")
"""The devices that the native engine computes on, as agents name them."""

OTHER_NAMES = {"pytorch": "torch", "tf": "tensorflow", "keras": "tensorflow"}
"""What else people call them."""


def find_framework(name: str | None) -> Framework:
    """Return the framework of a name, in capitals or not, or of another of its names, such as "tf".

    Args:
        name: None: the first that is installed.

    Raises:
        ValueError: If there is none of that name, with the closest match.
        ImportError: If it, or any, is not installed, with the command that does so.
    """
    if name is None:
        return _first_installed()
    known = {known: known for known in FRAMEWORKS} | OTHER_NAMES
    found = FRAMEWORKS.get(known.get(str(name).lower(), ""))
    if found is None:
        near = closest(name, known)
        hint = f"; did you mean {known[near]!r}?" if near else ""
        names = ", ".join(map(repr, FRAMEWORKS))
        raise ValueError(f"framework must be one of {names}, got {name!r}{hint}")
    if not found.is_installed:
        raise ImportError(f"framework {found.name!r} needs {found.title}: {found.remedy}")
    return found


def lightest_framework(sees_images: bool, device: str, engine: str = "auto") -> Framework:
    """Return what takes the least time to start and to learn: the native one where it will do.

    Args:
        sees_images: Whether there are images among the observations.
        device: What is to compute.
        engine: What is to make the updates, as agents name it.

    Raises:
        ImportError: If there is none that will do, with the commands that install one.
    """
    will_do = not sees_images and device in CPU and engine != "framework"
    return NATIVE if will_do and NATIVE.is_installed else _first_installed()


def _first_installed() -> Framework:
    for framework in FRAMEWORKS.values():
        if framework.is_installed:
            return framework
    installable = [one for one in FRAMEWORKS.values() if one is not NATIVE]
    commands = " or ".join(f"{one.remedy} ({one.title})" for one in installable)
    raise ImportError(f"no framework is installed that an agent could compute with: {commands}")
