"""Environments that raise, or show and pay what they may not: named, with the step, wherever they run."""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from tensor_optix.pipeline.batch_pipeline import BatchPipeline
from tensor_optix.pipeline.vector_pipeline import VectorBatchPipeline
from tests.scripted import CountingAgent

if TYPE_CHECKING:
    from collections.abc import Callable

    from tensor_optix.core.base_pipeline import BasePipeline

AT = 17
"""The step since it was made in which an environment misbehaves: the second of its sixth episode."""
LENGTH = 3


class OfTheUser(Exception):
    """One that nobody here knows."""


class Misbehaving(gymnasium.Env[Any, Any]):
    """Returns in one step what a function makes of the right answer; raises at a reset, where asked."""

    observation_space, action_space = Box(-1, 1, (2,), np.float32), Discrete(2)

    def __init__(self, change: Callable[..., Any] | None = None, bad_reset: int = 0) -> None:
        self.change, self.bad_reset = change, bad_reset
        self.steps = self.resets = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.resets += 1
        if self.resets == self.bad_reset:
            raise OfTheUser("the door is shut")
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        answer = np.zeros(2, np.float32), 1.0, self.steps % LENGTH == 0, False, {}
        return self.change(*answer) if self.change and self.steps == AT else answer


def raising(*_: Any) -> Any:
    raise OfTheUser("the arm is stuck")


WRONG: dict[str, tuple[Callable[..., Any], type[Exception], str]] = {
    "raises": (raising, OfTheUser, "the arm is stuck"),
    "another shape": (lambda o, *rest: (np.zeros(3), *rest), ValueError, "shape"),
    "no numbers": (lambda o, *rest: ("left", *rest), TypeError, "must return observations"),
    "no observation": (lambda o, *rest: (None, *rest), TypeError, "must return observations"),
    "rewards of two": (
        lambda o, r, *rest: (o, np.ones(2), *rest),
        TypeError,
        "one number as reward",
    ),
    "no reward": (lambda o, r, *rest: (o, None, *rest), TypeError, "one number as reward"),
    "a flag of words": (
        lambda o, r, t, *rest: (o, r, "yes", *rest),
        TypeError,
        "terminated as a bool",
    ),
    "an old answer": (lambda o, r, t, _, info: (o, r, t, info), TypeError, "gym before 0.26"),
}
NUMBERS: dict[str, tuple[Callable[..., Any], str]] = {
    "nan reward": (lambda o, r, *rest: (o, np.nan, *rest), "rewards must be finite, got nan"),
    "inf reward": (lambda o, r, *rest: (o, -np.inf, *rest), "rewards must be finite, got -inf"),
    "1e30": (lambda o, r, *rest: (o, 1e30, *rest), r"rewards must be between .* scale"),
    "nan": (lambda o, *rest: (o + np.nan, *rest), "observations must be finite, got nan"),
}


def single(*given: Any) -> BasePipeline:
    return BatchPipeline(env=Misbehaving(*given), agent=CountingAgent(), window_size=5)


def sync(*given: Any) -> BasePipeline:
    functions = [Misbehaving, lambda: Misbehaving(*given)]
    return VectorBatchPipeline(functions, CountingAgent(), window_size=5)


def workers(*given: Any) -> BasePipeline:
    functions = [Misbehaving, lambda: Misbehaving(*given)]
    return VectorBatchPipeline(functions, CountingAgent(), window_size=5, async_envs=True)


FORMS = {
    single: "environment Misbehaving",
    sync: r"environment 1 \(Misbehaving\)",
    workers: r"environment 1 \(Misbehaving\)",
}


def failure(pipeline: BasePipeline, kind: type[Exception]) -> Exception:
    """Return what ends the windows of a pipeline, which can be saved after that."""
    pipeline.setup()
    try:
        with pytest.raises(kind) as raised:
            list(islice(pipeline.episodes(), 20))
        state = pipeline.state_dict()
        assert state is not None
        assert state["episodes"] is None
    finally:
        pipeline.teardown()
    return raised.value


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("form", FORMS)
def test_what_a_step_does_wrong_is_raised_with_environment_episode_and_step(form, case):
    change, kind, text = WRONG[case]
    error = failure(form(change), kind)
    assert error.args
    note = (
        rf"{FORMS[form]}: this was raised in step 2 of its episode 6, after {AT} steps in all since"
    )
    with pytest.raises(kind, match=rf"(?s){text}.*{note}"):
        raise error


@pytest.mark.parametrize("form", FORMS)
def test_so_is_what_a_reset_does_wrong(form):
    error = failure(form(None, 4), OfTheUser)
    note = rf"{FORMS[form]}: this was raised in the reset of its episode 4, after 9 steps in all"
    with pytest.raises(OfTheUser, match=rf"(?s)the door is shut.*{note}"):
        raise error


@pytest.mark.parametrize("case", NUMBERS)
@pytest.mark.parametrize("form", FORMS)
def test_a_number_from_which_nothing_can_be_learned_is_named_with_its_place(form, case):
    change, text = NUMBERS[case]
    # A step more for each reset, where an environment of several is reset in a step of its own.
    env_id, window = (0, 3) if form is single else (1, 4)
    message = str(failure(form(change), ValueError))
    assert f"from environment {env_id} at step " in message
    assert f"of window {window}" in message
    assert re.search(text, message)
