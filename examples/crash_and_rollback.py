"""A policy that collapses, and how the run recovers.

    python examples/crash_and_rollback.py

In the middle of the run a callback ruins the weights, as a bug or a bad hyperparameter would. Two
evaluations later the fall is certain, and the best policy comes back, with its optimizer,
normalizers and hyperparameters.
"""

import argparse

from tensor_optix import (
    FixedHyperparams,
    LoopCallback,
    RLOptimizer,
    VectorBatchPipeline,
    make_agent,
)

parser = argparse.ArgumentParser(description="Lose a policy, and get it back.")
parser.add_argument("--max-steps", type=int, default=80_000)
max_steps = parser.parse_args().max_steps

agent = make_agent("CartPole-v1", "ppo", "native", seed=0)
pipeline = VectorBatchPipeline(env_id="CartPole-v1", num_envs=8, window_size=128)


class Vandal(LoopCallback):
    """Ruins the weights once, halfway, and tells how the scores go on."""

    ruined = False

    def on_window(self, report):
        if report.score is not None:
            print(f"{report.total_steps:7,} steps  score {report.score:5.1f}")
        if not self.ruined and report.total_steps > max_steps / 2:
            self.ruined = True
            agent.perturb_weights(3.0)
            print("        the weights were ruined")

    def on_event(self, event):
        if event.kind in ("degradation", "rollback"):
            print(f"        {event.kind}: {event.numbers}")


optimizer = RLOptimizer(
    agent,
    pipeline,
    optimizer=FixedHyperparams(),  # While a tuner tries something, nobody judges a fall.
    callbacks=[Vandal()],
    rollback_on_degradation=True,
    degradation_threshold=0.8,  # Fallen is what scores less than 80 % of the best.
    max_steps=max_steps,
    seed=0,
)
optimizer.run()
score = optimizer.best_snapshot.eval_metrics.primary_score
print(f"In the end the agent holds the best policy, which balances for {score:.0f} of 500 steps.")
