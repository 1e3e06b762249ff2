"""Ready-made agents: an environment comes in, an agent with networks that fit its spaces goes out.

Which algorithms there are, what they are made of and how they start out is in `catalogue`, which frameworks
in `frameworks`; which networks fit a space is in `ready_made`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

import numpy as np
from gymnasium.spaces import Discrete, MultiDiscrete

from tensor_optix.adapters.network_recipes import NetworkRecipes
from tensor_optix.algorithms.catalogue import (
    ALGORITHMS,
    IMAGE_HIDDEN_SIZES,
    Algorithm,
    find_algorithm,
    names_algorithm,
)
from tensor_optix.algorithms.frameworks import find_framework
from tensor_optix.algorithms.ready_made import AgentParts, sight_of
from tensor_optix.core.argument_checks import closest
from tensor_optix.core.base_agent import AgentRecipe
from tensor_optix.core.environment_ids import spaces_of_id
from tensor_optix.core.environment_recipe import EnvironmentRecipe
from tensor_optix.core.normalizers import ObsNormalizer, RewardNormalizer
from tensor_optix.core.observation_layout import Encoding, MaskedSpace, layout_of, seen_space
from tensor_optix.core.types import HyperparamSet
from tensor_optix.pipeline.envpool_env import EnvPoolEnv, is_envpool
from tensor_optix.pipeline.foreign_vectors import as_vector

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tensor_optix.adapters.network_recipes import Channels
    from tensor_optix.algorithms.hyperparams import Hyperparams
    from tensor_optix.algorithms.network_agent import Engine
    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.observation_layout import AnySpace
    from tensor_optix.core.types import Array, PathLike

CHANNELS = ("first", "last")
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
    algorithm: Any = None,
    framework: str | None = None,
    *,
    hyperparams: HyperparamSet | Hyperparams | Mapping[str, Any] | None = None,
    hidden_sizes: Sequence[int] | None = None,
    seed: int | None = None,
    device: str = "auto",
    normalize_observations: bool = False,
    normalize_rewards: bool = False,
    channels: Channels | None = None,
    engine: Engine = "auto",
) -> BaseAgent:
    """Make an agent, with networks and optimizers, for the spaces of an environment.

    `tensor_optix.algorithms.catalogue.ALGORITHMS` says what each algorithm acts in, which networks it gets
    and where it starts otherwise than its hyperparameters say.

    Observations may be of any space that is made of numbers. Inside the network, those of a Discrete or a
    MultiDiscrete become unit vectors, a Box with three axes is an image and gets convolutions after Mnih et
    al. 2015, and any other array is flattened. A Dict or a Tuple is seen as the row that
    `core.observation_layout` lays it out in: each image in it gets convolutions of its own, whose features
    lie beside the other columns before the hidden layers. Actor and critic of PPO then share all layers but
    their last ones.

    Bytes, uint8 of any shape, are divided inside the network by what their space says they are at most. Where
    that is 255, the agent looks before it first learns: if nothing above a quarter of it has come, they are
    divided by the largest that has. This is decided once, and kept with the weights.

    The optimizers are Adam.

    Args:
        env: A Gymnasium environment or vector environment, an EnvPool, a pipeline's `env`, or an id
            such as `"CartPole-v1"`, or, with arguments or wrappers, an `EnvironmentRecipe`. It is only looked
            at; what an id makes is closed again.
        algorithm: A name in the catalogue, such as `"sac"` or `"SAC"`; it may also stand before `env`. None:
            PPO, for discrete and continuous actions alike, because it takes the least time to a good policy
            where the environment is fast, and no memory for a replay. Those with a replay need fewer steps
            where steps are dear: ask by name.
        framework: `"torch"`, `"tensorflow"` (or `"tf"`) or `"native"`, for networks of this library's own,
            which compiled kernels train on the CPU; they train no convolutions, for images. None: the first
            of the three that is installed.
        hyperparams: Those that differ from the defaults, as a `HyperparamSet` or by name; or all of them, as
            the algorithm's own class, such as `SACHyperparams`.
        hidden_sizes: Widths of the hidden layers of each network; with images, of those behind the
            convolutions. None: as in the table, 512 with images.
        seed: Networks and agent follow from it; no global random state is used or changed. The same
            one gives other numbers, of the same distributions, on another framework. None: they
            differ each time.
        device: `"auto"` (a GPU where there is one), `"cpu"`, `"cuda"`, ...
        normalize_observations: Whether the networks see observations of mean 0 and variance 1.
        normalize_rewards: Whether the agent learns from rewards that are scaled to unit returns.
        channels: `"first"` or `"last"`: which axis of images they are. None: the shorter one of these two,
            the last if they are alike.
        engine: What makes the updates: `"native"`, the compiled kernels; `"framework"`; or `"auto"`, the
            kernels where they can, which is where all networks are perceptrons on the CPU.

    Raises:
        ValueError: If algorithm, framework, spaces, hyperparameters, sizes or device do not fit; the
            message says what would.
        TypeError: If `env` is no environment, or `hyperparams` are of another algorithm, or none.
        ImportError: If the framework, or any, is not installed; the message says how to install it.

    Examples:
        >>> from tensor_optix import make_agent
        >>> agent = make_agent("Pendulum-v1", "sac", "native", hidden_sizes=(32, 32), seed=0)
        >>> type(agent).__name__
        'NativeSACAgent'
    """
    if names_algorithm(env):
        env, algorithm = algorithm, env
    chosen = find_algorithm(algorithm)
    library = find_framework(framework)
    observation_space, action_space = _spaces(env)
    plain = _plain(observation_space)
    _require_actions(chosen, action_space)
    _require_channels(channels)
    params = _params(chosen, hyperparams, has_images(plain))
    at_first = chosen.hyperparams_type.from_params(params)
    if hidden_sizes is None:
        hidden_sizes = default_hidden_sizes(chosen, plain)
    *network_seeds, agent_seed = (int(n) for n in np.random.SeedSequence(seed).generate_state(4))
    parts = AgentParts(
        recipes=NetworkRecipes(import_module(f"{PACKAGE}.adapters.{library.adapter}.layers")),
        sight=sight_of(plain, channels, divides_bytes=not normalize_observations),
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
            **kind.keywords(parts),
            hyperparams=HyperparamSet(params),
            device=device,
            reward_normalizer=RewardNormalizer(at_first.gamma) if normalize_rewards else None,
            obs_normalizer=_obs_normalizer(plain) if normalize_observations else None,
            engine=engine,
        )
    agent.seed(agent_seed)
    agent.recipe = AgentRecipe(
        algorithm=chosen.name,
        framework=library.name,
        hidden_sizes=parts.hidden_sizes,
        device=device,
        normalize_observations=normalize_observations,
        normalize_rewards=normalize_rewards,
        channels=channels,
        engine=engine,
    )
    return agent


def acting_network(
    recipe: AgentRecipe, observation_space: AnySpace, action_space: Any, path: PathLike
) -> Callable[[Array], Array]:
    """Return the network that a ready-made agent acts by, with the weights that it stored, on NumPy alone.

    No framework is imported, whichever trained it.

    Args:
        recipe: The agent's.
        observation_space: Of the environment, masks of actions included.
        action_space: Of the environment, one that the algorithm acts in.
        path: Of the weights of its `actor`, or `q_network`, without their ending, `.safetensors`.

    Returns:
        A function of observations `[N, ...]`, as the agent's networks see them, normalized if the agent
        does that, to `[N, outputs]` float32.

    Raises:
        ValueError: If the file is damaged, or holds the weights of another network; or as `make_agent`.
        OSError: If there is no such file.
    """
    chosen = find_algorithm(recipe.algorithm)
    _require_actions(chosen, action_space)
    parts = AgentParts(
        recipes=NetworkRecipes(import_module(f"{PACKAGE}.adapters.native.inference_layers")),
        sight=sight_of(
            _plain(observation_space),
            recipe.channels,
            divides_bytes=not recipe.normalize_observations,
        ),
        action_space=action_space,
        hidden_sizes=_checked_sizes(recipe.hidden_sizes),
        learning_rate=0.0,
        network_seeds=(0, 0, 0, 0),
    )
    network: Any = chosen.agent_class(action_space).arguments(parts)[0]
    network.read(path)
    return cast("Callable[[Array], Array]", network)


def default_hidden_sizes(algorithm: Algorithm, observation_space: AnySpace) -> tuple[int, ...]:
    """Return the widths of hidden layers that `make_agent` chooses."""
    return IMAGE_HIDDEN_SIZES if has_images(observation_space) else algorithm.hidden_sizes


def has_images(space: AnySpace) -> bool:
    """Whether observations of a space are, or have among their parts, images: a Box with three axes."""
    return any(field.encoding is Encoding.IMAGE for field in layout_of(space).fields)


def _spaces(env: Any) -> tuple[Any, Any]:
    """Return the observation and the action space of one environment."""
    if isinstance(env, str | EnvironmentRecipe):
        return spaces_of_id(env)
    if is_envpool(env):
        env = EnvPoolEnv(env)
    vector = as_vector(env)
    if vector is not None:
        return vector.single_observation_space, vector.single_action_space
    if isinstance(env, HasSpaces):
        return env.observation_space, env.action_space
    raise TypeError(
        "env must be an environment with observation_space and action_space, or an id such as "
        f"'CartPole-v1', got {type(env).__name__}"
    )


def _plain(space: AnySpace) -> AnySpace:
    """Return the space of the arrays that networks see, without masks of actions.

    Raises:
        ValueError: If nothing of the space is made of numbers.
    """
    if not layout_of(space).fields:
        raise ValueError(
            "ready-made networks take observations of numbers (Box, Discrete, MultiDiscrete, MultiBinary, "
            f"and a Dict or a Tuple of them), got {space}; gymnasium.wrappers.TransformObservation can "
            "make numbers of it; or bring networks of your own"
        )
    seen = seen_space(space)
    return seen.plain if isinstance(seen, MaskedSpace) else seen


def _require_channels(channels: str | None) -> None:
    if channels is not None and channels not in CHANNELS:
        near = closest(channels, CHANNELS) if isinstance(channels, str) else None
        hint = f"; did you mean {near!r}?" if near else ""
        raise ValueError(f"channels must be 'first', 'last' or None, got {channels!r}{hint}")


def _require_actions(algorithm: Algorithm, space: AnySpace) -> None:
    if not isinstance(space, algorithm.action_spaces):
        fitting = [one.name for one in ALGORITHMS.values() if isinstance(space, one.action_spaces)]
        remedy = (
            f"use {' or '.join(map(repr, fitting))}"
            if fitting
            else "gymnasium.wrappers.TransformAction can translate it into one of these"
        )
        takes = " or ".join(one.__name__ for one in algorithm.action_spaces)
        raise ValueError(f"{algorithm.name!r} takes {takes} actions, got {space}; {remedy}")
    if space.shape is not None and 0 in space.shape:
        raise ValueError(
            f"an action must hold at least one number, got {space}: there is nothing to choose"
        )


def _params(
    algorithm: Algorithm,
    given: HyperparamSet | Hyperparams | Mapping[str, Any] | None,
    sees_images: bool,
) -> dict[str, Any]:
    """Return all hyperparameters: those given, and the defaults of the others."""
    match given:
        case None:
            params: Mapping[str, Any] = {}
        case Mapping():
            params = given
        case HyperparamSet() | algorithm.hyperparams_type():
            params = given.params
        case _:
            raise TypeError(
                "hyperparams must be a HyperparamSet, a dict, or "
                f"{algorithm.hyperparams_type.__name__} for {algorithm.name!r}, got {type(given).__name__}"
            )
    return algorithm.default_params(sees_images) | dict(params)


def _obs_normalizer(space: AnySpace) -> ObsNormalizer:
    if isinstance(space, Discrete | MultiDiscrete):
        raise ValueError(
            f"normalize_observations does not fit the numbers of {space}: leave it out"
        )
    fields = layout_of(space).fields
    if any(one.encoding is Encoding.IMAGE and one.space.dtype == np.uint8 for one in fields):
        raise ValueError(
            "normalize_observations does not fit uint8 images, which the network scales itself: "
            "leave it out"
        )
    assert space.shape is not None
    return ObsNormalizer(space.shape)


def _checked_sizes(sizes: Sequence[int]) -> tuple[int, ...]:
    if isinstance(sizes, int | np.integer | str):
        raise ValueError(f"hidden_sizes must be a list of whole numbers, got {sizes!r}")
    if any(isinstance(size, bool) or not isinstance(size, int | np.integer) for size in sizes):
        raise ValueError(f"hidden_sizes must be whole numbers of at least 1, got {list(sizes)}")
    if any(size < 1 for size in sizes):
        raise ValueError(f"hidden_sizes must be at least 1, got {list(sizes)}")
    return tuple(int(size) for size in sizes)
