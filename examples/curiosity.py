"""Exploration: random network distillation pays for what is new, where rewards alone are too rare.

    python examples/curiosity.py

A corridor pays only at its far end, which random moves hardly ever reach. `RNDPipeline` adds novelty to the
rewards that are learned from; the scores stay those of the corridor. With some
seeds chance gets there without it.
"""

import argparse

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

from tensor_optix import RLOptimizer, RNDPipeline, VectorBatchPipeline, make_agent

LENGTH = 40


class Corridor(gymnasium.Env):
    """A step to the left or to the right; 1 is paid at the end, within four lengths of steps."""

    observation_space = Box(0.0, 1.0, (LENGTH,), np.float32)
    action_space = Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.steps = 0, 0
        return self._observation(), {}

    def step(self, action):
        self.steps += 1
        self.place = max(0, self.place + 2 * int(action) - 1)
        is_there = self.place == LENGTH - 1
        return self._observation(), float(is_there), is_there, self.steps == 4 * LENGTH, {}

    def _observation(self):
        return np.eye(LENGTH, dtype=np.float32)[self.place]


def train(max_steps, eta):
    agent = make_agent(Corridor(), framework="native", hyperparams={"learning_rate": 1e-3}, seed=0)
    pipeline = VectorBatchPipeline([Corridor] * 8, window_size=256)
    pipeline = RNDPipeline(pipeline, obs_dim=LENGTH, eta=eta)
    optimizer = RLOptimizer(agent, pipeline, max_steps=max_steps, seed=0, progress=True)
    optimizer.run()
    return optimizer.best_snapshot.eval_metrics.primary_score


def main(max_steps):
    plain, curious = train(max_steps, eta=0.0), train(max_steps, eta=0.01)
    print(f"Episodes that reach the end: {curious:.0%} with curiosity, {plain:.0%} without.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--max-steps", type=int, default=60_000)
    main(parser.parse_args().max_steps)
