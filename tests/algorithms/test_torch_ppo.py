"""PPO on PyTorch: what it accepts, what it refuses, and what it does with the optimizer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

torch = pytest.importorskip("torch")

from torch import nn

from tensor_optix.algorithms.torch_ppo import TorchPPOAgent
from tensor_optix.core.types import HyperparamSet
from tests.algorithms.small_ppo import make_agent, make_episode


def test_actions_of_a_single_observation_are_python_ints():
    assert type(make_agent().act(np.zeros(4, np.float32))) is int


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((1,), np.float32), ((4,), np.float64), ((4, 84, 84), np.uint8), ((2, 3), np.float32)],
)
def test_any_observation_shape_and_dtype_acts_and_learns(shape, dtype):
    agent = make_agent(obs_shape=shape, n_epochs=1)
    episode = make_episode(8, shape, dtype)
    agent.act(episode.observations[0])
    assert agent.learn(episode)["n_updates"] == 1


def test_the_learning_rate_is_the_optimizers_and_read_back_from_it():
    agent = make_agent()
    assert agent.get_hyperparams().params["learning_rate"] == 1e-3
    agent.set_hyperparams(HyperparamSet({"learning_rate": 2e-4}))
    assert agent._optimizers["optimizer"].param_groups[0]["lr"] == 2e-4
    assert agent.get_hyperparams().params["clip_ratio"] == 0.2


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"gae_lambda": 1.5}, r"gae_lambda must be in \[0, 1\], got 1.5"),
        ({"learning_rate": 0.0}, "learning_rate must be positive, got 0.0"),
        ({"minibatch_size": 0}, "minibatch_size must be a whole number of at least 1, got 0"),
        ({"clip_ration": 0.2}, "unknown hyperparameter 'clip_ration'; did you mean 'clip_ratio'?"),
    ],
)
def test_wrong_hyperparameters_are_refused_at_construction(params, message):
    with pytest.raises(ValueError, match=message):
        make_agent(**params)


@pytest.mark.filterwarnings("ignore:optimizer contains a parameter group with duplicate")
@pytest.mark.parametrize("compile", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_trunk_that_both_networks_share_takes_each_step_once(compile):
    """Also where the optimizer was given the parameters of both, and so the trunk's twice."""
    trunks = []
    for is_listed_twice in (False, True):
        torch.manual_seed(0)
        trunk = nn.Sequential(nn.Linear(4, 8), nn.Tanh())
        actor, critic = nn.Sequential(trunk, nn.Linear(8, 3)), nn.Sequential(trunk, nn.Linear(8, 1))
        parameters = [*actor.parameters(), *critic.parameters()]
        if not is_listed_twice:
            parameters = list(dict.fromkeys(parameters))
        optimizer = torch.optim.SGD(parameters, lr=0.1)
        params = HyperparamSet({"n_epochs": 1})
        agent = TorchPPOAgent(actor, critic, optimizer, params, device="cpu", compile=compile)
        agent.seed(0)
        agent.learn(make_episode())
        trunks.append(trunk[0].weight.detach().numpy())
    np.testing.assert_array_equal(*trunks)


def test_an_optimizer_that_misses_the_critic_is_refused_by_name():
    actor, critic = nn.Linear(4, 2), nn.Linear(4, 1)
    optimizer = torch.optim.Adam(actor.parameters())
    with pytest.raises(ValueError, match=r"misses critic.weight, critic.bias; build it from"):
        TorchPPOAgent(actor, critic, optimizer)


def test_counts_that_a_tuner_made_floats_are_whole_numbers_again():
    agent = make_agent(n_epochs=2.0, minibatch_size=64.0)
    assert agent.learn(make_episode())["n_updates"] == 4
    assert type(agent.get_hyperparams().params["n_epochs"]) is int


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (Discrete(5), r"one logit per action, \[B, 5\] for Discrete\(5\), got \[2, 3\] for B = 2"),
        (MultiDiscrete([2, 4]), r"a Discrete action space, got .*; .*made with choices=\[2, 4\]"),
        (MultiBinary(2), r"a Discrete action space, got .*; .*made with choices=\[2, 2\]"),
        (Box(-1.0, 1.0, (3,)), "needs a Discrete action space"),
    ],
)
def test_an_action_space_that_does_not_fit_is_refused_before_the_first_step(space, message):
    with pytest.raises(ValueError, match=message):
        make_agent().check_spaces(Box(-1.0, 1.0, (4,)), space)


def test_networks_that_do_not_fit_are_refused_by_name_before_the_first_step():
    with pytest.raises(ValueError, match=r"the actor cannot take observations of shape \(7,\)"):
        make_agent().check_spaces(Box(-1.0, 1.0, (7,)), Discrete(3))
    networks = nn.Linear(4, 3), nn.Linear(4, 2)
    optimizer = torch.optim.Adam([p for net in networks for p in net.parameters()])
    agent = TorchPPOAgent(*networks, optimizer)
    with pytest.raises(ValueError, match=r"one value per observation, .* got 4 values for 2"):
        agent.check_spaces(Box(-1.0, 1.0, (4,)), Discrete(3))


def test_a_critic_that_squeezes_its_output_works_for_one_observation_too():
    class Squeezing(nn.Linear):
        def forward(self, x: Any) -> Any:
            return super().forward(x).squeeze()

    networks = nn.Linear(4, 3), Squeezing(4, 1)
    optimizer = torch.optim.Adam([p for net in networks for p in net.parameters()])
    episode = make_episode(8)
    assert TorchPPOAgent(*networks, optimizer).learn(episode)["n_updates"] == 10


def test_parameter_groups_keep_the_ratio_of_their_learning_rates():
    actor, critic = nn.Linear(4, 3), nn.Linear(4, 1)
    groups = [
        {"params": actor.parameters(), "lr": 1e-4},
        {"params": critic.parameters(), "lr": 1e-2},
    ]
    optimizer = torch.optim.Adam(groups)
    agent = TorchPPOAgent(actor, critic, optimizer, HyperparamSet({"clip_ratio": 0.1}))
    assert [group["lr"] for group in optimizer.param_groups] == [1e-4, 1e-2]
    agent.set_hyperparams(agent.get_hyperparams())
    assert [group["lr"] for group in optimizer.param_groups] == [1e-4, 1e-2]
    agent.set_hyperparams(HyperparamSet({"learning_rate": 2e-4}))
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([2e-4, 2e-2])


def test_a_learning_rate_that_has_come_down_to_zero_can_be_raised_again():
    agent = make_agent()
    agent._optimizers["optimizer"].param_groups[0]["lr"] = 0.0
    agent.ops.set_learning_rate(agent._optimizers["optimizer"], 1e-3)
    assert agent.ops.learning_rate(agent._optimizers["optimizer"]) == 1e-3


def test_a_learning_rate_schedule_of_the_users_is_not_undone_by_other_hyperparameters():
    agent = make_agent()
    agent._optimizers["optimizer"].param_groups[0]["lr"] = 1e-5
    agent.set_hyperparams(HyperparamSet({"clip_ratio": 0.1}))
    assert agent.get_hyperparams().params["learning_rate"] == 1e-5


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64, np.float16, np.bool_])
def test_vectors_of_any_dtype_reach_the_networks_as_floats(dtype):
    agent = make_agent()
    episode = make_episode(8)
    episode.observations = (episode.observations > 0).astype(dtype)
    assert agent.learn(episode)["n_updates"] == 10


def test_indices_of_a_discrete_observation_space_can_be_embedded():
    def network(outputs: int) -> nn.Module:
        return nn.Sequential(nn.Embedding(5, 8), nn.Linear(8, outputs))

    actor, critic = network(3), network(1)
    optimizer = torch.optim.Adam([*actor.parameters(), *critic.parameters()])
    agent = TorchPPOAgent(actor, critic, optimizer)
    agent.check_spaces(Discrete(5), Discrete(3))
    assert agent.act(2) in (0, 1, 2)


def test_a_hyperparameter_that_is_no_number_and_a_plain_dict_are_refused():
    with pytest.raises(ValueError, match=r"gamma must be a number, got '0\.9'"):
        make_agent(gamma="0.9")
    networks = nn.Linear(4, 3), nn.Linear(4, 1)
    optimizer = torch.optim.Adam([p for net in networks for p in net.parameters()])
    with pytest.raises(TypeError, match="hyperparams must be a HyperparamSet, got dict"):
        TorchPPOAgent(*networks, optimizer, {"gamma": 0.9})
