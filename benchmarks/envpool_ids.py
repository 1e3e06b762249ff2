"""Which of EnvPool's environments does `make_agent` take, and do they step? Asks every id that EnvPool lists.

    python -m benchmarks.envpool_ids > benchmarks/ENVPOOL.md

Every question is answered in a process of its own, which is replaced where it dies or takes too long: some
environments need assets, libraries or drivers that are not here. Of each family, one environment is stepped
for 50 steps by the agent that was made for it, and learned from.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import warnings
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from tensor_optix import VectorBatchPipeline, make_agent
from tensor_optix.core.environment_ids import envpool_ids

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

STEPS = 50
NUM_ENVS = 2
TRIES = 3
"""So many environments of a family are tried, until one of them steps."""
SECONDS = 120.0
"""So long a question may take."""


@dataclass(frozen=True)
class Answer:
    """What became of an environment."""

    is_good: bool
    text: str = ""
    """What came of it, or the reason why nothing did."""


class Question(Protocol):
    """What is asked of an environment, in the worker."""

    def __call__(self, env_id: str) -> str:
        """Return what came of it, or raise what is in the way."""


def specification(env_id: str) -> str:
    """Whether EnvPool can say what the environment is like."""
    import envpool

    spec = envpool.make_spec(env_id)
    return f"{spec.gymnasium_observation_space} {spec.gymnasium_action_space}"


def agent(env_id: str) -> str:
    """Whether an agent is made for it."""
    return type(make_agent(env_id, "ppo", hidden_sizes=(8,), seed=0)).__name__


def steps(env_id: str) -> str:
    """Whether such an agent can step it, and learn from that."""
    pipeline = VectorBatchPipeline(
        env_id=env_id, num_envs=NUM_ENVS, window_size=STEPS, backend="envpool", seed=0
    )
    pipeline.set_agent(learner := make_agent(pipeline.env, "ppo", hidden_sizes=(8,), seed=0))
    window = next(pipeline.episodes())
    learner.learn(window)
    pipeline.teardown()
    return f"mean reward {float(window.rewards.mean()):.3g}"


QUESTIONS: dict[str, Question] = {"specification": specification, "agent": agent, "steps": steps}


class Worker:
    """Answers questions in a process of its own."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._start()

    def ask(self, question: str, env_id: str) -> Answer:
        """Ask one of `QUESTIONS` about an environment."""
        self._connection.send((question, env_id))
        try:
            if self._connection.poll(SECONDS):
                answer: Answer = self._connection.recv()
                return answer
            answer = Answer(False, f"no answer within {SECONDS:g} seconds")
        except EOFError:
            self._process.join()
            answer = Answer(False, f"the process ended with exit code {self._process.exitcode}")
        self.close()
        self._start()
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()
        self._connection.close()

    def _start(self) -> None:
        self._connection, inner = self._context.Pipe()
        self._process = self._context.Process(target=_answer, args=(inner,), daemon=True)
        self._process.start()
        inner.close()


def _answer(connection: Connection) -> None:
    """Answer until nobody asks any more."""
    # Environments write logs and settings where they are started.
    os.chdir(tempfile.mkdtemp())
    warnings.simplefilter("ignore")
    while True:
        question, env_id = connection.recv()
        try:
            answer = Answer(True, QUESTIONS[question](env_id))
        except Exception as error:
            answer = Answer(False, f"{type(error).__name__}: {error}")
        connection.send(answer)


def families(ids: list[str]) -> dict[str, list[str]]:
    """Return the ids by the package of EnvPool's that has them."""
    from envpool.registration import registry

    found = defaultdict(list)
    for env_id in ids:
        found[registry.specs[env_id][0].removeprefix("envpool.")].append(env_id)
    return dict(sorted(found.items()))


def stepped(worker: Worker, ids: list[str]) -> tuple[str, Answer]:
    """Step the environments of a family until one of them does."""
    answers = []
    for env_id in ids[:TRIES]:
        answers.append((env_id, worker.ask("steps", env_id)))
        if answers[-1][1].is_good:
            return answers[-1]
    return answers[0] if answers else ("", Answer(False, "no environment has an agent"))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "/")[:200]


def _table(title: str, heads: list[str], rows: list[list[Any]]) -> list[str]:
    lines = [" | ".join(heads), " | ".join("---" for _ in heads)]
    lines += [" | ".join(_cell(str(cell)) for cell in row) for row in rows]
    return ["", f"## {title}", "", *(f"| {line} |" for line in lines)]


def report(worker: Worker, ids: list[str]) -> list[str]:
    """Ask everything, and return the lines of a report."""
    counts, stepping, refused = [], [], []
    for family, members in families(ids).items():
        specified = {one: worker.ask("specification", one) for one in members}
        known = [one for one in members if specified[one].is_good]
        made = {one: worker.ask("agent", one) for one in known}
        taken = [one for one in known if made[one].is_good]
        counts.append([family, len(members), len(known), len(taken)])
        env_id, answer = stepped(worker, taken)
        stepping.append([family, env_id, "yes" if answer.is_good else "no", answer.text])
        reasons = {
            one: found.text for one, found in {**specified, **made}.items() if not found.is_good
        }
        refused += [[one, family, "no" if one in known else "yes", reasons[one]] for one in reasons]
    _, *totals = (sum(column) for column in zip(*[[0, *row[1:]] for row in counts], strict=True))
    share = 100 * totals[2] / max(totals[1], 1)
    without_spec = Counter((row[1], row[3]) for row in refused if row[2] == "yes")
    refused = [[row[0], row[1], row[3]] for row in refused if row[2] == "no"]
    heads = ["family", "ids", "with a specification", "an agent is made"]
    return [
        "# EnvPool's environments",
        "",
        f"Of the {totals[0]} ids that EnvPool lists, {totals[1]} have a specification on this machine; "
        f"`make_agent` takes {totals[2]} of these, {share:.1f} %.",
        "Made by `python -m benchmarks.envpool_ids`.",
        *_table("By family", heads, [*counts, ["all", *totals]]),
        *_table(
            f"{STEPS} steps of {NUM_ENVS} environments, and learning from them",
            ["family", "environment", "steps", "what came of it"],
            stepping,
        ),
        *_table("Refused by make_agent", ["environment", "family", "reason"], refused),
        *_table(
            "Without a specification on this machine",
            ["family", "ids", "reason"],
            [[family, count, reason] for (family, reason), count in without_spec.items()],
        ),
    ]


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--family", help="only those whose name begins so, such as atari")
    chosen = parser.parse_args().family or ""
    ids = [
        one
        for name, own in families(envpool_ids()).items()
        if name.startswith(chosen)
        for one in own
    ]
    worker = Worker()
    try:
        print("\n".join(report(worker, ids)))
    finally:
        worker.close()


if __name__ == "__main__":
    main()
