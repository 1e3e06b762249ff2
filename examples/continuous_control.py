"""Continuous actions with SAC, which learns from a replay buffer while it acts.

    python examples/continuous_control.py

The torque of a pendulum is a number in [-2, 2]; agents act in (-1, 1), and the pipeline stretches
that.
"""

import argparse

from tensor_optix import HyperparamSet, RLOptimizer, VectorBatchPipeline, make_agent

parser = argparse.ArgumentParser(description="Swing up a pendulum.")
parser.add_argument("--max-steps", type=int, default=20_000)
parser.add_argument("--width", type=int, default=64, help="units of each hidden layer")
arguments = parser.parse_args()

agent = make_agent(
    "Pendulum-v1",
    "sac",
    "native",
    hyperparams=HyperparamSet({"learning_rate": 1e-3, "learning_starts": 500, "gamma": 0.95}),
    hidden_sizes=(arguments.width, arguments.width),
    seed=0,
)
pipeline = VectorBatchPipeline(env_id="Pendulum-v1", num_envs=4, window_size=400)
optimizer = RLOptimizer(agent, pipeline, max_steps=arguments.max_steps, seed=0, verbose=True)
optimizer.run()

score = optimizer.best_snapshot.eval_metrics.primary_score
print(
    f"The best policy earns {score:.0f} an episode; doing nothing earns about -1200, -150 is good."
)
