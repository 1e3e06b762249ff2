"""Which of EnvPool's environments does `make_agent` take, and do they step? Asks every id that EnvPool lists.

    python -m benchmarks.envpool_ids > benchmarks/ENVPOOL.md

Every question is answered in a process of its own, which is replaced where it dies or takes too long: some
environments need assets, libraries or drivers that are not here. Of each kind of a family, those with spaces
of one form, one environment is stepped for 50 steps by the agent that was made for it, and learned from.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import tempfile
import warnings
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from gymnasium.spaces import Dict

from tensor_optix import VectorBatchPipeline, make_agent
from tensor_optix.core.environment_ids import envpool_ids

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

STEPS = 50
NUM_ENVS = 2
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
    """Which kind of environment it is, as EnvPool says: the form of its spaces."""
    import envpool

    spec = envpool.make_spec(env_id)
    return f"{_form(spec.gymnasium_observation_space)} -> {_form(spec.gymnasium_action_space)}"


def _form(space: Any) -> str:
    if isinstance(space, Dict):
        return ", ".join(f"{key}: {_form(part)}" for key, part in space.spaces.items())
    return f"{type(space).__name__} of {len(space.shape or ())} axes, {space.dtype}"


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


def _cell(text: str) -> str:
    said = re.sub(r"\S*/site-packages", "site-packages", " ".join(text.split()))
    return said.replace("|", "/")[:300]


def _table(title: str, heads: list[str], rows: list[list[Any]]) -> list[str]:
    lines = [" | ".join(heads), " | ".join("---" for _ in heads)]
    lines += [" | ".join(_cell(str(cell)) for cell in row) for row in rows]
    return ["", f"## {title}", "", *(f"| {line} |" for line in lines)]


class Survey:
    """What was found of one family of environments.

    Args:
        worker: Is asked.
        family: Its name.
        members: Its ids.
    """

    def __init__(self, worker: Worker, family: str, members: list[str]) -> None:
        self.family = family
        self.members = members
        forms = {one: worker.ask("specification", one) for one in members}
        known = [one for one in members if forms[one].is_good]
        agents = {one: worker.ask("agent", one) for one in known}
        taken = [one for one in known if agents[one].is_good]
        first = {forms[one].text: one for one in reversed(taken)}
        self.stepped = {one: worker.ask("steps", one) for one in reversed(first.values())}
        self.known, self.taken = known, taken
        self.without_spec = {one: forms[one].text for one in members if one not in known}
        self.refused = {one: agents[one].text for one in known if one not in taken}

    @property
    def counts(self) -> list[int]:
        """How many there are, are known, get an agent, are kinds, and of how many of these one steps."""
        good = sum(answer.is_good for answer in self.stepped.values())
        return [len(self.members), len(self.known), len(self.taken), len(self.stepped), good]


def report(surveys: list[Survey]) -> list[str]:
    """Return the lines of a report."""
    totals = [sum(column) for column in zip(*(one.counts for one in surveys), strict=True)]
    listed, known, taken, kinds, good = totals
    heads = [
        "family",
        "ids",
        "with a specification",
        "an agent is made",
        "kinds",
        "kinds that step",
    ]
    counts: list[list[Any]] = [[one.family, *one.counts] for one in surveys]
    still = [
        [env_id, one.family, answer.text]
        for one in surveys
        for env_id, answer in one.stepped.items()
        if not answer.is_good
    ]
    refused = [[env_id, one.family, why] for one in surveys for env_id, why in one.refused.items()]
    unknown = Counter((one.family, why) for one in surveys for why in one.without_spec.values())
    absent = [[family, count, why] for (family, why), count in unknown.items()]
    reasons = ["environment", "family", "reason"]
    return [
        "# EnvPool's environments",
        "",
        f"Of the {listed} ids that EnvPool lists, {known} have a specification on this machine; "
        f"`make_agent` takes {taken} of these, {100 * taken / max(known, 1):.1f} %.",
        f"They are of {kinds} kinds by the form of their spaces. Of each kind, {NUM_ENVS} environments were "
        f"stepped {STEPS} times by PPO, which then learned: {good} did.",
        "",
        "Made by `python -m benchmarks.envpool_ids`.",
        *_table("By family", heads, [*counts, ["all", *totals]]),
        *_table("Do not step on this machine", reasons, still),
        *_table("Refused by make_agent", reasons, refused),
        *_table("Without a specification on this machine", ["family", "ids", "reason"], absent),
    ]


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--family", default="", help="only those whose name begins so, such as atari"
    )
    chosen = parser.parse_args().family
    worker = Worker()
    try:
        surveys = [
            Survey(worker, name, members)
            for name, members in families(envpool_ids()).items()
            if name.startswith(chosen)
        ]
    finally:
        worker.close()
    print("\n".join(report(surveys)))


if __name__ == "__main__":
    main()
