"""PPO whose actions are several choices: a MultiDiscrete, a MultiBinary."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from tensor_optix.core.types import HyperparamSet
from tests.algorithms.small_ppo import make_episode
from tests.contracts.agent_contract import AgentContract
from tests.frameworks import load

CHOICES = (2, 2, 3)
OBSERVATIONS = Box(-1, 1, (4,), np.float32)


def make_agent(seed: int = 0, framework: Any = None, choices: Any = CHOICES, **params: Any) -> Any:
    actor = framework.perceptron((4, 16, int(np.sum(choices))), 2 * seed)
    critic = framework.perceptron((4, 16, 1), 2 * seed + 1)
    optimizer = framework.adam(1e-3, actor, critic)
    agent = framework.PPO(
        actor, critic, optimizer, HyperparamSet(params), device="cpu", choices=choices
    )
    agent.seed(seed)
    return agent


def make_window(rows: int = 128) -> Any:
    episode = make_episode(rows)
    rng = np.random.default_rng(3)
    episode.actions = np.stack([rng.integers(0, count, rows) for count in CHOICES], axis=1)
    return episode


class TestPPOOfChoicesContract(AgentContract):
    """Without TensorFlow: what choices have of their own is below, the rest is that of `TestPPOContract`."""

    @pytest.fixture(params=["torch", "native"])
    def make_agent(self, request):
        return partial(make_agent, framework=load(request.param))

    @pytest.fixture
    def episode(self):
        return make_window()


def test_an_action_is_a_row_of_whole_numbers(framework):
    agent, window = make_agent(framework=framework), make_window()
    one, many = agent.act(window.observations[0]), agent.act_batch(window.observations)
    assert one.shape == (3,)
    assert one.dtype == many.dtype == np.int64
    assert (many < CHOICES).all()
    assert (many.max(axis=0) == np.array(CHOICES) - 1).all()


def test_the_ratio_is_one_before_the_first_update(framework):
    diagnostics = make_agent(framework=framework, n_epochs=1, minibatch_size=128).learn(
        make_window()
    )
    assert diagnostics["n_updates"] == 1
    assert abs(diagnostics["approx_kl"]) < 1e-6
    assert diagnostics["entropy"] == pytest.approx(2 * np.log(2) + np.log(3), abs=0.2)


def test_probabilities_are_those_of_each_choice_side_by_side(framework):
    agent, window = make_agent(framework=framework), make_window(3)
    probs = agent.action_probs(window.observations)
    draws = agent.act_batch(np.repeat(window.observations, 20_000, axis=0)).reshape(3, 20_000, 3)
    for first, k, n in ((0, 0, 2), (2, 1, 2), (4, 2, 3)):
        part = probs[:, first : first + n]
        np.testing.assert_allclose(part.sum(axis=1), 1.0)
        found = [(draws[:, :, k] == number).mean(axis=1) for number in range(n)]
        np.testing.assert_allclose(part, np.stack(found, axis=1), atol=0.02)


def test_spaces_that_fit_and_others(framework):
    agent = make_agent(framework=framework)
    agent.check_spaces(OBSERVATIONS, MultiDiscrete(CHOICES, start=[1, 2, 3]))
    with pytest.raises(ValueError, match=r"made with choices=\[2, 2, 3\], needs"):
        agent.check_spaces(OBSERVATIONS, Discrete(7))
    make_agent(framework=framework, choices=np.full((2, 2), 2)).check_spaces(
        OBSERVATIONS, MultiBinary((2, 2))
    )


@pytest.mark.usefixtures("xla")
def test_two_hundred_bits_are_learned(framework):
    """Compiled as one block."""
    agent, window = make_agent(framework=framework, choices=(2,) * 200), make_window()
    window.actions = np.random.default_rng(0).integers(0, 2, (128, 200))
    diagnostics = agent.learn(window)
    assert diagnostics["n_skipped_updates"] == 0
    assert np.isfinite(diagnostics["policy_loss"])
