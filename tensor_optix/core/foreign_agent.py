"""Agents that are no `BaseAgent`: any object with the methods comes in, an agent that acts by it goes out.

The doors of the library ask `as_agent` once; what is handed back to the user is the user's own object.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakValueDictionary

import numpy as np

from tensor_optix.core.argument_checks import kind_of
from tensor_optix.core.base_agent import BaseAgent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensor_optix.core.replay_buffer import ReplayBuffer
    from tensor_optix.core.types import Array, EpisodeData, HyperparamSet, PathLike


class Actor(Protocol):
    """What a pipeline needs of an agent."""

    def act(self, observation: Any) -> Any:
        """Choose an action for one observation."""


class AgentLike(Actor, Protocol):
    """What the loop needs of an agent; `BaseAgent` says what the methods mean."""

    def learn(self, episode_data: EpisodeData, /) -> Any:
        """Improve the policy from one window; return diagnostics, or nothing."""

    def get_hyperparams(self) -> HyperparamSet:
        """Return a copy of the hyperparameters in force."""

    def set_hyperparams(self, hyperparams: HyperparamSet, /) -> Any:
        """Put hyperparameters in force."""

    def save_weights(self, path: Any, /) -> Any:
        """Write the policy to `path`."""

    def load_weights(self, path: Any, /) -> Any:
        """Read a policy that `save_weights` wrote."""


SIX_METHODS = ("act", "learn", "get_hyperparams", "set_hyperparams", "save_weights", "load_weights")
HOOKS = (
    "observe",
    "act_batch",
    "act_greedy",
    "check_spaces",
    "seed",
    "has_finite_weights",
    "reduce_step",
    "average_weights",
    "perturb_weights",
)
"""Optional methods of `BaseAgent` that mean the same in any object."""
STATEMENTS = {
    "default_param_bounds": dict,
    "default_log_params": (list, tuple),
    "default_min_episodes_before_dormant": int,
    "has_unit_actions": bool,
    "sees_rows": bool,
    "takes_action_masks": bool,
    "counts_from_zero": bool,
}
"""Optional attributes of `BaseAgent`, and their kinds."""
PAIRS = (("save_state", "load_state"), ("run_state", "load_run_state"))


class ForeignAgent(BaseAgent):
    """Acts and learns by an object of the user's.

    The optional methods and attributes of `BaseAgent` are heard where the object has them; `save_state` and
    `load_state` where it has both, and so `run_state` and `load_run_state`, `replays` and `load_replays`.
    `action_probs` is asked for one observation at a time, for `[A]`.

    Args:
        own: The object.
    """

    def __init__(self, own: Any) -> None:
        self.own = own
        self._has_replays = _states(own, "replays", Mapping) and _has(own, "load_replays")
        whole = [pair for pair in PAIRS if all(_has(own, name) for name in pair)]
        for name in (*HOOKS, *chain(*whole)):
            if _has(own, name):
                setattr(self, name, getattr(own, name))
        for name, kind in STATEMENTS.items():
            if _states(own, name, kind):
                setattr(self, name, getattr(own, name))

    def act(self, observation: Any) -> Any:
        """Let the object choose."""
        return self.own.act(observation)

    def learn(self, episode_data: EpisodeData) -> Any:
        """Let the object learn."""
        return self.own.learn(episode_data)

    def get_hyperparams(self) -> HyperparamSet:
        """Return the object's hyperparameters."""
        return self.own.get_hyperparams()  # type: ignore[no-any-return]

    def set_hyperparams(self, hyperparams: HyperparamSet) -> None:
        """Set the object's hyperparameters."""
        self.own.set_hyperparams(hyperparams)

    def save_weights(self, path: PathLike) -> None:
        """Let the object write its policy."""
        self.own.save_weights(path)

    def load_weights(self, path: PathLike) -> None:
        """Let the object read a policy."""
        self.own.load_weights(path)

    @property
    def is_on_policy(self) -> bool:
        """What the object says; True where it says nothing."""
        return bool(self.own.is_on_policy) if _states(self.own, "is_on_policy", bool) else True

    @property
    def is_exploring(self) -> bool:
        """What the object says; False where it says nothing."""
        return bool(self.own.is_exploring) if _states(self.own, "is_exploring", bool) else False

    @property
    def replays(self) -> Mapping[str, ReplayBuffer]:
        """Those of the object; none where it has no `load_replays`."""
        replays: Mapping[str, ReplayBuffer] = self.own.replays if self._has_replays else {}
        return replays

    def load_replays(self, states: Mapping[str, Mapping[str, Array]]) -> None:
        """Let the object take on the states of its `replays`."""
        if self._has_replays:
            self.own.load_replays(states)

    def action_probs(self, observations: Array) -> Array:
        """Ask the object for the probabilities of each observation.

        Raises:
            NotImplementedError: If it has none.
        """
        if not _has(self.own, "action_probs"):
            return super().action_probs(observations)
        rows = [np.asarray(self.own.action_probs(one), np.float64) for one in observations]
        return np.stack([row.reshape(-1) for row in rows])


def as_agent(agent: Any, name: str = "agent", needs: Sequence[str] = SIX_METHODS) -> BaseAgent:
    """Return an agent as the library uses it: a `BaseAgent` itself, or one that acts by any other object.

    The same object gives the same agent, as long as that is in use.

    Args:
        agent: What the user gave.
        name: What errors call it.
        needs: The methods without which it is none.

    Raises:
        TypeError: If it is a class, or lacks a method.
    """
    if isinstance(agent, BaseAgent):
        return agent
    if isinstance(agent, type):
        raise TypeError(f"{name} must be an agent, got {kind_of(agent)}")
    missing = [method for method in needs if not callable(getattr(agent, method, None))]
    if missing:
        kind = type(agent).__name__
        raise TypeError(
            f"{name} must be a BaseAgent, got {kind}; any other object needs {', '.join(needs)}, and "
            f"{kind} has no {', '.join(missing)}"
        )
    known = _in_use.get(id(agent))
    if known is None:
        known = _in_use[id(agent)] = ForeignAgent(agent)
    return known


def as_actor(agent: Any, name: str = "agent") -> BaseAgent:
    """Return an agent for a pipeline, of which nothing but `act` is asked. Raises TypeError as `as_agent`."""
    return as_agent(agent, name, ("act",))


def own_object(agent: Any) -> Any:
    """Return what the user knows an agent as: the object that was given."""
    return agent.own if isinstance(agent, ForeignAgent) else agent


def has_averaged(agent: BaseAgent, paths: Sequence[PathLike]) -> bool:
    """Let an agent take on the mean of stored weights; return whether it did. Who answers nothing did."""
    answer: bool | None = agent.average_weights(paths)
    return answer is None or bool(answer)


_in_use: WeakValueDictionary[int, ForeignAgent] = WeakValueDictionary()
"""By the ids of their objects, which they keep alive: two doors must take one object for one agent."""


def _has(agent: Any, name: str) -> bool:
    """Whether an object has a method, which it does not just make up, as a test's double does."""
    found = getattr(agent, name, None)
    return callable(found) and (_defines(agent, name) or inspect.isroutine(found))


def _states(agent: Any, name: str, kind: Any) -> bool:
    """Whether an object has an attribute of a kind, or defines one of any kind."""
    found = getattr(agent, name, None)
    return isinstance(found, kind) or (found is not None and _defines(agent, name))


def _defines(agent: Any, name: str) -> bool:
    return inspect.getattr_static(agent, name, None) is not None
