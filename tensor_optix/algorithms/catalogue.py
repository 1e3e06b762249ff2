"""The algorithms by name: what they act in, what suits them, how they start out.

This table is the one place that knows which algorithms there are; `make_agent` and the command line read it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from gymnasium.spaces import Box, Discrete

from tensor_optix.algorithms.dqn import DQNHyperparams
from tensor_optix.algorithms.ppo import PPOHyperparams
from tensor_optix.algorithms.sac import SACHyperparams

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tensor_optix.algorithms.network_agent import Hyperparams

DEFAULT_ALGORITHM = "ppo"
IMAGE_HIDDEN_SIZES = (512,)
"""Behind the convolutions of Mnih et al. 2015."""


@dataclass(frozen=True)
class Algorithm:
    """What is known of an algorithm without its framework."""

    name: str
    hyperparams_type: type[Hyperparams]
    action_spaces: tuple[type, ...]
    hidden_sizes: tuple[int, ...]
    """Of its networks for vectors; `IMAGE_HIDDEN_SIZES` for images."""
    num_envs: int
    """Environments that suit it."""
    window_size: int
    """Steps of each environment between two evaluations that suit it."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """What is better here than the defaults of `hyperparams_type`."""
    image_defaults: Mapping[str, Any] = field(default_factory=dict)
    """What is better still where observations are images."""

    def default_params(self, sees_images: bool = False) -> dict[str, Any]:
        """Return every hyperparameter as `make_agent` starts with it."""
        known = dict(self.defaults) | (dict(self.image_defaults) if sees_images else {})
        return asdict(self.hyperparams_type.from_params(known))


ALGORITHMS: Mapping[str, Algorithm] = {
    "ppo": Algorithm(
        name="ppo",
        hyperparams_type=PPOHyperparams,
        action_spaces=(Discrete, Box),
        hidden_sizes=(64, 64),
        num_envs=8,
        window_size=256,
        image_defaults={"learning_rate": 2.5e-4, "n_epochs": 4, "minibatch_size": 256},
    ),
    "dqn": Algorithm(
        name="dqn",
        hyperparams_type=DQNHyperparams,
        action_spaces=(Discrete,),
        hidden_sizes=(120, 84),
        num_envs=4,
        window_size=256,
        defaults={"learning_rate": 1e-3, "learning_starts": 1000, "epsilon_decay_steps": 10_000},
        image_defaults={
            "learning_rate": 1e-4,
            "learning_starts": 10_000,
            "epsilon_decay_steps": 100_000,
            "target_update_freq": 1000,
        },
    ),
    "sac": Algorithm(
        name="sac",
        hyperparams_type=SACHyperparams,
        action_spaces=(Box,),
        hidden_sizes=(256, 256),
        num_envs=4,
        window_size=256,
        defaults={"learning_starts": 1000},
        image_defaults={"learning_starts": 10_000, "replay_capacity": 100_000},
    ),
}


def find_algorithm(name: str | None) -> Algorithm:
    """Return the algorithm of a name; None: the default one.

    Raises:
        ValueError: If there is none, with the closest match.
    """
    if name is None:
        return ALGORITHMS[DEFAULT_ALGORITHM]
    if name in ALGORITHMS:
        return ALGORITHMS[name]
    close = get_close_matches(str(name).lower(), ALGORITHMS, 1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"algorithm must be one of {', '.join(ALGORITHMS)}, got {name!r}{hint}")
