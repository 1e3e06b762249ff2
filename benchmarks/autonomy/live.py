"""Can the loop be left alone? Runs that stop by themselves, with forks, with SPSA, and with nothing.

    python -m benchmarks.autonomy.live --seeds 5 --framework tensorflow --results live.jsonl
    python -m benchmarks.autonomy.live good bad-cartpole-ppo-clip-ratio-0.9 --tuner forks off

Cases and groups of cases come in. Every run is one line of the results file; runs that are in it already are
not made again. The tables of all those with the cases' present budgets are printed at the end.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.autonomy.live_cases import GROUPS, LIVE_CASES, TUNERS, LiveCase
from benchmarks.autonomy.live_table import final_score, steps_to_goal, tables
from benchmarks.learning_table import FRAMEWORKS, FRESH_SEED, use_one_thread
from tensor_optix import RLOptimizer
from tensor_optix.core.base_optimizer import FixedHyperparams
from tensor_optix.core.callbacks import Forked, LoopCallback, Recovered, Stop
from tensor_optix.optimizers.fork_optimizer import ForkOptimizer
from tensor_optix.optimizers.spsa_optimizer import SPSAOptimizer
from tensor_optix.pipeline.play import play_episodes
from tensor_optix.pipeline.vector_env import make_vector_env

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.callbacks import LoopEvent, WindowReport

EPISODES = 100
"""Fresh ones that each returned policy plays: of twenty a rare long one would tell more than the policy."""


TUNER_TYPES = dict(zip(TUNERS, (ForkOptimizer, SPSAOptimizer, FixedHyperparams), strict=True))


class _Recorder(LoopCallback):
    """Keeps the evaluated scores, the hyperparameters in force and how the run ended."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.scores: list[float] = []
        self.changes = 0
        self.recoveries = 0
        self.forked = 0
        self.hyperparams: dict[str, Any] = {}
        self.total_steps = 0
        self.reason = ""
        self.is_dormant = False

    def on_window(self, report: WindowReport) -> None:
        if report.score is not None:
            self.steps.append(report.total_steps)
            self.scores.append(report.score)

    def on_hyperparam_update(self, old_params: dict[str, Any], new_params: dict[str, Any]) -> None:
        self.changes += old_params != new_params
        self.hyperparams = new_params

    def on_dormant(self, episode_id: int) -> None:
        self.is_dormant = True

    def on_event(self, event: LoopEvent) -> None:
        if isinstance(event, Recovered):
            self.recoveries += 1
        if isinstance(event, Forked):
            self.forked += 1
            self.hyperparams = event.hyperparams
        if isinstance(event, Stop):
            self.total_steps, self.reason = event.total_steps, event.reason or ""


def train(case: LiveCase, tuner: str, seed: int, framework: str) -> dict[str, Any]:
    """Train once, play the policy that comes back, and return what is recorded of it."""
    setting, recorder = case.setting, _Recorder()
    agent, pipeline = setting.build(seed, framework)
    begins_with = agent.get_hyperparams().params
    with tempfile.TemporaryDirectory() as place:
        optimizer = RLOptimizer(
            agent,
            pipeline,
            optimizer=TUNER_TYPES[tuner](),
            checkpoint_dir=place,
            max_steps=setting.steps,
            callbacks=[recorder],
            seed=seed,
        )
        begun = time.perf_counter()
        optimizer.run()
        seconds = time.perf_counter() - begun
    greedy = _greedy_score(agent, setting.env_id, seed)
    return {
        "steps": recorder.total_steps,
        "seconds": round(seconds, 1),
        "evaluations": len(recorder.scores),
        "reason": recorder.reason,
        "stopped_by_itself": recorder.is_dormant,
        "steps_to_goal": steps_to_goal(recorder.steps, recorder.scores, setting.goal),
        "final": final_score(recorder.scores),
        "greedy": round(greedy, 1),
        "reached": greedy >= setting.goal,
        "changes": recorder.changes,
        "recoveries": recorder.recoveries,
        "forked": recorder.forked,
        "begins_with": begins_with,
        "ends_with": recorder.hyperparams or begins_with,
    }


def _greedy_score(agent: BaseAgent, env_id: str, seed: int) -> float:
    """Return the mean return of fresh greedy episodes."""
    env = make_vector_env(env_id, 10, seed=FRESH_SEED + seed)
    returns, _ = play_episodes(agent, env, EPISODES)
    env.close()
    return float(returns.mean())


def main() -> None:
    """Make the runs that are asked for and not there yet; print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--framework", choices=FRAMEWORKS, default="tensorflow")
    parser.add_argument("--tuner", nargs="+", choices=TUNERS, help="only these runs")
    parser.add_argument("--results", type=Path, default=Path("live.jsonl"))
    arguments = parser.parse_args()
    unknown = set(arguments.cases) - {*GROUPS, *LIVE_CASES}
    if unknown:
        known = ", ".join([*GROUPS, *LIVE_CASES])
        parser.error(f"CASE must be one of {known}; got {', '.join(sorted(unknown))}")
    use_one_thread(arguments.framework)
    for run in _asked_for(arguments):
        _make(run, arguments.results)
    print(tables(_read(arguments.results)))


def _asked_for(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield what tells the runs apart; those of a seed follow each other, on a machine as busy."""
    for name, case in LIVE_CASES.items():
        if arguments.cases and not {name, case.group} & set(arguments.cases):
            continue
        for seed in range(arguments.first_seed, arguments.seeds):
            for tuner in TUNERS:
                if not arguments.tuner or tuner in arguments.tuner:
                    yield {
                        "case": name,
                        "tuner": tuner,
                        "framework": arguments.framework,
                        "budget": case.setting.steps,
                        "seed": seed,
                    }


def _make(run: dict[str, Any], path: Path) -> None:
    """Make a run, unless its line is there."""
    if any(run.items() <= made.items() for made in _read(path)):
        return
    result = run | train(LIVE_CASES[run["case"]], run["tuner"], run["seed"], run["framework"])
    with path.open("a") as results:
        results.write(json.dumps(result) + "\n")


def _read(path: Path) -> list[dict[str, Any]]:
    """Return the runs that were made."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


if __name__ == "__main__":
    main()
