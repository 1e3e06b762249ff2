"""SAC on the probes: each part of it that may be broken has one that fails."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tensor_optix.core.types import HyperparamSet
from tests.probes.catalogue import ACTION_PROBES, VALUE_PROBES, Probe, make_probe
from tests.probes.checks import check_greedy, check_values, train

if TYPE_CHECKING:
    from tensor_optix.core.types import Array
    from tests.frameworks import Framework

STEPS = 512
"""16 windows of 32 rows, or of 4 times 8. The errors are then a fifth of what the probes tolerate."""
CASES = [
    *(("torch", name, "vector") for name in VALUE_PROBES),
    *(("torch", name, "image") for name in ("value of the observation", "ends within a window")),
    ("tensorflow", "final observation", "vector"),
]
"""Pictures differ from vectors in how they reach the networks, and in nothing else."""
ACTIONS = [
    *(("torch", name, "vector") for name in ACTION_PROBES),
    ("torch", "action for the observation", "image"),
    ("tensorflow", "action for the observation", "vector"),
]
"""The framework, the probe, and its observations: all with PyTorch, and the most telling with TensorFlow."""


def make_actor(framework: Framework, probe: Probe, outputs: int = 2) -> Any:
    size = probe.observations[0].size
    if probe.observations.dtype == np.uint8:
        shape = probe.observations.shape[1:]
        return framework.perceptron((size, 32, outputs), 0, shape, scale=1 / 255)
    return framework.perceptron((size, 32, outputs))


def make_critic(framework: Framework, probe: Probe, seed: int) -> Any:
    """Q of an observation and an action; where the one is a picture, they come as two arguments."""
    if probe.observations.dtype == np.uint8:
        return framework.image_critic(probe.observations.shape[1:], 1, 32, seed, scale=1 / 255)
    return framework.perceptron((probe.observations[0].size + 1, 32, 1), seed)


def make_agent(framework: Framework, probe: Probe, **params: Any) -> tuple[Any, list[Any]]:
    """Return an agent without any entropy in its values, and its two critics."""
    actor = make_actor(framework, probe)
    critics = [make_critic(framework, probe, seed) for seed in (1, 2)]
    settings = {
        "gamma": probe.answer.gamma,
        "batch_size": 32,
        "replay_capacity": 1024,
        "tau": 0.2,
        "updates_per_step": 0.5,
        "log_alpha_init": -10.0,
    }
    agent = framework.SAC(
        actor,
        *critics,
        1,
        framework.adam(0.005, actor),
        framework.adam(0.02, *critics),
        framework.number_adam(0.0),
        HyperparamSet(settings | params),
        device="cpu",
    )
    agent.seed(0)
    return agent, critics


def predict(framework: Framework, critic: Any, agent: Any, observations: Array) -> Array:
    """The values of the actions that the agent prefers."""
    inputs, actions = observations.astype(np.float32), agent.act_greedy(observations)
    if inputs.ndim != 2:
        return framework.call(critic, inputs, actions)
    return framework.call(critic, np.hstack([inputs, actions]))


@pytest.mark.parametrize(("framework", "name", "observation"), CASES, indirect=["framework"])
def test_both_critics_learn_the_value_of_every_observation(framework, name, observation):
    probe = make_probe(name, observation, "box")
    agent, critics = make_agent(framework, probe)
    train(agent, probe, STEPS)
    for critic in critics:
        check_values(functools.partial(predict, framework, critic, agent), probe)


@pytest.mark.parametrize(("n_step", "per_alpha"), [(3, 0.0), (3, 0.6)])
@pytest.mark.parametrize("name", ["final observation", "ends within a window"])
def test_so_they_do_with_priorities_and_returns_of_several_steps(
    torch_framework, name, n_step, per_alpha
):
    framework = torch_framework
    probe = make_probe(name, action="box")
    agent, critics = make_agent(framework, probe, n_step=n_step, per_alpha=per_alpha)
    train(agent, probe, STEPS)
    for critic in critics:
        check_values(functools.partial(predict, framework, critic, agent), probe)


@pytest.mark.parametrize(("framework", "name", "observation"), ACTIONS, indirect=["framework"])
def test_the_actor_learns_the_best_action_for_every_observation(framework, name, observation):
    """With some entropy, so that the actor does not run to a bound before the critics know better."""
    probe = make_probe(name, observation, "box")
    agent, _ = make_agent(framework, probe, log_alpha_init=-1.0, updates_per_step=1.0)
    train(agent, probe, STEPS)
    check_greedy(agent.act_greedy, probe, agent.has_unit_actions)
