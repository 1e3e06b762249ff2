"""Code written for the released versions may name every argument, or give it by its place."""

from __future__ import annotations

import inspect

import pytest

import tensor_optix
from tests.test_public_api import FRAMEWORK_OF

ARGUMENTS = {
    # the loop
    "RLOptimizer": "agent pipeline evaluator optimizer checkpoint_dir max_snapshots "
    "rollback_on_degradation improvement_margin max_episodes base_interval backoff_factor "
    "max_interval_episodes plateau_threshold dormant_threshold",
    "RLOptimizer.add_callback": "cb",
    "LoopController": "agent evaluator optimizer pipeline checkpoint_registry backoff_scheduler "
    "rollback_on_degradation improvement_margin max_episodes callbacks val_pipeline "
    "score_smoothing checkpoint_score_fn verbose",
    "LoopController.add_callback": "cb",
    "BackoffScheduler": "base_interval backoff_factor max_interval_episodes plateau_threshold "
    "dormant_threshold degradation_threshold min_degradation_drop min_episodes_before_dormant "
    "min_episodes_before_degradation noise_k score_window trend_window",
    "BackoffScheduler.record_improvement": "score",
    "BackoffScheduler.record_score": "score",
    "BackoffScheduler.check_degradation": "score",
    "BackoffScheduler.should_adapt": "episode_count",
    "CheckpointRegistry": "checkpoint_dir max_snapshots",
    "CheckpointRegistry.save": "agent eval_metrics hyperparams",
    "CheckpointRegistry.load_best": "agent",
    "CheckpointRegistry.load_ensemble": "agent top_k score_band",
    "LoopCallback.on_episode_end": "episode_id eval_metrics",
    "LoopCallback.on_improvement": "snapshot",
    "LoopCallback.on_plateau": "episode_id state",
    "LoopCallback.on_degradation": "episode_id eval_metrics",
    "LoopCallback.on_hyperparam_update": "old_params new_params",
    # data and contracts
    "EpisodeData": "observations actions rewards terminated truncated infos episode_id values "
    "log_probs timestamp metadata episode_starts final_obs",
    "EvalMetrics": "primary_score metrics episode_id timestamp",
    "EvalMetrics.beats": "other margin",
    "HyperparamSet": "params episode_id timestamp",
    "PolicySnapshot": "snapshot_id eval_metrics hyperparams weights_path episode_id timestamp",
    "BaseAgent.act": "observation",
    "BaseAgent.learn": "episode_data",
    "BaseAgent.set_hyperparams": "hyperparams",
    "BaseAgent.save_weights": "path",
    "BaseAgent.load_weights": "path",
    "BaseAgent.average_weights": "paths",
    "BaseAgent.perturb_weights": "noise_scale",
    "BaseEvaluator.score": "episode_data train_diagnostics",
    "BaseEvaluator.score_validation": "episode_data",
    "BaseEvaluator.combine": "train val",
    "BaseEvaluator.compare": "candidate baseline",
    "BaseOptimizer.suggest": "current_hyperparams metrics_history",
    "BaseOptimizer.on_improvement": "metrics",
    "BaseOptimizer.on_plateau": "metrics_history",
    # tuners and trials
    "SPSAOptimizer": "param_bounds perturbation_scale learning_rate min_perturbation "
    "gradient_clip log_params",
    "BackoffOptimizer": "param_bounds perturbation_scale min_delta gradient_threshold",
    "PBTOptimizer": "param_bounds history_size exploit_percentile top_percentile explore_scale "
    "exploit_scale log_scale_params",
    "MomentumOptimizer": "param_bounds alpha beta1 beta2 eps probe_scale min_delta",
    "TrialOrchestrator": "agent_factory pipeline_factory param_space n_trials trial_steps direction "
    "n_startup_trials pruner_warmup_steps pruner_interval optuna_verbosity rloptimizer_kwargs "
    "val_pipeline_factory checkpoint_score_fn study_name storage",
    # population
    "PolicyManager": "registry score_window max_spawns max_ensemble_size",
    "PolicyManager.add_agent": "agent weight",
    "PolicyManager.ensemble_action": "obs",
    "PolicyManager.update_weights": "agent_scores",
    "PolicyManager.record_agent_score": "agent_idx score",
    "PolicyManager.prune": "bottom_k",
    "PolicyManager.boost": "agent factor",
    "PolicyManager.set_regime": "regime",
    "PolicyManager.adaptive_noise_scale": "metrics_history min_scale max_scale window",
    "PolicyManager.evolve": "agent current_score",
    "PolicyManager.spawn_variant": "agent_shell noise_scale mutation_fn",
    "PolicyManager.as_callback": "agent agent_factory meta_controller",
    "PolicyManagerCallback.set_stop_fn": "fn",
    "EnsembleAgent": "policy_manager primary_agent",
    "MetaController": "gap_threshold gap_slope_threshold improvement_threshold window",
    "MetaController.decide": "metrics_history pm_status",
    "RegimeDetector": "volatility_threshold trend_threshold window",
    "RegimeDetector.detect": "metrics_history",
    # pipelines
    "BatchPipeline": "env agent window_size",
    "VectorBatchPipeline": "env_fns agent window_size async_envs",
    "LivePipeline": "data_source agent episode_boundary_fn buffer_size reconnect_on_disconnect",
    "LivePipeline.every_n_steps": "n",
    "LivePipeline.every_n_seconds": "n",
    "RNDPipeline": "pipeline obs_dim embedding_dim eta predictor_lr norm_eps",
    "RNDPipeline.set_eta": "eta",
    # scores, normalizers, buffers
    "TFEvaluator": "primary_score_fn",
    "TorchEvaluator": "primary_score_fn",
    "RunningMeanStd": "shape epsilon",
    "RunningMeanStd.normalize": "x clip",
    "ObsNormalizer": "obs_shape clip",
    "ObsNormalizer.normalize": "obs",
    "RewardNormalizer": "gamma clip epsilon",
    "RewardNormalizer.step": "reward",
    "RewardNormalizer.normalize": "rewards",
    "compute_gae": "rewards values dones gamma gae_lambda last_value",
    "make_minibatches": "data minibatch_size shuffle",
    "PrioritizedReplayBuffer": "capacity alpha beta n_step gamma eps",
    "PrioritizedReplayBuffer.push": "obs action reward next_obs done",
    # agents
    "TFAgent": "model optimizer hyperparams compute_loss_fn",
    "TFPPOAgent": "actor critic optimizer hyperparams reward_normalizer",
    "TFGaussianPPOAgent": "actor critic optimizer action_dim hyperparams reward_normalizer",
    "TFDQNAgent": "q_network n_actions optimizer hyperparams",
    "TFSACAgent": "actor critic1 critic2 action_dim actor_optimizer critic_optimizer "
    "alpha_optimizer hyperparams",
    "TorchAgent": "model optimizer hyperparams compute_loss_fn",
    "TorchPPOAgent": "actor critic optimizer hyperparams reward_normalizer device",
    "TorchGaussianPPOAgent": "actor critic optimizer action_dim hyperparams reward_normalizer device",
    "TorchDQNAgent": "q_network n_actions optimizer hyperparams device",
    "TorchSACAgent": "actor critic1 critic2 action_dim actor_optimizer critic_optimizer "
    "alpha_optimizer hyperparams device",
}
"""What is documented of each public class, method and function: its arguments, in order."""


@pytest.mark.parametrize("name", ARGUMENTS)
def test_documented_arguments_have_their_names_and_places(name):
    for prefix, framework in FRAMEWORK_OF.items():
        if name.startswith(prefix):
            pytest.importorskip(framework)
    owner, _, method = name.partition(".")
    found = getattr(tensor_optix, owner)
    parameters = list(inspect.signature(getattr(found, method) if method else found).parameters)
    is_bound = method and isinstance(inspect.getattr_static(found, method), staticmethod)
    own = parameters[1:] if method and not is_bound else parameters
    documented = ARGUMENTS[name].split()
    assert own[: len(documented)] == documented
