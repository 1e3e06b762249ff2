"""The public names: a package comes in, and what makes it give its names when they are first used goes out.

So importing the package, or one of its packages, loads no framework (PEP 562).
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_NAMES = {
    "adapters.native.optimizers": "NativeAdam NativeSGD",
    "adapters.native.perceptron": "Perceptron",
    "adapters.pytorch.torch_agent": "TorchAgent",
    "adapters.pytorch.torch_evaluator": "TorchEvaluator",
    "adapters.tensorflow.tf_agent": "TFAgent",
    "adapters.tensorflow.tf_evaluator": "TFEvaluator",
    "algorithms.agent_factory": "make_agent",
    "algorithms.dqn": "DQNHyperparams",
    "algorithms.native_agent": "NativeAgent",
    "algorithms.native_dqn": "NativeDQNAgent",
    "algorithms.native_ppo": "NativePPOAgent",
    "algorithms.native_ppo_continuous": "NativeGaussianPPOAgent",
    "algorithms.native_sac": "NativeSACAgent",
    "algorithms.native_td3": "NativeTD3Agent",
    "algorithms.ppo": "PPOHyperparams",
    "algorithms.sac": "SACHyperparams",
    "algorithms.td3": "TD3Hyperparams",
    "algorithms.tf_agent": "TFAgent",
    "algorithms.tf_dqn": "TFDQNAgent",
    "algorithms.tf_ppo": "TFPPOAgent",
    "algorithms.tf_ppo_continuous": "TFGaussianPPOAgent",
    "algorithms.tf_sac": "TFSACAgent",
    "algorithms.tf_td3": "TFTD3Agent",
    "algorithms.torch_agent": "TorchAgent",
    "algorithms.torch_dqn": "TorchDQNAgent",
    "algorithms.torch_ppo": "TorchPPOAgent",
    "algorithms.torch_ppo_continuous": "TorchGaussianPPOAgent",
    "algorithms.torch_sac": "TorchSACAgent",
    "algorithms.torch_td3": "TorchTD3Agent",
    "cli.from_python": "train",
    "core.backoff_scheduler": "BackoffScheduler",
    "core.base_agent": "BaseAgent",
    "core.base_evaluator": "BaseEvaluator MeanReturnEvaluator",
    "core.base_optimizer": "BaseOptimizer FixedHyperparams",
    "core.base_pipeline": "BasePipeline",
    "core.callbacks": "LoopCallback",
    "core.checkpoint_registry": "CheckpointRegistry",
    "core.diagnostic_controller": "DiagnosticController",
    "core.ensemble_agent": "EnsembleAgent",
    "core.loop_controller": "LoopController",
    "core.meta_controller": "MetaAction MetaController",
    "core.normalizers": "ObsNormalizer RewardNormalizer RunningMeanStd",
    "core.policy_manager": "PolicyManager PolicyManagerCallback",
    "core.regime_detector": "RegimeDetector",
    "core.replay_buffer": "PrioritizedReplayBuffer ReplayBuffer",
    "core.trajectory_buffer": "compute_gae make_minibatches",
    "core.types": "EpisodeData EvalMetrics HyperparamSet LoopState PolicySnapshot",
    "exploration.rnd": "RNDPipeline",
    "exporting.exporting": "export",
    "loggers.csv_callback": "CSVCallback",
    "loggers.mlflow_callback": "MLflowCallback",
    "loggers.tensorboard_callback": "TensorBoardCallback",
    "loggers.wandb_callback": "WandbCallback",
    "optimizer": "RLOptimizer",
    "optimizers.backoff_optimizer": "BackoffOptimizer",
    "optimizers.diagnostic_controller": "DiagnosticController",
    "optimizers.fork_optimizer": "ForkOptimizer",
    "optimizers.momentum_optimizer": "MomentumOptimizer",
    "optimizers.pbt_optimizer": "PBTOptimizer",
    "optimizers.spsa_optimizer": "SPSAOptimizer",
    "pipeline.batch_pipeline": "BatchPipeline",
    "pipeline.live_pipeline": "LivePipeline",
    "pipeline.vector_pipeline": "VectorBatchPipeline",
    "policies.loading": "load",
    "policies.policy": "Policy",
    "runs.plots": "plot",
    "trials.orchestrator": "TrialOrchestrator",
}
"""The public names by their documented modules; of two modules the later one is the name's home."""


def homes(package: str) -> dict[str, str]:
    """Return the public names of a package, each with the module that it is in."""
    modules = {f"tensor_optix.{module}": names.split() for module, names in _NAMES.items()}
    return {
        name: module
        for module, names in modules.items()
        if module.startswith(f"{package}.")
        for name in names
    }


def lazy(package: str) -> tuple[list[str], Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__all__`, `__getattr__` and `__dir__` of a package."""
    modules = homes(package)

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(modules[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *modules})

    return sorted(modules), get, names
