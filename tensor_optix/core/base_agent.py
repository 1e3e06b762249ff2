"""The contract of an agent: six methods, and optional hooks that a capable agent overrides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    from tensor_optix.core.replay_buffer import ReplayBuffer
    from tensor_optix.core.types import Array, EpisodeData, HyperparamSet, PathLike, Transitions


@dataclass(frozen=True, kw_only=True)
class AgentRecipe:
    """How `make_agent` made an agent: with it, and the environment, it makes the same one again."""

    algorithm: str
    framework: str
    hidden_sizes: tuple[int, ...]
    device: str
    normalize_observations: bool
    normalize_rewards: bool
    channels: Literal["first", "last"] | None = None
    engine: Literal["auto", "native", "framework"] = "auto"


class BaseAgent(ABC):
    """A policy that acts and learns. The six abstract methods are all that the loop needs.

    Batched acting, greedy acting and whole-learner checkpoints have defaults built from the six.

    Examples:
        >>> from tensor_optix import BaseAgent, HyperparamSet
        >>> class Still(BaseAgent):
        ...     act = lambda self, observation: 0
        ...     learn = lambda self, episode_data: {}
        ...     get_hyperparams = lambda self: HyperparamSet({})
        ...     set_hyperparams = lambda self, hyperparams: None
        ...     save_weights = load_weights = lambda self, path: None
        >>> Still().act_batch([[0.1], [0.2]])
        array([0, 0])
    """

    recipe: AgentRecipe | None = None
    """How it was made, if `make_agent` did."""

    @property
    def updates_by(self) -> str:
        """What makes its updates, and why, in words; empty if it does not tell."""
        return ""

    # Cached properties, which a class attribute of a subclass or an assignment in its constructor replaces.
    @cached_property
    def default_param_bounds(self) -> Mapping[str, tuple[float, float]]:
        """Bounds of the hyperparameters that a tuner may change."""
        return {}

    @cached_property
    def default_log_params(self) -> Sequence[str]:
        """Those of them that are tuned on a logarithmic scale."""
        return ()

    @cached_property
    def default_params(self) -> Mapping[str, Any]:
        """The documented values of the hyperparameters that can be changed while the agent trains."""
        return {}

    @cached_property
    def default_min_episodes_before_dormant(self) -> int:
        """Evaluations before DORMANT may be declared, where the user names none."""
        return 0

    @cached_property
    def has_unit_actions(self) -> bool:
        """Whether continuous actions are in [-1, 1], to be stretched to the bounds of the action space."""
        return False

    @cached_property
    def sees_rows(self) -> bool:
        """Whether a Dict or a Tuple is to come in one row, as `core.observation_layout` lays it out."""
        return False

    @cached_property
    def takes_action_masks(self) -> bool:
        """Whether observations come with the mask of the actions behind them, where the environment has one.

        The observation space is a `core.observation_layout.MaskedSpace` then.
        """
        return False

    @cached_property
    def counts_from_zero(self) -> bool:
        """Whether actions are numbers or rows, `[N]` or `[N, K]`, and discrete ones counted from 0.

        Pipelines then give them the shape that the action space has, and add what it starts at.
        """
        return False

    @abstractmethod
    def act(self, observation: Any) -> Any:
        """Choose an action for one observation.

        Called freely, also for validation, but by nobody between the last action of a window and the
        `learn` that gets it: what is recorded here ends with that window's own actions then.
        """

    @abstractmethod
    def learn(self, episode_data: EpisodeData) -> dict[str, Any] | None:
        """Improve the policy from one window; return diagnostics, or nothing."""

    @abstractmethod
    def get_hyperparams(self) -> HyperparamSet:
        """Return a copy of the hyperparameters in force."""

    @abstractmethod
    def set_hyperparams(self, hyperparams: HyperparamSet) -> None:
        """Put hyperparameters in force."""

    @abstractmethod
    def save_weights(self, path: PathLike) -> None:
        """Write the policy to `path`: into a directory that is created there, or as a file."""

    @abstractmethod
    def load_weights(self, path: PathLike) -> None:
        """Read a policy that `save_weights` wrote."""

    @property
    def is_on_policy(self) -> bool:
        """Whether the agent learns only from its current policy's data. Off-policy: no rollback."""
        return True

    def observe(self, transitions: Transitions) -> None:
        """See one vector step of the agent's own acting, and perhaps learn from it at once.

        Called by a pipeline between two steps, for agents that are not on-policy. The same rows come
        once more, as a window, to `learn`.
        """

    def begin_episodes(self) -> None:
        """Forget what was summed up over the episodes under way: their environments were all reset.

        Called by a pipeline whenever it begins afresh with this agent, before the first step.
        """

    @property
    def is_exploring(self) -> bool:
        """Whether a schedule still lowers the exploration: then no plateau ends the run."""
        return False

    def act_batch(self, observations: Array) -> Array:
        """Choose actions for `[N, ...]` observations; return `[N]` or `[N, A]`."""
        return np.stack([np.asarray(self.act(observation)) for observation in observations])

    def act_each(self, observations: Array) -> list[Any]:
        """Choose actions for `[N, ...]` observations, each as `act` gives it.

        Called by a pipeline in place of `act_batch` where the action space is of another kind than those
        whose actions are arrays: a Dict, a Tuple, one of the user's.
        """
        return [self.act(observation) for observation in observations]

    def act_greedy(self, observations: Array) -> Array:
        """Choose the policy's best actions for `[N, ...]` observations, without exploration."""
        return self.act_batch(observations)

    def check_spaces(self, observation_space: Any, action_space: Any) -> None:
        """Refuse Gymnasium spaces that the agent cannot deal with, before the first step.

        Raises:
            ValueError: Naming what was expected, and what the environment has.
        """

    def seed(self, seed: int) -> None:
        """Make every random choice of the agent follow from `seed`."""

    def save_state(self, path: PathLike) -> None:
        """Write the whole learner (weights, optimizer, ...) into the directory `path`."""
        self.save_weights(path)

    def load_state(self, path: PathLike) -> None:
        """Read a learner that `save_state` wrote."""
        self.load_weights(path)

    def run_state(self) -> dict[str, Any]:
        """Return what a checkpoint of the whole run holds of the learner beside `save_state` and `replays`.

        Called between two windows. Plain values and NumPy arrays, as `core.checkpoints.saved_state` has
        them.
        """
        return {}

    def load_run_state(self, state: dict[str, Any]) -> None:
        """Take on what `run_state` returned; called last, when all else of the learner is as it was.

        Raises:
            ValueError: If it does not fit; also KeyError and TypeError are understood as that.
        """

    @property
    def replays(self) -> Mapping[str, ReplayBuffer]:
        """The replay buffers that a checkpoint of the whole run holds, by a name for each."""
        return {}

    def load_replays(self, states: Mapping[str, Mapping[str, Array]]) -> None:
        """Take on the states of all `replays`, each as `ReplayBuffer.state_dict` has it.

        Called after `load_state`, with the hyperparameters in force; a buffer that is not named is empty.

        Raises:
            ValueError: If one is damaged, or does not fit.
        """

    def keeping_progress(self) -> AbstractContextManager[None]:
        """Return a context at whose end counters, schedules and random generators are as at its beginning.

        In it the best policy is put back: what it knows comes back, how far the training has come (the
        exploration that is left, say) does not.
        """
        return nullcontext()

    def has_finite_weights(self) -> bool:
        """Whether every weight is a finite number. Asked after each `learn`, before the next action."""
        return True

    def reduce_step(self) -> None:
        """Learn more carefully from now on: called when learning had produced what is not finite."""

    @property
    def scheduled_params(self) -> frozenset[str]:
        """Names of the hyperparameters that a schedule of the user's moves: tuners leave them alone."""
        return frozenset()

    def unscheduled_params(self) -> dict[str, Any]:
        """Return the hyperparameters in force that follow no schedule."""
        params = self.get_hyperparams().params
        return {name: params[name] for name in params if name not in self.scheduled_params}

    def set_progress(self, remaining: float) -> None:
        """Hear how much of the run is left. Outside of a loop nobody tells: then it stays at 1.

        Called by a loop before each window.

        Args:
            remaining: The share of its steps or windows, whichever is less: 1 before the first, and above 0
                before the last. 1 in a run without a cap.
        """

    def action_probs(self, observations: Array) -> Array:
        """Return the probabilities `[N, A]` of the A discrete actions for `[N, ...]` observations.

        Where an action is a row of choices, those of each choice side by side.

        Raises:
            NotImplementedError: If the agent has none: its actions are continuous, or it hides them.
        """
        raise NotImplementedError(f"{type(self).__name__} does not tell action probabilities")

    def average_weights(self, paths: Sequence[PathLike]) -> bool:
        """Take on the mean of stored weights; return whether the agent can."""
        return False

    def perturb_weights(self, noise_scale: float) -> None:
        """Multiply every weight by `1 + noise_scale * N(0, 1)`."""


BATCHED_METHODS = ("act_batch", "act_greedy", "action_probs")


def older_than_act(agent_type: type[BaseAgent]) -> frozenset[str]:
    """Return the batched methods that an agent class inherits from above the class that overrides `act`.

    Who overrides `act` alone of an agent that acts on batches by itself means it for batches, evaluations
    and ensembles, too: such an agent asks here when it is made, and leaves these methods to the defaults.
    """
    return frozenset(name for name in BATCHED_METHODS if overrides(agent_type, "act", name))


def has_own(agent: BaseAgent, name: str) -> bool:
    """Whether a batched method of an agent is its own, and not to be made of its `act`."""
    return name in vars(agent) or name not in older_than_act(type(agent))


def overrides(agent_type: type[BaseAgent], name: str, over: str) -> bool:
    """Whether an agent class defines `name` nearer to itself than what it has of `over`."""
    mro = agent_type.__mro__
    return _definer(mro, name) < _definer(mro, over)


def _definer(mro: Sequence[type], name: str) -> int:
    """Return how far up a method resolution order `name` is defined."""
    return next(i for i, base in enumerate(mro) if name in vars(base))
