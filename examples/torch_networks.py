"""Networks of your own in PyTorch: actor and critic share their first layers.

    python examples/torch_networks.py

Any `nn.Module` will do. Shared layers run once, and their parameters stand in the optimizer once.
"""

import argparse

import torch
from torch import nn

from tensor_optix import HyperparamSet, RLOptimizer, TorchPPOAgent, VectorBatchPipeline


class Residual(nn.Module):
    """A layer that adds to what it sees."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features + torch.relu(self.layer(self.norm(features)))


parser = argparse.ArgumentParser(description="Swing up an acrobot with residual networks.")
parser.add_argument("--max-steps", type=int, default=100_000)
arguments = parser.parse_args()

torch.manual_seed(0)
trunk = nn.Sequential(nn.Linear(6, 64), Residual(64), Residual(64))
actor = nn.Sequential(trunk, nn.Linear(64, 3))
critic = nn.Sequential(trunk, nn.Linear(64, 1))
parameters = list(dict.fromkeys([*actor.parameters(), *critic.parameters()]))

agent = TorchPPOAgent(
    actor=actor,
    critic=critic,
    optimizer=torch.optim.Adam(parameters, lr=7e-4),
    hyperparams=HyperparamSet({"learning_rate": 7e-4, "n_epochs": 5, "minibatch_size": 256}),
)
pipeline = VectorBatchPipeline(env_id="Acrobot-v1", num_envs=8, window_size=256)
optimizer = RLOptimizer(agent, pipeline, max_steps=arguments.max_steps, seed=0, verbose=True)
optimizer.run()

score = optimizer.best_snapshot.eval_metrics.primary_score
print(f"Who makes the updates: {agent.engine_choice}.")
print(f"The best policy swings up in {-score:.0f} steps; 500 is never, 80 is good.")
