"""What `import tensor_optix` gives, and what it must not load."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import tensor_optix
from tensor_optix.public_names import homes

PACKAGE = Path(tensor_optix.__file__).parent
FRAMEWORK_OF = {"Torch": "torch", "TF": "tensorflow"}


@pytest.mark.parametrize("name", tensor_optix.__all__)
def test_every_public_name_can_be_imported_and_is_documented(name):
    for prefix, framework in FRAMEWORK_OF.items():
        if name.startswith(prefix):
            pytest.importorskip(framework)
    assert inspect.getdoc(getattr(tensor_optix, name))


def test_the_lazy_catalogue_is_the_one_that_type_checkers_see():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {node.names[0].asname: node.module for node in block.body}  # type: ignore[attr-defined]
    assert seen == homes("tensor_optix")


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'RLOptimiser'"):
        _ = tensor_optix.RLOptimiser  # type: ignore[attr-defined]


DOCUMENTED_MODULES = {
    "adapters.pytorch.torch_agent": "TorchAgent",
    "adapters.pytorch.torch_evaluator": "TorchEvaluator",
    "adapters.tensorflow.tf_agent": "TFAgent",
    "adapters.tensorflow.tf_evaluator": "TFEvaluator",
    "algorithms.tf_dqn": "TFDQNAgent",
    "algorithms.tf_ppo": "TFPPOAgent",
    "algorithms.tf_ppo_continuous": "TFGaussianPPOAgent",
    "algorithms.tf_sac": "TFSACAgent",
    "algorithms.torch_dqn": "TorchDQNAgent",
    "algorithms.torch_ppo": "TorchPPOAgent",
    "algorithms.torch_ppo_continuous": "TorchGaussianPPOAgent",
    "algorithms.torch_sac": "TorchSACAgent",
    "core.backoff_scheduler": "BackoffScheduler",
    "core.base_agent": "BaseAgent",
    "core.base_evaluator": "BaseEvaluator",
    "core.base_optimizer": "BaseOptimizer",
    "core.base_pipeline": "BasePipeline EpisodeBoundaryFn",
    "core.checkpoint_registry": "CheckpointRegistry",
    "core.diagnostic_controller": "DiagnosticController",
    "core.ensemble_agent": "EnsembleAgent",
    "core.loop_controller": "LoopController LoopCallback",
    "core.meta_controller": "MetaController MetaAction",
    "core.normalizers": "RunningMeanStd ObsNormalizer RewardNormalizer",
    "core.policy_manager": "PolicyManager PolicyManagerCallback",
    "core.regime_detector": "RegimeDetector",
    "core.replay_buffer": "ReplayBuffer PrioritizedReplayBuffer",
    "core.trajectory_buffer": "compute_gae make_minibatches",
    "core.types": "LoopState EpisodeData EvalMetrics HyperparamSet PolicySnapshot",
    "exploration.rnd": "RNDPipeline",
    "optimizer": "RLOptimizer",
    "optimizers.backoff_optimizer": "BackoffOptimizer",
    "optimizers.momentum_optimizer": "MomentumOptimizer",
    "optimizers.pbt_optimizer": "PBTOptimizer",
    "optimizers.spsa_optimizer": "SPSAOptimizer",
    "orchestrator": "TrialOrchestrator",
    "pipeline.batch_pipeline": "BatchPipeline",
    "pipeline.live_pipeline": "LivePipeline",
    "pipeline.vector_pipeline": "VectorBatchPipeline",
}
"""The module paths of the released versions, and what they give."""


@pytest.mark.parametrize("module", DOCUMENTED_MODULES)
def test_documented_module_paths_hold(module):
    found = importlib.import_module(f"tensor_optix.{module}")
    for name in DOCUMENTED_MODULES[module].split():
        assert hasattr(found, name), name


PACKAGES = (
    "adapters.pytorch",
    "adapters.tensorflow",
    "algorithms",
    "core",
    "exploration",
    "loggers",
    "optimizers",
    "pipeline",
)
"""The packages that give the public names of their modules, as those of the released versions do."""
NAMES_OF_PACKAGES = [
    (package, name)
    for package in PACKAGES
    for module, names in DOCUMENTED_MODULES.items()
    if module.startswith(f"{package}.")
    for name in names.split()
    if name in tensor_optix.__all__
]


@pytest.mark.parametrize(("package", "name"), NAMES_OF_PACKAGES)
def test_a_package_gives_the_names_of_its_documented_modules(package, name):
    for prefix, framework in FRAMEWORK_OF.items():
        if name.startswith(prefix):
            pytest.importorskip(framework)
    found = importlib.import_module(f"tensor_optix.{package}")
    assert getattr(found, name) is getattr(tensor_optix, name)
    assert name in found.__all__


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_lists_its_names_and_refuses_others(package):
    found = importlib.import_module(f"tensor_optix.{package}")
    assert set(found.__all__) <= set(dir(found))
    with pytest.raises(AttributeError, match=f"'tensor_optix.{package}' has no .* 'Nothing'") as no:
        _ = found.Nothing
    assert no.value.obj is found, "from it the interpreter makes its suggestion"
    assert no.value.name == "Nothing"


def loaded_by(statement: str) -> set[str]:
    script = f"import sys\n{statement}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    result = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    return set(result.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import tensor_optix",
        "import tensor_optix.core.loop_controller",
        "from tensor_optix import RLOptimizer, BatchPipeline, BaseAgent, TorchEvaluator, TFEvaluator",
        "from tensor_optix import make_agent",
        "from tensor_optix.core import RegimeDetector, DiagnosticController",
        *(f"import tensor_optix.{package}" for package in PACKAGES),
    ],
)
def test_the_framework_free_part_loads_no_framework(statement):
    frameworks = {"torch", "tensorflow", "keras", "envpool", "matplotlib", "optuna", "rich", "tyro"}
    assert not loaded_by(statement) & frameworks


@pytest.mark.parametrize(("prefix", "framework"), FRAMEWORK_OF.items())
def test_a_missing_framework_is_named_with_the_command_that_installs_it(prefix, framework):
    statement = (
        f"sys.modules[{framework!r}] = None\n"
        f"try:\n    from tensor_optix import {prefix}PPOAgent\n"
        f"except ImportError as error:\n    assert 'tensor-optix[{framework}]' in str(error), error\n"
        "else:\n    raise AssertionError"
    )
    loaded_by(statement)


def test_a_release_has_one_version():
    root = PACKAGE.parent
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert project["version"] == tensor_optix.__version__
    assert f"\nversion: {tensor_optix.__version__}\n" in (root / "CITATION.cff").read_text()
    assert f"\n## {tensor_optix.__version__} (" in (root / "CHANGELOG.md").read_text()
