"""Which backends are measured, and which of them would be chosen."""

from __future__ import annotations

import gymnasium
import pytest

from tensor_optix.core.environment_recipe import EnvironmentRecipe
from tensor_optix.pipeline.examination.findings import Deadline
from tensor_optix.pipeline.examination.speeds import speeds

ENVS = "tests.pipeline.examination.planted_envs"
SECONDS = 60.0


@pytest.fixture(autouse=True)
def registered():
    names = ("WalkEnv", "Crashes")
    for name in names:
        gymnasium.register(f"{name}-v0", f"{ENVS}:{name}")
    yield
    for name in names:
        del gymnasium.registry[f"{name}-v0"]


def measured(env_id, backend="auto", seconds=SECONDS, num_envs=2):
    return speeds(EnvironmentRecipe(env_id), num_envs, backend, Deadline(seconds))


def test_the_backends_that_auto_compares_are_measured_and_the_fastest_is_chosen():
    found = measured("WalkEnv-v0")
    assert [one.backend for one in found] == ["sync", "async"]
    assert all(one.steps_per_second > 0 for one in found)
    (chosen,) = (one for one in found if one.is_chosen)
    assert chosen.steps_per_second == max(one.steps_per_second for one in found)


def test_a_backend_that_is_asked_for_is_measured_alone():
    (one,) = measured("WalkEnv-v0", "sync")
    assert (one.backend, one.is_chosen) == ("sync", True)


def test_envpool_is_chosen_wherever_it_is_the_same_problem():
    pytest.importorskip("envpool")
    found = measured("CartPole-v1")
    assert found[0].backend == "envpool"
    assert {"sync", "async"} < {one.backend for one in found}
    assert found[0].is_chosen


def test_envpools_environment_is_measured_but_not_chosen_where_it_is_another_problem():
    pytest.importorskip("envpool")
    found = measured("Blackjack-v1")
    assert found[0].backend == "envpool"
    assert found[0].steps_per_second > 0
    assert [one.is_chosen for one in found].index(True) > 0


def test_what_cannot_be_measured_says_why():
    (one,) = measured("Crashes-v0", "sync")
    assert one.steps_per_second is None
    assert one.reason == "RuntimeError: the simulator is gone"
    late = speeds(EnvironmentRecipe("WalkEnv-v0"), 8, "sync", Deadline(SECONDS), SECONDS)
    assert late[0].reason == "no time was left: --seconds"
