"""`tensor-optix doctor`: an environment comes in, what it is and what is wrong with it go out."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from tensor_optix.algorithms.catalogue import ALGORITHMS
from tensor_optix.algorithms.starting_point import Choice, best_suited
from tensor_optix.algorithms.suitability import Fit, fit_of
from tensor_optix.cli.building import open_environments
from tensor_optix.cli.doctor_report import Diagnosis, as_json, show
from tensor_optix.cli.errors import CommandError
from tensor_optix.cli.framework_loading import framework_for, load_announced
from tensor_optix.cli.kept_warnings import kept_warnings
from tensor_optix.cli.own_output import everything_on_stderr
from tensor_optix.core.environment_ids import (
    envpool_ids,
    gymnasium_spec,
    missing_package_named,
    require_gymnasium,
)
from tensor_optix.core.environment_recipe import make_environment
from tensor_optix.core.plain_warnings import quiet_making
from tensor_optix.core.replay.storage import available_memory, size_text
from tensor_optix.pipeline.examination.examine import examine
from tensor_optix.pipeline.examination.findings import Deadline, Finding, Grade, note, problem
from tensor_optix.pipeline.examination.speeds import Speed, speeds
from tensor_optix.pipeline.first_look import is_blind
from tensor_optix.pipeline.vector_contract import VectorEnv
from tensor_optix.pipeline.vector_env import make_vector_env, wrap_env

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensor_optix.cli.options import DoctorOptions
    from tensor_optix.pipeline.examination.trace import Trace

SEED = 0
EXAMINED_SHARE = 0.5
"""Of the time; backends are measured in the rest."""


def doctor(options: DoctorOptions) -> int:
    """Look an environment over, and print what was found.

    Args:
        options: Were checked, and say all in full.

    Returns:
        0: there is no problem. 1: there is.

    Raises:
        CommandError: If the environment cannot be made.
    """
    own_output = everything_on_stderr() if options.json else nullcontext()
    with own_output, kept_warnings() as warned:
        diagnosis = _Consultation(options, warned).diagnosis()
    if options.json:
        print(json.dumps(as_json(diagnosis), indent=1, allow_nan=False))
    else:
        show(diagnosis, Console(highlight=False))
    return int(diagnosis.has_problem)


@dataclass(frozen=True)
class _Learners:
    """Which algorithms fit, as far as that can be told."""

    fits: Sequence[Fit] = ()
    framework: str = ""


class _Consultation:
    """One call of the command.

    Args:
        options: Of the command.
        warned: What the library warns of is added to it meanwhile.
    """

    def __init__(self, options: DoctorOptions, warned: Sequence[str]) -> None:
        self._options, self._warned = options, warned
        self._recipe = options.environment
        self._findings: list[Finding] = []

    def diagnosis(self) -> Diagnosis:
        options, said = self._options, list[str]()
        env = open_environments(self._recipe, self._made, said.append)
        self._chosen = self._choose(env, (), None)
        deadline = Deadline(options.seconds)
        try:
            examination = examine(env, EXAMINED_SHARE * options.seconds)
            self._findings += examination.findings
            measured: Sequence[Speed] = ()
            learners = _Learners()
            if examination.trace is not None:
                measured = self._speeds(deadline, examination.reset_seconds)
                self._chosen = self._choose(env, measured, examination.trace)
                learners = self._learners(env, examination.trace)
        finally:
            env.close()
        heard = dict.fromkeys([*said, *self._warned])
        self._findings += [note("warning", " ".join(text.split())) for text in heard]
        return Diagnosis(
            title=self._recipe.title,
            spaces=(env.observation_space, env.action_space),
            time_limit=_time_limit(env),
            trace=examination.trace,
            num_envs=options.algorithm.num_envs,
            speeds=measured,
            algorithm=self._chosen.value,
            why=self._chosen.reason,
            fits=learners.fits,
            framework=learners.framework,
            findings=self._findings,
        )

    def _made(self) -> Any:
        """Make one: Gymnasium's, whose own door can be looked at, or EnvPool's where that is asked for."""
        env_id, asks_pool = self._recipe.env_id, self._options.backend.startswith("envpool")
        spec = None if asks_pool else gymnasium_spec(env_id)
        with quiet_making():
            if asks_pool or (spec is None and env_id in envpool_ids()):
                kwargs = self._recipe.kwargs
                return make_vector_env(env_id, 1, "envpool", SEED, env_kwargs=kwargs)
            spec = require_gymnasium(env_id)
            with missing_package_named(spec):
                return make_environment(spec, self._recipe)

    def _choose(self, env: Any, measured: Sequence[Speed], trace: Trace | None) -> Choice:
        """Return the algorithm that was asked for, or that `train` would choose."""
        if not self._options.is_open:
            return Choice("algorithm", self._options.algorithm.name, "")
        speed = max((one.steps_per_second or 0.0 for one in measured), default=0.0)
        spaces = env.observation_space, env.action_space
        step_seconds = 1.0 / speed if speed else 0.0
        returns = np.array([one.total for one in trace.episodes] if trace else [])
        blind = trace is not None and is_blind(trace.rewards, returns)
        return best_suited(*spaces, step_seconds, list(ALGORITHMS.values()), blind)

    def _speeds(self, deadline: Deadline, reset_seconds: float) -> Sequence[Speed]:
        num_envs, backend = self._options.algorithm.num_envs, self._options.backend
        return speeds(self._recipe, num_envs, backend, deadline, reset_seconds)

    def _learners(self, env: Any, trace: Trace) -> _Learners:
        try:
            framework = framework_for(self._options.framework, env.observation_space)
            load_announced(framework, plain=False)
        except CommandError as error:
            if self._options.framework is not None:
                raise
            self._findings.append(note("algorithm", f"which algorithms fit was not tried: {error}"))
            return _Learners()
        adapter = env if isinstance(env, VectorEnv) else wrap_env(env)
        adapter.reset()
        fits = [fit_of(one, framework.name, adapter, trace.shown) for one in ALGORITHMS.values()]
        self._judge(fits)
        return _Learners(fits, framework.title)

    def _judge(self, fits: Sequence[Fit]) -> None:
        chosen = self._chosen.value
        available = available_memory()
        for fit in fits:
            if fit.algorithm == chosen and fit.refusal:
                self._findings.append(problem("algorithm", fit.refusal))
            if available is not None and fit.replay_bytes > available:
                grade = Grade.PROBLEM if fit.algorithm == chosen else Grade.NOTE
                text = (
                    f"the replay of {fit.algorithm} takes {size_text(fit.replay_bytes)}, "
                    f"{size_text(available)} are available: --{fit.algorithm}.replay-capacity, "
                    f"{fit.replay_rows:,} by default"
                )
                self._findings.append(Finding("replay", grade, text))


def _time_limit(env: Any) -> int | None:
    spec = None if isinstance(env, VectorEnv) else env.spec
    limit = env.max_episode_steps if isinstance(env, VectorEnv) else spec and spec.max_episode_steps
    return limit if limit is not None and limit > 0 else None
