"""How far does PPO come in an Atari game within a time? Prints the curve and a row of LEARNING.md.

    python -m benchmarks.atari --seconds 3600
    python -m benchmarks.atari Breakout-v5 --seconds 600 --set clip_ratio=0.1 --set window_size=128

The preprocessing is the standard one, the scores are the games' own, and the agent is as `tensor-optix train`
makes it, but for what --set says of it.
"""

from __future__ import annotations

import argparse
import ast
import itertools
import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix import RLOptimizer, VectorBatchPipeline
from tensor_optix.algorithms.agent_factory import make_agent
from tensor_optix.algorithms.catalogue import find_algorithm
from tensor_optix.core.callbacks import LoopCallback, WindowReport
from tensor_optix.core.types import HyperparamSet
from tensor_optix.pipeline.atari import atari
from tensor_optix.pipeline.play import play_episodes
from tensor_optix.pipeline.vector_env import make_vector_env

if TYPE_CHECKING:
    from tensor_optix.core.callbacks import LoopControl

NUM_ENVS = 8
GAMES = 10
POINTS = 12
"""Of the curve."""
FRESH_SEED = 987_654
NEVER = 10**9


class Curve(LoopCallback):
    """Notes the score of every window, and ends the run when its time is over."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.windows: list[WindowReport] = []

    def on_attach(self, control: LoopControl) -> None:
        self._control = control

    def on_window(self, report: WindowReport) -> None:
        self.windows.append(report)
        if report.seconds >= self._seconds:
            self._control.stop(f"{self._seconds:g} seconds are over")

    @property
    def steps(self) -> int:
        return self.windows[-1].total_steps

    @property
    def seconds(self) -> float:
        return self.windows[-1].seconds

    def table(self) -> str:
        """Return the curve as Markdown: mean scores of the windows in equal parts of the time."""
        lines = ["| minutes | steps | mean score of the games that ended |", "|---|---|---|"]
        bounds = np.linspace(0, self.seconds, POINTS + 1)
        for begin, end in itertools.pairwise(bounds):
            part = [one for one in self.windows if begin < one.seconds <= end]
            scores = [one.score for one in part if one.score is not None]
            if part:
                score = f"{np.mean(scores):.1f}" if scores else "none ended"
                lines.append(f"| {end / 60:.1f} | {part[-1].total_steps:,} | {score} |")
        return "\n".join(lines)


def run(game: str, seconds: float, framework: str, seed: int, changes: dict[str, Any]) -> None:
    """Train for a time, play the policy that comes back, and print both."""
    window = changes.pop("window_size", find_algorithm("ppo").window_size)
    pipeline = VectorBatchPipeline(**atari(game), num_envs=NUM_ENVS, window_size=window)
    agent = make_agent(
        pipeline.env, "ppo", framework, hyperparams=HyperparamSet(changes), seed=seed
    )
    curve = Curve(seconds)
    with tempfile.TemporaryDirectory() as place:
        optimizer = RLOptimizer(
            agent, pipeline, seed=seed, run_dir=place, dormant_threshold=NEVER, callbacks=[curve]
        )
        optimizer.run()
    env = make_vector_env(**atari(game), num_envs=GAMES, seed=FRESH_SEED + seed)
    returns, lengths = play_episodes(agent, env, GAMES)
    env.close()
    print(curve.table())
    each = ", ".join(f"{one:.0f}" for one in returns)
    print(
        f"\n{GAMES} greedy games: mean {returns.mean():.1f}, each {each}; mean length {lengths.mean():.0f}"
    )
    name = f"{game.lower().removesuffix('-v5')}-ppo"
    print(
        "\n| case | framework | environment | score | steps taken | seconds |\n|---|---|---|---|---|---|"
    )
    print(
        f"| {name} | {framework} | {game} | {returns.mean():.1f} | {curve.steps:,} | {curve.seconds:.0f} |"
    )


def main() -> None:
    """Read the arguments, and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("game", nargs="?", default="Pong-v5")
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--framework", choices=("torch", "tensorflow"), default="torch")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    arguments = parser.parse_args()
    words = (word.partition("=") for word in arguments.set)
    changes = {name: ast.literal_eval(value) for name, _, value in words}
    run(arguments.game, arguments.seconds, arguments.framework, arguments.seed, changes)


if __name__ == "__main__":
    main()
