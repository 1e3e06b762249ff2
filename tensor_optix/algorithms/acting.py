"""How the network of a policy becomes actions: its outputs come in, the best actions or drawn ones go out.

Agents act by these functions, and so do policies that are loaded from what agents saved: `policy.json`,
beside the weights, says what a policy is made of.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from tensor_optix.core.base_agent import AgentRecipe
from tensor_optix.core.checkpoints.saved_state import read_json
from tensor_optix.core.observation_layout import MaskedSpace
from tensor_optix.core.recorded_spaces import space_from_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tensor_optix.algorithms.exploration_noise import PinkNoise
    from tensor_optix.core.observation_layout import AnySpace
    from tensor_optix.core.types import Array

POLICY_FILE = "policy.json"
LAYERS_FILE = "policy.safetensors"
"""The layers of a perceptron that no recipe makes: `0.weight` `[outputs, inputs]`, `0.bias`, and so on."""
FORMAT = 1

ActingKind: TypeAlias = Literal["categorical", "values", "squashed_gaussian", "tanh"]
"""What a network returns: logits of each choice; values of actions; mean and log_std before the tanh; actions
before the tanh."""
KINDS = get_args(ActingKind)
ActionDtype: TypeAlias = Literal["float32", "float64"]
DTYPES = get_args(ActionDtype)


class Acting(NamedTuple):
    """How an algorithm acts."""

    kind: ActingKind
    network: str
    """The name of the network that acts, and of its file."""
    methods: tuple[str, ...]
    """Those of the class by which it does, beside those of every agent."""
    dtype: ActionDtype = "float64"
    """Of continuous actions."""
    exploration: str = ""
    """The hyperparameter that says how much it explores."""


@dataclass(frozen=True, kw_only=True)
class PolicyDescription:
    """What is known of a stored policy; None where it is not."""

    kind: ActingKind | None
    """None: the agent acts in a way of its own."""
    network: str
    dtype: ActionDtype = "float64"
    exploration: str = ""
    recipe: AgentRecipe | None = None
    """By which `make_agent` made the agent."""
    activations: tuple[str, ...] | None = None
    """What follows each of the layers in `LAYERS_FILE`."""
    normalizer_clip: float | None = None
    """None: observations are not normalised."""
    observation_space: AnySpace | None = None
    """As the agent sees it."""
    action_space: AnySpace | None = None

    @property
    def plain_space(self) -> Any:
        """The observations without masks."""
        space = self.observation_space
        return space.plain if isinstance(space, MaskedSpace) else space


def write_description(path: Path, description: PolicyDescription, spaces: dict[str, Any]) -> None:
    """Write a description, with its spaces in JSON form; the same one gives the same bytes."""
    fields = {
        name: value for name, value in asdict(description).items() if not name.endswith("_space")
    }
    content = {"format": FORMAT, **fields, **spaces}
    path.write_text(json.dumps(content, allow_nan=False, indent=1), encoding="utf-8")


def read_description(path: Path) -> PolicyDescription:
    """Read what `write_description` wrote.

    Raises:
        ValueError, KeyError, TypeError, CheckpointError: If it is damaged, or of a later version.
    """
    stored = read_json(path)
    if stored["format"] != FORMAT:
        raise ValueError(
            f"its format must be {FORMAT}, got {stored['format']!r}: update tensor-optix"
        )
    recipe, activations, clip = (
        stored[name] for name in ("recipe", "activations", "normalizer_clip")
    )
    spaces = {
        name: None if stored[name] is None else space_from_json(stored[name])
        for name in ("observation_space", "action_space")
    }
    return PolicyDescription(
        kind=None if stored["kind"] is None else _one_of("kind", stored["kind"], KINDS),
        network=_file_name(stored["network"]),
        dtype=_one_of("dtype", stored["dtype"], DTYPES),
        exploration=str(stored["exploration"]),
        recipe=None if recipe is None else _recipe(recipe),
        activations=None if activations is None else tuple(map(str, activations)),
        normalizer_clip=None if clip is None else float(clip),
        **spaces,
    )


def _recipe(stored: dict[str, Any]) -> AgentRecipe:
    sizes = tuple(stored["hidden_sizes"])
    if not all(type(size) is int and size > 0 for size in sizes):
        raise ValueError(f"hidden_sizes must be whole numbers of at least 1, got {list(sizes)}")
    return AgentRecipe(**{**stored, "hidden_sizes": sizes})


def _one_of(name: str, stored: Any, known: Sequence[str]) -> Any:
    if stored not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {stored!r}")
    return stored


def _file_name(stored: Any) -> str:
    if not isinstance(stored, str) or not stored.isidentifier():
        raise ValueError(f"network must be the name of a file beside it, got {stored!r}")
    return stored


def epsilon_greedy(
    rng: np.random.Generator, best: Array, epsilon: float, num_actions: int, masks: Array | None
) -> Array:
    """Return actions `[N]`: the best ones, or with the probability `epsilon` any that is allowed.

    Args:
        rng: Draws.
        best: `[N]`, the best actions.
        epsilon: In [0, 1].
        num_actions: A.
        masks: `[N, A]` bool, which are allowed; None: all.
    """
    random = rng.random(len(best)) < epsilon
    if not random.any():
        return best
    if masks is None:
        drawn = np.asarray(rng.integers(num_actions, size=len(best)))
    else:
        places = np.asarray(rng.integers(masks.sum(axis=1)))
        drawn = np.asarray(np.argmax(masks.cumsum(axis=1) > places[:, None], axis=1))
    return np.where(random, drawn, best)


def with_noise(rng: np.random.Generator | PinkNoise, actions: Array, scale: float) -> Array:
    """Return actions in [-1, 1] with normal noise of a standard deviation, limited to the same interval."""
    noise = rng.standard_normal(actions.shape, np.float32)
    drawn: Array = np.clip(actions + scale * noise, -1.0, 1.0)
    return drawn
