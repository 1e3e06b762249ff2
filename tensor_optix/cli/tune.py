"""`tensor-optix tune`: options come in, the best hyperparameters and an exit code go out."""

from __future__ import annotations

import shlex
import sys
import time
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any

from tensor_optix.cli.building import build_agent, derived_seeds, open_environments, run_config
from tensor_optix.cli.errors import CommandError
from tensor_optix.cli.framework_loading import framework_for, load_announced, require_framework
from tensor_optix.cli.starting import settled
from tensor_optix.core.checkpoints.durable_files import write_json
from tensor_optix.core.json_values import to_json
from tensor_optix.pipeline.vector_pipeline import VectorBatchPipeline
from tensor_optix.runs import words
from tensor_optix.runs.display import Display, log_shown, make_display
from tensor_optix.runs.interruption import Interruption
from tensor_optix.runs.record import TrainingRecord
from tensor_optix.runs.run_directory import RunDirectory, new_run_directory
from tensor_optix.trials.orchestrator import TrialOrchestrator
from tensor_optix.trials.orchestrator import logger as search_logger
from tensor_optix.trials.space import space_of

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tensor_optix.cli.options import TuneOptions
    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.runs.run_directory import RunConfig

BEST_FILE = "best_params.json"
STUDY_FILE = "study.journal"

_TRIALS = 3
_NOTHING_YET = "tensor-optix: interrupted before a trial was complete"
_ABOUT = (
    "env_id",
    "env_kwargs",
    "wrappers",
    "algorithm",
    "framework",
    "num_envs",
    "window_size",
    "hidden_sizes",
    "normalize_observations",
    "normalize_rewards",
)
"""What all trials of a study must share, or their scores could not be compared."""


def tune(options: TuneOptions) -> int:
    """Search as asked, and leave the best hyperparameters in a file.

    Args:
        options: Were checked.

    Returns:
        0: done. 1: no trial could be completed. 128 + n: signal n ended it.

    Raises:
        CommandError: If it cannot be done; nothing was written.
    """
    if options.framework is not None:
        require_framework(options.framework)
    with Interruption() as interruption:
        try:
            return _Tuning(options, interruption).run()
        except KeyboardInterrupt:
            print(_NOTHING_YET, file=sys.stderr)
            return interruption.exit_code


class _Tuning:
    """One search of the command."""

    def __init__(self, options: TuneOptions, interruption: Interruption) -> None:
        self._options = options
        self._interruption = interruption
        given = options.run_dir
        self._path = new_run_directory(options.env_id).path if given is None else given.expanduser()
        self._storage = options.storage or self._path / STUDY_FILE

    def run(self) -> int:
        self._require_free()
        notes = list[str]()
        found = settled(self._options, warn=lambda _: None)
        self._options = found.options
        self._look_at_environment(notes)
        self._space = self._searched()
        search = self._open()
        display = make_display(TrainingRecord(), self._config, plain=True)
        for note in notes:
            display.note(f"warning: {note}")
        for one in found.choices:
            display.note(f"chose {words.chosen(one.option, one.value)}: {one.reason}")
        display.note(self._announcement())
        self._interruption.stop, self._interruption.acknowledge = search.stop, display.note
        with log_shown(display, search_logger, _clocked()):
            error = self._search(search)
        self._interruption.stop = None
        return self._close(search, display, error)

    def _require_free(self) -> None:
        RunDirectory(self._path).require_free()
        for name in (BEST_FILE, STUDY_FILE):
            if (self._path / name).exists():
                raise CommandError(
                    f"cannot keep a search in {self._path}: another one is here ({name}); "
                    f"{self._way_out()}"
                )

    def _way_out(self) -> str:
        own = self._path / STUDY_FILE
        if not own.exists():
            return "choose another --run-dir"
        return (
            f"choose another --run-dir, or, to go on with it, give {going_on(self._options, own)}"
        )

    def _look_at_environment(self, notes: list[str]) -> None:
        """Make everything once, so that what does not fit together shows before a trial."""
        options, pipeline = self._options, self._pipeline(self._options.backend)
        try:
            self._env = open_environments(options.environment, lambda: pipeline.env, notes.append)
            space = self._env.observation_space
            framework = framework_for(options.framework, space, options.device, options.engine)
            load_announced(framework, plain=True)
            self._config = run_config(options, self._env, framework, max_steps=options.trial_steps)
            self._agent = build_agent(self._env, self._config)
        finally:
            pipeline.teardown()

    def _searched(self) -> dict[str, tuple[Any, ...]]:
        space = space_of(self._agent) | dict(self._options.algorithm.search_space)
        del self._agent
        space = {
            name: spec for name, spec in space.items() if name not in self._options.hyperparams
        }
        if not space:
            raise CommandError("nothing is left to search: leave a hyperparameter out")
        return space

    def _open(self) -> TrialOrchestrator:
        options = self._options
        try:
            search = TrialOrchestrator(
                self._new_agent,
                lambda: self._pipeline(self._config.backend),
                self._space,
                n_trials=options.trials,
                trial_steps=options.trial_steps,
                study_name=study_name(options),
                storage=self._storage,
                seed=options.seed,
                about=self._about(),
            )
            study = search.study
            self._path.mkdir(parents=True, exist_ok=True)
        except (ImportError, ValueError) as error:
            raise CommandError(str(error)) from error
        except Exception as error:
            raise CommandError(
                f"cannot keep the search in {self._storage}: "
                f"{type(error).__name__}: {error}; choose another place"
            ) from error
        self._config = replace(self._config, seed=search.seed)
        begun = study.get_trials(deepcopy=False)
        # The weights go on as in a search that was never ended.
        self._made = count(len(begun))
        if not begun:
            # So that what is found is no worse than what was there.
            study.enqueue_trial(self._defaults())
        return search

    def _about(self) -> dict[str, Any]:
        shared = {name: getattr(self._config, name) for name in _ABOUT}
        # Studies of earlier versions know the id alone, and must not go on in another environment.
        return shared | {"env_id": self._config.title, "hyperparams": self._options.hyperparams}

    def _defaults(self) -> dict[str, Any]:
        usual = self._config.hyperparams
        return {
            name: usual[name]
            for name, (_, low, high) in self._space.items()
            if low <= usual[name] <= high
        }

    def _new_agent(self, params: dict[str, Any]) -> BaseAgent:
        config = self._config
        (seed,) = derived_seeds((config.seed or 0) + next(self._made), _TRIALS, 1)
        hyperparams = config.hyperparams | params
        return build_agent(self._env, replace(config, seed=seed, hyperparams=hyperparams))

    def _pipeline(self, backend: str) -> VectorBatchPipeline:
        options = self._options
        return VectorBatchPipeline(
            window_size=options.window,
            env_id=options.env_id,
            num_envs=options.envs,
            backend=backend,
            env_kwargs=options.environment.kwargs,
            wrappers=options.wrapper,
        )

    def _announcement(self) -> str:
        config, options = self._config, self._options
        return (
            f"{config.title}: {config.learner}, {config.num_envs} environments on {config.backend}, "
            f"seed {config.seed}; {options.trials} trials of {options.trial_steps:,} steps, "
            f"searching {', '.join(self._space)}"
        )

    def _search(self, search: TrialOrchestrator) -> RuntimeError | None:
        """Search; what was found is in `search`, also after an interruption."""
        try:
            search.run()
        except RuntimeError as error:
            return error
        except KeyboardInterrupt:
            pass
        return None

    def _close(
        self, search: TrialOrchestrator, display: Display, error: RuntimeError | None
    ) -> int:
        """Write and tell what was found."""
        try:
            params, score = search.best_params, search.best_score
        except RuntimeError:
            if self._interruption.signal is not None:
                how = going_on(self._options, self._storage)
                print(f"{_NOTHING_YET}; to go on, give {how}", file=sys.stderr)
                return self._interruption.exit_code
            print(f"tensor-optix: the search failed: {error}", file=sys.stderr)
            return 1
        path, config = self._path / BEST_FILE, self._config
        found = {
            "env_id": config.env_id,
            "env_kwargs": to_json(config.env_kwargs, "env_kwargs"),
            "wrappers": config.wrappers,
            "algorithm": config.algorithm,
            "framework": config.framework,
            "best_params": params,
            "best_score": score,
            "importances": search.importances,
            "seed": config.seed,
            "trials": len(search.study.get_trials(deepcopy=False)),
        }
        write_json(path, found)
        report = closing_report(self._options, config, path, found)
        if self._interruption.signal is not None:
            report += f"\ngo on   {going_on(self._options, self._storage)}"
        display.note(report)
        return self._interruption.exit_code


def _clocked() -> Callable[[logging.LogRecord], str]:
    """Return what puts the time since now before a message."""
    begun = time.perf_counter()
    return lambda record: f"{words.clock(time.perf_counter() - begun)}  {record.getMessage()}"


def closing_report(
    options: TuneOptions, config: RunConfig, path: Path, found: Mapping[str, Any]
) -> str:
    """Tell what was found, and the command that trains with it.

    Args:
        options: Of the search.
        config: Of its trials.
        path: Where `found` was written.
        found: With `best_params`, `best_score` and `importances`.
    """
    return (
        f"\n{config.title}: the search is over\n\n"
        f"best    score {words.number(found['best_score'])}, in {path}\n"
        f"{_worth(found['importances'])}train   {train_command(options, config, found['best_params'])}"
    )


def _worth(importances: Mapping[str, float]) -> str:
    """Tell what each hyperparameter was worth, where that can be told."""
    if not importances:
        return ""
    told = ", ".join(f"{name} {share:.0%}" for name, share in importances.items())
    return f"worth   {told}\n"


def going_on(options: TuneOptions, storage: str | Path) -> str:
    """Return the command, in words, by which a search goes on.

    Args:
        options: Of the search.
        storage: Where its study is kept.
    """
    where = f"--storage {shlex.quote(str(storage))} --study-name {shlex.quote(study_name(options))}"
    elsewhere = "" if options.run_dir is None else " and another --run-dir"
    return f"the same command with {where}{elsewhere}"


def study_name(options: TuneOptions) -> str:
    """Return the name of a search's study, given or chosen."""
    return options.study_name or options.env_id


def train_command(options: TuneOptions, config: RunConfig, params: Mapping[str, Any]) -> str:
    """Return the command that trains with these hyperparameters, all else as in the trials."""
    parts = ["tensor-optix", "train", config.env_id, "--algo", config.algorithm]
    parts += ["--framework", config.framework, "--num-envs", str(config.num_envs)]
    parts += ["--window-size", str(config.window_size)]
    parts += ["--env-kwargs", *options.arguments] if options.arguments else []
    parts += [word for name in options.wrapper for word in ("--wrapper", name)]
    for name in ("backend", "device"):
        value = getattr(options, name)
        parts += [] if value == "auto" else [f"--{name}", value]
    if options.hidden_sizes is not None:
        parts += ["--hidden-sizes", *map(str, options.hidden_sizes)]
    for name in ("normalize_observations", "normalize_rewards"):
        parts += [f"--{name.replace('_', '-')}"] if getattr(options, name) else []
    for name, value in {**options.hyperparams, **params}.items():
        said = f"{value:.6g}" if isinstance(value, float) else str(value)
        parts += [f"--{config.algorithm}.{name.replace('_', '-')}", said]
    return shlex.join(parts)
