"""A Dict of observations, and actions that are not always allowed.

    python examples/masks.py

A shop has five shelves; what is sold out must not be offered, and of the rest the dearest is
best. The part named `action_mask` tells which shelves are allowed. PPO and DQN never choose
another.
"""

import argparse

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary

from tensor_optix import RLOptimizer, VectorBatchPipeline, make_agent

SHELVES, CUSTOMERS = 5, 10


class Shop(gymnasium.Env):
    """Offer the dearest of what is there."""

    observation_space = Dict(
        prices=Box(0.0, 1.0, (SHELVES,), np.float32),
        customers=Box(0.0, 1.0, (1,), np.float32),
        action_mask=MultiBinary(SHELVES),
    )
    action_space = Discrete(SHELVES)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.served = 0
        return self._open(), {}

    def step(self, action):
        assert self.mask[action], "the agent offered what is sold out"
        self.served += 1
        reward = float(self.prices[action] / self.prices[self.mask == 1].max())
        return self._open(), reward, self.served == CUSTOMERS, False, {}

    def _open(self):
        self.prices = self.np_random.uniform(0.1, 1.0, SHELVES).astype(np.float32)
        self.mask = self.np_random.permutation(np.array([1, 1, 1, 0, 0], np.int8))
        left = np.array([1.0 - self.served / CUSTOMERS], np.float32)
        return {"prices": self.prices, "customers": left, "action_mask": self.mask}


parser = argparse.ArgumentParser(description="Sell what is there.")
parser.add_argument("--max-steps", type=int, default=60_000)
arguments = parser.parse_args()

agent = make_agent(Shop(), "ppo", "native", seed=0)
pipeline = VectorBatchPipeline(env_fns=[Shop] * 4, window_size=128, seed=0)
optimizer = RLOptimizer(agent, pipeline, max_steps=arguments.max_steps, seed=0)
optimizer.run()

score = optimizer.best_snapshot.eval_metrics.primary_score
print(f"The best policy earns {score / CUSTOMERS:.0%} of what could be earned; guessing earns 70%.")
