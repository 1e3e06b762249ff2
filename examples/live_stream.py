"""Live data: a system that runs by itself, gives rows, and takes actions.

    python examples/live_stream.py

A room cools down; the agent turns the heating on or off and is paid for every reading near 20
degrees. The system cannot be reset: episodes are what the source says they are, here days of 96
readings.
"""

import argparse

import numpy as np
from gymnasium.spaces import Box, Discrete

from tensor_optix import LivePipeline, RLOptimizer, make_agent

READINGS = 96


class Room:
    """A room with a heater, read every 15 minutes."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.temperature, self.heats = 15.0, 0

    def send_action(self, action):
        self.heats = int(action)

    def stream(self):
        reading = 0
        while True:
            outside = 5.0 + 3.0 * np.sin(2 * np.pi * reading / READINGS)
            self.temperature += 0.05 * (outside - self.temperature) + 1.6 * self.heats
            self.temperature += self.rng.normal(0.0, 0.1)
            reward = float(np.exp(-abs(self.temperature - 20.0)))
            reading += 1
            seen = np.array([(self.temperature - 20.0) / 5.0, outside / 10.0], np.float32)
            yield seen, reward, False, reading % READINGS == 0, {}


class Spaces:
    """What `make_agent` needs to know of a system that is no environment."""

    observation_space = Box(-np.inf, np.inf, (2,), np.float32)
    action_space = Discrete(2)


parser = argparse.ArgumentParser(description="Keep a room warm.")
parser.add_argument("--max-steps", type=int, default=30_000)
max_steps = parser.parse_args().max_steps

agent = make_agent(Spaces(), "dqn", "native", hidden_sizes=(32, 32), seed=0)
pipeline = LivePipeline(Room(0), reward_delay=1, action_space=Spaces.action_space)
optimizer = RLOptimizer(agent, pipeline, max_steps=max_steps, seed=0)
optimizer.run()

score = optimizer.best_snapshot.eval_metrics.primary_score / READINGS
print(f"On its best day the room is worth {score:.2f} a reading; a thermostat is worth 0.68.")
