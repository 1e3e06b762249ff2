"""Three lines of training: an agent, environments, and a run that stops by itself.

    python examples/cartpole.py

`make_agent` looks at the spaces of the environment and builds networks for them. Without `--max-
steps` the run ends when nothing is left to gain, after a minute or so.
"""

import argparse

from tensor_optix import RLOptimizer, VectorBatchPipeline, make_agent

parser = argparse.ArgumentParser(description="Balance a pole.")
parser.add_argument("--max-steps", type=int, default=None, help="stop after so many steps at most")
arguments = parser.parse_args()

agent = make_agent("CartPole-v1", "ppo", "native")
pipeline = VectorBatchPipeline(env_id="CartPole-v1", num_envs=8, window_size=256)
optimizer = RLOptimizer(agent, pipeline, max_steps=arguments.max_steps, verbose=True)
optimizer.run()

best = optimizer.best_snapshot.eval_metrics
print(f"The best policy balances for {best.primary_score:.0f} of 500 steps.")
