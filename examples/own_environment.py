"""An environment of your own: a class with `reset`, `step` and both spaces.

    python examples/own_environment.py

A lamp is on the left or on the right of a row of 8 places; the agent walks there. Nothing but the
observation and the reward tells it so.
"""

import argparse

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

from tensor_optix import RLOptimizer, VectorBatchPipeline, make_agent

PLACES = 8


class Lamp(gymnasium.Env):
    """Walk to the lamp; each step costs a little."""

    observation_space = Box(0.0, 1.0, (2,), np.float32)
    action_space = Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.steps = PLACES // 2, 0
        self.lamp = int(self.np_random.choice([0, PLACES - 1]))
        return self._observation(), {}

    def step(self, action):
        self.place = int(np.clip(self.place + (1 if action == 1 else -1), 0, PLACES - 1))
        self.steps += 1
        found = self.place == self.lamp
        return self._observation(), (1.0 if found else -0.05), found, self.steps == 30, {}

    def _observation(self):
        return np.array([self.place, self.lamp], np.float32) / (PLACES - 1)


parser = argparse.ArgumentParser(description="Walk to a lamp.")
parser.add_argument("--max-steps", type=int, default=100_000)
arguments = parser.parse_args()

agent = make_agent(Lamp(), "ppo", "native", hidden_sizes=(32, 32), seed=0)
pipeline = VectorBatchPipeline(env_fns=[Lamp] * 4, window_size=128, seed=0)
optimizer = RLOptimizer(agent, pipeline, max_steps=arguments.max_steps, seed=0)
optimizer.run()

score = optimizer.best_snapshot.eval_metrics.primary_score
print(f"The best policy earns {score:.2f} an episode; the shortest ways earn 0.88 on average.")
