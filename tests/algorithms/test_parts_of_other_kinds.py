"""Networks and optimizers of the other framework, or classes of them, in place of what an agent takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tensor_optix.adapters.native.perceptron import Perceptron
from tests import frameworks

if TYPE_CHECKING:
    from tests.frameworks import Framework

OTHER = {"torch": "tensorflow", "tensorflow": "torch", "native": "torch"}
WANTED = {
    "torch": r"a torch\.nn\.Module",
    "tensorflow": "a Keras 3 model",
    "native": "a Perceptron",
}
MINIMISER = {
    "torch": r"a torch\.optim\.Optimizer",
    "tensorflow": "one of Keras 3",
    "native": "a NativeAdam or a NativeSGD",
}


def ppo(framework: Framework, actor: Any = None, optimizer: Any = None) -> Any:
    own, critic = framework.perceptron((4, 2)), framework.perceptron((4, 1), 1)
    optimizer = optimizer or framework.adam(1e-3, own, critic)
    return framework.PPO(actor or own, critic, optimizer)


def test_a_network_of_the_other_framework(framework):
    other = frameworks.load(OTHER[framework.name])
    agents = rf"{other.classes}\.\.\. agents take it$"
    said = rf"^the actor must be {WANTED[framework.name]}, .* got [\w.]+; {agents}"
    with pytest.raises(TypeError, match=said):
        ppo(framework, actor=other.perceptron((4, 2)))
    model = other.perceptron((4, 2))
    with pytest.raises(
        TypeError, match=rf"^the model must be {WANTED[framework.name]}, .*; {agents}"
    ):
        framework.Generic(model, framework.adam(1e-3, framework.perceptron((4, 2))))


def test_a_perceptron_without_a_framework(torch_framework):
    with pytest.raises(TypeError, match=r"perceptron\.Perceptron; Native\.\.\. agents take it$"):
        ppo(torch_framework, actor=Perceptron(4, 2))


def test_an_optimizer_of_the_other_framework(framework):
    other = frameworks.load(OTHER[framework.name])
    said = (
        rf"^the optimizer of actor and critic must be {MINIMISER[framework.name]}.* got [\w.]+; "
        rf"{other.classes}\.\.\. agents take it$"
    )
    with pytest.raises(TypeError, match=said):
        ppo(framework, optimizer=other.adam(1e-3, other.perceptron((4, 2))))


def test_a_class_in_place_of_a_network_or_an_optimizer(framework):
    network = framework.perceptron((4, 2))
    name = type(network).__name__
    with pytest.raises(
        TypeError, match=rf"^the actor must .* got the class {name}; give an instance$"
    ):
        ppo(framework, actor=type(network))
    kind = type(framework.adam(1e-3, network))
    said = rf"^the optimizer of actor and critic must .* got the class {kind.__name__}; give an instance$"
    with pytest.raises(TypeError, match=said):
        ppo(framework, optimizer=kind)


@pytest.mark.parametrize("given", ["adam", 3e-4])
def test_what_is_no_optimizer_at_all(framework, given):
    said = rf"must be {MINIMISER[framework.name]}.* got {type(given).__name__}$"
    with pytest.raises(TypeError, match=said):
        ppo(framework, optimizer=given)
