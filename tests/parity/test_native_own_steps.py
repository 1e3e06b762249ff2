"""What users do to their own networks and optimizers between two windows: the native engine follows it."""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn
from torch.optim.lr_scheduler import ExponentialLR, StepLR

from tensor_optix.core.types import HyperparamSet
from tensor_optix.kernels import engine
from tests.parity.engine_pairs import ADAM, CASES, OPTIMIZERS, Pair, make_pair, numbers_of
from tests.parity.windows import ACTION_DIM

if TYPE_CHECKING:
    from collections.abc import Callable

if not engine.has_engine:
    pytest.skip("the compiled kernels are not there", allow_module_level=True)

OWN_STEPS = ["ppo", "gaussian ppo", "policy gradient", "dqn", "sac", "td3"]


def first_of(agent: Any) -> tuple[Any, Any]:
    """Return the first network of an agent, and its optimizer."""
    return next(iter(agent._networks.values())), next(iter(agent._optimizers.values()))


def learn_with(pair: Pair, case: str, change: Callable[[Any], None], windows: int = 4) -> None:
    """Learn from windows, and change both agents after each."""
    for seed in range(windows):
        pair.learn(CASES[case].window(seed=seed))
        for agent in pair:
            change(agent)
    pair.assert_same()


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "momentum"])
@pytest.mark.parametrize("case", OWN_STEPS)
def test_learning_and_own_steps_alternate(case, optimizer):
    def step(agent: Any) -> None:
        for network, optimizer in zip(
            agent._networks.values(), agent._optimizers.values(), strict=False
        ):
            inputs = torch.linspace(-1.0, 1.0, 3 * network[0].in_features).reshape(3, -1)
            for _ in range(3):
                optimizer.zero_grad()
                network(inputs).square().mean().backward()
                optimizer.step()

    learn_with(make_pair(CASES[case], OPTIMIZERS[optimizer]), case, step)


def reload_optimizer(agent: Any) -> None:
    _, optimizer = first_of(agent)
    state = copy.deepcopy(optimizer.state_dict())
    for entries in state["state"].values():
        entries["exp_avg"] *= 0.5
    optimizer.load_state_dict(state)


def reload_module(agent: Any) -> None:
    network, _ = first_of(agent)
    network.load_state_dict({name: 0.9 * value for name, value in network.state_dict().items()})


def assign_module(agent: Any) -> None:
    network, _ = first_of(agent)
    for parameter in network.parameters():
        parameter.data = 0.9 * parameter.data


def forget_moments(agent: Any) -> None:
    first_of(agent)[1].state.clear()


def set_numbers(agent: Any) -> None:
    (group,) = first_of(agent)[1].param_groups
    group["lr"], group["betas"], group["weight_decay"] = group["lr"] * 0.7, (0.8, 0.99), 0.01


CHANGES = [reload_optimizer, reload_module, assign_module, forget_moments, set_numbers]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("case", ["ppo", "dqn", "sac"])
def test_what_is_loaded_or_set_is_followed(case, change):
    learn_with(make_pair(CASES[case], ADAM), case, change)


def test_momentum_may_be_set_later_and_taken_away_again():
    def change(agent: Any) -> None:
        (group,) = first_of(agent)[1].param_groups
        group["momentum"] = 0.9 - group["momentum"]

    learn_with(make_pair(CASES["dqn"], OPTIMIZERS["sgd"]), "dqn", change)


@pytest.mark.parametrize("kind", [StepLR, ExponentialLR])
@pytest.mark.parametrize("case", OWN_STEPS)
def test_schedulers_are_followed_and_have_seen_steps(case, kind):
    schedulers: dict[int, Any] = {}

    def step(agent: Any) -> None:
        schedulers[id(agent)].step()

    pair = make_pair(CASES[case])
    for agent in pair:
        arguments = {"step_size": 2, "gamma": 0.5} if kind is StepLR else {"gamma": 0.5}
        schedulers[id(agent)] = kind(first_of(agent)[1], **arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learn_with(pair, case, step)
    rates = [agent.get_hyperparams().params["learning_rate"] for agent in pair]
    assert rates[0] == rates[1] < 0.01


def test_a_scheduler_sees_a_step_without_the_gradients_that_a_user_left():
    pair = make_pair(CASES["dqn"])
    for agent in pair:
        network, optimizer = first_of(agent)
        StepLR(optimizer, 1)
        network(torch.ones(1, 4)).sum().backward()
    left = first_of(pair.native)[0][0].weight.grad
    pair.learn(CASES["dqn"].window())
    pair.assert_same()
    assert first_of(pair.native)[0][0].weight.grad is left


def test_other_hyperparameters_are_followed():
    pair = make_pair(CASES["ppo"])

    def change(agent: Any) -> None:
        params = {"clip_ratio": 0.01, "entropy_coef": 0.1, "vf_coef": 1.0, "learning_rate": 0.03}
        agent.set_hyperparams(HyperparamSet(params | {"max_grad_norm": 0.1, "minibatch_size": 13}))

    learn_with(pair, "ppo", change)


@pytest.mark.parametrize("case", CASES)
def test_copies_and_saved_states_go_on_alike(case, tmp_path):
    pair = make_pair(CASES[case])
    pair.learn(CASES[case].window())
    copies = Pair(*(copy.deepcopy(agent) for agent in pair))
    before = numbers_of(pair.native)
    copies.learn(CASES[case].window(seed=1))
    copies.assert_same()
    for name, value in numbers_of(pair.native).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    pair.native.save_state(tmp_path)
    pair.learn(CASES[case].window(seed=2))
    for agent in pair:
        agent.load_state(tmp_path)
    pair.learn(CASES[case].window(seed=1))
    pair.assert_same()


@pytest.mark.parametrize("case", ["sac", "td3"])
def test_critics_stay_the_user_s_own_networks(case):
    pair = make_pair(CASES[case])
    pair.learn(CASES[case].window())
    observations, actions = np.ones((3, 4), np.float32), np.zeros((3, ACTION_DIM), np.float32)
    inputs = torch.from_numpy(np.concatenate([observations, actions], 1))
    values = pair.native._values(observations, actions)
    for critic, found in zip((pair.native._critic1, pair.native._critic2), values, strict=True):
        assert isinstance(critic, nn.Module)
        np.testing.assert_allclose(critic(inputs).detach()[:, 0].numpy(), found, rtol=1e-6)
