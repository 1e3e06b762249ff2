"""The algorithms by name: what they act in, what they are made of, what suits them, how they start out.

This table is the one place that knows which algorithms there are; `make_agent`, the command line's options
and the spaces of its searches follow from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeGuard

from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from tensor_optix.algorithms.dqn import DQNHyperparams
from tensor_optix.algorithms.ppo import PPOHyperparams
from tensor_optix.algorithms.ready_made import POLICY_GAIN, AgentParts
from tensor_optix.algorithms.sac import SACHyperparams
from tensor_optix.algorithms.td3 import TD3Hyperparams
from tensor_optix.core.argument_checks import closest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tensor_optix.algorithms.hyperparams import Hyperparams

DEFAULT_ALGORITHM = "ppo"
IMAGE_HIDDEN_SIZES = (512,)
"""Behind the convolutions of Mnih et al. 2015; fewer units learn more slowly, also behind images of 4x4."""


@dataclass(frozen=True)
class AgentClass:
    """A public class of an algorithm, once for every framework."""

    module: str
    """In `algorithms`, behind the framework's prefix."""
    name: str
    """Behind the framework's prefix."""
    arguments: Callable[[AgentParts], tuple[Any, ...]]
    """The positional arguments of a ready-made one."""
    takes_choices: bool = False
    """Whether it is told among how many actions each of several choices is."""

    def keywords(self, parts: AgentParts) -> dict[str, Any]:
        """Return the arguments that a ready-made one gets by name."""
        return {"choices": parts.choices} if self.takes_choices else {}


@dataclass(frozen=True)
class Algorithm:
    """What is known of an algorithm without its framework."""

    name: str
    hyperparams_type: type[Hyperparams]
    agents: Mapping[type, AgentClass]
    """By the kind of action space that they act in."""
    hidden_sizes: tuple[int, ...]
    """Of its networks for vectors; `IMAGE_HIDDEN_SIZES` where there are images."""
    num_envs: int
    """Environments that suit it."""
    window_size: int
    """Steps of each environment between two evaluations that suit it."""
    thrift: int = 0
    """Which rank it has by how few environment steps it needs; 0: it learns from each window once, in the
    least time."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """What is better here than the defaults of `hyperparams_type`."""
    image_defaults: Mapping[str, Any] = field(default_factory=dict)
    """What is better still where observations are images."""
    perceptron: Literal["mlp", "relu_mlp"] = "relu_mlp"
    """The recipe of `NetworkRecipes` that its networks for vectors are made by."""
    search_space: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """What is worth a search besides what an agent lets a tuner change while it trains."""

    @property
    def action_spaces(self) -> tuple[type, ...]:
        """The kinds of action spaces that it acts in."""
        return tuple(self.agents)

    def agent_class(self, action_space: Any) -> AgentClass:
        """Return the class that acts in a space of one of these kinds."""
        return next(one for kind, one in self.agents.items() if isinstance(action_space, kind))

    def default_params(self, sees_images: bool = False) -> dict[str, Any]:
        """Return every hyperparameter as `make_agent` starts with it."""
        known = dict(self.defaults) | (dict(self.image_defaults) if sees_images else {})
        return dict(self.hyperparams_type.from_params(known).params)


def _ppo(parts: AgentParts) -> tuple[Any, ...]:
    """Return actor of logits, critic, optimizer."""
    return _actor_and_critic(parts, sum(parts.choices))


def _gaussian_ppo(parts: AgentParts) -> tuple[Any, ...]:
    """Return actor of mean and log_std, critic, optimizer, the number of components of an action."""
    return *_actor_and_critic(parts, 2 * parts.action_dim), parts.action_dim


def _dqn(parts: AgentParts) -> tuple[Any, ...]:
    """Return q_network, the number of actions, optimizer."""
    (num_actions,) = parts.choices
    q_network = parts.network(parts.recipes.relu_mlp, num_actions, 0)
    return q_network, num_actions, parts.replay_adam([q_network])


def _sac(parts: AgentParts) -> tuple[Any, ...]:
    """Return actor of mean and log_std, two critics, the size of an action, three optimizers."""
    number_adam = parts.recipes.number_adam
    return *_actor_and_twin_critics(parts, 2 * parts.action_dim), number_adam(parts.learning_rate)


def _actor_and_twin_critics(parts: AgentParts, outputs: int) -> tuple[Any, ...]:
    """Return an actor with so many outputs, two critics, the size of an action, optimizers of both."""
    actor = parts.network(parts.recipes.relu_mlp, outputs, 0, POLICY_GAIN)
    critics = [parts.action_critic(index) for index in (1, 2)]
    optimizers = parts.replay_adam([actor]), parts.replay_adam(critics)
    return actor, *critics, parts.action_dim, *optimizers


def _actor_and_critic(parts: AgentParts, outputs: int) -> tuple[Any, ...]:
    """Return actor, critic, optimizer; of images both see the same features."""
    if parts.sight.has_images:
        actor, critic = parts.networks_of_images((outputs, POLICY_GAIN), (1, 1.0))
    else:
        actor = parts.network(parts.recipes.mlp, outputs, 0, POLICY_GAIN)
        critic = parts.network(parts.recipes.mlp, 1, 1)
    return actor, critic, parts.adam([actor, critic])


def _td3(parts: AgentParts) -> tuple[Any, ...]:
    return _actor_and_twin_critics(parts, parts.action_dim)


_PPO_OF_CHOICES = AgentClass("ppo", "PPOAgent", _ppo, takes_choices=True)

ALGORITHMS: Mapping[str, Algorithm] = {
    "ppo": Algorithm(
        name="ppo",
        hyperparams_type=PPOHyperparams,
        agents={
            Discrete: AgentClass("ppo", "PPOAgent", _ppo),
            MultiDiscrete: _PPO_OF_CHOICES,
            MultiBinary: _PPO_OF_CHOICES,
            Box: AgentClass("ppo_continuous", "GaussianPPOAgent", _gaussian_ppo),
        },
        hidden_sizes=(64, 64),
        num_envs=8,
        window_size=256,
        image_defaults={"learning_rate": 2.5e-4, "n_epochs": 4, "minibatch_size": 256},
        perceptron="mlp",
        search_space={"gae_lambda": ("float", 0.9, 0.99), "n_epochs": ("int", 3, 15)},
    ),
    "dqn": Algorithm(
        name="dqn",
        hyperparams_type=DQNHyperparams,
        agents={Discrete: AgentClass("dqn", "DQNAgent", _dqn)},
        hidden_sizes=(120, 84),
        num_envs=4,
        window_size=256,
        thrift=1,
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
        agents={Box: AgentClass("sac", "SACAgent", _sac)},
        hidden_sizes=(256, 256),
        num_envs=4,
        window_size=256,
        thrift=2,
        defaults={"learning_starts": 1000},
        image_defaults={"learning_starts": 10_000, "replay_capacity": 100_000},
    ),
    "td3": Algorithm(
        name="td3",
        hyperparams_type=TD3Hyperparams,
        agents={Box: AgentClass("td3", "TD3Agent", _td3)},
        hidden_sizes=(256, 256),
        num_envs=4,
        window_size=256,
        thrift=1,
        defaults={"learning_rate": 1e-3, "learning_starts": 1000},
        image_defaults={
            "learning_rate": 3e-4,
            "learning_starts": 10_000,
            "replay_capacity": 100_000,
        },
    ),
}


def names_algorithm(name: object) -> TypeGuard[str]:
    """Whether something is the name of an algorithm, in capitals or not."""
    return isinstance(name, str) and name.lower() in ALGORITHMS


def find_algorithm(name: str | None) -> Algorithm:
    """Return the algorithm of a name, in capitals or not; None: the default one.

    Raises:
        ValueError: If there is none, with the closest match.
    """
    if name is None:
        return ALGORITHMS[DEFAULT_ALGORITHM]
    if names_algorithm(name):
        return ALGORITHMS[name.lower()]
    near = closest(name, ALGORITHMS)
    hint = f"; did you mean {near!r}?" if near else ""
    raise ValueError(f"algorithm must be one of {', '.join(ALGORITHMS)}, got {name!r}{hint}")
