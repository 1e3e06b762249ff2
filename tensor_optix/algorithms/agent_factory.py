"""Ready-made agents: an environment comes in, an agent with networks that fit its spaces goes out.

Which algorithms there are, what they are made of and how they start out is in `catalogue`, which frameworks
in `frameworks`; which networks fit a space is in `ready_made`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

from tensor_optix.adapters.network_recipes import NetworkRecipes
from tensor_optix.algorithms.catalogue import (
    ALGORITHMS,
    IMAGE_HIDDEN_SIZES,
    Algorithm,
    find_algorithm,
)
from tensor_optix.algorithms.frameworks import find_framework
from tensor_optix.algorithms.ready_made import AgentParts
from tensor_optix.core.base_agent import AgentRecipe
from tensor_optix.core.environment_ids import spaces_of_id
from tensor_optix.core.environment_recipe import EnvironmentRecipe
from tensor_optix.core.normalizers import ObsNormalizer, RewardNormalizer
from tensor_optix.core.types import HyperparamSet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensor_optix.core.base_agent import BaseAgent

IMAGE_AXES = 3
PACKAGE = "tensor_optix"


@runtime_checkable
class HasSpaces(Protocol):
    """An environment, or several, that tells the spaces of one."""

    @property
    def observation_space(self) -> Any:
        """The space of one environment's observation."""

    @property
    def action_space(self) -> Any:
        """The space of one environment's action."""


def make_agent(
    env: Any,
    algorithm: str | None = None,
    framework: str | None = None,
    *,
    hyperparams: HyperparamSet | None = None,
    hidden_sizes: Sequence[int] | None = None,
    seed: int | None = None,
    device: str = "auto",
    normalize_observations: bool = False,
    normalize_rewards: bool = False,
) -> BaseAgent:
    """Make an agent, with networks and optimizers, for the spaces of an environment.

    `tensor_optix.algorithms.catalogue.ALGORITHMS` says what each algorithm acts in, which networks it gets
    and where it starts otherwise than its hyperparameters say.

    Observations may be vectors (a Box with one axis), numbers of a Discrete space (one-hot inside the
    network) or images (a Box with three axes, the channels first or last: convolutions after Mnih et
    al. 2015 with 512 units behind them; uint8 is divided by 255 inside the network). The optimizers
    are Adam.

    Args:
        env: A Gymnasium environment or vector environment, an EnvPool, a pipeline's `env`, or an id
            such as `"CartPole-v1"`, or, with arguments or wrappers, an `EnvironmentRecipe`. It is only looked
            at; what an id makes is closed again.
        algorithm: A name in the catalogue, such as `"sac"`. None: PPO, for discrete and continuous actions
            alike, because it takes the least time to a good policy where the environment is fast, and no
            memory for a replay. Those with a replay need fewer steps where steps are dear: ask by name.
        framework: `"torch"` or `"tensorflow"`. None: PyTorch where it is installed, else TensorFlow.
        hyperparams: Those that differ from the defaults.
        hidden_sizes: Widths of the hidden layers of each network; with images, of those behind the
            convolutions. None: as in the table.
        seed: Networks and agent follow from it; no global random state is used or changed. The same
            one gives other numbers, of the same distributions, on the other framework. None: they
            differ each time.
        device: `"auto"` (a GPU where there is one), `"cpu"`, `"cuda"`, ...
        normalize_observations: Whether the networks see observations of mean 0 and variance 1.
        normalize_rewards: Whether the agent learns from rewards that are scaled to unit returns.

    Raises:
        ValueError: If algorithm, framework, spaces, hyperparameters, sizes or device do not fit; the
            message says what would.
        TypeError: If `env` is no environment, or `hyperparams` no `HyperparamSet`.
        ImportError: If the framework, or any, is not installed; the message says how to install it.
    """
    chosen = find_algorithm(algorithm)
    library = find_framework(framework)
    observation_space, action_space = _spaces(env)
    _require_observations(observation_space)
    _require_actions(chosen, action_space)
    params = _params(chosen, hyperparams, is_image(observation_space))
    at_first = chosen.hyperparams_type.from_params(params)
    if hidden_sizes is None:
        hidden_sizes = default_hidden_sizes(chosen, observation_space)
    *network_seeds, agent_seed = (int(n) for n in np.random.SeedSequence(seed).generate_state(4))
    parts = AgentParts(
        recipes=NetworkRecipes(import_module(f"{PACKAGE}.adapters.{library.adapter}.layers")),
        observation_space=observation_space,
        action_space=action_space,
        hidden_sizes=_checked_sizes(hidden_sizes),
        learning_rate=float(at_first.learning_rate),
        network_seeds=tuple(network_seeds),
    )
    kind = chosen.agent_class(action_space)
    module = import_module(f"{PACKAGE}.algorithms.{library.prefix}{kind.module}")
    agent_class: Any = getattr(module, library.class_prefix + kind.name)
    with agent_class.backend.placed_on(device):
        agent: BaseAgent = agent_class(
            *kind.arguments(parts),
            hyperparams=HyperparamSet(params),
            device=device,
            reward_normalizer=RewardNormalizer(at_first.gamma) if normalize_rewards else None,
            obs_normalizer=_obs_normalizer(observation_space) if normalize_observations else None,
        )
    agent.seed(agent_seed)
    agent.recipe = AgentRecipe(
        algorithm=chosen.name,
        framework=library.name,
        hidden_sizes=parts.hidden_sizes,
        device=device,
        normalize_observations=normalize_observations,
        normalize_rewards=normalize_rewards,
    )
    return agent


def default_hidden_sizes(algorithm: Algorithm, observation_space: Any) -> tuple[int, ...]:
    """Return the widths of hidden layers that `make_agent` chooses."""
    return IMAGE_HIDDEN_SIZES if is_image(observation_space) else algorithm.hidden_sizes


def is_image(space: Any) -> bool:
    """Whether observations of a space are taken as images: a Box with three axes."""
    return isinstance(space, Box) and len(space.shape) == IMAGE_AXES


def _spaces(env: Any) -> tuple[Any, Any]:
    """Return the observation and the action space of one environment."""
    if isinstance(env, str | EnvironmentRecipe):
        return spaces_of_id(env)
    if isinstance(env, gymnasium.vector.VectorEnv):
        return env.single_observation_space, env.single_action_space
    if isinstance(env, HasSpaces):
        return env.observation_space, env.action_space
    raise TypeError(
        "env must be an environment with observation_space and action_space, or an id such as "
        f"'CartPole-v1', got {type(env).__name__}"
    )


def _require_observations(space: Any) -> None:
    if isinstance(space, Discrete):
        return
    if isinstance(space, Box) and len(space.shape) in (1, IMAGE_AXES) and 0 not in space.shape:
        return
    remedy = "gymnasium.wrappers.FlattenObservation makes a vector of it"
    if isinstance(space, Box) and len(space.shape) == IMAGE_AXES - 1:
        remedy += ", gymnasium.wrappers.ReshapeObservation an image with one channel"
    raise ValueError(
        "the ready-made networks take a Box with one axis (a vector), a Box with three (an image) or "
        f"a Discrete space, got {space}; {remedy}; or bring networks of your own"
    )


def _require_actions(algorithm: Algorithm, space: Any) -> None:
    if not isinstance(space, algorithm.action_spaces):
        fitting = [one.name for one in ALGORITHMS.values() if isinstance(space, one.action_spaces)]
        remedy = (
            f"use {' or '.join(map(repr, fitting))}"
            if fitting
            else "gymnasium.wrappers.TransformAction can translate it into a Discrete or a Box"
        )
        takes = " or ".join(one.__name__ for one in algorithm.action_spaces)
        raise ValueError(f"{algorithm.name!r} takes {takes} actions, got {space}; {remedy}")
    if isinstance(space, Discrete) and space.start != 0:
        raise ValueError(
            f"a Discrete action space must start at 0, got {space}; "
            "gymnasium.wrappers.TransformAction can shift it"
        )
    if isinstance(space, Box) and (len(space.shape) != 1 or not space.shape[0]):
        raise ValueError(
            f"a Box of actions must have one axis, got {space}; "
            "gymnasium.wrappers.TransformAction can flatten it"
        )


def _params(algorithm: Algorithm, given: HyperparamSet | None, sees_images: bool) -> dict[str, Any]:
    """Return all hyperparameters: those given, and the defaults of the others."""
    if given is not None and not isinstance(given, HyperparamSet):
        raise TypeError(
            f"hyperparams must be a HyperparamSet, got {type(given).__name__}; "
            "wrap it: HyperparamSet(params=...)"
        )
    defaults = algorithm.default_params(sees_images)
    return defaults | (given.params if given is not None else {})


def _obs_normalizer(space: Box | Discrete) -> ObsNormalizer:
    if isinstance(space, Discrete):
        raise ValueError(
            f"normalize_observations does not fit the numbers of {space}: leave it out"
        )
    if is_image(space) and space.dtype == np.uint8:
        raise ValueError(
            "normalize_observations does not fit uint8 images, which the network scales itself: "
            "leave it out"
        )
    return ObsNormalizer(space.shape)


def _checked_sizes(sizes: Sequence[int]) -> tuple[int, ...]:
    if isinstance(sizes, int | np.integer | str):
        raise ValueError(f"hidden_sizes must be a list of whole numbers, got {sizes!r}")
    if any(isinstance(size, bool) or not isinstance(size, int | np.integer) for size in sizes):
        raise ValueError(f"hidden_sizes must be whole numbers of at least 1, got {list(sizes)}")
    if any(size < 1 for size in sizes):
        raise ValueError(f"hidden_sizes must be at least 1, got {list(sizes)}")
    return tuple(int(size) for size in sizes)
