"""What the native engine takes of PyTorch, and why it leaves the rest to PyTorch: at first, and later."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn
from torch.nn.utils import parametrizations, prune

from tensor_optix.algorithms.torch_agent import TorchAgent
from tensor_optix.algorithms.torch_dqn import TorchDQNAgent
from tensor_optix.algorithms.torch_ppo import TorchPPOAgent
from tensor_optix.algorithms.torch_ppo_continuous import TorchGaussianPPOAgent
from tensor_optix.algorithms.torch_sac import TorchSACAgent
from tensor_optix.core.types import HyperparamSet
from tensor_optix.kernels import engine
from tests.algorithms.small_dqn import make_episode

if TYPE_CHECKING:
    from collections.abc import Callable

if not engine.has_engine:
    pytest.skip("the compiled kernels are not there", allow_module_level=True)

PARAMS = {"batch_size": 16, "replay_capacity": 1000}


def perceptron(*inside: nn.Module, outputs: int = 2) -> nn.Sequential:
    layers = inside or (nn.Tanh(),)
    return nn.Sequential(nn.Linear(4, 8), *layers, nn.Linear(8, outputs))


def adam(*networks: nn.Module, **arguments: Any) -> torch.optim.Optimizer:
    parameters = dict.fromkeys(p for net in networks for p in net.parameters() if p.requires_grad)
    return torch.optim.Adam(list(parameters), lr=1e-3, **arguments)


def dqn(
    network: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    engine: Any = "auto",
    **more: Any,
) -> TorchDQNAgent:
    optimizer = adam(network) if optimizer is None else optimizer
    params = HyperparamSet(PARAMS)
    agent = TorchDQNAgent(network, 2, optimizer, params, "cpu", engine=engine, **more)
    agent.seed(0)
    return agent


def with_forward_hook(network: nn.Sequential) -> nn.Module:
    network[1].register_forward_hook(lambda module, inputs, outputs: 2.0 * outputs)
    return network


def with_backward_hook(network: nn.Sequential) -> nn.Module:
    network[0].register_full_backward_hook(lambda module, inputs, outputs: None)
    return network


def with_weight_norm(network: nn.Sequential) -> nn.Module:
    parametrizations.weight_norm(network[0])
    return network


def frozen(network: nn.Sequential) -> nn.Module:
    network[0].requires_grad_(False)
    return network


def with_gradient_hook(network: nn.Sequential) -> nn.Module:
    network[0].weight.register_hook(lambda gradient: 2.0 * gradient)
    return network


def with_own_forward(network: nn.Sequential) -> nn.Module:
    network[0].forward = lambda x: torch.zeros(len(x), 8)
    return network


def compiled_in_place(network: nn.Sequential) -> nn.Module:
    network.compile(backend="eager")
    return network


class Own(nn.Sequential):
    """A Sequential that does something else."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2.0 * super().forward(x)


class OwnAdam(torch.optim.Adam):
    """An Adam that does something else."""


NETWORKS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "convolution": (
        lambda: nn.Sequential(
            nn.Unflatten(1, (1, 4)), nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(4, 2)
        ),
        "the q_network has a Unflatten layer",
    ),
    "dropout": (lambda: perceptron(nn.Dropout(0.5)), "has a Dropout layer"),
    "layer norm": (lambda: perceptron(nn.LayerNorm(8)), "has a LayerNorm layer"),
    "two activations": (lambda: perceptron(nn.Tanh(), nn.ReLU()), "has a ReLU layer"),
    "gelu": (lambda: perceptron(nn.GELU()), "has a GELU layer"),
    "steep elu": (lambda: perceptron(nn.ELU(2.0)), "has an ELU of another alpha"),
    "own module": (lambda: Own(nn.Linear(4, 2)), "has a Own layer"),
    "half precision": (lambda: perceptron().bfloat16(), "is torch.bfloat16 on cpu"),
    "double precision": (lambda: perceptron().double(), "is torch.float64 on cpu"),
    "compiled": (
        lambda: torch.compile(perceptron(), backend="eager"),
        "has a OptimizedModule layer",
    ),
    "compiled in place": (lambda: compiled_in_place(perceptron()), "is compiled"),
    "own forward": (lambda: with_own_forward(perceptron()), "has a forward of its own"),
    "weight norm": (lambda: with_weight_norm(perceptron()), "has a ParametrizedLinear layer"),
    "forward hook": (lambda: with_forward_hook(perceptron()), "the q_network has hooks"),
    "backward hook": (lambda: with_backward_hook(perceptron()), "the q_network has hooks"),
    "gradient hook": (lambda: with_gradient_hook(perceptron()), "holds parameters with hooks"),
    "frozen": (lambda: frozen(perceptron()), "holds"),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_other_networks_are_pytorch_s(name):
    make, reason = NETWORKS[name]
    agent = dqn(make())
    assert agent.engine_choice.name == "framework"
    assert reason in agent.engine_choice.reason
    assert str(agent.engine_choice) == f"PyTorch, as {agent.engine_choice.reason}"
    if "hook" not in name:
        assert agent.learn(make_episode())["n_updates"] > 0


def two_groups(network: nn.Sequential) -> Any:
    groups = [{"params": network[0].parameters()}, {"params": network[2].parameters(), "lr": 0.1}]
    return torch.optim.Adam(groups, lr=1e-3)


def hooked(network: nn.Sequential) -> Any:
    optimizer = adam(network)
    optimizer.register_step_post_hook(lambda *arguments: None)
    return optimizer


def wrapped(network: nn.Sequential) -> Any:
    optimizer = adam(network)
    plain = optimizer.step
    optimizer.step = lambda *arguments: plain(*arguments)
    return optimizer


OPTIMIZERS: dict[str, tuple[Callable[[nn.Sequential], Any], str]] = {
    "RMSprop": (lambda net: torch.optim.RMSprop(net.parameters()), "the optimizer is a RMSprop"),
    "NAdam": (lambda net: torch.optim.NAdam(net.parameters()), "the optimizer is a NAdam"),
    "subclass": (lambda net: OwnAdam(net.parameters()), "the optimizer is a OwnAdam"),
    "amsgrad": (lambda net: adam(net, amsgrad=True), "has amsgrad=True"),
    "maximize": (lambda net: adam(net, maximize=True), "has maximize=True"),
    "differentiable": (lambda net: adam(net, differentiable=True), "has differentiable=True"),
    "dampening": (
        lambda net: torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, dampening=0.5),
        "has dampening=0.5",
    ),
    "two groups": (two_groups, "has 2 groups of parameters"),
    "hooks": (hooked, "the optimizer has hooks"),
    "own step": (wrapped, "the optimizer has a step of its own"),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_other_optimizers_are_pytorch_s(name):
    make, reason = OPTIMIZERS[name]
    network = perceptron()
    agent = dqn(network, make(network))
    assert agent.engine_choice.name == "framework"
    assert reason in agent.engine_choice.reason


def shared_layer() -> Any:
    layer, head = nn.Linear(4, 4), nn.Linear(4, 2)
    return dqn(nn.Sequential(layer, nn.Tanh(), layer, nn.Tanh(), head))


def pruned() -> Any:
    actor, critic = perceptron(), perceptron(outputs=1)
    prune.l1_unstructured(actor[0], "weight", 2)
    return TorchPPOAgent(actor, critic, adam(actor, critic), device="cpu")


def shared_trunk() -> Any:
    trunk = nn.Sequential(nn.Linear(4, 8), nn.Tanh())
    actor, critic = nn.Sequential(trunk, nn.Linear(8, 2)), nn.Sequential(trunk, nn.Linear(8, 1))
    return TorchPPOAgent(actor, critic, adam(actor, critic), device="cpu")


def shared_with_critics() -> Any:
    trunk = nn.Linear(4, 4)
    actor = nn.Sequential(trunk, nn.Linear(4, 6))
    critics = [nn.Sequential(nn.Linear(7, 4), nn.Linear(4, 1)) for _ in range(2)]
    critics[1][0] = critics[0][0]
    optimizers = adam(actor), adam(*critics), torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    return TorchSACAgent(actor, *critics, 3, *optimizers, device="cpu")


class OwnLoss(TorchDQNAgent):
    """Another loss."""

    def _loss(self, *arguments: Any) -> Any:
        loss, diagnostics = super()._loss(*arguments)
        return 2.0 * loss, diagnostics


class OwnBinding(TorchDQNAgent):
    """Other functions of tensors."""

    def _bind(self) -> None:
        super()._bind()


class OwnDistribution(TorchGaussianPPOAgent):
    """Another density."""

    distribution = TorchGaussianPPOAgent.distribution._replace(
        entropy=lambda ops, outputs: ops.mean(outputs)
    )


def subclass(kind: type[TorchDQNAgent]) -> Any:
    network = perceptron()
    return kind(network, 2, adam(network), device="cpu")


def own_distribution() -> Any:
    actor, critic = perceptron(), perceptron(outputs=1)
    return OwnDistribution(actor, critic, adam(actor, critic), 1, device="cpu")


def own_loss_function() -> Any:
    model = perceptron()
    loss = lambda model, episode, targets: targets.mean()  # noqa: E731
    return TorchAgent(model, adam(model), compute_loss_fn=loss, device="cpu")


AGENTS: dict[str, tuple[Callable[[], Any], str]] = {
    "a layer twice": (shared_layer, "the q_network has the same weights in several layers"),
    "pruned": (pruned, "the actor has hooks"),
    "a shared trunk": (shared_trunk, "the actor and the critic share weights"),
    "critics that share": (shared_with_critics, "the critic1 and the critic2 share weights"),
    "own loss": (lambda: subclass(OwnLoss), "the loss is a subclass's own"),
    "own binding": (lambda: subclass(OwnBinding), "the loss is a subclass's own"),
    "own distribution": (own_distribution, "the distribution is a subclass's own"),
    "compute_loss_fn": (own_loss_function, "the loss is compute_loss_fn"),
    "asked for": (
        lambda: dqn(perceptron(), engine="framework"),
        "engine='framework' was asked for",
    ),
    "compile": (lambda: dqn(perceptron(), compile=True), "compile=True was asked for"),
}


@pytest.mark.parametrize("name", AGENTS)
def test_other_agents_are_pytorch_s(name):
    make, reason = AGENTS[name]
    agent = make()
    assert agent.engine_choice.name == "framework"
    assert reason in agent.engine_choice.reason


def test_what_only_reads_is_no_reason():
    network = nn.Sequential(nn.Flatten(), perceptron(), nn.Identity())
    agent = dqn(network)
    assert agent.engine_choice.name == "native"
    assert str(agent.engine_choice) == f"the native engine ({engine.instructions()})"


def test_the_choice_is_told_once_when_an_agent_is_made(caplog):
    with caplog.at_level(logging.INFO):
        native, other = dqn(perceptron()), dqn(perceptron(nn.GELU()))
        native.learn(make_episode())
        other.learn(make_episode())
    told = [
        record.getMessage() for record in caplog.records if "updates are" in record.getMessage()
    ]
    assert told == [f"updates are made by {agent.engine_choice}" for agent in (native, other)]


def test_what_is_impossible_is_refused_where_it_was_asked_for():
    with pytest.raises(
        ValueError, match="engine='native' is not possible, as the q_network has a GELU"
    ):
        dqn(perceptron(nn.GELU()), engine="native")
    with pytest.raises(
        ValueError, match="engine must be one of 'auto', 'native', 'framework', got 'fast'"
    ):
        dqn(perceptron(), engine="fast")


def hook_on_steps(agent: Any) -> None:
    agent._optimizers["optimizer"].register_step_pre_hook(lambda *arguments: None)


def within_more(agent: Any) -> None:
    weight = agent._q_network[0].weight
    weight.data = torch.cat([weight.data, weight.data], dim=1)[:, :4]


def replace_parameters(agent: Any) -> None:
    layer = agent._q_network[0]
    layer.weight = nn.Parameter(0.5 * layer.weight.detach())


LATER: dict[str, tuple[Callable[[Any], None], str]] = {
    "forward hook": (lambda agent: with_forward_hook(agent._q_network), "the q_network has hooks"),
    "gradient hook": (
        lambda agent: with_gradient_hook(agent._q_network),
        "holds parameters with hooks",
    ),
    "hook on steps": (hook_on_steps, "the optimizer has hooks"),
    "another activation": (
        lambda agent: agent._q_network.__setitem__(1, nn.ReLU()),
        "was given other layers or parameters",
    ),
    "one layer more": (
        lambda agent: agent._q_network.append(nn.Tanh()),
        "was given other layers or parameters",
    ),
    "other parameters": (replace_parameters, "was given other layers or parameters"),
    "spread in memory": (within_more, "weights that do not lie side by side"),
    "decay of another kind": (
        lambda agent: (
            agent._optimizers["optimizer"]
            .param_groups[0]
            .update(decoupled_weight_decay=True, weight_decay=0.1)
        ),
        "was given another kind of decay",
    ),
    "maximize": (
        lambda agent: agent._optimizers["optimizer"].param_groups[0].update(maximize=True),
        "has maximize=True",
    ),
}


@pytest.mark.parametrize("name", LATER)
def test_what_is_changed_later_is_pytorch_s_from_then_on(name):
    change, reason = LATER[name]
    agents = []
    for chosen in ("auto", "framework"):
        torch.manual_seed(0)
        agents.append(dqn(perceptron(), engine=chosen))
    for episode in (make_episode(), make_episode(seed=6)):
        for agent in agents:
            agent.learn(episode)
            if agent.engine_choice.name == "native" or len(agent._replay) < 100:
                change(agent)
    ours, theirs = (agent._q_network.state_dict() for agent in agents)
    assert reason in agents[0].engine_choice.reason
    for key, value in theirs.items():
        np.testing.assert_allclose(ours[key], value, rtol=1e-5, atol=1e-6)
    observations = make_episode().observations
    values = [agent._values(observations) for agent in agents]
    np.testing.assert_allclose(*values, rtol=1e-5, atol=1e-6)


def test_what_is_changed_later_is_refused_where_native_was_asked_for():
    agent = dqn(perceptron(), engine="native")
    hook_on_steps(agent)
    with pytest.raises(
        ValueError, match="engine='native' is not possible, as the optimizer has hooks"
    ):
        agent.learn(make_episode())


@pytest.mark.parametrize("rows", [np.zeros((3, 5)), np.zeros((3, 2, 2)), np.zeros(3)])
def test_rows_of_another_shape_are_refused(rows):
    agent = dqn(perceptron(), engine="native")
    with pytest.raises(ValueError, match="the network takes 4 numbers a row"):
        agent._values(rows)


def test_a_network_that_flattens_takes_any_shape():
    agent = dqn(nn.Sequential(nn.Flatten(), perceptron()), engine="native")
    assert agent._values(np.zeros((3, 2, 2))).shape == (3, 2)
