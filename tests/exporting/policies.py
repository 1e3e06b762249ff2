"""Policies to export, with random weights: the name of a case goes in, a loaded policy comes out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

import tensor_optix
from tensor_optix.core.observation_layout import MaskedSpace, seen_space
from tests.policies.stored import Spaces, batched, ready_made, samples, store

if TYPE_CHECKING:
    from pathlib import Path

    from tensor_optix import Policy

VECTOR = Box(-1.0, 1.0, (3,), np.float32)
OPEN = Box(-np.inf, np.inf, (4,), np.float32)
FORCE = Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 5.0], np.float32))
IMAGE = Box(0, 255, (8, 8, 2), np.uint8)
PARTS = Dict(
    {
        "speed": VECTOR,
        "inner": Tuple((Discrete(3, start=2), MultiBinary(2))),
        "action": Box(-5.0, 5.0, (2,), np.float64),
    }
)


NAMES = ("a b", "é", "0", "self", "class", "a/b", "a.b", "Speed", "speed", "logits", "q_values")
"""Of parts, that some format or other does not take as they are."""


class Case(NamedTuple):
    algorithm: str
    observations: Any
    actions: Any
    normalized: bool = False
    mask: int = 0
    """The length of masks that infos tell."""


CASES = {
    "ppo": Case("ppo", OPEN, Discrete(4, start=3), normalized=True),
    "ppo-choices": Case("ppo", VECTOR, MultiDiscrete([[2, 3], [3, 2]], start=[[0, 1], [2, 0]])),
    "ppo-gaussian": Case("ppo", OPEN, FORCE, normalized=True),
    "ppo-whole-numbers": Case("ppo", VECTOR, Box(-9, 9, (2,), np.int32)),
    "dqn": Case("dqn", VECTOR, Discrete(3), normalized=True),
    "dqn-matrix": Case("dqn", Box(-1.0, 1.0, (2, 3), np.float64), Discrete(2), normalized=True),
    "sac": Case("sac", VECTOR, FORCE, normalized=True),
    "sac-unbounded": Case("sac", OPEN, Box(-np.inf, np.inf, (2,), np.float32), normalized=True),
    "td3": Case("td3", VECTOR, Box(-3.0, 3.0, (2, 1), np.float64), normalized=True),
    "parts": Case("ppo", PARTS, Discrete(4), normalized=True),
    "names": Case("dqn", Dict(dict.fromkeys(NAMES, VECTOR)), Discrete(2)),
    "number": Case("ppo", Discrete(5, start=-1), Discrete(2)),
    "bytes": Case("sac", Box(0, 200, (6,), np.uint8), FORCE),
    "masks": Case("dqn", Dict({"speed": VECTOR, "action_mask": MultiBinary(4)}), Discrete(4)),
    "masks-told": Case("ppo", OPEN, Discrete(4), normalized=True, mask=4),
    "masks-choices": Case("ppo", VECTOR, MultiDiscrete([2, 3, 3]), mask=8),
    "image": Case("dqn", IMAGE, Discrete(4)),
    "images": Case("sac", Dict({"camera": IMAGE, "far": IMAGE, "speed": VECTOR}), FORCE),
}
"""Those with images need PyTorch or TensorFlow."""


def stored_policy(name: str, directory: Path, framework: str = "") -> Policy:
    """Return the policy of a case, as a framework trained it; native, or torch for images, by default."""
    case = CASES[name]
    framework = framework or ("torch" if name.startswith("image") else "native")
    spaces = Spaces(case.observations, case.actions)
    agent = ready_made(spaces, case.algorithm, framework, normalize_observations=case.normalized)
    if case.mask:
        agent.check_spaces(MaskedSpace(case.observations, case.mask), case.actions)
    # Large enough weights that actions differ, and images through more layers do not saturate them.
    agent.perturb_weights(3.0 if name.startswith("image") else 10.0)
    if case.normalized:
        seen: Any = seen_space(case.observations)
        rng = np.random.default_rng(0)
        agent._obs_normalizer.update(0.2 + 0.5 * rng.standard_normal((50, *seen.shape)))
    store(agent, directory)
    return tensor_optix.load(directory)


def shown(name: str, count: int = 20) -> tuple[Any, Any, dict[str, Any]]:
    """Return observations, and masks, as `predict` takes them, and both by the names of the inputs."""
    case = CASES[name]
    batch = batched(case.observations, samples(case.observations, count))
    rng = np.random.default_rng(1)
    masks = rng.integers(0, 2, (count, case.mask), np.int8) if case.mask else None
    inputs = dict(parts_of(batch)) if isinstance(batch, dict) else {"observation": batch}
    if "action" in inputs:
        inputs["observation/action"] = inputs.pop("action")
    if masks is not None:
        inputs["action_mask"] = masks
    return batch, masks, inputs


def parts_of(batch: Any, path: str = "") -> list[tuple[str, Any]]:
    """Return the arrays of a Dict or a Tuple, each with the names that lead to it."""
    pairs = batch.items() if isinstance(batch, dict) else enumerate(batch)
    found = []
    for key, part in pairs:
        name = f"{path}{key}"
        is_leaf = isinstance(part, np.ndarray)
        found += [(name, part)] if is_leaf else parts_of(part, f"{name}/")
    return found
