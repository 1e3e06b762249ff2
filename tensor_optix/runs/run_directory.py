"""A run directory: where each file of a run lies, who may use it, and `run.json`, its description.

run.json             what was asked for: all that `evaluate` needs to rebuild the agent
checkpoints/         the best policies
state/               checkpoints of the whole run, to resume it
metrics.jsonl, events.jsonl   the log
learning_curve.png, report.txt, traceback.txt   the last one only after a crash
tensorboard/, progress.csv   where asked for
policy.onnx, ...   what `tensor-optix export` wrote
"""

from __future__ import annotations

import os
import platform
import re
import time
from contextlib import suppress
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from tensor_optix.algorithms.frameworks import FRAMEWORKS
from tensor_optix.core.callbacks import EVENTS_FILE, METRICS_FILE
from tensor_optix.core.checkpoints.durable_files import create_json, replace_json, sync_directory
from tensor_optix.core.checkpoints.saved_state import (
    MOST_SMALL_JSON,
    CheckpointError,
    read_json,
    reading,
)
from tensor_optix.core.checkpoints.staging import remove_leftovers
from tensor_optix.core.environment_recipe import EnvironmentRecipe
from tensor_optix.core.json_values import from_json, to_json, to_readable_json

PACKAGES = ("tensor_optix", "numpy", "gymnasium", "envpool")
PACKAGES_OF = {"torch": ("torch",), "tensorflow": ("tensorflow", "tensorflow-cpu", "keras")}
"""Whose versions a run records, where they are installed; besides those of all runs, by framework."""


class RunDirectoryError(ValueError):
    """A directory cannot take a run, or holds none that can be read. The message says what to do."""


@dataclass(frozen=True)
class RunConfig:
    """What a run was asked to do."""

    env_id: str
    """Empty: the environments cannot be made again from an id."""
    backend: str
    """The backend that stepped the environments, never "auto"."""
    seed: int | None
    num_envs: int
    window_size: int | None
    max_steps: int | None
    hidden_sizes: tuple[int, ...]
    device: str
    hyperparams: dict[str, Any]
    algorithm: str = "ppo"
    """Empty: the agent was not made by `make_agent`."""
    normalize_observations: bool = False
    normalize_rewards: bool = False
    framework: str = "torch"
    computed_on: str = ""
    """The device that "auto" stood for: "cpu", "gpu", ...; empty in runs of earlier versions."""
    tune: bool = True
    """Whether hyperparameters were tuned while training."""
    channels: Literal["first", "last"] | None = None
    """Which axis of images they are; None: the shorter one."""
    engine: Literal["auto", "native", "framework"] = "auto"
    """What was to make the updates."""
    updates_by: str = ""
    """What made them, and why, in words; empty where that is not known."""
    agent_class: str = ""
    """What was trained, where that is no algorithm of the catalogue."""
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments that the environments were made with."""
    wrappers: tuple[str, ...] = ()
    """Names of what was put around each environment, the first one innermost."""
    observation_space: dict[str, Any] | None = None
    """Of one environment, as `core.recorded_spaces` has it; None in runs of earlier versions. So with the
    next."""
    action_space: dict[str, Any] | None = None
    tensorboard: bool = False
    """Whether the run is on TensorBoard, in its directory; and so on for other boards, by the name there."""
    csv: bool = False
    wandb: str | None = None
    mlflow: str | None = None
    target_score: float | None = None
    """At which it was to stop."""
    callbacks: tuple[str, ...] = ()
    """Names of the listeners that the command was given."""
    rescale_actions: bool = True
    """Whether an agent's actions in [-1, 1] were stretched to the bounds of the action space."""

    @property
    def is_rebuildable(self) -> bool:
        """Whether agent and environments can be made again from what is said here."""
        return bool(self.env_id and self.algorithm)

    @property
    def title(self) -> str:
        """What the agent was trained in, in words."""
        return self.environment.title if self.env_id else "an environment without an id"

    @property
    def environment(self) -> EnvironmentRecipe:
        """From which the same environments can be made again, if there is an id."""
        return EnvironmentRecipe(self.env_id, self.env_kwargs, self.wrappers)

    @property
    def origin(self) -> str:
        """Where the environments' randomness came from, in words."""
        return "no seed" if self.seed is None else f"seed {self.seed}"

    @property
    def environments(self) -> str:
        """How many step together, and who steps them, in words."""
        plural = "" if self.num_envs == 1 else "s"
        on = f" on {self.backend}" if self.backend else ""
        return f"{self.num_envs} environment{plural}{on}"

    @property
    def learner(self) -> str:
        """The algorithm, and what computes it, in words."""
        if not self.algorithm:
            return self.agent_class
        means = [FRAMEWORKS[self.framework].title, *filter(None, [self.computed_on])]
        return f"{self.algorithm} ({', '.join(means)})"


class RunDirectory:
    """The files of one run. Nothing is written before `create`.

    Args:
        path: The directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path = path.expanduser()
        self.config = path / "run.json"
        self.checkpoints = path / "checkpoints"
        self.state = path / "state"
        self.metrics = path / METRICS_FILE
        self.events = path / EVENTS_FILE
        self.curve = path / "learning_curve.png"
        self.report = path / "report.txt"
        self.traceback = path / "traceback.txt"
        self.tensorboard = path / "tensorboard"
        self.progress = path / "progress.csv"

    def require_free(self) -> None:
        """Check that a run can be kept here.

        Raises:
            RunDirectoryError: If another run is here, or nothing can be written.
        """
        names = (self.config.name, self.checkpoints.name, METRICS_FILE, EVENTS_FILE)
        try:
            if self.path.is_file():
                raise RunDirectoryError(_cannot_use(self.path, "it is a file"))
            for name in names:
                if (self.path / name).exists():
                    raise RunDirectoryError(_cannot_use(self.path, f"another run is here ({name})"))
            ancestor = self.path
            while not ancestor.exists():
                ancestor = ancestor.parent
        except OSError as error:
            raise RunDirectoryError(_cannot_use(self.path, error.strerror)) from error
        if not ancestor.is_dir():
            raise RunDirectoryError(_cannot_use(self.path, f"{ancestor} is a file"))
        if not os.access(ancestor, os.W_OK | os.X_OK):
            raise RunDirectoryError(_cannot_use(self.path, f"{ancestor} is not writable"))

    def create(self, config: RunConfig) -> None:
        """Make the directory and write `run.json`.

        Raises:
            RunDirectoryError: If that fails, or another process was faster; nothing is left behind.
        """
        missing = [path for path in (self.path, *self.path.parents) if not path.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            remove_leftovers(self.path)
            # Of two runs that start at once, one fails here.
            create_json(self.config, _described(config))
        except OSError as error:
            for path in missing:
                _remove_if_empty(path)
            reason = "another run is here" if isinstance(error, FileExistsError) else error.strerror
            raise RunDirectoryError(_cannot_use(self.path, reason)) from error

    def describe(self, config: RunConfig) -> None:
        """Write `run.json`, in place of one that is there; a kill leaves the one or the other.

        When the run was begun stays what it was.
        """
        remove_leftovers(self.path)
        content = _described(config)
        with suppress(CheckpointError):
            content["started"] = read_json(self.config, MOST_SMALL_JSON).get(
                "started", content["started"]
            )
        replace_json(self.config, content)
        sync_directory(self.path)

    def read_description(self) -> dict[str, Any]:
        """Read `run.json` as it stands there: all of `RunConfig`, when the run began, and the versions.

        Raises:
            RunDirectoryError: If there is none, or it is damaged.
        """
        self.read_config()
        return dict(read_json(self.config, MOST_SMALL_JSON))

    def read_config(self) -> RunConfig:
        """Read `run.json`.

        Raises:
            RunDirectoryError: If there is none, or it is damaged.
        """
        if not self.config.is_file():
            raise RunDirectoryError(
                f"{self.path} holds no run (no {self.config.name}); give the directory that "
                "`tensor-optix train` printed"
            )
        try:
            with reading(self.config.name):
                stored = read_json(self.config, MOST_SMALL_JSON)
                # What has a default is missing in the runs of earlier versions.
                names = [
                    one.name for one in fields(RunConfig) if one.name in stored or _is_named(one)
                ]
                config = RunConfig(**{name: stored[name] for name in names})
                config = replace(config, env_kwargs=from_json(config.env_kwargs))
                _ = config.environment
        except CheckpointError as error:
            raise RunDirectoryError(
                f"{self.config} is damaged ({error}); restore it, or train anew"
            ) from error
        return config


def new_run_directory(env_id: str) -> RunDirectory:
    """Return `runs/ENV_ID/TIME`, with a number appended where that exists; nothing is made yet."""
    parent = Path("runs") / re.sub(r"[^\w.-]+", "-", env_id)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    path, count = parent / stamp, 1
    while path.exists():
        count += 1
        path = parent / f"{stamp}-{count}"
    return RunDirectory(path)


def _is_named(one: Field[Any]) -> bool:
    """Whether a field has no default: every run says it."""
    return one.default is MISSING and one.default_factory is MISSING


def _described(config: RunConfig) -> dict[str, Any]:
    return {
        "format": 1,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        **to_readable_json(asdict(config)),
        "env_kwargs": to_json(config.env_kwargs, "env_kwargs"),
        "versions": _versions(config.framework),
    }


def _versions(framework: str) -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in (*PACKAGES, *PACKAGES_OF.get(framework, ())):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _cannot_use(path: Path, reason: str | None) -> str:
    return f"cannot keep a run in {path}: {reason}; choose another --run-dir"


def _remove_if_empty(path: Path) -> None:
    try:
        path.rmdir()
    except OSError:
        return
