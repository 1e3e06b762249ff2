"""The catalogue is the one place that knows which algorithms there are: nobody else names one."""

from __future__ import annotations

import ast
import functools
import sys
from importlib import import_module
from pathlib import Path

import pytest

import tensor_optix
from tensor_optix.algorithms.catalogue import ALGORITHMS
from tensor_optix.algorithms.frameworks import FRAMEWORKS
from tests.frameworks import require

PACKAGE = Path(tensor_optix.__file__).parent
ENGINE = ("adapters/native/", "kernels/engine.py")
"""Where the native engine's updates are, of each algorithm."""
RECORDED = {("runs/run_directory.py", "ppo")}
"""What was trained by runs whose record does not say so."""


def home_of(name: str) -> Path:
    """Return the module of an algorithm, where its hyperparameters are."""
    return Path(sys.modules[ALGORITHMS[name].hyperparams_type.__module__].__file__ or "")


def places_of(name: str) -> set[str]:
    """Return the files that may name an algorithm."""
    thin = {
        f"algorithms/{framework.prefix}{one.module}.py"
        for framework in FRAMEWORKS.values()
        for one in ALGORITHMS[name].agents.values()
    }
    home = home_of(name).relative_to(PACKAGE).as_posix()
    return {"__init__.py", "algorithms/catalogue.py", home, *thin}


def classes_of(name: str) -> set[str]:
    """Return the names of an algorithm's classes, of its own module and of each framework's."""
    own = {node.name for node in ast.parse(home_of(name).read_text()).body
           if isinstance(node, ast.ClassDef)}  # fmt: skip
    public = {
        framework.class_prefix + one.name
        for framework in FRAMEWORKS.values()
        for one in ALGORITHMS[name].agents.values()
    }
    return own | public


@functools.cache
def names_in(path: Path) -> set[str]:
    """Return what a module says: identifiers, imports, and strings in lower case, but no docstrings."""
    tree = ast.parse(path.read_text())
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found = set[str]()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name):
                found.add(name)
            case ast.Constant(value=str(text)) if id(node) not in docstrings:
                found.add(text.lower())
    return found


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_algorithm_is_named_where_it_lives_and_nowhere_else(name):
    own = {name, *classes_of(name)}
    naming = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if names_in(path) & own
    }
    naming = {path for path in naming if not path.startswith(ENGINE)}
    exceptions = {path for path, one in RECORDED if one == name}
    assert naming - exceptions == places_of(name)


@pytest.mark.parametrize("framework", FRAMEWORKS.values(), ids=lambda one: one.name)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_class_of_the_catalogue_is_there_and_public(name, framework):
    require(framework.name)
    algorithm = ALGORITHMS[name]
    for one in algorithm.agents.values():
        module = import_module(f"tensor_optix.algorithms.{framework.prefix}{one.module}")
        found = getattr(module, framework.class_prefix + one.name)
        assert found is getattr(tensor_optix, found.__name__)
        assert found.hyperparams_type is algorithm.hyperparams_type


@pytest.mark.parametrize("name", ALGORITHMS)
def test_what_an_algorithm_starts_with_and_is_searched_over_are_hyperparameters_of_its(name):
    algorithm = ALGORITHMS[name]
    known = algorithm.default_params()
    assert algorithm.name == name
    assert known.keys() == algorithm.default_params(sees_images=True).keys()
    assert algorithm.search_space.keys() <= known.keys()
