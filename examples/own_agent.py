"""An agent of your own: six methods, and the loop does the rest.

    python examples/own_agent.py

Windows are played by linear policies, drawn around a mean that moves to the best of them.
"""

import argparse
import json
from pathlib import Path

import gymnasium
import numpy as np

from tensor_optix import BaseAgent, BatchPipeline, HyperparamSet, RLOptimizer


class CrossEntropy(BaseAgent):
    """Draws a linear policy for each window, and learns from the best of ten."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.mean, self.width, self.tried = np.zeros(4), 1.0, []
        self.weights = self.rng.normal(self.mean, self.width)

    def act(self, observation):
        return int(observation @ self.weights > 0)

    def learn(self, episode_data):
        returns = episode_data.total_reward / max(sum(episode_data.dones), 1)
        self.tried.append((returns, self.weights))
        if len(self.tried) == 10:
            best = sorted(self.tried, key=lambda one: one[0])[-3:]
            self.mean, self.tried = np.mean([weights for _, weights in best], axis=0), []
        self.weights = self.rng.normal(self.mean, self.width)
        return {"mean_return": returns}

    def get_hyperparams(self):
        return HyperparamSet({"width": self.width})

    def set_hyperparams(self, hyperparams):
        self.width = hyperparams.params["width"]

    def save_weights(self, path):
        Path(path).mkdir(parents=True, exist_ok=True)
        Path(path, "weights.json").write_text(json.dumps(self.weights.tolist()))

    def load_weights(self, path):
        self.weights = np.array(json.loads(Path(path, "weights.json").read_text()))


parser = argparse.ArgumentParser(description="Balance a pole without gradients.")
parser.add_argument("--max-steps", type=int, default=60_000)
max_steps = parser.parse_args().max_steps
pipeline = BatchPipeline(env=gymnasium.make("CartPole-v1"), window_size=1000)
optimizer = RLOptimizer(CrossEntropy(seed=0), pipeline, max_steps=max_steps)
optimizer.run()
print(f"Best mean return: {optimizer.best_snapshot.eval_metrics.primary_score:.0f} of 500.")
