"""Ready-made agents whose observations have an image and a vector: each tells something, or all."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete

from tensor_optix.algorithms.agent_factory import make_agent
from tensor_optix.core.observation_layout import FlatSpace, seen_space
from tensor_optix.core.types import HyperparamSet
from tensor_optix.pipeline.batch_pipeline import BatchPipeline

if TYPE_CHECKING:
    from tests.frameworks import Framework

SPACE = Dict({"image": Box(0, 255, (4, 4, 2), np.uint8), "speed": Box(-1.0, 1.0, (3,), np.float32)})
TELLS = {
    "image": lambda lit, sign: lit,
    "vector": lambda lit, sign: sign,
    "both": lambda lit, sign: lit ^ sign,
}
"""The right one of two actions, of which plane of the image is lit and which sign the vector has."""
FORCE = Box(-2.0, 2.0, (1,), np.float32)
STATES = list(itertools.product((0, 1), repeat=2))


class Signs(gymnasium.Env[Any, Any]):
    """Episodes of one step: 1 for the right action, or minus its distance from the right end of a Box."""

    def __init__(self, teller: str, actions: Any) -> None:
        self.observation_space = SPACE
        self.action_space = actions
        self.teller = TELLS[teller]

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        lit, sign = map(int, self.np_random.integers(0, 2, 2))
        self.right = self.teller(lit, sign)
        return observed(lit, sign, self.np_random), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if isinstance(self.action_space, Discrete):
            reward = float(action == self.right)
        else:
            reward = -abs(float(action[0]) - (4.0 * self.right - 2.0))
        return observed(0, 0, self.np_random), reward, True, False, {}


def observed(lit: int, sign: int, rng: np.random.Generator) -> dict[str, Any]:
    """Return an observation: of the image, one plane is lit at a random place."""
    image = np.zeros((4, 4, 2), np.uint8)
    image[rng.integers(4), rng.integers(4), lit] = 9
    speed = np.array([2 * sign - 1, 0.5, -0.5], np.float32)
    return {"image": image, "speed": speed}


def train(agent: Any, env: Signs, steps: int) -> None:
    pipeline = BatchPipeline(env=env, agent=agent, window_size=256, seed=90210)
    pipeline.setup()
    for episode in itertools.islice(pipeline.episodes(), steps // 256):
        agent.learn(episode)


def require_learned(
    algorithm: str, teller: str, framework: Framework, steps: int, **params: Any
) -> None:
    env = Signs(teller, Discrete(2) if algorithm in ("ppo", "dqn") else FORCE)
    agent = make_agent(
        env, algorithm, framework.name, hyperparams=HyperparamSet({"learning_rate": 1e-3} | params),
        hidden_sizes=(64,), seed=0, device="cpu",
    )  # fmt: skip
    train(agent, env, steps)
    assert right_share(agent, teller) > 0.9


def right_share(agent: Any, teller: str) -> float:
    """Return how many of the greedy actions are right, or within a quarter of the right end."""
    rows = seen_space(SPACE)
    assert isinstance(rows, FlatSpace)
    rng = np.random.default_rng(1)
    states = STATES * 8
    found = agent.act_greedy(np.stack([rows.flattened(observed(*one, rng)) for one in states]))
    wanted = np.array([TELLS[teller](*one) for one in states])
    if found.ndim == 1:
        return float(np.mean(found == wanted))
    return float(np.mean(np.abs(found[:, 0] - (2 * wanted - 1)) < 0.5))


@pytest.mark.parametrize("teller", TELLS)
def test_ppo_finds_what_tells_the_right_action(teller: str, torch_framework: Framework) -> None:
    require_learned("ppo", teller, torch_framework, 2560, minibatch_size=64)


def test_ppo_finds_what_tells_the_right_action_on_tensorflow(
    tensorflow_framework: Framework,
) -> None:
    require_learned("ppo", "both", tensorflow_framework, 2560, minibatch_size=64)


def test_dqn_finds_what_tells_the_right_action(torch_framework: Framework) -> None:
    replay = {"learning_starts": 200, "epsilon_decay_steps": 1000}
    require_learned("dqn", "both", torch_framework, 2048, **replay)


def test_sac_finds_what_tells_the_right_action(torch_framework: Framework) -> None:
    params = {"learning_starts": 200, "batch_size": 32, "learning_rate": 3e-3}
    require_learned("sac", "both", torch_framework, 768, **params)
