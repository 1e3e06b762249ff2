"""DQN on PyTorch: what it accepts and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiDiscrete

torch = pytest.importorskip("torch")

from torch import nn

from tensor_optix.algorithms.torch_dqn import TorchDQNAgent
from tensor_optix.core.types import HyperparamSet
from tests.algorithms.small_dqn import make_agent, make_episode

OBSERVATION_SPACE = Box(-1, 1, (4,))


def make_network(outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, outputs))


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (Discrete(3), r"made with n_actions=2, needs the action space Discrete\(2\), got Discr"),
        (Discrete(3, start=1), r"needs the action space Discrete\(2\), got Discrete\(3, start=1\)"),
        (MultiDiscrete([2]), r"needs the action space Discrete\(2\), got MultiDiscrete"),
    ],
)
def test_an_action_space_that_does_not_fit_is_refused_before_the_first_step(space, message):
    with pytest.raises(ValueError, match=message):
        make_agent().check_spaces(OBSERVATION_SPACE, space)


def test_a_network_that_does_not_fit_is_refused_by_name_before_the_first_step():
    make_agent().check_spaces(OBSERVATION_SPACE, Discrete(2))
    with pytest.raises(ValueError, match=r"the q_network cannot take .* shape \(7,\)"):
        make_agent().check_spaces(Box(-1, 1, (7,)), Discrete(2))
    network = make_network(3)
    agent = TorchDQNAgent(network, 2, torch.optim.Adam(network.parameters()))
    with pytest.raises(ValueError, match=r"the q_network must return .*\[B, 2\], got \[2, 3\]"):
        agent.check_spaces(OBSERVATION_SPACE, Discrete(2))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"epsilon": 1.5}, r"epsilon must be in \[0, 1\], got 1.5"),
        ({"target_update_freq": 0}, "target_update_freq must be a whole number of at least 1"),
        ({"epsilon_dekay": 0.9}, "unknown hyperparameter 'epsilon_dekay'; did you mean"),
        ({"updates_per_step": 0.0}, "updates_per_step must be positive, got 0.0"),
    ],
)
def test_wrong_hyperparameters_are_refused_at_construction(params, message):
    with pytest.raises(ValueError, match=message):
        make_agent(**params)


def test_wrong_arguments_are_refused_by_name():
    network = make_network(2)
    with pytest.raises(ValueError, match="n_actions must be a whole number of at least 1, got 0"):
        TorchDQNAgent(network, 0, torch.optim.Adam(network.parameters()))
    other = torch.optim.Adam(make_network(2).parameters())
    with pytest.raises(ValueError, match=r"optimizer must hold every parameter of q_network"):
        TorchDQNAgent(network, 2, other)
    with pytest.raises(TypeError, match="hyperparams must be a HyperparamSet, got dict"):
        TorchDQNAgent(network, 2, torch.optim.Adam(network.parameters()), {"gamma": 0.9})


def test_indices_of_a_discrete_observation_space_can_be_embedded():
    network = nn.Sequential(nn.Embedding(5, 8), nn.Linear(8, 2))
    agent = TorchDQNAgent(
        network, 2, torch.optim.Adam(network.parameters()), HyperparamSet({"batch_size": 4}), "cpu"
    )
    agent.check_spaces(Discrete(5), Discrete(2))
    episode = make_episode(16)
    episode.observations = np.arange(16) % 5
    episode.final_obs, episode.end_observations = np.int64(1), np.ones(len(episode.end_rows), int)
    assert agent.act(np.int64(2)) in (0, 1)
    assert agent.learn(episode)["n_updates"] > 0
