"""What is left open is chosen by a first look: options come in, complete ones and the choices go out."""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from tensor_optix.algorithms.catalogue import ALGORITHMS
from tensor_optix.algorithms.starting_point import best_suited, starting_point
from tensor_optix.cli.building import open_environments
from tensor_optix.cli.errors import CommandError
from tensor_optix.cli.options import LearnerOptions, TrainOptions, TuneOptions
from tensor_optix.core.callbacks import Chosen, Looked, LoopCallback, LoopEvent, Start
from tensor_optix.pipeline.first_look import look_at
from tensor_optix.pipeline.vector_env import make_vector_env

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tensor_optix.algorithms.catalogue import Algorithm
    from tensor_optix.algorithms.starting_point import Choice
    from tensor_optix.core.callbacks import LoopControl
    from tensor_optix.pipeline.first_look import FirstLook
    from tensor_optix.pipeline.vector_env import VectorEnv

Options = TypeVar("Options", bound=LearnerOptions)

PARAM = "hyperparams."


class Settled(NamedTuple, Generic[Options]):
    """What came of it."""

    options: Options
    """They leave nothing open."""
    choices: Sequence[Choice] = ()
    look: FirstLook | None = None
    """What the choices rest on."""

    def events(self) -> Iterator[LoopEvent]:
        """Yield what a log tells of it."""
        if self.look is not None:
            look = self.look
            yield Looked(
                steps=look.steps, episodes=len(look.returns), step_seconds=look.step_seconds
            )
        for one in self.choices:
            yield Chosen(option=one.option, value=one.value, reason=one.reason)


def settled(options: Options, warn: Callable[[str], None]) -> Settled[Options]:
    """Choose what options leave open, where they leave the algorithm open.

    A search is told the algorithm and its networks only: hyperparameters are what it looks for.

    Args:
        options: Were checked, and say all in full.
        warn: Is told what the environment's packages warned of.

    Raises:
        CommandError: If the environments cannot be made, or what was given does not fit what was chosen.
    """
    if not options.is_open:
        return Settled(options)
    candidates = options.candidates
    num_envs = options.num_envs or candidates[0].num_envs
    env = open_environments(options.environment, lambda: _made(options, num_envs), warn)
    with closing(env):
        look = _look(env)
    spaces = env.observation_space, env.action_space
    step_seconds, is_blind = (look.step_seconds, look.is_blind) if look else (0.0, False)
    choices = [best_suited(*spaces, step_seconds, candidates, is_blind)]
    algorithm = ALGORITHMS[choices[0].value]
    if look is not None:
        known, processors = _given(options, algorithm), os.cpu_count() or 1
        most = options.max_steps if isinstance(options, TrainOptions) else None
        choices += starting_point(
            algorithm, *spaces, look, processors=processors, most_steps=most, given=known
        )
    complete = _with(options, algorithm, choices)
    try:
        complete.check()
    except ValueError as error:
        raise CommandError(str(error)) from error
    return Settled(complete, choices, look)


class ChoiceLog(LoopCallback):
    """Records what came before a run, when it begins. Is to be called after those that keep a log.

    Args:
        before: What `Settled.events` told.
    """

    def __init__(self, before: Sequence[LoopEvent]) -> None:
        self._before = before

    def on_attach(self, control: LoopControl) -> None:
        """Keep whom to tell."""
        self._control = control

    def on_event(self, event: LoopEvent) -> None:
        """Tell it behind the start."""
        if isinstance(event, Start):
            for one in self._before:
                self._control.record(one)


def _made(options: LearnerOptions, num_envs: int) -> VectorEnv:
    recipe = options.environment
    return make_vector_env(
        recipe.env_id, num_envs, options.backend, env_kwargs=recipe.kwargs, wrappers=recipe.wrappers
    )


def _look(env: VectorEnv) -> FirstLook | None:
    """Look at environments; None where they fail, which training will meet again, and tell in full."""
    try:
        return look_at(env)
    except Exception:
        return None


def _given(options: LearnerOptions, algorithm: Algorithm) -> set[str]:
    """Return the options, as choices name them, that are not ours to choose."""
    fields = ("num_envs", "hidden_sizes", "normalize_observations")
    params = (
        algorithm.default_params()
        if isinstance(options, TuneOptions)
        else options.hyperparams_of(algorithm)
    )
    return {name for name in fields if getattr(options, name) is not None} | {
        PARAM + name for name in params
    }


def _with(options: Options, algorithm: Algorithm, choices: Sequence[Choice]) -> Options:
    values = {one.option: one.value for one in choices[1:]}
    params = {
        name.removeprefix(PARAM): value for name, value in values.items() if name.startswith(PARAM)
    }
    others = {name: value for name, value in values.items() if not name.startswith(PARAM)}
    return options.settled(algorithm.name, params, **others)
