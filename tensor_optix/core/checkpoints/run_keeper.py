"""Keeps a run in checkpoints beside the training: its parts go in, and come out when it is resumed.

Between two windows a copy of what may change is taken, and a thread brings it onto the disk.
"""

from __future__ import annotations

import logging
import random
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.core.checkpoints.run_checkpoints import (
    RunCheckpoint,
    RunCheckpoints,
    learner_path,
)
from tensor_optix.core.checkpoints.saved_state import CheckpointError, State, reading, write_state
from tensor_optix.core.replay.segments import ReplayFiles
from tensor_optix.core.types import HyperparamSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.replay.segments import ReplayDraft

logger = logging.getLogger(__name__)

COST_SHARE = 0.01
"""The most of the time that checkpoints take by the clocks of the training, which waits for the copy, and of
the thread that writes. Windows are longer by up to twice that: caches are cold then, and one thread at a time
runs Python."""
_AGENTS = "agents"
_RANDOM = "random"


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What a checkpoint says of its run, for people and for who resumes it."""

    windows: int
    """How many the run has taken since its first `run()`."""
    steps: int
    seconds: float
    ending: str | None = None
    """How the run ended; None: it was under way."""
    about: dict[str, Any] = field(default_factory=dict)
    """What a run must have in common with the one that it is resumed as."""


@dataclass(frozen=True, kw_only=True)
class RunCopy:
    """A run between two windows, as it stays while training goes on, but for what its agents learn."""

    facts: RunFacts
    states: dict[str, State]
    """Of its parts, by names that are file names."""
    agents: Mapping[str, BaseAgent]
    """Everything that learns, by name."""


@dataclass
class _Draft:
    """What the writer brings onto the disk."""

    path: Path
    facts: RunFacts
    states: dict[str, State]
    replays: dict[str, ReplayDraft]


class RunKeeper:
    """Writes checkpoints of a run, not more often than they are worth, and reads the newest sound one.

    Args:
        directory: For the checkpoints.
        seconds: Time between two of them; more where they would take more than 2 % of it.
        resume: Whether the run goes on from the newest one, if there is one.
    """

    def __init__(self, directory: Path, seconds: float = 60.0, resume: bool = False) -> None:
        self.directory = directory
        """Holds the checkpoints."""
        self._resumes = resume
        self._checkpoints = RunCheckpoints(directory)
        self._replays = ReplayFiles(directory / "replay")
        self._seconds = seconds
        self._due_at = 0.0
        self._cost = 0.0
        self._executor: ThreadPoolExecutor | None = None
        self._writing: Future[float] | None = None
        self._trouble: str | None = None
        self._told: str | None = None

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is something to go on from, sound or not."""
        return self._checkpoints.exist

    @property
    def resumes(self) -> bool:
        """Whether the run is to go on from a checkpoint; not once it has made one, and goes on by itself."""
        return self._resumes and self.has_checkpoint

    @property
    def is_due(self) -> bool:
        """Whether it is time for a checkpoint, and the last one is written."""
        if self._writing is not None and not self._writing.done():
            return False
        self._settle()
        return time.perf_counter() >= self._due_at

    def keep(self, copy: Callable[[], RunCopy]) -> None:
        """Take a copy of the run, and let it be written while training goes on.

        What cannot be kept is a matter of `take_trouble`; the checkpoints before are untouched.

        Args:
            copy: Copies it; called at once.
        """
        self._settle()
        self._resumes = False
        begun = time.perf_counter()
        try:
            draft = self._draft(copy())
        except Exception as error:
            self._note(error)
        else:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(1, "checkpoints")
            self._writing = self._executor.submit(self._write, draft)
        self._cost = time.perf_counter() - begun
        self._schedule(self._cost)

    def wait(self) -> None:
        """Wait until what is being written is on the disk."""
        if self._executor is not None:
            self._executor.shutdown()
            self._executor = None
        self._settle()

    def take_trouble(self) -> str | None:
        """Return why a checkpoint could not be written, once; None where all went well."""
        trouble, self._trouble = self._trouble, None
        return trouble

    def sound(self, about: dict[str, Any]) -> Iterator[RestoredRun]:
        """Yield the runs that can be gone on with, the newest first; warn of those that are damaged.

        Args:
            about: What the run is that goes on.

        Raises:
            CheckpointError: If there are checkpoints but no sound one, or they are of another run.
        """
        found = False
        for checkpoint in self._checkpoints.sound():
            found = True
            _require_same(checkpoint, about)
            yield RestoredRun(checkpoint, self._replays)
        if not found:
            raise CheckpointError(
                f"no checkpoint in {self.directory} is sound (the warnings say why): restore "
                "the files, or train anew in another directory"
            )

    def _draft(self, run: RunCopy) -> _Draft:
        path = self._checkpoints.stage()
        states = dict(run.states)
        try:
            replays: dict[str, ReplayDraft] = {}
            learners = []
            for number, (name, agent) in enumerate(run.agents.items()):
                agent.save_state(learner_path(path, number))
                params = agent.unscheduled_params()
                learners.append({"name": name, "params": params, "state": agent.run_state()})
                for key, buffer in agent.replays.items():
                    replays[f"{number}_{key}"] = self._replays.draft(f"{number}_{key}", buffer)
            states[_AGENTS] = {"learners": learners}
            states[_RANDOM] = {"python": random.getstate(), "numpy": np.random.get_state()}  # noqa: NPY002
        except BaseException:
            self._checkpoints.discard(path)
            raise
        return _Draft(path, run.facts, states, replays)

    def _write(self, draft: _Draft) -> float:
        """Write a draft; return the seconds of processor time that it took."""
        begun = time.thread_time()
        try:
            for name, state in draft.states.items():
                write_state(draft.path / name, state)
            replays = {
                name: self._replays.write(one, _rest_path(draft.path, name))
                for name, one in draft.replays.items()
            }
            facts = {**vars(draft.facts), "replays": replays, "time": time.time()}
            stay = self._checkpoints.publish(draft.path, facts.pop("windows"), facts)
        except BaseException:
            self._checkpoints.discard(draft.path)
            raise
        self._replays.remove_unused([entry for one in stay for entry in one["replays"].values()])
        return time.thread_time() - begun

    def _settle(self) -> None:
        """Take note of how writing went, if it is over."""
        if self._writing is None:
            return
        writing, self._writing = self._writing, None
        try:
            self._schedule(self._cost + writing.result())
            self._told = None
        except Exception as error:
            self._note(error)

    def _schedule(self, cost: float) -> None:
        self._due_at = time.perf_counter() + max(self._seconds, cost / COST_SHARE)

    def _note(self, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}"
        if reason != self._told:
            logger.warning("the run's checkpoint was not written, training goes on: %s", reason)
            self._told = self._trouble = reason


class RestoredRun:
    """A run as it was: what a checkpoint holds, part by part.

    Args:
        checkpoint: A sound one.
        replays: Holds the rows that it names.
    """

    def __init__(self, checkpoint: RunCheckpoint, replays: ReplayFiles) -> None:
        self._checkpoint = checkpoint
        self._replays = replays

    def __str__(self) -> str:
        return f"the checkpoint {self._checkpoint.path}"

    @property
    def ending(self) -> str | None:
        """How it had ended; None: it was under way."""
        ending: str | None = self._checkpoint.manifest["ending"]
        return ending

    def state(self, name: str) -> State:
        """Return the state of a part.

        Raises:
            CheckpointError: If there is none, or it is damaged.
        """
        return self._checkpoint.state(name)

    def restore(self, agents: Mapping[str, BaseAgent]) -> None:
        """Put into everything that learns what it had learned.

        Raises:
            CheckpointError: If it is damaged, or was written by other agents.
        """
        with reading(_AGENTS):
            learners = self.state(_AGENTS)["learners"]
            stored = [one["name"] for one in learners]
            if stored != list(agents):
                raise CheckpointError(f"the run had the agents {stored}, now it has {list(agents)}")
            for number, (one, agent) in enumerate(zip(learners, agents.values(), strict=True)):
                agent.load_state(self._checkpoint.learner(number))
                agent.set_hyperparams(HyperparamSet(dict(one["params"])))
                agent.load_replays(self._rows(f"{number}_"))
                agent.load_run_state(one["state"])

    def restore_random(self) -> None:
        """Let the generators of Python and NumPy that all code shares go on where they were."""
        with reading(_RANDOM):
            state = self.state(_RANDOM)
            version, words, gauss = state["python"]
            random.setstate((version, tuple(words), gauss))
            np.random.set_state(state["numpy"])  # noqa: NPY002

    def _rows(self, prefix: str) -> dict[str, Any]:
        entries, path = self._checkpoint.manifest["replays"], self._checkpoint.path
        return {
            name.removeprefix(prefix): self._replays.read(name, entry, _rest_path(path, name))
            for name, entry in entries.items()
            if name.startswith(prefix)
        }


def _rest_path(checkpoint: Path, replay: str) -> Path:
    """Return where a checkpoint keeps what a replay has beside its rows."""
    return checkpoint / f"replay_{replay}"


def _require_same(checkpoint: RunCheckpoint, about: dict[str, Any]) -> None:
    """Refuse a checkpoint of a run that cannot go on as this one."""
    with reading("manifest.json"):
        stored = checkpoint.manifest["about"]
        for name, value in about.items():
            if stored.get(name, value) != value:
                raise CheckpointError(
                    f"the run in {checkpoint.path.parent} has {name} {stored[name]!r}, got {value!r}: "
                    "resume with what it was begun with, or train anew in another directory"
                )
