"""Weights that one framework stored and another reads: agents of the same networks then do the same."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete
from safetensors.numpy import load_file, save_file

from tensor_optix.adapters.stored_networks import by_own_names
from tensor_optix.algorithms.agent_factory import make_agent
from tensor_optix.core.observation_layout import FlatSpace, seen_space
from tensor_optix.core.types import HyperparamSet
from tests.adapters.small_sights import PARTS
from tests.algorithms.test_agent_factory import CHOICE, FORCE, VECTOR, Spaces
from tests.frameworks import NAMES, require

if TYPE_CHECKING:
    from pathlib import Path

WAYS = list(itertools.permutations(NAMES, 2))
BYTES = Box(0, 255, (6,), np.uint8)
NUMBERS = MultiDiscrete([2, 3], start=[1, -1])
CASES = [
    ("ppo", VECTOR, CHOICE),
    ("ppo", BYTES, FORCE),
    ("ppo", Discrete(5, start=2), CHOICE),
    ("ppo", Box(-1.0, 1.0, (4, 5), np.float32), CHOICE),
    ("dqn", NUMBERS, CHOICE),
    ("sac", VECTOR, FORCE),
    ("sac", BYTES, FORCE),
    ("td3", Dict({"codes": BYTES, "speed": VECTOR}), FORCE),
    ("td3", Discrete(5, start=2), FORCE),
]


IMAGES = [
    ("ppo", Box(0, 255, (2, 9, 8), np.uint8), CHOICE),
    ("ppo", Box(0.0, 1.0, (40, 37, 3), np.float32), FORCE),
    ("ppo", PARTS, CHOICE),
    ("dqn", Box(0, 255, (5, 4, 1), np.uint8), CHOICE),
    ("dqn", Box(0, 255, (1, 1, 5), np.uint8), CHOICE),
    ("sac", Box(0, 255, (8, 9, 2), np.uint8), FORCE),
    ("sac", Dict({"camera": Box(0, 255, (6, 7, 2), np.uint8)}), FORCE),
    ("td3", Dict({"camera": Box(0.0, 1.0, (2, 6, 7)), "speed": VECTOR}), FORCE),
    ("td3", PARTS, FORCE),
]
"""The native engine trains none of these."""
IMAGE_WAYS = [("torch", "tensorflow"), ("tensorflow", "torch")]


def agent_of(framework: str, algorithm: str, env: Spaces, seed: int) -> Any:
    require(framework)
    own = {} if algorithm == "ppo" else {"batch_size": 4, "learning_starts": 8}
    return make_agent(
        env, algorithm, framework, hyperparams=HyperparamSet(own), hidden_sizes=(8, 7), seed=seed,
        device="cpu",
    )  # fmt: skip


def seen(env: Spaces) -> np.ndarray:
    """Return observations as networks see them."""
    env.observation_space.seed(3)
    samples = [env.observation_space.sample() for _ in range(6)]
    space = seen_space(env.observation_space)
    if isinstance(space, FlatSpace):
        samples = [space.flattened(one) for one in samples]
    return np.stack(samples)


def change(agent: Any, env: Spaces) -> None:
    """Let the weights, and what divides bytes, be others than at the start."""
    agent.perturb_weights(0.5)
    agent._bytes.see(seen(env) // 8 if env.observation_space is BYTES else seen(env))
    agent._settle_bytes()


def assert_alike(first: Any, second: Any, env: Spaces) -> None:
    """The networks of both make the same of the same observations."""
    rows = seen(env)
    actions = np.full((len(rows), 2), 0.25, np.float32)
    for name, others in (("_policy", ()), ("_values", () if first.is_on_policy else (actions,))):
        if hasattr(first, name):
            given = others if first.has_unit_actions else ()
            ours, theirs = (getattr(one, name)(rows, *given) for one in (first, second))
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("writer", "reader"), WAYS, ids=["-".join(way) for way in WAYS])
@pytest.mark.parametrize(("algorithm", "observations", "actions"), CASES, ids=str)
def test_weights_move_between_the_frameworks(
    writer: str, reader: str, algorithm: str, observations: Any, actions: Any, tmp_path: Path
) -> None:
    assert_moved(writer, reader, algorithm, Spaces(observations, actions), tmp_path)


@pytest.mark.parametrize(("writer", "reader"), IMAGE_WAYS, ids=str)
@pytest.mark.parametrize(("algorithm", "observations", "actions"), IMAGES, ids=str)
def test_weights_of_convolutions_move_between_the_frameworks(
    writer: str, reader: str, algorithm: str, observations: Any, actions: Any, tmp_path: Path
) -> None:
    assert_moved(writer, reader, algorithm, Spaces(observations, actions), tmp_path)


def assert_moved(writer: str, reader: str, algorithm: str, env: Spaces, tmp_path: Path) -> None:
    """What one stores the other reads, and stores so that the first reads the same again."""
    source, target = (agent_of(name, algorithm, env, n) for n, name in enumerate((writer, reader)))
    change(source, env)
    source.save_weights(tmp_path / "weights")
    target.load_weights(tmp_path / "weights")
    assert_alike(source, target, env)
    target.save_weights(tmp_path / "again")
    averaged = agent_of(writer, algorithm, env, 7)
    averaged.average_weights([tmp_path / "weights", tmp_path / "again"])
    assert_alike(source, averaged, env)


def test_weights_that_are_there_are_not_turned_by_the_order_of_names() -> None:
    """More than ten layers: 10 comes behind 9, not behind 1."""
    own = {f"{n}.{word}": (2, 2) for n in range(0, 24, 2) for word in ("weight", "bias")}
    stored = {
        f"{place}.{word}": np.full((2, 2), place)
        for place, word in enumerate(("kernel", "bias") * 12)
    }
    found = by_own_names(stored, own)
    assert [int(found[name][0, 0]) for name in own] == list(range(24))


@pytest.mark.parametrize(
    "own",
    [
        {"trunk.weight": (2, 3), "trunk.bias": (2,)},
        {"0.weight": (2, 3)},
        {"0.weight": (2, 3), "0.bias": (2,), "1.bias": (2,)},
    ],
    ids=["other words", "fewer", "more"],
)
def test_where_it_cannot_be_told_which_is_which_nothing_is_renamed(own: Any) -> None:
    stored = {"0.kernel": np.zeros((3, 2)), "1.bias": np.zeros(2)}
    assert by_own_names(stored, own) is stored


def test_convolutions_of_other_networks_are_not_moved() -> None:
    stored = {"0.kernel": np.zeros((3, 3, 1, 8)), "1.bias": np.zeros(8)}
    assert by_own_names(stored, {"0.weight": (8, 1, 3, 3), "0.bias": (8,)}) is stored


@pytest.mark.parametrize(("writer", "reader"), WAYS, ids=["-".join(way) for way in WAYS])
def test_a_learner_goes_on_with_another_framework_but_for_its_optimizers(
    writer: str, reader: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    env = Spaces(VECTOR, FORCE)
    source, target = (agent_of(name, "sac", env, n) for n, name in enumerate((writer, reader)))
    change(source, env)
    source.save_state(tmp_path)
    target.load_state(tmp_path)
    (said,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert (
        "fresh moments for actor_optimizer, critic_optimizer, alpha_optimizer, as another" in said
    )
    assert_alike(source, target, env)
    assert all(target.ops.learning_rate(one) == 3e-4 for one in target._optimizers.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_learner_that_reads_its_own_state_or_weights_alone_is_not_said_to_have_fresh_moments(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    env = Spaces(VECTOR, CHOICE)
    agent = agent_of(name, "ppo", env, 0)
    agent.save_state(tmp_path / "state")
    agent.load_state(tmp_path / "state")
    agent.save_weights(tmp_path / "weights")
    agent.load_state(tmp_path / "weights")
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize(("writer", "reader"), IMAGE_WAYS, ids=str)
def test_targets_of_images_move_and_come_back_bit_for_bit(
    writer: str, reader: str, tmp_path: Path
) -> None:
    env = Spaces(PARTS, FORCE)
    source, target, again = (
        agent_of(name, "td3", env, n) for n, name in enumerate((writer, reader, writer))
    )
    change(source, env)
    source.save_state(tmp_path / "first")
    change(source, env)
    source.save_weights(tmp_path / "first")
    target.load_state(tmp_path / "first")
    target.save_state(tmp_path / "second")
    again.load_state(tmp_path / "second")
    again.save_state(tmp_path / "third")
    for name in [*source._networks, *source._targets]:
        first, third = (
            (tmp_path / of / f"{name}.safetensors").read_bytes() for of in ("first", "third")
        )
        assert first == third


@pytest.mark.parametrize(("writer", "reader"), IMAGE_WAYS, ids=str)
def test_layers_that_were_shared_must_be_the_same_in_the_files_of_another_framework(
    writer: str, reader: str, tmp_path: Path
) -> None:
    env = Spaces(Box(0, 255, (9, 8, 2), np.uint8), CHOICE)
    source, target = (agent_of(name, "ppo", env, n) for n, name in enumerate((writer, reader)))
    source.save_weights(tmp_path)
    file = tmp_path / "critic.safetensors"
    arrays = load_file(file)
    (first, *_) = (name for name, array in arrays.items() if array.ndim == 4)
    save_file({**arrays, first: arrays[first] + 1.0}, file)
    with pytest.raises(ValueError, match="actor and critic have different values of"):
        target.load_weights(tmp_path)
