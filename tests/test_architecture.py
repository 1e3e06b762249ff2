"""Imports run one way and in no circle, no module stands alone, only the adapters know a framework."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

import tensor_optix
from tests.test_public_api import PACKAGES

PACKAGE = Path(tensor_optix.__file__).parent
PATHS = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
"""Every module by its name without `tensor_optix.`; a package is `name.__init__`."""
FRAMEWORKS = {"torch", "tensorflow", "keras"}

LAYERS = (
    ("public_names",),
    ("kernels",),
    ("core",),
    ("pipeline", "optimizers", "adapters"),
    ("algorithms", "exploration"),
    ("runs",),
    ("policies", "loggers"),
    ("exporting",),
    ("settings", "assembly"),
    ("trials",),
    ("optimizer",),
    ("cli",),
    ("__main__",),
)
"""The parts, lowest first. A part imports itself and what is below it; siblings import each other only where
`SIBLINGS` says so."""
SIBLINGS = {"assembly": {"settings"}}
LAZY_CATALOGUE = "__init__"
"""Names every public class for type checkers; imports nothing when it is imported."""
DOORS = {f"{part}.__init__" for part in PACKAGES}
"""Packages that give their public names to users; inside, a name is imported from its module."""

ALIASES = {
    "adapters.pytorch.torch_agent": "algorithms.torch_agent",
    "adapters.tensorflow.tf_agent": "algorithms.tf_agent",
    "core.diagnostic_controller": "optimizers.diagnostic_controller",
    "orchestrator": "trials.orchestrator",
}
"""Modules that only give a class its documented path, and what they take it from. Nobody imports them."""

SHARED_BY_FRAMEWORKS = {
    "tensor_optix.adapters.backend.ByteDivisors",
    "tensor_optix.adapters.backend.ByteField",
    "tensor_optix.adapters.backend.UpdateTally",
    "tensor_optix.adapters.network_recipes.NetworkRecipes",
    "tensor_optix.adapters.network_recipes.Output",
    "tensor_optix.adapters.network_recipes.Part",
    "tensor_optix.adapters.network_recipes.Sight",
    "tensor_optix.adapters.network_recipes.plan_image",
}
"""What algorithms may take of the adapters: rules that know no framework."""

ALONE = {
    "adapters.native.inference_layers": "the layers of networks that only act, of every framework's weights",
    "adapters.native.layers": "the framework's layers; the catalogue's factory finds it by its framework",
    "adapters.pytorch.compilation": "the compiler's side, read only where updates are compiled",
    "adapters.pytorch.cuda": "a GPU's side, used only where networks are on one; tested by itself",
    "adapters.pytorch.torchscript": "a format of exported policies, found by its name",
    "adapters.pytorch.views": "the native engine's side, tested by itself",
    "adapters.tensorflow.gradient_descent": "the optimizer's side, tested by itself",
    "adapters.tensorflow.layers": "the framework's layers; the catalogue's factory finds it by its framework",
    "adapters.tensorflow.saved_model": "a format of exported policies, found by its name",
    "adapters.tensorflow.views": "the native engine's side, tested by itself",
    "cli.boards": "the packages of boards, tested by itself",
    "cli.doctor": "a subcommand",
    "cli.doctor_report": "the words of a subcommand",
    "cli.evaluation": "a subcommand",
    "cli.plan": "the words of a run that is not begun",
    "cli.export": "a subcommand",
    "cli.main": "where the command begins, and the script that installs with it",
    "cli.pictures": "a subcommand",
    "cli.report": "a subcommand",
    "cli.parsing": "the parser's side, imported where it is installed",
    "cli.recording": "what films, tested by itself",
    "cli.tune": "a subcommand",
    "core.checkpoints.run_checkpoints": "the files of a run's checkpoints, tested by itself",
    "core.decisions.best_policy": "a decision of the loop",
    "core.decisions.forks": "a decision of the loop",
    "core.decisions.tuning": "a decision of the loop",
    "core.replay.priorities": "a part of the replay",
    "core.replay.segments": "the files of a replay, tested by itself",
    "exporting.c_headers": "a format of exported policies, found by its name",
    "exporting.c_trial": "the compiler's side of a format",
    "exporting.onnx_files": "a format of exported policies, found by its name",
    "exporting.safetensors_files": "a format of exported policies, found by its name",
    "exporting.sampling": "observations to try policies on, tested by itself",
    "kernels._loops_replay": "the numba twins of one face, chosen by name",
    "kernels._loops_sum_tree": "the numba twins of one face, chosen by name",
    "kernels._replay": "a face of the kernels",
    "kernels._rollout": "a face of the kernels",
    "kernels._sum_tree": "a face of the kernels",
    "pipeline.action_masks": "what infos say of actions, in every form of infos; tested by itself",
    "pipeline.restarting_env": "a wrapper around one environment, tested by itself",
    "pipeline.atari": "how Atari games are made, for users as well",
    "pipeline.examination.actions": "a part of the examination",
    "pipeline.examination.examine": "the examination's face, tested by itself",
    "pipeline.examination.rules": "a part of the examination",
    "pipeline.gymnasium_env": "an environment adapter",
    "pipeline.live_stream": "the producer's thread of live data, tested by itself",
    "pipeline.play": "plays policies without a pipeline, for benchmarks as well",
    "runs.page": "the report as a page, tested by itself",
    "runs.spread": "the statistics of several runs, for benchmarks as well",
    "trials.factory_run": "the factory mode, below the face",
    "trials.study": "all that needs Optuna, imported when a search is made",
}
"""Modules with a single importer, or none by name, that are a subject of their own, and why."""


def is_package(module: str) -> bool:
    return module.endswith("__init__")


def part_of(module: str) -> str:
    return module.split(".")[0]


def imported_names(path: Path, with_types: bool = True) -> set[str]:
    """Return the full names that a file imports, at its top, in functions, and for types."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not with_types
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


def module_of(name: str) -> str | None:
    """Return the module of ours that an imported name is, or is in."""
    inner = name.removeprefix("tensor_optix").removeprefix(".")
    while inner:
        for module in (inner, f"{inner}.__init__"):
            if module in PATHS:
                return module
        inner = inner.rpartition(".")[0]
    return LAZY_CATALOGUE


def imports_of(module: str) -> set[str]:
    """Return the modules of ours that a module imports, also where only for types or in a function."""
    names = imported_names(PATHS[module])
    found = {module_of(name) for name in names if name.split(".")[0] == "tensor_optix"}
    return {one for one in found if one is not None} - {module}


IMPORTS = {module: imports_of(module) for module in PATHS}
IMPORTERS: dict[str, set[str]] = defaultdict(set)
for _module, _imported in IMPORTS.items():
    for _one in _imported:
        if _module != LAZY_CATALOGUE:
            IMPORTERS[_one].add(_module)
CATALOGUED = IMPORTS[LAZY_CATALOGUE]
MODULES = [module for module in PATHS if not is_package(module)]


def may_import(part: str) -> set[str]:
    """Return the parts that a part may import."""
    below = [one for layer in LAYERS for one in layer]
    (place,) = (number for number, layer in enumerate(LAYERS) if part in layer)
    lower = {one for layer in LAYERS[:place] for one in layer}
    return {part} | (lower & set(below)) | SIBLINGS.get(part, set())


@pytest.mark.parametrize("module", PATHS)
def test_imports_run_one_way(module):
    if module == LAZY_CATALOGUE:
        return
    if module in ALIASES:
        assert IMPORTS[module] == {ALIASES[module]}
        return
    imported = {part_of(one) for one in IMPORTS[module] if one != LAZY_CATALOGUE}
    assert imported <= may_import(part_of(module))


def test_every_part_has_its_place():
    parts = {part_of(module) for module in PATHS if module not in ALIASES} - {LAZY_CATALOGUE}
    assert parts == {one for layer in LAYERS for one in layer}


def test_nobody_imports_an_alias():
    assert not {alias: IMPORTERS[alias] for alias in ALIASES if IMPORTERS[alias]}


def test_nobody_inside_goes_through_a_packages_door():
    assert not {door: IMPORTERS[door] for door in DOORS if IMPORTERS[door]}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the strongly connected components of more than one node (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            component = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(component) > 1:
                found.append(sorted(component))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def test_there_is_no_circle():
    assert circles(IMPORTS) == []


def test_circles_are_seen():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}) == [["b", "c"]]


def test_what_has_one_client_lives_with_it():
    from tests.test_public_api import DOCUMENTED_MODULES

    entries = {"__main__", *ALIASES, *DOCUMENTED_MODULES}
    alone = {
        module: sorted(IMPORTERS[module])
        for module in MODULES
        if len(IMPORTERS[module]) <= 1 and module not in entries and module not in CATALOGUED
    }
    assert {module: importers for module, importers in alone.items() if module not in ALONE} == {}
    assert set(ALONE) <= set(alone), "these have several clients now: take them out of ALONE"


@pytest.mark.parametrize("module", PATHS)
def test_only_the_adapters_import_a_framework(module):
    if part_of(module) == "adapters":
        return
    roots = {name.split(".")[0] for name in imported_names(PATHS[module], with_types=False)}
    assert not roots & FRAMEWORKS


def test_the_algorithms_themselves_know_no_backend():
    for module in MODULES:
        if part_of(module) != "algorithms" or module.split(".")[1].startswith(
            ("torch_", "tf_", "native_")
        ):
            continue
        names = imported_names(PATHS[module], with_types=False)
        adapters = {name for name in names if name.startswith("tensor_optix.adapters")}
        # The engine makes the updates of every framework; its own networks are a framework like the others.
        engine = tuple(
            f"tensor_optix.adapters.native.{m}" for m in ("updates", "replay_updates", "views")
        )
        adapters -= {name for name in adapters if name.startswith(engine)}
        assert adapters <= SHARED_BY_FRAMEWORKS, module


def test_no_two_classes_have_one_name():
    classes = defaultdict(list)
    for module, path in PATHS.items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                classes[node.name].append(module)
    assert {name: modules for name, modules in classes.items() if len(modules) > 1} == {}


def test_only_the_bindings_know_python():
    for path in (PACKAGE.parent / "kernels").glob("*.hpp"):
        text = path.read_text()
        knows = "Python.h" in text or "nanobind" in text
        assert path.stem.startswith("bindings_") or not knows, path.name


def test_no_file_is_a_drawer_for_everything():
    files = [*PATHS.values(), *(PACKAGE.parent / "kernels").iterdir()]
    assert not {path.stem for path in files} & {"utils", "common", "misc", "helpers"}


def test_the_files_that_contributing_names_exist():
    root = PACKAGE.parent
    named = set(re.findall(r"`([\w/]+\.(?:py|hpp|cpp))`", (root / "CONTRIBUTING.md").read_text()))
    paths = {name for name in named if "/" in name}
    assert len(paths) > 30
    assert not {name for name in paths if not (root / name).exists()}
