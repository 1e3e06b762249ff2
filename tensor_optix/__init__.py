"""Reinforcement learning that trains by itself.

Every public name is loaded when it is first used, so that importing the package loads no framework.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tensor_optix.adapters.pytorch.torch_evaluator import TorchEvaluator as TorchEvaluator
    from tensor_optix.adapters.tensorflow.tf_evaluator import TFEvaluator as TFEvaluator
    from tensor_optix.algorithms.agent_factory import make_agent as make_agent
    from tensor_optix.algorithms.tf_agent import TFAgent as TFAgent
    from tensor_optix.algorithms.tf_dqn import TFDQNAgent as TFDQNAgent
    from tensor_optix.algorithms.tf_ppo import TFPPOAgent as TFPPOAgent
    from tensor_optix.algorithms.tf_ppo_continuous import TFGaussianPPOAgent as TFGaussianPPOAgent
    from tensor_optix.algorithms.tf_sac import TFSACAgent as TFSACAgent
    from tensor_optix.algorithms.torch_agent import TorchAgent as TorchAgent
    from tensor_optix.algorithms.torch_dqn import TorchDQNAgent as TorchDQNAgent
    from tensor_optix.algorithms.torch_ppo import TorchPPOAgent as TorchPPOAgent
    from tensor_optix.algorithms.torch_ppo_continuous import (
        TorchGaussianPPOAgent as TorchGaussianPPOAgent,
    )
    from tensor_optix.algorithms.torch_sac import TorchSACAgent as TorchSACAgent
    from tensor_optix.core.backoff_scheduler import BackoffScheduler as BackoffScheduler
    from tensor_optix.core.base_agent import BaseAgent as BaseAgent
    from tensor_optix.core.base_evaluator import BaseEvaluator as BaseEvaluator
    from tensor_optix.core.base_evaluator import MeanReturnEvaluator as MeanReturnEvaluator
    from tensor_optix.core.base_optimizer import BaseOptimizer as BaseOptimizer
    from tensor_optix.core.base_optimizer import FixedHyperparams as FixedHyperparams
    from tensor_optix.core.base_pipeline import BasePipeline as BasePipeline
    from tensor_optix.core.callbacks import LoopCallback as LoopCallback
    from tensor_optix.core.checkpoint_registry import CheckpointRegistry as CheckpointRegistry
    from tensor_optix.core.ensemble_agent import EnsembleAgent as EnsembleAgent
    from tensor_optix.core.loop_controller import LoopController as LoopController
    from tensor_optix.core.meta_controller import MetaAction as MetaAction
    from tensor_optix.core.meta_controller import MetaController as MetaController
    from tensor_optix.core.normalizers import ObsNormalizer as ObsNormalizer
    from tensor_optix.core.normalizers import RewardNormalizer as RewardNormalizer
    from tensor_optix.core.normalizers import RunningMeanStd as RunningMeanStd
    from tensor_optix.core.policy_manager import PolicyManager as PolicyManager
    from tensor_optix.core.policy_manager import PolicyManagerCallback as PolicyManagerCallback
    from tensor_optix.core.regime_detector import RegimeDetector as RegimeDetector
    from tensor_optix.core.replay_buffer import PrioritizedReplayBuffer as PrioritizedReplayBuffer
    from tensor_optix.core.replay_buffer import ReplayBuffer as ReplayBuffer
    from tensor_optix.core.trajectory_buffer import compute_gae as compute_gae
    from tensor_optix.core.trajectory_buffer import make_minibatches as make_minibatches
    from tensor_optix.core.types import EpisodeData as EpisodeData
    from tensor_optix.core.types import EvalMetrics as EvalMetrics
    from tensor_optix.core.types import HyperparamSet as HyperparamSet
    from tensor_optix.core.types import LoopState as LoopState
    from tensor_optix.core.types import PolicySnapshot as PolicySnapshot
    from tensor_optix.exploration.rnd import RNDPipeline as RNDPipeline
    from tensor_optix.optimizer import RLOptimizer as RLOptimizer
    from tensor_optix.optimizers.backoff_optimizer import BackoffOptimizer as BackoffOptimizer
    from tensor_optix.optimizers.diagnostic_controller import (
        DiagnosticController as DiagnosticController,
    )
    from tensor_optix.optimizers.momentum_optimizer import MomentumOptimizer as MomentumOptimizer
    from tensor_optix.optimizers.pbt_optimizer import PBTOptimizer as PBTOptimizer
    from tensor_optix.optimizers.spsa_optimizer import SPSAOptimizer as SPSAOptimizer
    from tensor_optix.pipeline.batch_pipeline import BatchPipeline as BatchPipeline
    from tensor_optix.pipeline.live_pipeline import LivePipeline as LivePipeline
    from tensor_optix.pipeline.vector_pipeline import VectorBatchPipeline as VectorBatchPipeline
    from tensor_optix.trials.orchestrator import TrialOrchestrator as TrialOrchestrator

__version__ = "2.0.0.dev0"

_MODULES = {
    "TorchAgent": "algorithms.torch_agent",
    "TorchEvaluator": "adapters.pytorch.torch_evaluator",
    "TFAgent": "algorithms.tf_agent",
    "TFEvaluator": "adapters.tensorflow.tf_evaluator",
    "make_agent": "algorithms.agent_factory",
    "TFDQNAgent": "algorithms.tf_dqn",
    "TFPPOAgent": "algorithms.tf_ppo",
    "TFGaussianPPOAgent": "algorithms.tf_ppo_continuous",
    "TFSACAgent": "algorithms.tf_sac",
    "TorchDQNAgent": "algorithms.torch_dqn",
    "TorchPPOAgent": "algorithms.torch_ppo",
    "TorchGaussianPPOAgent": "algorithms.torch_ppo_continuous",
    "TorchSACAgent": "algorithms.torch_sac",
    "BackoffScheduler": "core.backoff_scheduler",
    "BaseAgent": "core.base_agent",
    "BaseEvaluator": "core.base_evaluator",
    "MeanReturnEvaluator": "core.base_evaluator",
    "BaseOptimizer": "core.base_optimizer",
    "FixedHyperparams": "core.base_optimizer",
    "BasePipeline": "core.base_pipeline",
    "LoopCallback": "core.callbacks",
    "CheckpointRegistry": "core.checkpoint_registry",
    "DiagnosticController": "optimizers.diagnostic_controller",
    "EnsembleAgent": "core.ensemble_agent",
    "LoopController": "core.loop_controller",
    "MetaAction": "core.meta_controller",
    "MetaController": "core.meta_controller",
    "ObsNormalizer": "core.normalizers",
    "RewardNormalizer": "core.normalizers",
    "RunningMeanStd": "core.normalizers",
    "PolicyManager": "core.policy_manager",
    "PolicyManagerCallback": "core.policy_manager",
    "RegimeDetector": "core.regime_detector",
    "PrioritizedReplayBuffer": "core.replay_buffer",
    "ReplayBuffer": "core.replay_buffer",
    "compute_gae": "core.trajectory_buffer",
    "make_minibatches": "core.trajectory_buffer",
    "EpisodeData": "core.types",
    "EvalMetrics": "core.types",
    "HyperparamSet": "core.types",
    "LoopState": "core.types",
    "PolicySnapshot": "core.types",
    "RNDPipeline": "exploration.rnd",
    "RLOptimizer": "optimizer",
    "BackoffOptimizer": "optimizers.backoff_optimizer",
    "MomentumOptimizer": "optimizers.momentum_optimizer",
    "PBTOptimizer": "optimizers.pbt_optimizer",
    "SPSAOptimizer": "optimizers.spsa_optimizer",
    "TrialOrchestrator": "trials.orchestrator",
    "BatchPipeline": "pipeline.batch_pipeline",
    "LivePipeline": "pipeline.live_pipeline",
    "VectorBatchPipeline": "pipeline.vector_pipeline",
}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
