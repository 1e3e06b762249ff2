"""Where each microsecond of a step of PPO, DQN and SAC goes, against its floor.

    python -m benchmarks.step_profile > benchmarks/PROFILE.md

`framework="native"`, one thread, one core, the settings of `benchmarks.peers`. Takes about three minutes.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from typing import TYPE_CHECKING

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from benchmarks.environments.table import processor
from benchmarks.peers.cases import SPEED
from benchmarks.peers.settings import PPO, Settings
from benchmarks.step_profile.cartpole import cartpole_section
from benchmarks.step_profile.collecting import collecting_parts
from benchmarks.step_profile.learning import ppo_parts, replay_parts
from benchmarks.step_profile.measure import Rates, rates
from benchmarks.step_profile.table import Profile, parts_table, summary_table
from benchmarks.step_profile.training import Training
from tensor_optix.kernels import engine

if TYPE_CHECKING:
    from benchmarks.peers.cases import Speed

CASES = (
    ("classic", "cartpole-ppo"),
    ("mujoco", "halfcheetah-ppo"),
    ("classic", "cartpole-dqn"),
    ("mujoco", "halfcheetah-sac"),
)
PACKAGES = ("tensor-optix", "numpy", "gymnasium", "envpool", "mujoco")

HEAD = """# Where the time of a step goes

What a step of training takes, part by part, with `framework="native"` on one core and one thread; cases,
settings and networks are those of [peers/cases.py](peers/cases.py).

    python -m benchmarks.step_profile > benchmarks/PROFILE.md

Each part was timed apart, in a loop of its own with the shapes of the case: its figure is that of the
fastest repetition, in microseconds for one step. "In training" is the fastest of some windows of
`pipeline.episodes()` and `agent.learn`, without a profiler. What no part accounts for is the difference:
caches that other parts have emptied, and the machine's mood; below zero, parts were slower apart than
together. All figures are of one run; quote shares.
"""
READING = """The columns of shares add up to a step, but for products, which are within learning. An
algorithm is bounded by its largest column. The last column says how many times as long the products take as
their operations would at the engine's own best rate.
"""


def machine() -> str:
    """Return what the figures were measured on."""
    versions = ", ".join(filter(None, map(_version, PACKAGES)))
    return (
        f"Machine: {processor()}, engine {engine.instructions()}, Python {platform.python_version()}; "
        f"{versions}.\n"
    )


def _version(package: str) -> str:
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return ""


def rates_text(found: Rates) -> str:
    """Return the rates that floors are made of."""
    return (
        f"Rates that floors are made of: products of 256 x 256 by the engine {found.own / 1e3:.1f} GFLOP/s, "
        f"of 1024 x 1024 by NumPy's BLAS {found.blas / 1e3:.1f} GFLOP/s; a copy within the cache "
        f"{found.copied / 1e3:.1f} GB/s, read and written.\n"
    )


def profile_of(case: Speed, found: Rates) -> Profile:
    """Measure a case.

    Raises:
        Exception: If its environments are not there.
    """
    settings = case.settings
    training = _training(settings)
    times = training.train(case.warm_up)
    of_algorithm = ppo_parts if isinstance(settings, PPO) else replay_parts
    parts = [*collecting_parts(training, found), *of_algorithm(training, found)]
    many = settings.num_envs > 1
    step = f"a vector step of {settings.num_envs} environments" if many else "an environment step"
    backend = training.pipeline.env.name
    return Profile(case.title, step, settings.num_envs, times.total, parts, backend)


def _training(settings: Settings) -> Training:
    """Return a case in training; EnvPool steps a single environment where Gymnasium does not have it."""
    if settings.num_envs > 1:
        return Training(settings, "envpool")
    try:
        return Training(settings, "sync")
    except Exception as error:
        print(f"{settings.env_id} by Gymnasium: {error}", file=sys.stderr)
        return Training(settings, "envpool")


def section(profile: Profile) -> str:
    """Return a case in Markdown."""
    replaced = profile.steps == 1 and profile.backend == "envpool"
    note = "By EnvPool, as Gymnasium lacks MuJoCo here.\n\n" if replaced else ""
    return f"## {profile.title}\n\n{note}{parts_table(profile)}"


def run() -> None:
    """Measure and print."""
    if sys.platform == "linux":
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-1:])
    found, profiles, left_out = rates(), [], []
    for suite, name in CASES:
        case = SPEED[suite][name]
        try:
            profiles.append(profile_of(case, found))
        except ImportError as error:
            left_out.append(f"Left out: {case.title} ({error}).\n")
    parts = [HEAD, machine(), rates_text(found), "## What bounds each algorithm\n"]
    parts += [summary_table(profiles), READING, *left_out, *map(section, profiles)]
    print("\n".join([*parts, cartpole_section()]), end="")


if __name__ == "__main__":
    run()
