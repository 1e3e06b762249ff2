"""SAC on PyTorch: what it accepts, what it refuses, and what it does with the optimizers."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

torch = pytest.importorskip("torch")

from torch import nn

from tensor_optix.algorithms.torch_sac import TorchSACAgent
from tensor_optix.core.types import HyperparamSet
from tests.algorithms import small_sac
from tests.algorithms.small_sac import ACTION_DIM, make_agent, make_episode
from tests.frameworks import load, weights

OBSERVATION_SPACE = Box(-1, 1, (4,))


def make_network(outputs: int, obs_shape: tuple[int, ...] = (4,)) -> nn.Module:
    return nn.Sequential(nn.Linear(*obs_shape, 16), nn.Tanh(), nn.Linear(16, outputs))


def make_critic(obs_shape: tuple[int, ...], seed: int = 0) -> nn.Module:
    critic: nn.Module = small_sac.make_critic(load("torch"), obs_shape, seed)
    return critic


def test_with_a_learning_rate_of_zero_alpha_stays_where_it_is():
    agent = make_agent(log_alpha_init=-3.0, alpha_lr=0.0)
    agent.set_hyperparams(HyperparamSet({"learning_rate": 2e-3}))
    agent.learn(make_episode())
    assert agent._alpha() == pytest.approx(np.exp(-3.0), rel=1e-6)


def test_the_learning_rate_is_the_actors_and_the_others_keep_their_ratio_to_it():
    agent = make_agent(alpha_lr=4e-3)
    agent.set_hyperparams(HyperparamSet({"learning_rate": 5e-4}))
    rates = [optimizer.param_groups[0]["lr"] for optimizer in agent._optimizers.values()]
    assert rates == pytest.approx([5e-4, 5e-4, 2e-3])


def test_critics_that_differ_in_shape_learn_one_after_the_other():
    torch.manual_seed(0)
    wide = nn.Sequential(nn.Linear(4 + ACTION_DIM, 8), nn.ReLU(), nn.Linear(8, 1))
    agent = make_custom(make_network(2 * ACTION_DIM), make_critic((4,)), wide)
    before = weights(agent._critics)
    diagnostics = agent.learn(make_episode(40))
    assert diagnostics["n_updates"] > 0
    assert all((a != b).any() for a, b in zip(before, weights(agent._critics), strict=True))


def test_critics_that_share_a_layer_both_learn_with_it():
    torch.manual_seed(0)
    shared = nn.Linear(4 + ACTION_DIM, 8)
    first, second = (nn.Sequential(shared, nn.Tanh(), nn.Linear(8, 1)) for _ in range(2))
    actor = make_network(2 * ACTION_DIM)
    critics = torch.optim.Adam([*first.parameters(), *second[2].parameters()])
    alpha = torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    params = HyperparamSet({"batch_size": 8})
    adam = torch.optim.Adam(actor.parameters())
    agent = TorchSACAgent(actor, first, second, ACTION_DIM, adam, critics, alpha, params, "cpu")
    before = shared.weight.detach().clone()
    agent.learn(make_episode(40))
    assert (shared.weight != before).any()
    inputs = torch.ones(3, 4 + ACTION_DIM)
    expected = torch.stack([first(inputs), second(inputs)]).squeeze(-1)
    torch.testing.assert_close(agent._critics(inputs[:, :4], inputs[:, 4:]), expected)


def make_custom(actor: nn.Module, first: nn.Module, second: nn.Module) -> TorchSACAgent:
    critics = [*first.parameters(), *second.parameters()]
    return TorchSACAgent(
        actor,
        first,
        second,
        ACTION_DIM,
        torch.optim.Adam(actor.parameters()),
        torch.optim.Adam(critics),
        torch.optim.Adam([torch.zeros(1, requires_grad=True)]),
        HyperparamSet({"batch_size": 8}),
        "cpu",
    )


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (Discrete(2), r"action_dim=2, needs a Box action space of 2 components, got Discrete"),
        (Box(-1, 1, (3,)), r"action_dim=2, needs a Box action space of 2 components, got Box"),
    ],
)
def test_an_action_space_that_does_not_fit_is_refused_before_the_first_step(space, message):
    with pytest.raises(ValueError, match=message):
        make_agent().check_spaces(OBSERVATION_SPACE, space)


def test_networks_that_do_not_fit_are_refused_by_name_before_the_first_step():
    actions = Box(-1, 1, (ACTION_DIM,))
    make_agent().check_spaces(OBSERVATION_SPACE, actions)
    make_agent(obs_shape=(2, 3)).check_spaces(Box(-1, 1, (2, 3)), actions)
    with pytest.raises(ValueError, match=r"the actor cannot take observations of shape \(7,\)"):
        make_agent().check_spaces(Box(-1, 1, (7,)), actions)
    actor = make_network(2 * ACTION_DIM)
    narrow = make_custom(actor, make_network(1), make_network(1))
    with pytest.raises(ValueError, match=r"the critics cannot take \[B, 6\] of observations"):
        narrow.check_spaces(OBSERVATION_SPACE, actions)
    wide = make_custom(actor, make_network(2, (6,)), make_network(2, (6,)))
    with pytest.raises(ValueError, match=r"each critic must return one value per row"):
        wide.check_spaces(OBSERVATION_SPACE, actions)
    blind = make_custom(make_network(ACTION_DIM), make_critic((4,)), make_critic((4,)))
    with pytest.raises(ValueError, match=r"mean and log_std side by side, \[B, 4\]"):
        blind.check_spaces(OBSERVATION_SPACE, actions)


def test_wrong_arguments_are_refused_by_name():
    with pytest.raises(ValueError, match=r"tau must be in \[0, 1\], got 2"):
        make_agent(tau=2)
    with pytest.raises(ValueError, match="log_alpha_init must be finite, got nan"):
        make_agent(log_alpha_init=float("nan"))
    networks = make_network(4), make_critic((4,)), make_critic((4,))
    adam = torch.optim.Adam
    actor = adam(networks[0].parameters())
    critics = adam([p for net in networks[1:] for p in net.parameters()])
    alpha = adam([torch.zeros(1, requires_grad=True)])
    with pytest.raises(TypeError, match="hyperparams must be a HyperparamSet, got dict"):
        TorchSACAgent(*networks, 2, actor, critics, alpha, {"gamma": 0.9})
    with pytest.raises(ValueError, match="optimizer must hold every parameter of critics"):
        TorchSACAgent(*networks, 2, actor, adam(networks[1].parameters()), alpha)
    several = adam([torch.zeros(2, requires_grad=True)])
    with pytest.raises(ValueError, match=r"must hold one parameter of one element.*\[\[2\]\]"):
        TorchSACAgent(*networks, 2, actor, critics, several)
    with pytest.raises(ValueError, match="critic1 and critic2 must be two networks"):
        TorchSACAgent(networks[0], networks[1], networks[1], 2, actor, critics, alpha)
    with pytest.raises(ValueError, match="action_dim must be a whole number of at least 1, got 0"):
        TorchSACAgent(*networks, 0, actor, critics, alpha)


@pytest.mark.parametrize(
    ("missing", "name"), [(0, "actor"), (1, "critics"), (2, "a single number")]
)
def test_a_missing_optimizer_is_refused_by_the_name_of_what_it_is_for(missing, name):
    actor, first, second = make_network(4), make_critic((4,)), make_critic((4,))
    adam = torch.optim.Adam
    optimizers = [
        adam(actor.parameters()),
        adam([*first.parameters(), *second.parameters()]),
        adam([torch.zeros(1, requires_grad=True)]),
    ]
    optimizers[missing] = None
    message = f"the optimizer of {name} must be a torch.optim.Optimizer, got NoneType"
    with pytest.raises(TypeError, match=message):
        TorchSACAgent(actor, first, second, 2, *optimizers)
