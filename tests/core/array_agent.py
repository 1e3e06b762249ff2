"""An agent of three numbers, and what the checkpoint tests do with it."""

import os
from pathlib import Path

import numpy as np

from tensor_optix.core.base_agent import BaseAgent
from tensor_optix.core.types import EvalMetrics, HyperparamSet


class ArrayAgent(BaseAgent):
    """Three numbers and hyperparameters; `can_average` switches the optional hook on."""

    def __init__(self, weights=0.0, params=None, can_average=False):
        self.weights = np.full(3, float(weights))
        self.hyperparams = HyperparamSet(dict(params or {"learning_rate": 0.1}))
        self.can_average = can_average
        self.averaged = []

    def act(self, observation):
        return 0

    def learn(self, episode_data):
        self.weights += 1
        return {}

    def get_hyperparams(self):
        return self.hyperparams.copy()

    def set_hyperparams(self, hyperparams):
        self.hyperparams = hyperparams.copy()

    def save_weights(self, path):
        os.makedirs(path)
        np.save(os.path.join(path, "weights.npy"), self.weights)

    def load_weights(self, path):
        self.weights = np.load(os.path.join(path, "weights.npy"))

    def average_weights(self, paths):
        if not self.can_average:
            return False
        self.averaged = list(paths)
        stored = [np.load(os.path.join(path, "weights.npy")) for path in paths]
        self.weights = np.mean(stored, axis=0)
        return True


class FileAgent(ArrayAgent):
    """One that makes a file of the path that it is to save to."""

    def save_weights(self, path):
        with open(path, "xb") as file:
            np.save(file, self.weights)

    def load_weights(self, path):
        self.weights = np.load(path)

    def average_weights(self, paths):
        self.weights = np.mean([np.load(path) for path in paths], axis=0)
        return True


def evaluation(score, **metrics):
    return EvalMetrics(score, metrics, episode_id=7)


def save(registry, score, weights=None, params=None):
    agent = ArrayAgent(score if weights is None else weights, params)
    return registry.save(agent, evaluation(score), agent.get_hyperparams())


def scores(registry):
    return [snapshot.eval_metrics.primary_score for snapshot in registry.snapshots]


def listing(directory):
    """Every file below a directory, with what is in it."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(Path(directory).rglob("*"))
        if path.is_file()
    }


def damage(snapshot):
    path = Path(snapshot.weights_path) / "weights.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
