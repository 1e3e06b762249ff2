"""Networks that only act, of weights that a framework stored: their outputs are the framework's own."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete

from tensor_optix.adapters.native import inference_layers
from tensor_optix.adapters.network_recipes import NetworkRecipes
from tensor_optix.algorithms.agent_factory import acting_network, make_agent
from tensor_optix.core.observation_layout import FlatSpace, seen_space
from tests.adapters.small_sights import PARTS, sight
from tests.algorithms.test_agent_factory import CHOICE, FORCE, VECTOR, Spaces
from tests.frameworks import require

if TYPE_CHECKING:
    from pathlib import Path

    from tensor_optix.core.base_agent import BaseAgent

FRAMEWORKS = ("torch", "tensorflow")
FRAMES = Box(0, 255, (4, 84, 84), np.uint8)
IMAGES = {
    "bytes, channels first": FRAMES,
    "bytes, channels last": Box(0, 255, (84, 84, 3), np.uint8),
    "floats, channels first": Box(0.0, 1.0, (2, 40, 41), np.float32),
    "floats, channels last": Box(-1.0, 1.0, (45, 36, 1), np.float64),
    "small and odd": Box(0, 7, (9, 6, 2), np.uint8),
    "a pixel high": Box(0, 255, (1, 1, 5), np.uint8),
    "one image of a Dict": Dict({"camera": Box(0, 255, (10, 11, 3), np.uint8)}),
    "image and vector": Dict({"camera": Box(0, 255, (37, 40, 3), np.uint8), "speed": VECTOR}),
    "two images and others": PARTS,
}
ROWS = {
    "a vector": VECTOR,
    "bytes": Box(0, 255, (6,), np.uint8),
    "a table": Box(-1.0, 1.0, (4, 5), np.float32),
    "a number": Discrete(5, start=2),
    "choices": MultiDiscrete([2, 3], start=[1, -1]),
    "flags": MultiBinary(4),
}
ACTIONS = {"ppo": CHOICE, "dqn": CHOICE, "sac": FORCE, "td3": FORCE}
HIDDEN = (12, 11)


def seen(space: Any, count: int) -> np.ndarray:
    """Return samples of a space as networks see them."""
    space.seed(3)
    samples = [space.sample() for _ in range(count)]
    shown = seen_space(space)
    rows = [shown.flattened(one) for one in samples] if isinstance(shown, FlatSpace) else samples
    return np.stack(rows)


def outputs_of(agent: BaseAgent, rows: np.ndarray) -> np.ndarray:
    """Return what the network that acts makes of rows, in the framework itself."""
    network = agent._networks["q_network" if "q_network" in agent._networks else "actor"]
    ops: Any = agent.ops
    return np.asarray(ops.inference(lambda x: ops.forward(network, x), [network])(rows))


def assert_same(
    framework: str, algorithm: str, space: Any, path: Path, count: int = 5, **options: Any
) -> None:
    require(framework)
    agent: Any = make_agent(
        Spaces(space, ACTIONS[algorithm]), algorithm, framework, hidden_sizes=HIDDEN, seed=1,
        device="cpu", **options,
    )  # fmt: skip
    agent.perturb_weights(0.5)
    rows = seen(space, count)
    agent._bytes.see(rows // 8)
    agent._settle_bytes()
    agent.save_weights(path)
    expected = outputs_of(agent, rows)
    file = path / ("q_network" if algorithm == "dqn" else "actor")
    found = acting_network(agent.recipe, space, ACTIONS[algorithm], file)(rows)
    assert found.dtype == np.float32
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("space", IMAGES.values(), ids=IMAGES.keys())
def test_a_policy_of_images_acts_as_it_did(framework: str, space: Any, tmp_path: Path) -> None:
    """PPO's actor and critic share all but their last layers; the actor's file holds them all."""
    assert_same(framework, "ppo", space, tmp_path)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("algorithm", ["dqn", "sac", "td3"])
def test_every_algorithm_s_does(framework: str, algorithm: str, tmp_path: Path) -> None:
    assert_same(framework, algorithm, IMAGES["small and odd"], tmp_path)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("channels", ["first", "last"])
def test_an_image_is_read_by_the_axis_that_was_said(
    framework: str, channels: str, tmp_path: Path
) -> None:
    assert_same(framework, "dqn", Box(0, 255, (5, 6, 7), np.uint8), tmp_path, channels=channels)


@pytest.mark.parametrize("framework", [*FRAMEWORKS, "native"])
@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
@pytest.mark.parametrize("space", ROWS.values(), ids=ROWS.keys())
def test_a_policy_of_rows_does(framework: str, algorithm: str, space: Any, tmp_path: Path) -> None:
    assert_same(framework, algorithm, space, tmp_path)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_batch_of_frames_does(framework: str, tmp_path: Path) -> None:
    assert_same(framework, "dqn", FRAMES, tmp_path, count=33)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("space", [PARTS, IMAGES["small and odd"], ROWS["bytes"]], ids=str)
def test_a_critic_of_actions_is_read_as_well(framework: str, space: Any, tmp_path: Path) -> None:
    """The catalogue makes all networks of an agent, those that do not act included."""
    require(framework)
    adapter = f"tensor_optix.adapters.{'pytorch' if framework == 'torch' else framework}"
    layers, backend = (import_module(f"{adapter}.{name}") for name in ("layers", "backend"))
    critic, read = (
        NetworkRecipes(of).action_critic(sight(space), 2, HIDDEN, seed=1)
        for of in (layers, inference_layers)
    )
    backend.save_network(critic, tmp_path / "critic")
    read.read(tmp_path / "critic")
    rows = seen(space, 5).astype(np.float32)
    actions = np.linspace(-1.0, 1.0, 10, dtype=np.float32).reshape(5, 2)
    given = (np.concatenate([rows, actions], axis=1),) if rows.ndim == 2 else (rows, actions)
    expected = backend.inference(lambda *x: backend.forward(critic, *x), [critic])(*given)
    np.testing.assert_allclose(read(*given), expected, rtol=1e-5, atol=1e-6)
