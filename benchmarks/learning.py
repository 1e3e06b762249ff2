"""Does it learn, and does it stop? Runs the README's examples and `tensor-optix train` on several seeds.

    python -m benchmarks.learning readme train readme-tensorflow train-tensorflow --seeds 5

For each run: environment steps until it stopped by itself, wall clock, and the returned policy's
greedy score over 20 fresh episodes.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import re
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensor_optix.cli.main import main as tensor_optix
from tensor_optix.pipeline.play import play_episodes
from tensor_optix.pipeline.vector_env import make_vector_env

if TYPE_CHECKING:
    from collections.abc import Callable

EPISODES = 20
FRESH_SEED = 987_654


@dataclass
class Result:
    """What one run came to."""

    seed: int
    steps: int
    seconds: float
    greedy: float
    reason: str


def readme(seed: int, directory: Path, framework: str = "torch") -> Result:
    """Run the README's first Python example for a framework, with seeds."""
    text = (Path(__file__).parent.parent / "README.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    agent = {"torch": "TorchPPOAgent", "tensorflow": "TFPPOAgent"}[framework]
    source = next(example for example in examples if agent in example).replace(
        "RLOptimizer(agent=agent, pipeline=pipeline)",
        f"RLOptimizer(agent=agent, pipeline=pipeline, seed={seed}, run_dir={str(directory)!r})",
    )
    assert "run_dir" in source
    _seed_networks(seed, framework)
    begun = time.perf_counter()
    scope: dict[str, Any] = {"__name__": "readme"}
    exec(compile(source, "README", "exec"), scope)
    seconds = time.perf_counter() - begun
    env = make_vector_env("CartPole-v1", 10, "sync", seed=FRESH_SEED + seed)
    returns, _ = play_episodes(scope["agent"], env, EPISODES)
    env.close()
    return result(seed, directory, seconds, float(returns.mean()))


def _seed_networks(seed: int, framework: str) -> None:
    """Seed the global generator that a user's networks are drawn from."""
    if framework == "torch":
        import torch

        torch.manual_seed(seed)
    else:
        import keras

        keras.utils.set_random_seed(seed)


def train(seed: int, directory: Path, framework: str = "torch") -> Result:
    """Run what `make train` runs, with a seed."""
    begun = time.perf_counter()
    options = ["--seed", str(seed), "--run-dir", str(directory), "--plain"]
    options += ["--framework", framework]
    code = tensor_optix(["train", "CartPole-v1", *options])
    assert code == 0, code
    seconds = time.perf_counter() - begun
    greedy = played_by_the_command(directory)
    return result(seed, directory, seconds, greedy)


def played_by_the_command(directory: Path) -> float:
    """Return the mean that `tensor-optix evaluate` reports."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        code = tensor_optix(["evaluate", str(directory), "--episodes", str(EPISODES), "--json"])
    assert code == 0, code
    return float(json.loads(output.getvalue())["return"]["mean"])


def result(seed: int, directory: Path, seconds: float, greedy: float) -> Result:
    """Read from the run's log how far it went and why it stopped."""
    event = json.loads((directory / "events.jsonl").read_text().splitlines()[-1])
    assert event["kind"] == "stop"
    return Result(seed, event["total_steps"], seconds, greedy, event["reason"])


CASES: dict[str, Callable[[int, Path], Result]] = {
    "readme": readme,
    "train": train,
    "readme-tensorflow": functools.partial(readme, framework="tensorflow"),
    "train-tensorflow": functools.partial(train, framework="tensorflow"),
}


def run() -> None:
    """Run the cases and print a table of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="+", choices=sorted(CASES))
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    for name in arguments.cases:
        results = []
        print(f"\n## {name}\n\n| seed | steps | seconds | greedy score | stopped because |")
        print("|---|---|---|---|---|")
        for seed in range(arguments.seeds):
            with tempfile.TemporaryDirectory() as place, contextlib.redirect_stdout(io.StringIO()):
                r = CASES[name](seed, Path(place) / "run")
            results.append(r)
            row = f"{r.seed} | {r.steps} | {r.seconds:.1f} | {r.greedy:.1f} | {r.reason}"
            print(f"| {row} |", flush=True)
        middle = [statistics.median(getattr(r, k) for r in results) for k in ("steps", "seconds")]
        print(f"\nmedian: {middle[0]:.0f} steps, {middle[1]:.1f} s", flush=True)


if __name__ == "__main__":
    run()
