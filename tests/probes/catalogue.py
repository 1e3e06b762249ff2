"""The probes: each a tiny environment, the answer an agent must find, and what a wrong one means.

A name and the kinds of observations and actions come in, a `Probe` goes out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from gymnasium.spaces import Box, Discrete

from tests.probes.environments import ProbeEnv, Task, probe_action_space, state_observations

if TYPE_CHECKING:
    from collections.abc import Callable

    from tensor_optix.core.types import Array


@dataclass(frozen=True)
class Symptom:
    """A wrong answer that is known by its look."""

    words: str
    fits: Callable[[Array], bool]
    """Whether an answer `[M]`, a value or an action per observation, looks like it."""


@dataclass(frozen=True)
class Answer:
    """What must come out, for an agent whose discount is `gamma`."""

    task: Task
    gamma: float
    suspects: str
    """What to look at when the answer is wrong in a way that no symptom describes."""
    values: tuple[float, ...] | None = None
    """`[M]`, under any policy; None where they depend on it."""
    tolerance: float = 0.1
    symptoms: tuple[Symptom, ...] = ()
    num_envs: int = 1
    window_size: int = 32
    phases: tuple[int, ...] | None = None
    """`[num_envs]`, where the first episode of each environment begins."""
    homes: tuple[int, ...] | None = None
    """`[num_envs]`, where all episodes of each environment begin."""


@dataclass(frozen=True)
class Probe:
    """An environment and its answer, for M observations: all that there are in it."""

    name: str
    answer: Answer
    observations: Array
    """`[M, ...]`."""
    action_space: Discrete | Box

    def make_env(self, env_id: int = 0) -> ProbeEnv:
        """Make the environment that is number `env_id` of the vector."""
        task, phases, homes = self.answer.task, self.answer.phases, self.answer.homes
        if homes is not None:
            task = replace(task, starts=(homes[env_id],))
        start = None if phases is None else phases[env_id % len(phases)]
        return ProbeEnv(task, self.observations, self.action_space, start)

    @property
    def values(self) -> Array | None:
        """The expected V, and the expected Q of any action, `[M]`; None: they depend on the policy."""
        return None if self.answer.values is None else np.array(self.answer.values)

    @property
    def action_values(self) -> Array | None:
        """The expected Q, `[M, 2]`; None for a Box whose actions matter."""
        if self.values is not None:
            return np.repeat(self.values[:, None], 2, axis=1)
        if isinstance(self.action_space, Box):
            return None
        rewards: Array = np.eye(2)[np.array(self.answer.task.right_actions, int)]
        return rewards

    @property
    def actions(self) -> Array | None:
        """The best actions in the environment's units, `[M]` or `[M, 1]`; None: any will do."""
        best = self.answer.task.right_actions
        if not best:
            return None
        return np.array(best)[:, None] if isinstance(self.action_space, Box) else np.array(best)


def near(*values: float) -> Callable[[Array], bool]:
    """Return a test of whether an answer is within 0.1, or a twentieth, of `values`."""
    return lambda answer: np.allclose(answer, values, rtol=0.05, atol=0.1)


def make_probe(name: str, observation: str = "vector", action: str = "discrete") -> Probe:
    """Return one of the probes in `VALUE_PROBES` and `ACTION_PROBES`.

    Args:
        name: Which one.
        observation: "vector" (float32 `[D]`) or "image" (uint8 `[1, 8, 8]`).
        action: "discrete" (Discrete(2)) or "box" (Box(-2, 2, (1,))).

    Raises:
        KeyError: If there is no such probe.
        ValueError: If there is no such kind.
    """
    answer = VALUE_PROBES[name] if name in VALUE_PROBES else ACTION_PROBES[name][action]
    observations = state_observations(len(answer.task.successors), observation)
    return Probe(name, answer, observations, probe_action_space(action))


ENDLESS = "terminated steps are bootstrapped"

VALUE_PROBES = {
    "constant reward": Answer(
        task=Task(successors=(0,), rewards=(1.0,), ends=(0,)),
        gamma=0.5,
        values=(1.0,),
        suspects="the value loss or the optimizer",
        symptoms=(
            Symptom("nothing is learned: the value loss or the optimizer", near(0.0)),
            Symptom(ENDLESS, near(2.0)),
        ),
    ),
    "constant reward over four steps": Answer(
        task=Task(successors=(1, 2, 3, 3), rewards=(1.0,) * 4, ends=(3,)),
        gamma=0.5,
        values=(1.875, 1.75, 1.5, 1.0),
        suspects="the value targets over several steps",
        symptoms=(
            Symptom("only the next reward counts: no bootstrap", near(1.0, 1.0, 1.0, 1.0)),
            Symptom("rewards are not discounted", near(4.0, 3.0, 2.0, 1.0)),
            Symptom(ENDLESS, near(2.0, 2.0, 2.0, 2.0)),
        ),
    ),
    "value of the observation": Answer(
        task=Task(successors=(0, 1), rewards=(-1.0, 1.0), starts=(0, 1), ends=(0, 1)),
        gamma=0.5,
        values=(-1.0, 1.0),
        suspects="backpropagation, or how observations are stored and fed",
        symptoms=(
            Symptom("the value does not depend on the observation", lambda v: np.ptp(v) < 0.2),
            Symptom(ENDLESS, near(-2.0, 2.0)),
        ),
    ),
    "discounting": Answer(
        task=Task(successors=(1, 1), rewards=(0.0, 1.0), ends=(1,)),
        gamma=0.5,
        values=(0.5, 1.0),
        suspects="discount, bootstrap or n-step returns",
        symptoms=(
            Symptom("a later reward is not discounted", near(1.0, 1.0)),
            Symptom("a later reward does not reach the first step: no bootstrap", near(0.0, 1.0)),
            Symptom("a later reward is discounted twice", near(0.25, 1.0)),
            Symptom(ENDLESS, near(1.0, 2.0)),
        ),
    ),
    "time limit": Answer(
        task=Task(successors=(0,), rewards=(1.0,), time_limit=5),
        gamma=0.9,
        values=(10.0,),
        tolerance=0.5,
        suspects="how truncated steps are bootstrapped",
        symptoms=(
            Symptom("truncated steps are not bootstrapped", lambda v: 1.0 < v[0] < 7.0),
            Symptom("truncated steps are bootstrapped, but too high", lambda v: v[0] > 10.5),
        ),
    ),
    "final observation": Answer(
        task=Task(successors=(1, 1), rewards=(0.0, 1.0), time_limit=2),
        gamma=0.8,
        values=(4.0, 5.0),
        tolerance=0.3,
        suspects="which observation a truncated step is bootstrapped from",
        symptoms=(
            Symptom("truncated steps are not bootstrapped", near(0.8, 1.0)),
            Symptom(
                "truncated steps are bootstrapped from the next episode's first observation",
                lambda v: 1.7 < v[0] < 2.5 and 2.2 < v[1] < 3.2,
            ),
        ),
    ),
    "ends within a window": Answer(
        task=Task(successors=(1, 2, 3, 4, 4), rewards=(0.0, 0.0, 0.0, 0.0, 1.0), ends=(4,)),
        gamma=0.7,
        values=(0.2401, 0.343, 0.49, 0.7, 1.0),
        tolerance=0.06,
        suspects="window borders, n-step queues, or rows of several environments are mixed up",
        symptoms=(
            Symptom(ENDLESS, lambda v: v[-1] > 2.0),
            Symptom(
                "what lies beyond a window's border, or an n-step queue's end, is not counted",
                lambda v: 0.9 < v[-1] < 1.1 and v[0] < 0.18 and v[1] < 0.283,
            ),
        ),
        num_envs=4,
        window_size=8,
        # Not in steps of 1: the row of the next environment must not look like the next row.
        phases=(0, 2, 4, 1),
    ),
    "silent environment": Answer(
        task=Task(successors=(0, 1, 2, 3), rewards=(1.0, 0.0, 1.0, 1.0)),
        gamma=0.8,
        values=(5.0, 0.0, 5.0, 5.0),
        tolerance=0.3,
        suspects="rows of several environments are mixed up, or window borders are not bootstrapped",
        symptoms=(
            Symptom(
                "rows of several environments are mixed up",
                lambda v: abs(v[1]) > 0.3 and np.ptp(v) > 0.3,
            ),
            Symptom(
                "what lies beyond a window's border is not counted", lambda v: 1.0 < v.max() < 4.7
            ),
        ),
        num_envs=4,
        window_size=8,
        homes=(0, 1, 2, 3),
    ),
    "time limits side by side": Answer(
        task=Task(successors=(0, 1, 2, 3), rewards=(1.0, 0.0, -1.0, 0.5), time_limit=3),
        gamma=0.8,
        values=(5.0, 0.0, -5.0, 2.5),
        tolerance=0.3,
        suspects="which environment's final observation a truncated step is bootstrapped from",
        symptoms=(
            Symptom(
                "truncated steps are not bootstrapped",
                lambda v: 0.5 < v[0] < 3.5 and abs(v[1]) < 0.2 and v[2] < -0.5,
            ),
        ),
        num_envs=4,
        window_size=8,
        homes=(0, 1, 2, 3),
    ),
}
"""By name, those whose values are the same whatever the policy does."""

_ADVANTAGES = "policy gradient, advantages or exploration"
_UNSCALED = "actions in [-1, 1] are not stretched to the bounds of the Box"
_BEST = 1.5  # beyond 1, out of reach of actions that are not stretched


def _action_choice(right: tuple[float, ...], wrong: tuple[float, ...], suspects: str) -> Answer:
    states = tuple(range(len(right)))
    symptoms = [Symptom("the worst action is preferred: a sign is wrong", near(*wrong))]
    if len(right) > 1:
        blind = Symptom(
            "the policy does not depend on the observation", lambda a: bool(np.ptp(a) < 0.3)
        )
        symptoms.append(blind)
    if abs(right[-1]) == _BEST:
        symptoms.append(Symptom(_UNSCALED, lambda a: bool((np.abs(np.abs(a) - 2.0) < 0.2).all())))
        symptoms.append(Symptom(_UNSCALED, near(*np.sign(right))))
    task = Task(successors=states, right_actions=right, starts=states, ends=states)
    return Answer(task, 0.5, suspects, tolerance=0.3, symptoms=tuple(symptoms))


ACTION_PROBES = {
    "action choice": {
        "discrete": _action_choice((1.0,), (0.0,), _ADVANTAGES),
        "box": _action_choice((_BEST,), (-2.0,), f"{_ADVANTAGES}, or the stretching of actions"),
    },
    "action for the observation": {
        "discrete": _action_choice((1.0, 0.0), (0.0, 1.0), f"{_ADVANTAGES}, per observation"),
        "box": _action_choice((_BEST, -_BEST), (-2.0, 2.0), f"{_ADVANTAGES}, per observation"),
    },
}
"""By name and kind of action, those whose best action is known."""
