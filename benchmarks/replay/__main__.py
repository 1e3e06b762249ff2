"""Time the replay buffers at 1 M rows, side by side in one process, on one thread.

    python -m benchmarks.replay [--rounds 200]

Prints one Markdown table: microseconds a call, the least and the median over the rounds. A round
lets every contender make 10 calls of each kind, one contender after the other; the table's last
lines divide the best peer by ours.
"""

from __future__ import annotations

import argparse
import gc
import platform
import statistics
import sys
import time
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from benchmarks.replay.contenders import BATCH_SIZE, Contender, Ours, OursReused
from benchmarks.replay.gate import check_priorities, check_rows
from benchmarks.replay.peers import PEERS, Stable
from benchmarks.replay.stream import NUM_ENVS, make_stream
from tensor_optix.kernels import BACKEND

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.replay.stream import Stream

    Times = dict[tuple[str, str], list[float]]

LENGTH = 15_625
"""Steps of 64 environments: 1,000,000 rows."""
CALLS = 10
WARM_UP_ROUNDS = 3
OURS: tuple[type[Contender], ...] = (Ours, OursReused)
COLUMNS = {
    "prioritized sample": f"prioritized: sample {BATCH_SIZE}",
    "prioritized update": f"update {BATCH_SIZE}",
    "prioritized add": f"add {NUM_ENVS}",
    "uniform sample": f"uniform: sample {BATCH_SIZE}",
    "uniform add": f"add {NUM_ENVS}",
}
PACKAGES = ("cpprb", "tianshou", "stable-baselines3", "numpy", "numba", "torch")


def spread_priorities(contender: Contender, generator: np.random.Generator) -> None:
    """Give most rows a priority of their own, as training would."""
    for _ in range(30):
        rows = contender.rows(contender.sample(2**16))
        errors = generator.exponential(size=len(rows.rewards)).astype(np.float32)
        contender.prepare_update(rows.indices, errors)()


def make_contenders(stream: Stream) -> list[Contender]:
    """Return every contender, filled; an AssertionError where one fails the gate."""
    generator = np.random.default_rng(1)
    contenders = []
    for prioritized in (True, False):
        for kind in OURS + PEERS:
            if prioritized and issubclass(kind, Stable):
                continue
            if prioritized:
                check_priorities(kind)
            contender = kind(stream, prioritized)
            if prioritized:
                spread_priorities(contender, generator)
            check_rows(contender)
            contenders.append(contender)
    return contenders


def prepare(contender: Contender) -> dict[str, list[Callable[[], object]]]:
    """Return the calls of one round by their kind."""
    calls = {"sample": contender.prepare_samples(CALLS)}
    if contender.adds:
        calls["add"] = contender.prepare_adds(CALLS)
    if contender.prioritized:
        calls["update"] = []
        for _ in range(CALLS):
            rows = contender.rows(contender.sample(BATCH_SIZE))
            errors = np.abs(rows.rewards).astype(np.float32)
            calls["update"].append(contender.prepare_update(rows.indices, errors))
    return calls


def microseconds_each(calls: list[Callable[[], object]]) -> float:
    """Return the time of one call, the garbage collector off."""
    gc.disable()
    begun = time.perf_counter_ns()
    for call in calls:
        call()
    elapsed = time.perf_counter_ns() - begun
    gc.enable()
    return elapsed / 1000 / len(calls)


def measure(contenders: list[Contender], rounds: int) -> Times:
    """Return the times by contender and column, one a round."""
    times: Times = defaultdict(list)
    for number in range(rounds + WARM_UP_ROUNDS):
        for contender in contenders:
            group = "prioritized" if contender.prioritized else "uniform"
            for kind, calls in prepare(contender).items():
                elapsed = microseconds_each(calls)
                if number >= WARM_UP_ROUNDS:
                    times[contender.name, f"{group} {kind}"].append(elapsed)
    return times


def table(times: Times) -> str:
    """Return the Markdown table."""
    lines = [f"| min / median, us | {' | '.join(COLUMNS.values())} |", "|---" * 6 + "|"]
    for kind in OURS + PEERS:
        cells = [times.get((kind.name, column)) for column in COLUMNS]
        shown = [f"{min(c):.1f} / {statistics.median(c):.1f}" if c else "-" for c in cells]
        lines.append(f"| {' | '.join([kind.name, *shown])} |")
    for ours in OURS:
        ratios = [_ratio(times, ours.name, column) for column in COLUMNS]
        lines.append(f"| {' | '.join([f'best peer / {ours.name}', *ratios])} |")
    return "\n".join(lines) + "\n"


def _ratio(times: Times, ours: str, column: str) -> str:
    """Return how many times as long as ours the best peer takes: by least, by median time."""
    ratios = [
        min(of(times[peer.name, column]) for peer in PEERS if times.get((peer.name, column)))
        / of(times[ours, column])
        for of in (min, statistics.median)
    ]
    return " / ".join(f"**{ratio:.1f}**" for ratio in ratios)


def machine() -> str:
    """Return the processor, which kernels serve, and the versions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next((x.split(": ")[1] for x in lines if x.startswith("model name")), "unknown")
    versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    return f"{processor}; {BACKEND} kernels; Python {platform.python_version()}, {versions}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    contenders = make_contenders(make_stream(LENGTH))
    times = measure(contenders, rounds)
    for contender in contenders:
        check_rows(contender)
    sys.stdout.write(f"{machine()}\n\n{table(times)}")


if __name__ == "__main__":
    main()
