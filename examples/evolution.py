"""An ensemble that evolves: where training comes to rest, variants of the best policy are tried.

    python examples/evolution.py

Two agents act as one. When nothing is left to gain, a variant joins; it stays only if the
ensemble with it beats the ensemble without it on the same episodes.
"""

import argparse

from tensor_optix import (
    CheckpointRegistry,
    EnsembleAgent,
    LoopCallback,
    PolicyManager,
    RLOptimizer,
    VectorBatchPipeline,
    make_agent,
)

parser = argparse.ArgumentParser(description="Balance a pole with several heads.")
parser.add_argument("--max-steps", type=int, default=300_000)
max_steps = parser.parse_args().max_steps


def make_member():
    """Return a new member of the ensemble."""
    return make_agent("CartPole-v1", "ppo", "native", hidden_sizes=(32,))


class Narrator(LoopCallback):
    """Tells what became of each variant."""

    def on_event(self, event):
        if event.kind == "variant":
            verdict = "stays" if event.stays else "leaves"
            means = f"{event.variant_mean:.1f} against {event.champion_mean:.1f}"
            print(f"variant {event.number} {verdict}: {means}, p = {event.p_value:.2f}")


manager = PolicyManager(CheckpointRegistry("./checkpoints"), max_spawns=1, max_ensemble_size=3)
members = [make_member(), make_member()]
for member in members:
    manager.add_agent(member)
ensemble = EnsembleAgent(manager, primary_agent=members[0])
optimizer = RLOptimizer(
    agent=ensemble,
    pipeline=VectorBatchPipeline(env_id="CartPole-v1", num_envs=8, window_size=256),
    callbacks=[manager.as_callback(ensemble, agent_factory=make_member), Narrator()],
    max_steps=max_steps,
)
optimizer.run()

score = optimizer.best_snapshot.eval_metrics.primary_score
print(f"{manager.ensemble_size} policies act together, and balance for {score:.0f} of 500 steps.")
