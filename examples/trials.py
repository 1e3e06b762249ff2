"""A search of hyperparameters: many short trainings, of which the worst are ended early.

    python examples/trials.py

The best three are then trained again with fresh seeds, as the best of many single scores is
mostly a lucky one. Needs Optuna.
"""

import argparse

from tensor_optix import HyperparamSet, TrialOrchestrator, VectorBatchPipeline, make_agent

parser = argparse.ArgumentParser(description="Search learning rate and discount for CartPole.")
parser.add_argument("--trials", type=int, default=10)
parser.add_argument("--max-steps", type=int, default=12_288, help="environment steps of each trial")
arguments = parser.parse_args()


def make(params):
    """Return an agent with the hyperparameters of a trial."""
    return make_agent("CartPole-v1", "ppo", "native", hyperparams=HyperparamSet(params))


orchestrator = TrialOrchestrator(
    agent_factory=make,
    pipeline_factory=lambda: VectorBatchPipeline(env_id="CartPole-v1", num_envs=8, window_size=128),
    param_space={"learning_rate": ("log_float", 1e-5, 1e-2), "gamma": ("float", 0.8, 0.999)},
    n_trials=arguments.trials,
    trial_steps=arguments.max_steps,
    seed=0,
)
params, score = orchestrator.run()

print(f"Of {arguments.trials} trials the best, trained again with fresh seeds, scores {score:.0f}:")
for name, value in params.items():
    print(f"  {name} = {value:.3g}")
