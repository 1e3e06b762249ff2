"""A process killed at any moment while it saves leaves checkpoints that load and are what they say.

This file is also the process that gets killed; it imports little, so as to start quickly.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from tensor_optix.core.base_agent import BaseAgent
from tensor_optix.core.checkpoint_registry import CheckpointRegistry
from tensor_optix.core.types import EvalMetrics, HyperparamSet

KILLS = 50
MAX_SNAPSHOTS = 3


class ScoreAgent(BaseAgent):
    """An agent whose weights and hyperparameters follow from the score that they make."""

    def __init__(self, score=-1):
        self.score = score
        self.weights = weights_of(score)

    def act(self, observation):
        return 0

    def learn(self, episode_data):
        return {}

    def get_hyperparams(self):
        return HyperparamSet({"score": self.score})

    def set_hyperparams(self, hyperparams):
        self.score = hyperparams.params["score"]

    def save_weights(self, path):
        os.makedirs(path)
        for name in ("actor", "critic"):
            np.save(os.path.join(path, f"{name}.npy"), self.weights)

    def load_weights(self, path):
        actor, critic = (np.load(os.path.join(path, f"{name}.npy")) for name in ("actor", "critic"))
        assert np.array_equal(actor, critic)
        self.weights = actor


def weights_of(score):
    return np.arange(2000, dtype=np.float64) * (score + 2)


def save_for_ever(directory, seed):
    """Stage, commit, discard and prune without end; print each committed score."""
    registry = CheckpointRegistry(directory, max_snapshots=MAX_SNAPSHOTS)
    rng = random.Random(seed)
    while True:
        agent = ScoreAgent(rng.randrange(1_000_000))
        staged = registry.stage(agent)
        if rng.random() < 0.2:
            registry.discard(staged)
            continue
        registry.commit(staged, EvalMetrics(agent.score, {}, 0), agent.get_hyperparams())
        print(agent.score, flush=True)


def kill_while_saving(directory, seed, delay):
    """Kill the saving process `delay` seconds after its first commit; return what it printed."""
    command = [sys.executable, __file__, str(directory), str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        first = process.stdout.readline()
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read()
    assert process.returncode == -signal.SIGKILL
    # The last line may be cut.
    return [int(line) for line in (first + rest).splitlines(keepends=True) if line.endswith("\n")]


def test_a_kill_at_any_moment_leaves_a_best_that_loads_and_never_a_lesser_one(tmp_path):
    directory = tmp_path / "checkpoints"
    rng = random.Random(0)
    best_reported = -1
    for seed in range(KILLS):
        reported = kill_while_saving(directory, seed, delay=rng.uniform(0.0, 0.05))
        best_reported = max(best_reported, *reported)
        registry = CheckpointRegistry(directory, max_snapshots=MAX_SNAPSHOTS)
        agent = ScoreAgent()
        best = registry.load_best(agent)
        assert best == registry.best
        assert best.eval_metrics.primary_score >= best_reported
        for snapshot in registry.snapshots:
            registry.load(snapshot, agent)
            assert agent.score == snapshot.eval_metrics.primary_score
            assert np.array_equal(agent.weights, weights_of(agent.score))
    registry.save(ScoreAgent(0), EvalMetrics(0, {}, 0), HyperparamSet({}))
    kept = {f"snapshot_{snapshot.snapshot_id}" for snapshot in registry.snapshots}
    assert len(kept) == MAX_SNAPSHOTS
    assert {path.name for path in directory.iterdir()} == kept | {"manifest.json"}


if __name__ == "__main__":
    save_for_ever(Path(sys.argv[1]), int(sys.argv[2]))
