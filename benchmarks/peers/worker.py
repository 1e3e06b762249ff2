"""One contender in its own process: a case by name in, lines of JSON out.

    python -m benchmarks.peers.worker speed CONTENDER CASE
    python -m benchmarks.peers.worker score CONTENDER CASE ALGORITHM SEED CAP

`speed` warms up, says that it is ready, and trains a round for every line that it reads. `score` trains until
a greedy evaluation reaches the score, or for CAP seconds; evaluations count for neither.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from benchmarks.peers.cases import CONTENDERS, SCORES, SPEED, Contender, Score

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from benchmarks.peers.settings import Learner, Settings

STARTED = "PEERS_STARTED"
"""The variable that says when the process was started, in seconds since the epoch."""
EPISODES = 10
SEED = 0


def learner(contender: Contender, settings: Settings, seed: int) -> Learner:
    """Return what the contender makes of the settings."""
    module = import_module(f"benchmarks.peers.contenders.{contender.module}")
    make = getattr(module, type(settings).__name__.lower())
    made: Learner = (
        make(settings, seed, contender.framework) if contender.is_ours else make(settings, seed)
    )
    return made


def since_start() -> float:
    """Return the seconds since this process was started."""
    return time.time() - float(os.environ[STARTED])


class Watch:
    """Time to a score: evaluates while somebody trains.

    Args:
        score: What is to be reached.
        cap: Seconds after which it counts as not reached.
    """

    def __init__(self, score: float, cap: float) -> None:
        self._score, self._cap = score, cap
        self._evaluating = 0.0
        self.row: dict[str, Any] = {}

    def is_over(self, steps: int, play: Callable[[int], float]) -> bool:
        """Evaluate; return whether there is no reason to go on."""
        seconds = since_start() - self._evaluating
        begun = time.perf_counter()
        reached = play(EPISODES)
        self._evaluating += time.perf_counter() - begun
        self.row = {
            "seconds": seconds,
            "steps": steps,
            "score": reached,
            "evaluating": self._evaluating,
            "reached": reached >= self._score,
        }
        return reached >= self._score or seconds >= self._cap


def speed(name: str, case_name: str, out: TextIO) -> None:
    """Train a round for every line."""
    contender = CONTENDERS[name]
    case = next(cases[case_name] for cases in SPEED.values() if case_name in cases)
    trained = learner(contender, case.settings_of(name), SEED)
    trained.train(case.warm_up)
    versions = {package: version(package) for package in contender.packages}
    say(out, {"warm_up": since_start(), "versions": versions})
    for _ in sys.stdin:
        begun = time.perf_counter()
        steps = trained.train(case.steps)
        say(out, {"steps_per_second": steps / (time.perf_counter() - begun)})


def score(name: str, case_name: str, algorithm: str, seed: int, cap: float, out: TextIO) -> None:
    """Train until the score is reached."""
    contender, case = CONTENDERS[name], SCORES[case_name]
    watch = Watch(case.score, cap)
    if contender.is_ours:
        from benchmarks.peers.contenders.ours import train_by_default

        train_by_default(case.env_id, seed, contender.framework, watch.is_over)
    else:
        _train_peer(learner(contender, case.settings[name][algorithm], seed), case, watch)
    say(out, watch.row)


def _train_peer(trained: Learner, case: Score, watch: Watch) -> None:
    steps = 0
    while not steps or not watch.is_over(steps, trained.play):
        steps += trained.train(case.every)


def say(out: TextIO, row: dict[str, Any]) -> None:
    """Write a line."""
    print(json.dumps(row), file=out, flush=True)


def main(mode: str, *words: str) -> None:
    """Do what is asked; what libraries print does not get among the lines."""
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)
        if mode == "speed":
            speed(*words, out)
        else:
            name, case, algorithm, seed, cap = words
            score(name, case, algorithm, int(seed), float(cap), out)


if __name__ == "__main__":
    main(*sys.argv[1:])
