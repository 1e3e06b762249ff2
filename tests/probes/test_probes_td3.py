"""TD3 on the probes: each part of it that may be broken has one that fails."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest

from tensor_optix.core.types import HyperparamSet
from tests.probes.catalogue import ACTION_PROBES, VALUE_PROBES, Probe, make_probe
from tests.probes.checks import check_greedy, check_values, train
from tests.probes.test_probes_sac import make_actor, make_critic, predict

if TYPE_CHECKING:
    from tests.frameworks import Framework

STEPS = 512
CASES = [
    *(("torch", name, "vector") for name in VALUE_PROBES),
    ("torch", "value of the observation", "image"),
    ("tensorflow", "final observation", "vector"),
]
ACTIONS = [
    *(("torch", name, "vector") for name in ACTION_PROBES),
    ("torch", "action for the observation", "image"),
    ("tensorflow", "action for the observation", "vector"),
]
"""The framework, the probe, and its observations: all with PyTorch, and the most telling with TensorFlow."""


def make_agent(framework: Framework, probe: Probe, **params: Any) -> tuple[Any, list[Any]]:
    """Return an agent, and its two critics."""
    actor = make_actor(framework, probe, outputs=1)
    critics = [make_critic(framework, probe, seed) for seed in (1, 2)]
    settings = {
        "gamma": probe.answer.gamma,
        "batch_size": 32,
        "replay_capacity": 1024,
        "tau": 0.2,
        "policy_delay": 1,
        "exploration_noise": 0.5,
        "learning_starts": 256,
    }
    agent = framework.TD3(
        actor,
        *critics,
        1,
        framework.adam(0.001, actor),
        framework.adam(0.02, *critics),
        HyperparamSet(settings | params),
        device="cpu",
    )
    agent.seed(0)
    return agent, critics


@pytest.mark.parametrize(("framework", "name", "observation"), CASES, indirect=["framework"])
def test_both_critics_learn_the_value_of_every_observation(framework, name, observation):
    probe = make_probe(name, observation, "box")
    agent, critics = make_agent(framework, probe)
    train(agent, probe, STEPS)
    for critic in critics:
        check_values(functools.partial(predict, framework, critic, agent), probe)


@pytest.mark.parametrize(("n_step", "per_alpha"), [(3, 0.0), (3, 0.6)])
def test_so_they_do_with_priorities_and_returns_of_several_steps(
    torch_framework, n_step, per_alpha
):
    probe = make_probe("final observation", action="box")
    agent, critics = make_agent(torch_framework, probe, n_step=n_step, per_alpha=per_alpha)
    train(agent, probe, STEPS)
    for critic in critics:
        check_values(functools.partial(predict, torch_framework, critic, agent), probe)


@pytest.mark.parametrize(("framework", "name", "observation"), ACTIONS, indirect=["framework"])
def test_the_actor_learns_the_best_action_for_every_observation(framework, name, observation):
    """Slowly: nothing holds it back from a bound before the critics know better."""
    probe = make_probe(name, observation, "box")
    agent, _ = make_agent(framework, probe, policy_delay=2)
    train(agent, probe, 4 * STEPS)
    check_greedy(agent.act_greedy, probe, agent.has_unit_actions)
