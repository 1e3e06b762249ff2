"""Where PyTorch computes: how many threads a network gets."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from gymnasium.spaces import Box
from torch import nn

from tensor_optix.adapters.pytorch.placement import threads_for
from tensor_optix.algorithms.agent_factory import make_agent
from tests.algorithms.test_agent_factory import Spaces


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def threads_within(networks: list[nn.Module]) -> int:
    with threads_for(networks)():
        return torch.get_num_threads()


def test_the_ready_made_networks_of_sac_run_with_one_thread(two_threads):
    agent = make_agent(Spaces(Box(-1, 1, (17,)), Box(-1, 1, (6,))), "sac", device="cpu")
    assert threads_within([agent._actor, agent._critics]) == 1
    assert torch.get_num_threads() == 2


def test_large_networks_keep_the_threads_that_there_are(two_threads):
    assert threads_within([nn.Linear(1000, 1000)]) == 2
