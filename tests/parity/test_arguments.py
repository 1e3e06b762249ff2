"""The arguments of each algorithm are the same on every framework, in the documented order."""

from __future__ import annotations

import inspect

import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("torch")

import tensor_optix

DOCUMENTED = {
    "PPOAgent": "actor critic optimizer hyperparams reward_normalizer device",
    "GaussianPPOAgent": "actor critic optimizer action_dim hyperparams reward_normalizer device",
    "DQNAgent": "q_network n_actions optimizer hyperparams device",
    "SACAgent": "actor critic1 critic2 action_dim actor_optimizer critic_optimizer alpha_optimizer "
    "hyperparams device",
    "TD3Agent": "actor critic1 critic2 action_dim actor_optimizer critic_optimizer hyperparams device",
    "Agent": "model optimizer hyperparams compute_loss_fn device",
}
"""By the names of the agents without those of their frameworks, what calls by position rely on."""
PREFIXES = ("Torch", "TF", "Native")


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_arguments_are_the_same_and_begin_as_documented(name):
    found = [
        inspect.signature(getattr(tensor_optix, prefix + name)).parameters for prefix in PREFIXES
    ]
    assert all(list(one.items()) == list(found[0].items()) for one in found)
    documented = DOCUMENTED[name].split()
    assert list(found[0])[: len(documented)] == documented


def test_every_agent_is_held_to_it():
    agents = {name for name in tensor_optix.__all__ if name.endswith("Agent")}
    bases = {"BaseAgent", "EnsembleAgent"}
    assert agents - bases == {prefix + name for name in DOCUMENTED for prefix in PREFIXES}
