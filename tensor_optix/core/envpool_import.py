"""EnvPool, imported without what its families of environments import: a second and more.

Nothing comes in; the package goes out, with all its ids. A family is imported with the first of its
environments that is asked for.
"""

from __future__ import annotations

import importlib
import sys
from importlib.abc import Loader
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


def import_envpool() -> ModuleType:
    """Return EnvPool's package.

    Raises:
        ImportError: If it is not installed, or cannot be loaded.
    """
    if "envpool" in sys.modules:
        return importlib.import_module("envpool")
    sys.meta_path.insert(0, _FamilyFinder)
    try:
        return importlib.import_module("envpool")
    finally:
        sys.meta_path.remove(_FamilyFinder)


class _FamilyFinder:
    """Finds the packages in EnvPool that register environments; an `importlib.abc.MetaPathFinder`."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not name.startswith("envpool."):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None or not spec.submodule_search_locations:
            return None
        places = map(Path, spec.submodule_search_locations)
        if not any((place / "registration.py").exists() for place in places):
            return None
        spec.loader = _LateLoader(spec.loader)
        return spec


class _LateLoader(Loader):
    """Loads a package once something is looked up in it; its modules can be imported before."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave it to Python."""

    def exec_module(self, module: ModuleType) -> None:
        """Put it off."""

        def look_up(name: str) -> Any:
            # Not again by what it does itself, nor where it fails and is tried once more.
            vars(module).pop("__getattr__", None)
            self._loader.exec_module(module)
            return getattr(module, name)

        vars(module)["__getattr__"] = look_up
