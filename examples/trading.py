"""Trading with validation: what counts is the Sharpe ratio of days that the agent never learns from.

    python examples/trading.py

The prices are made up: each day's return leans on the one before.
"""

import argparse

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

from tensor_optix import BatchPipeline, MeanReturnEvaluator, RLOptimizer, make_agent

DAYS, COST = 250, 0.0002


class Market(gymnasium.Env):
    """Be short, out of the market or long, a day at a time, for a year."""

    observation_space = Box(-np.inf, np.inf, (5,), np.float32)
    action_space = Discrete(3)

    def __init__(self, returns):
        self.returns = returns

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.day, self.position = int(self.np_random.integers(4, len(self.returns) - DAYS)), 0
        self.last_day = self.day + DAYS
        return np.float32([*(100 * self.returns[self.day - 4 : self.day]), 0]), {}

    def step(self, action):
        before, self.position = self.position, int(action) - 1
        reward = self.position * self.returns[self.day] - COST * abs(self.position - before)
        self.day += 1
        observation = np.float32([*(100 * self.returns[self.day - 4 : self.day]), self.position])
        return observation, float(reward), False, self.day == self.last_day, {}


def yearly_sharpe(window, diagnostics):
    return float(np.sqrt(250) * np.mean(window.rewards) / (np.std(window.rewards) + 1e-8))


parser = argparse.ArgumentParser(description="Trade made-up prices.")
parser.add_argument("--max-steps", type=int, default=60_000)
max_steps = parser.parse_args().max_steps
days = np.convolve(np.random.default_rng(0).normal(0.0002, 0.01, 4000), [1.0, 0.3])[:4000]
training, held_out = Market(days[:3000]), Market(days[3000:])
optimizer = RLOptimizer(
    agent=make_agent(training, "ppo", "native", hidden_sizes=(32,)),
    pipeline=BatchPipeline(env=training, window_size=1000),
    val_pipeline=BatchPipeline(env=held_out, window_size=1000),
    evaluator=MeanReturnEvaluator(yearly_sharpe),
    max_steps=max_steps,
)
optimizer.run()
score = optimizer.best_snapshot.eval_metrics.val_score
print(f"On held-out days the Sharpe ratio is {score:.1f}; of buying and holding it is 1.2.")
