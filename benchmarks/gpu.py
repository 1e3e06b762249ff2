"""What a GPU brings: updates and steps a second of PPO, DQN and SAC on PyTorch, against its machine's CPU.

    python -m benchmarks.gpu [--only ppo-pong] [--kinds cpu graphs] [--seconds 4]

Prints Markdown, and writes `gpu.json` into $OUT where that is set. Each measurement is a process of its own,
with a time cap; all of them end within nine minutes. `cpu` is what an agent runs with `device="cpu"`: the
native engine for perceptrons. `eager` is the plain loop, which waits for the GPU at every update; `no-wait`
leaves decisions to the GPU; `graphs` records updates as well, as agents on a GPU do; `compile` is
`compile=True`. Updates a second are those of `learn` on one window again and again, steps a second those of
collecting and learning.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch

from tensor_optix import __version__
from tensor_optix.adapters.pytorch import backend
from tensor_optix.adapters.pytorch.cuda import CudaPlace, cuda_backend
from tensor_optix.algorithms.agent_factory import make_agent
from tensor_optix.core.environment_ids import envpool_ids
from tensor_optix.core.types import HyperparamSet
from tensor_optix.pipeline.atari import atari
from tensor_optix.pipeline.vector_pipeline import VectorBatchPipeline

KINDS = ("cpu", "eager", "no-wait", "graphs", "compile")
ALL_SECONDS, MOST_SECONDS = 520.0, 75.0
WINDOWS = {"n_epochs": 10, "minibatch_size": 64}
PONG = {"n_epochs": 4, "minibatch_size": 256, "clip_ratio": 0.1}
REPLAY = {"learning_starts": 128, "updates_per_step": 1.0}


class Case(NamedTuple):
    """What is learned, and how."""

    algorithm: str
    env_id: str
    num_envs: int
    window_size: int
    params: dict[str, Any]
    hidden_sizes: tuple[int, ...] | None = None


CASES = {
    "ppo-cartpole": Case("ppo", "CartPole-v1", 8, 256, WINDOWS, (64, 64)),
    "ppo-pong": Case("ppo", "Pong-v5", 8, 128, PONG),
    "dqn-cartpole": Case("dqn", "CartPole-v1", 8, 32, REPLAY | {"batch_size": 64}, (64, 64)),
    "sac-pendulum": Case("sac", "Pendulum-v1", 8, 32, REPLAY | {"batch_size": 256}, (256, 256)),
}


class Noise(gymnasium.vector.VectorEnv[Any, Any, Any]):
    """Frames of noise, which cost nothing to step, in episodes of 500 steps."""

    metadata = {"autoreset_mode": gymnasium.vector.AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs
        self.single_observation_space = gymnasium.spaces.Box(0, 255, (4, 84, 84), np.uint8)
        self.single_action_space = gymnasium.spaces.Discrete(6)
        batch = gymnasium.vector.utils.batch_space
        self.observation_space = batch(self.single_observation_space, num_envs)
        self.action_space = batch(self.single_action_space, num_envs)
        rng = np.random.default_rng(0)
        self._frames = rng.integers(0, 256, (16, num_envs, 4, 84, 84), np.uint8)
        self._steps = 0

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self._steps = 0
        return self._frames[0], {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        self._steps += 1
        ends = np.full(self.num_envs, self._steps % 500 == 0)
        rewards = (np.asarray(actions) == self._steps % 6).astype(np.float64)
        return self._frames[self._steps % 16], rewards, ends, np.zeros_like(ends), {}


def make_pipeline(case: Case) -> VectorBatchPipeline:
    """Return the case's environments; noise where EnvPool does not have the game."""
    if "Pong" not in case.env_id:
        return VectorBatchPipeline(
            env_id=case.env_id, num_envs=case.num_envs, window_size=case.window_size
        )
    if case.env_id not in envpool_ids():
        return VectorBatchPipeline(env=Noise(case.num_envs), window_size=case.window_size)
    made = atari(case.env_id)
    return VectorBatchPipeline(**made, num_envs=case.num_envs, window_size=case.window_size)


def make_learner(case: Case, env: Any, kind: str) -> Any:
    """Return an agent whose updates are of a kind."""
    prepare = backend.prepare

    def prepared(networks: Any, device: str, compile: bool) -> Any:
        ops = prepare(networks, device, kind == "compile")
        if kind == "eager":
            return backend
        if kind == "no-wait":
            place = CudaPlace(backend.resolve_device(device))
            return cuda_backend(sys.modules[backend.__name__], place, records=False)  # type: ignore[arg-type]
        return ops

    backend.prepare = prepared
    try:
        return make_agent(
            env,
            case.algorithm,
            "torch",
            hyperparams=HyperparamSet(case.params),
            hidden_sizes=case.hidden_sizes,
            seed=0,
            device="cpu" if kind == "cpu" else "cuda",
        )
    finally:
        backend.prepare = prepare


def updates_a_second(case: Case, kind: str, seconds: float) -> tuple[float, float]:
    """Return the updates a second of `learn`, and the seconds of the first one."""
    pipeline = make_pipeline(case)
    learner = make_learner(case, pipeline.env, kind)
    # Another one collects, so that an agent with a replay learns the window when it is told to.
    pipeline.set_agent(make_learner(case, pipeline.env, "cpu"))
    window = next(iter(pipeline.episodes()))
    begun = time.perf_counter()
    while not learner.learn(window)["n_updates"]:
        pass
    first = time.perf_counter() - begun
    learner.learn(window)
    updates, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        updates += learner.learn(window)["n_updates"]
    rate = updates / (time.perf_counter() - begun)
    pipeline.teardown()
    return rate, first


def steps_a_second(case: Case, kind: str, seconds: float) -> tuple[float, str]:
    """Return the steps a second of collecting and learning, and who steps the environments."""
    pipeline = make_pipeline(case)
    learner = make_learner(case, pipeline.env, kind)
    pipeline.set_agent(learner)
    source = iter(pipeline.episodes())
    for _ in range(2):
        learner.learn(next(source))
    steps, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        window = next(source)
        learner.learn(window)
        steps += window.num_steps
    rate = steps / (time.perf_counter() - begun)
    name = pipeline.env.name
    pipeline.teardown()
    return rate, name


def measure(name: str, kind: str, seconds: float) -> dict[str, Any]:
    """Return the figures of one case and kind."""
    case = CASES[name]
    updates, first = updates_a_second(case, kind, seconds)
    steps, env = steps_a_second(case, kind, seconds)
    memory = torch.cuda.max_memory_allocated() / 2**20 if kind != "cpu" else None
    return {
        "updates": updates,
        "steps": steps,
        "first": first,
        "memory_mib": memory,
        "environments": env,
    }


def measured_apart(name: str, kind: str, seconds: float, most: float) -> dict[str, Any]:
    """Return the figures that a process of its own finds, or why there are none."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--one", name, kind]
    command += ["--seconds", str(seconds)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=most)
    except subprocess.TimeoutExpired:
        return {"failed": f"not within {most:.0f} s"}
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1]}
    warned = [line for line in done.stderr.splitlines() if "CUDA graph" in line]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found | ({"warned": warned[-1]} if warned else {})


def machine() -> dict[str, Any]:
    """Return what was measured on."""
    has_gpu = torch.cuda.is_available()
    return {
        "gpu": torch.cuda.get_device_name() if has_gpu else None,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "tensor_optix": __version__,
    }


def row(name: str, kind: str, found: dict[str, Any], base: dict[str, Any]) -> str:
    """Return a row of the table."""
    if "failed" in found:
        return f"| {name} | {kind} | {found['failed']} | | | | | |"
    ratios = ["", ""]
    if base and "failed" not in base:
        ratios = [f" ({found[key] / base[key]:.2f})" for key in ("updates", "steps")]
    memory = "" if found["memory_mib"] is None else f"{found['memory_mib']:,.0f}"
    figures = f"{found['updates']:,.0f}{ratios[0]} | {found['steps']:,.0f}{ratios[1]}"
    rest = f"{found['first']:.2f} | {memory} | {found['environments']}"
    return f"| {name} | {kind} | {figures} | {rest} | {found.get('warned', '')} |"


def run(names: list[str], kinds: list[str], seconds: float) -> None:
    """Measure and print all."""
    begun, about = time.perf_counter(), machine()
    results: dict[str, dict[str, Any]] = {}
    print("GPU: " + ", ".join(f"{key} {value}" for key, value in about.items()) + "\n")
    print("In brackets: times as fast as `cpu`.\n")
    print("| case | kind | updates/s | steps/s | first window, s | MiB | environments | notes |")
    print("|---|---|---|---|---|---|---|---|")
    for name in names:
        results[name] = {}
        for kind in kinds:
            left = ALL_SECONDS - (time.perf_counter() - begun)
            if kind != "cpu" and about["gpu"] is None:
                found: dict[str, Any] = {"failed": "no GPU"}
            elif left < 3.0 * seconds:
                found = {"failed": "no time was left"}
            else:
                found = measured_apart(name, kind, seconds, min(left, MOST_SECONDS))
            results[name][kind] = found
            print(row(name, kind, found, results[name].get("cpu", {})), flush=True)
            _write({"machine": about, "results": results})


def _write(results: dict[str, Any]) -> None:
    if "OUT" in os.environ:
        (Path(os.environ["OUT"]) / "gpu.json").write_text(json.dumps(results, indent=1))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(*arguments.one, arguments.seconds)))
    else:
        run(arguments.only, arguments.kinds, arguments.seconds)


if __name__ == "__main__":
    main()
