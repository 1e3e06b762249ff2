"""PyTorch as a backend: the contract, stacked critics, threads, and what PyTorch alone needs."""

from __future__ import annotations

import copy
import math
import warnings
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from gymnasium.spaces import Box
from torch import nn

from tensor_optix.adapters.pytorch import backend
from tensor_optix.algorithms.agent_factory import make_agent
from tests.algorithms.test_agent_factory import Spaces
from tests.contracts.backend_contract import BackendContract

OBS, ACTIONS, ROWS = 3, 2, 7


class TestPyTorchBackend(BackendContract):
    @pytest.fixture
    def framework(self, torch_framework):
        return torch_framework


def make_critic(seed: int, hidden: int = 8, bias: bool = True) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(OBS + ACTIONS, hidden, bias=bias),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.Tanh(),
        nn.Linear(hidden, 1),
    )


class Opaque(nn.Module):
    """A critic that is no Sequential."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.layers = make_critic(seed)

    def forward(self, x: Any) -> Any:
        return self.layers(x)


def make_shared() -> tuple[nn.Module, nn.Module]:
    """Two critics, of which the second has an architecture of its own."""
    return make_critic(0), make_critic(1, hidden=5)


PAIRS = {
    "stacked": lambda: (make_critic(0), make_critic(1)),
    "stacked without a bias": lambda: (make_critic(0, bias=False), make_critic(1, bias=False)),
    "no Sequential": lambda: (Opaque(0), Opaque(1)),
    "two architectures": make_shared,
}


def inputs(seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    shapes = ((ROWS, OBS), (ROWS, ACTIONS))
    return tuple(torch.tensor(rng.standard_normal(shape, np.float32)) for shape in shapes)


def separately(critics: tuple[nn.Module, nn.Module], batch: tuple[Any, Any]) -> Any:
    return torch.stack([critic(torch.cat(batch, dim=1)).squeeze(1) for critic in critics])


def make_descent(twins: nn.Module, optimizer: Any, loss_fn: Any = None) -> Any:
    def squared(batch: Any, scalars: Any) -> Any:
        return twins(batch["observations"], batch["actions"]).square().mean(), {}

    return backend.gradient_descent(loss_fn or squared, {"critics": twins}, optimizer)


def make_batch() -> dict[str, Any]:
    return dict(zip(("observations", "actions"), inputs(), strict=True))


@pytest.mark.parametrize("name", PAIRS)
def test_twin_critics_have_the_values_of_two_separate_networks(name):
    critics = PAIRS[name]()
    expected = separately(copy.deepcopy(critics), inputs())
    values = backend.twin_critics(*critics)(*inputs())
    assert values.shape == (2, ROWS)
    torch.testing.assert_close(values, expected)


@pytest.mark.parametrize("name", PAIRS)
def test_twin_critics_have_the_gradients_of_two_separate_networks(name):
    critics = PAIRS[name]()
    apart = copy.deepcopy(critics)
    separately(apart, inputs()).square().mean().backward()
    twins = backend.twin_critics(*critics)
    # A rate of 0 leaves the gradients as all that a step changes.
    make_descent(twins, torch.optim.SGD(twins.parameters(), lr=0.0)).step(make_batch(), {})
    for critic, expected in zip(critics, apart, strict=True):
        for parameter, other in zip(critic.parameters(), expected.parameters(), strict=True):
            torch.testing.assert_close(parameter.grad, other.grad)


@pytest.mark.parametrize("name", PAIRS)
def test_optimizer_steps_of_twin_critics_are_those_of_two_separate_networks(name):
    critics = PAIRS[name]()
    apart = copy.deepcopy(critics)
    optimizer = torch.optim.Adam([p for c in apart for p in c.parameters()], lr=0.05)
    twins = backend.twin_critics(*critics)
    descent = make_descent(twins, torch.optim.Adam(twins.parameters(), lr=0.05))
    for _ in range(3):
        optimizer.zero_grad()
        separately(apart, inputs()).square().mean().backward()
        optimizer.step()
        descent.step(make_batch(), {})
    torch.testing.assert_close(separately(critics, inputs()), separately(apart, inputs()))
    torch.testing.assert_close(twins(*inputs()), separately(apart, inputs()))


@pytest.mark.parametrize("name", PAIRS)
def test_what_is_loaded_into_the_users_critics_shows_in_the_twins(name):
    critics = PAIRS[name]()
    twins = backend.twin_critics(*critics)
    others = PAIRS[name]()
    for critic, other in zip(critics, others, strict=True):
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.mul_(1.5)
        critic.load_state_dict(other.state_dict())
    torch.testing.assert_close(twins(*inputs()), separately(others, inputs()))


def test_perceptrons_of_one_shape_are_stacked_and_others_are_not():
    """One gradient leaf for both weights of a layer shows that the pass is batched."""
    stacked = backend.twin_critics(*PAIRS["stacked"]())
    assert [leaf.tensor.shape[0] for leaf in stacked.leaves()] == [2] * 6
    for name in ("no Sequential", "two architectures"):
        assert len(backend.twin_critics(*PAIRS[name]()).leaves()) == 12


def test_critics_of_images_get_observation_and_action_as_two_arguments():
    class OverImages(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(16 + ACTIONS, 1)

        def forward(self, observations: Any, actions: Any) -> Any:
            return self.layer(torch.cat([observations.flatten(1), actions], dim=1))

    critics = OverImages(), OverImages()
    images, actions = torch.rand(ROWS, 1, 4, 4), torch.rand(ROWS, ACTIONS)
    expected = torch.stack([critic(images, actions).squeeze(1) for critic in critics])
    torch.testing.assert_close(backend.twin_critics(*critics)(images, actions), expected)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("copied", [copy.deepcopy, backend.clone])
def test_a_copy_of_twin_critics_has_weights_of_its_own(name, copied):
    twins = backend.twin_critics(*PAIRS[name]())
    before = twins(*inputs()).detach().clone()
    other = copied(twins)
    with torch.no_grad():
        for parameter in twins.parameters():
            parameter.add_(0.5)
    torch.testing.assert_close(other(*inputs()).detach(), before)
    assert not torch.allclose(twins(*inputs()), before)


def test_a_clone_is_not_trained():
    network = backend.clone(make_critic(0))
    assert not any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("rate", [0.25, torch.tensor(0.25)])
@pytest.mark.parametrize("name", ["stacked", "no Sequential"])
def test_blending_moves_the_targets_by_the_rate(name, rate):
    twins = backend.twin_critics(*PAIRS[name]())
    targets = backend.clone(twins)
    with torch.no_grad():
        for parameter in targets.parameters():
            parameter.zero_()
    backend.blend(targets, twins, rate)
    for target, source in zip(targets.parameters(), twins.parameters(), strict=True):
        torch.testing.assert_close(target, 0.25 * source, check_device=False)
    backend.blend(targets, twins, 1.0)
    torch.testing.assert_close(targets(*inputs()), twins(*inputs()))


@pytest.mark.parametrize("make", [nn.Parameter, lambda t: t.requires_grad_()])
def test_a_scalar_is_the_variable_that_its_optimizer_steps(make):
    optimizer = torch.optim.SGD([make(torch.zeros(1))], lr=0.5)
    number = backend.scalar(2.0, optimizer, nn.Linear(1, 1))
    assert number().shape == ()
    assert number().item() == 2.0

    def loss_fn(batch: Any, scalars: Any) -> Any:
        return 3.0 * number(), {}

    backend.gradient_descent(loss_fn, {"number": number}, optimizer).step({}, {})
    assert number().item() == pytest.approx(2.0 - 0.5 * 3.0)


@pytest.mark.parametrize(
    "held",
    [
        [torch.zeros(2, requires_grad=True)],
        [torch.zeros(1, requires_grad=True), torch.zeros(1, requires_grad=True)],
    ],
)
def test_an_optimizer_of_more_than_one_number_is_refused_as_a_scalars(held):
    with pytest.raises(ValueError, match="must hold one parameter of one element"):
        backend.scalar(0.0, torch.optim.SGD(held, lr=0.1), nn.Linear(1, 1))


def test_a_step_leaves_networks_outside_its_own_without_gradients():
    actor, critic = nn.Linear(OBS, ACTIONS), make_critic(0)
    twins = backend.twin_critics(critic, make_critic(1))

    def through_both(batch: Any, scalars: Any) -> Any:
        return -twins(batch["observations"], actor(batch["observations"])).mean(), {}

    optimizer = torch.optim.SGD(actor.parameters(), lr=0.1)
    before = actor.weight.detach().clone()
    backend.gradient_descent(through_both, {"actor": actor}, optimizer).step(make_batch(), {})
    assert not torch.equal(actor.weight, before)
    assert all(parameter.grad is None for parameter in twins.parameters())
    assert all(leaf.tensor.grad is None for leaf in twins.leaves())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("name", PAIRS)
def test_an_update_with_a_gradient_that_is_not_finite_is_left_out(name, bad):
    twins = backend.twin_critics(*PAIRS[name]())
    descent = make_descent(twins, torch.optim.Adam(twins.parameters(), lr=0.1))
    before = [parameter.detach().clone() for parameter in twins.parameters()]
    batch = make_batch()
    batch["observations"][0, 0] = bad
    assert float(descent.step(batch, {})["skipped"]) == 1.0
    for parameter, old in zip(twins.parameters(), before, strict=True):
        torch.testing.assert_close(parameter, old, rtol=0, atol=0)
    assert float(descent.step(make_batch(), {})["skipped"]) == 0.0
    assert not torch.equal(next(iter(twins.parameters())), before[0])


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def threads_within(networks: list[nn.Module]) -> int:
    with backend.threads_for(networks)():
        return torch.get_num_threads()


def test_the_ready_made_networks_of_sac_run_with_one_thread(two_threads):
    agent = make_agent(Spaces(Box(-1, 1, (17,)), Box(-1, 1, (6,))), "sac", device="cpu")
    assert threads_within([agent._actor, agent._critics]) == 1
    assert torch.get_num_threads() == 2


def test_large_networks_keep_the_threads_that_there_are(two_threads):
    assert threads_within([nn.Linear(1000, 1000)]) == 2


def actor_and_critic_with_a_trunk() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(OBS, 8), nn.Tanh())
    return nn.Sequential(trunk, nn.Linear(8, ACTIONS)), nn.Sequential(trunk, nn.Linear(8, 1))


def shared_loss(actor: nn.Module, critic: nn.Module, observations: Any) -> Any:
    return actor(observations).square().mean() + critic(observations).square().mean()


def listed_in_one_group(parameters: list[Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch warns of it
        return torch.optim.SGD(parameters, lr=0.1)


def listed_in_two_groups(parameters: list[Any]) -> Any:
    optimizer = torch.optim.SGD(parameters[:4], lr=0.1)
    optimizer.add_param_group({"params": parameters[6:]})
    # As who puts groups together by hand: PyTorch itself refuses it.
    optimizer.param_groups[1]["params"] = parameters[4:]
    return optimizer


@pytest.mark.parametrize("listed", [listed_in_one_group, listed_in_two_groups])
def test_what_two_networks_share_takes_one_step_also_where_it_is_listed_twice(listed, caplog):
    actor, critic = actor_and_critic_with_a_trunk()
    optimizer = listed([*actor.parameters(), *critic.parameters()])
    networks = {"actor": actor, "critic": critic}

    def loss_fn(batch: Any, scalars: Any) -> Any:
        return shared_loss(actor, critic, batch["observations"]), {}

    descent = backend.gradient_descent(loss_fn, networks, optimizer)
    assert "the optimizer of actor and critic listed 2 parameters twice" in caplog.text
    observations = torch.ones(ROWS, OBS)
    own = list({id(p): p for net in networks.values() for p in net.parameters()}.values())
    gradients = torch.autograd.grad(shared_loss(actor, critic, observations), own)
    before = [p.detach().clone() for p in own]
    norm = descent.step({"observations": observations}, {})["grad_norm"]
    for old, parameter, gradient in zip(before, own, gradients, strict=True):
        torch.testing.assert_close(parameter.detach(), old - 0.1 * gradient)
    assert float(norm) == pytest.approx(math.sqrt(sum(float(g.square().sum()) for g in gradients)))


def test_the_state_of_an_optimizer_that_listed_parameters_twice_can_still_be_read(tmp_path):
    actor, critic = actor_and_critic_with_a_trunk()
    parameters = [*actor.parameters(), *critic.parameters()]
    backend.save_optimizer(listed_in_one_group(parameters), tmp_path / "before")
    once = listed_in_one_group(list(dict.fromkeys(parameters)))
    assert backend.load_optimizer(once, tmp_path / "before")


@pytest.mark.parametrize("compile", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_weights_that_lie_channels_last_get_their_own_gradients(compile):
    """Fused Adam takes gradients as they lie: it gave weights those of other weights."""
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 4, 2), nn.Flatten(), nn.Linear(16, 1))
        network.to(memory_format=layout)
        ops = backend.prepare({"network": network}, "cpu", compile)
        # With an epsilon of 1, a step is nearly the gradient.
        adam = torch.optim.Adam(network.parameters(), lr=0.1, eps=1.0)
        descent = ops.gradient_descent(
            lambda b, s, net=network: (net(b["x"]).square().mean(), {}), {"n": network}, adam
        )
        loop = ops.update_loop(lambda b, s, own=descent: (own.step(b, s), {}), [network])
        x = np.random.default_rng(0).standard_normal((8, 3, 3, 3), np.float32)
        loop({"x": np.concatenate([x, 2.0 * x])}, 8, {"max_grad_norm": 0.5})
        found.append([p.detach().clone() for p in network.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)
