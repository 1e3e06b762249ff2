"""Imports run one way, and only the adapters know a framework."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import tensor_optix

PACKAGE = Path(tensor_optix.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
FRAMEWORKS = {"torch", "tensorflow", "keras"}

MAY_IMPORT = {
    "kernels": {"kernels"},
    "core": {"core", "kernels"},
    "pipeline": {"pipeline", "core", "kernels"},
    "optimizers": {"optimizers", "core", "kernels"},
    "adapters": {"adapters", "core", "kernels"},
    "algorithms": {"algorithms", "adapters", "core", "kernels"},
    "settings": {"optimizers", "core"},
    "assembly": {"settings", "optimizers", "core"},
    "trials": {"trials", "assembly", "settings", "core"},
    "optimizer": {"assembly", "settings", "trials", "core"},
}
"""Which parts each part may import; `cli` and the lazy catalogue may import all."""


DOCUMENTED_ELSEWHERE = {
    "adapters/pytorch/torch_agent.py": "tensor_optix.algorithms.torch_agent",
    "adapters/tensorflow/tf_agent.py": "tensor_optix.algorithms.tf_agent",
    "core/diagnostic_controller.py": "tensor_optix.optimizers.diagnostic_controller",
    "orchestrator.py": "tensor_optix.trials.orchestrator",
}
"""Modules of the public API that only give a class its documented path, and what they take it from."""


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def is_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def imports_of(path: Path, with_types: bool = True) -> set[str]:
    tree = ast.parse(path.read_text())
    skipped = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and is_type_checking(node) and not with_types
        for child in ast.walk(node)
    }
    names = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    part = part_of(path)
    if part not in MAY_IMPORT:
        return
    names = {name for name in imports_of(path) if name.startswith("tensor_optix.")}
    source = DOCUMENTED_ELSEWHERE.get(path.relative_to(PACKAGE).as_posix())
    if source is not None:
        assert {name.rpartition(".")[0] for name in names} == {source}
        return
    inner = {name.split(".")[1] for name in names}
    assert inner <= MAY_IMPORT[part]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_adapters_import_a_framework(path):
    if "adapters" in path.relative_to(PACKAGE).parts:
        return
    roots = {name.split(".")[0] for name in imports_of(path, with_types=False)}
    assert not roots & FRAMEWORKS


def test_the_algorithms_themselves_know_no_backend():
    for path in (PACKAGE / "algorithms").glob("*.py"):
        if path.name.startswith(("torch_", "tf_")):
            continue
        imported = imports_of(path, with_types=False)
        inner = {name for name in imported if name.startswith("tensor_optix.adapters")}
        assert inner <= {"tensor_optix.adapters.backend.UpdateTally"}, path.name


def test_only_the_bindings_know_python():
    for path in (PACKAGE.parent / "kernels").glob("*.hpp"):
        text = path.read_text()
        knows = "Python.h" in text or "nanobind" in text
        assert path.stem.startswith("bindings_") or not knows, path.name


def test_no_file_is_a_drawer_for_everything():
    files = [*MODULES, *(PACKAGE.parent / "kernels").iterdir()]
    assert not {path.stem for path in files} & {"utils", "common", "misc", "helpers"}
