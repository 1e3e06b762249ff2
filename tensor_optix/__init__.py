"""Reinforcement learning that trains by itself.

Every public name is loaded when it is first used, so that importing the package loads no framework.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensor_optix.public_names import lazy

if TYPE_CHECKING:
    from tensor_optix.adapters.native.optimizers import NativeAdam as NativeAdam
    from tensor_optix.adapters.native.optimizers import NativeSGD as NativeSGD
    from tensor_optix.adapters.native.perceptron import Perceptron as Perceptron
    from tensor_optix.adapters.pytorch.torch_evaluator import TorchEvaluator as TorchEvaluator
    from tensor_optix.adapters.tensorflow.tf_evaluator import TFEvaluator as TFEvaluator
    from tensor_optix.algorithms.agent_factory import make_agent as make_agent
    from tensor_optix.algorithms.dqn import DQNHyperparams as DQNHyperparams
    from tensor_optix.algorithms.native_agent import NativeAgent as NativeAgent
    from tensor_optix.algorithms.native_dqn import NativeDQNAgent as NativeDQNAgent
    from tensor_optix.algorithms.native_ppo import NativePPOAgent as NativePPOAgent
    from tensor_optix.algorithms.native_ppo_continuous import (
        NativeGaussianPPOAgent as NativeGaussianPPOAgent,
    )
    from tensor_optix.algorithms.native_sac import NativeSACAgent as NativeSACAgent
    from tensor_optix.algorithms.native_td3 import NativeTD3Agent as NativeTD3Agent
    from tensor_optix.algorithms.ppo import PPOHyperparams as PPOHyperparams
    from tensor_optix.algorithms.sac import SACHyperparams as SACHyperparams
    from tensor_optix.algorithms.td3 import TD3Hyperparams as TD3Hyperparams
    from tensor_optix.algorithms.tf_agent import TFAgent as TFAgent
    from tensor_optix.algorithms.tf_dqn import TFDQNAgent as TFDQNAgent
    from tensor_optix.algorithms.tf_ppo import TFPPOAgent as TFPPOAgent
    from tensor_optix.algorithms.tf_ppo_continuous import TFGaussianPPOAgent as TFGaussianPPOAgent
    from tensor_optix.algorithms.tf_sac import TFSACAgent as TFSACAgent
    from tensor_optix.algorithms.tf_td3 import TFTD3Agent as TFTD3Agent
    from tensor_optix.algorithms.torch_agent import TorchAgent as TorchAgent
    from tensor_optix.algorithms.torch_dqn import TorchDQNAgent as TorchDQNAgent
    from tensor_optix.algorithms.torch_ppo import TorchPPOAgent as TorchPPOAgent
    from tensor_optix.algorithms.torch_ppo_continuous import (
        TorchGaussianPPOAgent as TorchGaussianPPOAgent,
    )
    from tensor_optix.algorithms.torch_sac import TorchSACAgent as TorchSACAgent
    from tensor_optix.algorithms.torch_td3 import TorchTD3Agent as TorchTD3Agent
    from tensor_optix.cli.from_python import train as train
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
    from tensor_optix.exporting.exporting import export as export
    from tensor_optix.loggers.csv_callback import CSVCallback as CSVCallback
    from tensor_optix.loggers.mlflow_callback import MLflowCallback as MLflowCallback
    from tensor_optix.loggers.tensorboard_callback import TensorBoardCallback as TensorBoardCallback
    from tensor_optix.loggers.wandb_callback import WandbCallback as WandbCallback
    from tensor_optix.optimizer import RLOptimizer as RLOptimizer
    from tensor_optix.optimizers.backoff_optimizer import BackoffOptimizer as BackoffOptimizer
    from tensor_optix.optimizers.diagnostic_controller import (
        DiagnosticController as DiagnosticController,
    )
    from tensor_optix.optimizers.fork_optimizer import ForkOptimizer as ForkOptimizer
    from tensor_optix.optimizers.momentum_optimizer import MomentumOptimizer as MomentumOptimizer
    from tensor_optix.optimizers.pbt_optimizer import PBTOptimizer as PBTOptimizer
    from tensor_optix.optimizers.spsa_optimizer import SPSAOptimizer as SPSAOptimizer
    from tensor_optix.pipeline.batch_pipeline import BatchPipeline as BatchPipeline
    from tensor_optix.pipeline.live_pipeline import LivePipeline as LivePipeline
    from tensor_optix.pipeline.vector_pipeline import VectorBatchPipeline as VectorBatchPipeline
    from tensor_optix.policies.loading import load as load
    from tensor_optix.policies.policy import Policy as Policy
    from tensor_optix.runs.plots import plot as plot
    from tensor_optix.trials.orchestrator import TrialOrchestrator as TrialOrchestrator

__version__ = "2.0.0"

__all__, __getattr__, __dir__ = lazy(__name__)
