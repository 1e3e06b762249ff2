"""The checks, tried on a table instead of a network: whole, they pass; with a fault, they name it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.probes.catalogue import ACTION_PROBES, VALUE_PROBES, make_probe
from tests.probes.checks import check_action_values, check_greedy, check_values, train
from tests.probes.tabular_agent import FAULTS, TabularAgent

ENDLESS = "terminated steps are bootstrapped"
UNBOUNDED = "what lies beyond a window's border"
# probe, fault of the agent, what the check says
VALUE_FAULTS = [
    ("constant reward", "learns nothing", "nothing is learned: the value loss or the optimizer"),
    ("constant reward", "bootstraps terminated steps", ENDLESS),
    ("constant reward over four steps", "does not bootstrap", "no bootstrap"),
    ("constant reward over four steps", "does not discount", "rewards are not discounted"),
    ("constant reward over four steps", "bootstraps terminated steps", ENDLESS),
    ("value of the observation", "ignores observations", "does not depend on the observation"),
    ("value of the observation", "bootstraps terminated steps", ENDLESS),
    ("discounting", "does not discount", "a later reward is not discounted"),
    ("discounting", "discounts twice", "a later reward is discounted twice"),
    ("discounting", "does not bootstrap", "no bootstrap"),
    ("discounting", "bootstraps terminated steps", ENDLESS),
    ("time limit", "takes truncated for terminated", "truncated steps are not bootstrapped"),
    ("final observation", "takes truncated for terminated", "steps are not bootstrapped"),
    ("final observation", "bootstraps from the next row", "next episode's first observation"),
    ("ends within a window", "takes a window's border for an end", UNBOUNDED),
    ("ends within a window", "mixes up environments", "several environments are mixed up"),
    ("ends within a window", "bootstraps terminated steps", ENDLESS),
    ("time limits side by side", "mixes up final observations", "which environment's final"),
    ("time limits side by side", "takes truncated for terminated", "steps are not bootstrapped"),
    ("silent environment", "mixes up environments", "several environments are mixed up"),
    ("silent environment", "takes a window's border for an end", UNBOUNDED),
]
ACTION_FAULTS = [
    ("action choice", "discrete", "prefers the worst action", "a sign is wrong"),
    ("action choice", "box", "prefers the worst action", "a sign is wrong"),
    ("action choice", "box", "does not stretch actions", "are not stretched to the bounds"),
    ("action for the observation", "box", "does not stretch actions", "are not stretched"),
    ("action for the observation", "discrete", "ignores observations", "does not depend on"),
    ("action for the observation", "discrete", "prefers the worst action", "a sign is wrong"),
]


@pytest.mark.parametrize("action", ["discrete", "box"])
@pytest.mark.parametrize("observation", ["vector", "image"])
@pytest.mark.parametrize("name", VALUE_PROBES)
def test_an_agent_without_a_fault_passes_every_value_probe(name, observation, action):
    probe = make_probe(name, observation, action)
    agent = TabularAgent(probe)
    train(agent, probe, 2000)
    check_values(agent.value, probe)
    check_action_values(lambda obs: np.repeat(agent.value(obs)[:, None], 2, 1), probe)


@pytest.mark.parametrize("action", ["discrete", "box"])
@pytest.mark.parametrize("name", ACTION_PROBES)
def test_an_agent_without_a_fault_passes_every_action_probe(name, action):
    probe = make_probe(name, "vector", action)
    agent = TabularAgent(probe)
    train(agent, probe, 200)
    check_greedy(agent.act_greedy, probe)


@pytest.mark.parametrize(("name", "fault", "words"), VALUE_FAULTS)
def test_a_fault_in_the_values_is_found_and_named(name, fault, words):
    probe = make_probe(name)
    agent = TabularAgent(probe, fault)
    train(agent, probe, 2000)
    with pytest.raises(AssertionError, match=f"{name}: V = .*expected .*{words}"):
        check_values(agent.value, probe)


@pytest.mark.parametrize(("name", "action", "fault", "words"), ACTION_FAULTS)
def test_a_fault_in_the_policy_is_found_and_named(name, action, fault, words):
    probe = make_probe(name, action=action)
    agent = TabularAgent(probe, fault)
    train(agent, probe, 200)
    with pytest.raises(AssertionError, match=f"{name}: action = .*expected .*{words}"):
        check_greedy(agent.act_greedy, probe)


def test_every_fault_is_found_by_some_probe():
    found = {fault for _, fault, _ in VALUE_FAULTS} | {fault for _, _, fault, _ in ACTION_FAULTS}
    assert found == FAULTS


def test_the_values_of_both_actions_are_checked():
    probe = make_probe("action choice")
    check_action_values(lambda obs: [[0.02, 0.95]], probe)
    with pytest.raises(AssertionError, match=r"Q = \[0.95, 0.02\], expected \[0.0, 1.0\]"):
        check_action_values(lambda obs: [[0.95, 0.02]], probe)


def test_unit_actions_are_judged_after_stretching():
    probe = make_probe("action choice", action="box")
    check_greedy(lambda obs: [[0.75]], probe, has_unit_actions=True)
    with pytest.raises(AssertionError, match="are not stretched to the bounds of the Box"):
        check_greedy(lambda obs: [[1.0]], probe, has_unit_actions=True)


def test_an_output_that_is_not_finite_fails_and_says_so():
    with pytest.raises(AssertionError, match="not finite"):
        check_values(lambda obs: [np.nan], make_probe("time limit"))


def test_a_wrong_answer_of_no_known_look_names_the_suspects():
    with pytest.raises(AssertionError, match="look at discount, bootstrap or n-step returns"):
        check_values(lambda obs: [7.0, -3.0], make_probe("discounting"))


def test_one_answer_for_all_observations_is_said_to_be_so():
    with pytest.raises(AssertionError, match="the output does not depend on the observation"):
        check_values(lambda obs: [0.75, 0.75], make_probe("discounting"))


def test_an_agent_of_another_discount_is_refused():
    agent = TabularAgent(make_probe("discounting"))
    with pytest.raises(ValueError, match=r"gamma must be 0.9 for time limit, got 0.5"):
        train(agent, make_probe("time limit"), 10)


def test_a_probe_with_a_state_per_environment_needs_all_of_them():
    probe = make_probe("silent environment")
    with pytest.raises(ValueError, match="silent environment needs 4 environments, got 2"):
        train(TabularAgent(probe), probe, 10, num_envs=2)


def test_what_a_probe_cannot_check_is_refused():
    with pytest.raises(ValueError, match="use check_greedy"):
        check_values(len, make_probe("action choice"))
    with pytest.raises(ValueError, match="use check_values"):
        check_greedy(len, make_probe("discounting"))
    with pytest.raises(ValueError, match="no list of actions"):
        check_action_values(len, make_probe("action choice", action="box"))
