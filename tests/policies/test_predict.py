"""What policies and agents predict: the agent's own best actions, in the forms of the environment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

import tensor_optix
from tensor_optix.core.observation_layout import MaskedSpace
from tests.frameworks import require
from tests.policies.stored import (
    Spaces,
    batched,
    pipelines_actions,
    ready_made,
    rows_of,
    samples,
    store,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.frameworks import Framework

VECTOR = Box(-1.0, 1.0, (3,), np.float32)
PARTS = Dict(
    {"speed": VECTOR, "number": Discrete(3, start=2), "codes": Box(0, 255, (2,), np.uint8)}
)
MASKED = Dict({"speed": VECTOR, "action_mask": MultiBinary(4)})
FORCE = Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 5.0], np.float32))
CASES: dict[str, tuple[str, Any, Any]] = {
    "ppo": ("ppo", VECTOR, Discrete(4, start=3)),
    "ppo-choices": ("ppo", VECTOR, MultiDiscrete([[2, 3], [4, 2]], start=[[0, 1], [2, 0]])),
    "ppo-binary": ("ppo", VECTOR, MultiBinary((2, 2))),
    "ppo-gaussian": ("ppo", VECTOR, FORCE),
    "ppo-whole-numbers": ("ppo", VECTOR, Box(-9, 9, (2,), np.int32)),
    "dqn": ("dqn", VECTOR, Discrete(3)),
    "sac": ("sac", VECTOR, FORCE),
    "sac-unbounded": ("sac", VECTOR, Box(-np.inf, np.inf, (2,), np.float32)),
    "td3": ("td3", VECTOR, Box(-3.0, 3.0, (2, 1), np.float64)),
    "parts": ("ppo", PARTS, Discrete(4)),
    "parts-sac": ("sac", Tuple((VECTOR, Discrete(2))), FORCE),
    "masks": ("dqn", MASKED, Discrete(4)),
    "masks-ppo": ("ppo", MASKED, Discrete(4)),
    "number": ("ppo", Discrete(5, start=-1), Discrete(2)),
    "matrix": ("dqn", Box(-1.0, 1.0, (2, 3), np.float64), Discrete(2)),
    "bytes": ("ppo", Box(0, 255, (6,), np.uint8), FORCE),
}


def made(case: str, framework: Framework, **settings: Any) -> tuple[Any, Spaces]:
    algorithm, observations, actions = CASES[case]
    spaces = Spaces(observations, actions)
    return ready_made(spaces, algorithm, framework.name, **settings), spaces


def require_alike(found: Any, expected: Any) -> None:
    """Compare actions: to the rounding of a framework's products where they are floats."""
    assert np.asarray(found).dtype == np.asarray(expected).dtype
    assert np.shape(found) == np.shape(expected)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_a_policy_does_what_the_agent_does_in_a_pipeline(
    case: str, framework: Framework, tmp_path: Path
) -> None:
    agent, spaces = made(case, framework)
    elements = samples(spaces.observation_space)
    expected = pipelines_actions(agent, spaces, elements)
    store(agent, tmp_path)
    policy = tensor_optix.load(tmp_path)
    assert policy.action_space == spaces.action_space
    for who in (policy, agent):
        batch = who.predict(batched(spaces.observation_space, elements))
        require_alike(batch, expected)
        for element, action in zip(elements, expected, strict=True):
            one = who.predict(element)
            assert spaces.action_space.contains(one)
            require_alike(one, int(action) if isinstance(spaces.action_space, Discrete) else action)


@pytest.mark.parametrize("case", ["ppo", "sac", "dqn", "td3", "parts-sac"])
def test_observations_are_normalised(case: str, framework: Framework, tmp_path: Path) -> None:
    agent, spaces = made(case, framework, normalize_observations=True)
    elements = samples(spaces.observation_space, 50)
    agent._obs_normalizer.update(3 * rows_of(spaces.observation_space, elements) + 1)
    expected = pipelines_actions(agent, spaces, elements)
    store(agent, tmp_path)
    policy = tensor_optix.load(tmp_path)
    require_alike(policy.predict(batched(spaces.observation_space, elements)), expected)
    require_alike(np.stack([policy.predict(one) for one in elements]), expected)


@pytest.mark.needs_a_framework
@pytest.mark.parametrize("algorithm", ["ppo", "sac"])
def test_images(algorithm: str, framework: Framework, tmp_path: Path) -> None:
    image = Dict({"image": Box(0, 255, (7, 7, 3), np.uint8), "speed": VECTOR})
    spaces = Spaces(image, Discrete(3) if algorithm == "ppo" else FORCE)
    agent = ready_made(spaces, algorithm, framework.name)
    elements = samples(image)
    expected = pipelines_actions(agent, spaces, elements)
    store(agent, tmp_path)
    policy = tensor_optix.load(tmp_path)
    require_alike(policy.predict(batched(image, elements)), expected)
    require_alike(policy.predict(elements[0]), expected[0])


@pytest.mark.parametrize("case", ["ppo", "ppo-choices", "ppo-gaussian", "sac", "dqn", "td3"])
def test_drawn_actions_are_those_of_the_agent(
    case: str, framework: Framework, tmp_path: Path
) -> None:
    agent, spaces = made(case, framework)
    if case == "dqn":
        agent.set_hyperparams(tensor_optix.HyperparamSet({"epsilon": 0.5}))
    if case == "td3":
        # What it draws before it learns is not its policy's.
        agent._steps = 100
    store(agent, tmp_path)
    policy = tensor_optix.load(tmp_path)
    batch = batched(spaces.observation_space, samples(spaces.observation_space, 40))
    found = []
    for who in (policy, policy, agent):
        who.seed(5)
        if who is agent:
            agent._rng = np.random.default_rng(5)
        found.append(who.predict(batch, deterministic=False))
    np.testing.assert_array_equal(found[0], found[1])
    require_alike(found[0], found[2])
    assert not np.array_equal(found[0], policy.predict(batch))
    assert not np.array_equal(policy.predict(batch, False), policy.predict(batch, False))


def test_no_global_random_state_is_used(native_framework: Framework, tmp_path: Path) -> None:
    agent, _ = made("ppo", native_framework)
    store(agent, tmp_path)
    before = np.random.get_state()[1].copy()  # type: ignore[index, union-attr]  # noqa: NPY002
    policy = tensor_optix.load(tmp_path)
    policy.predict(np.zeros(3, np.float32), deterministic=False)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # type: ignore[index]  # noqa: NPY002


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_masks_that_infos_tell(algorithm: str, framework: Framework, tmp_path: Path) -> None:
    spaces = Spaces(VECTOR, Discrete(4))
    agent = ready_made(spaces, algorithm, framework.name)
    agent.check_spaces(MaskedSpace(VECTOR, 4), spaces.action_space)
    store(agent, tmp_path)
    policy = tensor_optix.load(tmp_path)
    assert policy.observation_space == VECTOR
    elements = np.stack(samples(VECTOR, 20))
    for allowed in range(4):
        mask = np.arange(4) == allowed
        for who in (policy, agent):
            assert who.predict(elements[0], action_masks=mask.astype(np.int8)) == allowed
            assert who.predict(elements[0], False, action_masks=mask.tolist()) == allowed
            masks = np.tile(mask, (20, 1))
            np.testing.assert_array_equal(who.predict(elements, action_masks=masks), allowed)
    nothing = np.zeros(4, bool)
    assert policy.predict(elements[0], action_masks=nothing) == policy.predict(elements[0])
    with pytest.raises(ValueError, match=r"action_masks must hold 1 .* shape \(4,\), got"):
        policy.predict(elements[0], action_masks=[1, 0])
    with pytest.raises(ValueError, match=r"shape \(20, 4\), got"):
        policy.predict(elements, action_masks=np.ones(80))
    with pytest.raises(ValueError, match="must hold 1"):
        policy.predict(elements[0], action_masks=[2, 0, 0, 0])


def test_masks_that_are_missing_are_said_once(
    native_framework: Framework, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spaces = Spaces(VECTOR, Discrete(4))
    agent = ready_made(spaces, "ppo", native_framework.name)
    agent.check_spaces(MaskedSpace(VECTOR, 4), spaces.action_space)
    store(agent, tmp_path)
    policy = tensor_optix.load(tmp_path)
    observation = np.zeros(3, np.float32)
    policy.predict(observation, action_masks=[1, 1, 0, 1])
    assert "action_masks" not in caplog.text
    policy.predict(observation)
    policy.predict(observation)
    assert caplog.text.count("give it action_masks=info['action_mask']") == 1


def test_masks_of_several_choices(native_framework: Framework, tmp_path: Path) -> None:
    agent, spaces = made("ppo-choices", native_framework)
    store(agent, tmp_path)
    policy = tensor_optix.load(tmp_path)
    mask = np.array([0, 1, 0, 0, 1, 0, 0, 0, 1, 0, 0], bool)
    found = policy.predict(np.zeros(3, np.float32), action_masks=mask)
    free = policy.predict(np.zeros(3, np.float32))
    # Of the last choice nothing is allowed, which says nothing.
    np.testing.assert_array_equal(found, [[1, 3], [5, free[1, 1]]])
    assert spaces.action_space.contains(found)


def test_masks_where_there_is_nothing_to_choose(
    native_framework: Framework, tmp_path: Path
) -> None:
    agent, _ = made("sac", native_framework)
    store(agent, tmp_path)
    for who in (agent, tensor_optix.load(tmp_path)):
        with pytest.raises(ValueError, match="the policy takes none"):
            who.predict(np.zeros(3, np.float32), action_masks=[1, 1])


WRONG: list[tuple[str, Any, type[Exception], str]] = [
    (
        "ppo",
        np.zeros(4, np.float32),
        ValueError,
        r"shape \(3,\), or a batch .* \(N, 3\), got an arr",
    ),
    ("ppo", np.zeros((2, 3, 1)), ValueError, r"\(N, 3\), got"),
    ("ppo", 1.0, ValueError, "got the float 1.0"),
    ("ppo", None, ValueError, "got None"),
    ("ppo", [[0.0], [1.0, 2.0]], ValueError, "got a list of 2"),
    ("ppo", ["a", "b", "c"], TypeError, "observations of float32"),
    ("ppo", np.array([0.0, np.nan, 0.0], np.float32), ValueError, "finite, got nan in element 1"),
    ("ppo", np.array([0.0, 1e39, 0.0]), ValueError, "within float32"),
    ("ppo", np.full((2, 3), np.inf, np.float32), ValueError, "got inf in element 0, 0"),
    ("sac", np.array([0.0, 0.0, np.nan], np.float32), ValueError, "finite, got nan in element 2"),
    ("number", 9, ValueError, "within the observation space"),
    ("number", 0.5, TypeError, "observations of int64"),
    ("parts", {"speed": np.zeros(3, np.float32)}, ValueError, "got none for number|got none for"),
    ("parts", np.zeros(3), ValueError, "got none for"),
]


@pytest.mark.parametrize(("case", "observation", "error", "message"), WRONG)
def test_what_is_no_observation_is_refused(
    case: str,
    observation: Any,
    error: type[Exception],
    message: str,
    native_framework: Framework,
    tmp_path: Path,
) -> None:
    agent, _ = made(case, native_framework)
    store(agent, tmp_path)
    for who in (tensor_optix.load(tmp_path), agent):
        with pytest.raises(error, match=message):
            who.predict(observation)


def test_observations_of_other_kinds_of_numbers(
    native_framework: Framework, tmp_path: Path
) -> None:
    agent, _ = made("ppo", native_framework)
    store(agent, tmp_path)
    policy = tensor_optix.load(tmp_path)
    element = np.array([1.0, 0.0, -1.0], np.float32)
    expected = policy.predict(element)
    for same in (element.astype(np.float64), [1, 0, -1], (1.0, 0.0, -1.0), np.array([1, 0, -1])):
        assert policy.predict(same) == expected
    strided = np.zeros((3, 2), np.float32)
    strided[:, 0] = element
    assert policy.predict(strided[:, 0]) == expected
    large = np.full(3, 1e30, np.float32)
    assert policy.predict(large) in range(3, 7), "finite, though its squares are not"
    assert policy.predict(np.empty((0, 3), np.float32)).shape == (0,)


def test_an_agent_needs_to_be_told_the_spaces_first() -> None:
    require("native")
    agent: Any = tensor_optix.make_agent(Spaces(VECTOR, Discrete(2)), framework="native")
    with pytest.raises(RuntimeError, match="call check_spaces"):
        agent.predict(np.zeros(3))
