"""Images as observations: `make_agent` gives them convolutions.

    python examples/images.py

A bright square lies in one quarter of a small picture; the agent says in which. Images keep their
bytes until they are inside the network. Needs PyTorch or TensorFlow.
"""

import argparse

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

from tensor_optix import HyperparamSet, RLOptimizer, VectorBatchPipeline, make_agent

SIZE, QUESTIONS = 36, 20


class WhichQuarter(gymnasium.Env):
    """Say in which quarter of the picture the square is."""

    observation_space = Box(0, 255, (1, SIZE, SIZE), np.uint8)
    action_space = Discrete(4)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.asked = 0
        return self._draw(), {}

    def step(self, action):
        reward = float(action == self.quarter)
        self.asked += 1
        return self._draw(), reward, self.asked == QUESTIONS, False, {}

    def _draw(self):
        self.quarter = int(self.np_random.integers(4))
        row, column = divmod(self.quarter, 2)
        picture = self.np_random.integers(0, 60, (1, SIZE, SIZE), dtype=np.uint8)
        picture[:, row * 18 + 4 : row * 18 + 14, column * 18 + 4 : column * 18 + 14] = 255
        return picture


parser = argparse.ArgumentParser(description="Find a square in a picture.")
parser.add_argument("--max-steps", type=int, default=16_384)
arguments = parser.parse_args()

fewer = HyperparamSet({"n_epochs": 4, "minibatch_size": 64})
agent = make_agent(WhichQuarter(), "ppo", hyperparams=fewer, hidden_sizes=(64,), seed=0)
pipeline = VectorBatchPipeline(env_fns=[WhichQuarter] * 4, window_size=64, seed=0)
optimizer = RLOptimizer(agent, pipeline, max_steps=arguments.max_steps, seed=0, verbose=True)
optimizer.run()

score = optimizer.best_snapshot.eval_metrics.primary_score
print(f"The best policy is right {score:.1f} times of {QUESTIONS}; guessing is right 5 times.")
