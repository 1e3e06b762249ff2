"""An agent that is a table, and learns right, or wrong in a way that can be chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import Discrete

from tensor_optix.core.base_agent import BaseAgent
from tensor_optix.core.types import HyperparamSet

if TYPE_CHECKING:
    from tensor_optix.core.types import Array, EpisodeData, PathLike
    from tests.probes.catalogue import Probe

FAULTS = frozenset(
    {
        "learns nothing",
        "ignores observations",
        "does not discount",
        "discounts twice",
        "does not bootstrap",
        "bootstraps terminated steps",
        "takes truncated for terminated",
        "bootstraps from the next row",
        "takes a window's border for an end",
        "mixes up environments",
        "mixes up final observations",
        "prefers the worst action",
        "does not stretch actions",
    }
)


class TabularAgent(BaseAgent):
    """Moves each state's value to the mean TD(0) target of a window; tries actions at random.

    Args:
        probe: Gives the states, which are the probe's observations, and the actions.
        fault: One of `FAULTS`, or None for an agent without.
    """

    def __init__(self, probe: Probe, fault: str | None = None) -> None:
        assert fault is None or fault in FAULTS
        self._fault = fault
        self._probe = probe
        self._gamma = probe.answer.gamma
        count = len(probe.observations)
        is_discrete = isinstance(probe.action_space, Discrete)
        reach = 1.0 if fault == "does not stretch actions" else 2.0
        box = np.arange(-reach, reach + 0.1, 0.5).astype(np.float32)[:, None]
        self._choices: Array = np.arange(2) if is_discrete else box
        self._values = np.zeros(count)
        self._paid = np.zeros((count, len(self._choices)))
        self._rng = np.random.default_rng(0)

    def value(self, observations: Array) -> Array:
        return self._values[self._states(observations)]

    def act(self, observation: Any) -> Any:
        return self._choices[self._rng.integers(len(self._choices))]

    def act_greedy(self, observations: Array) -> Array:
        paid = self._paid[self._states(observations)]
        worst = self._fault == "prefers the worst action"
        actions: Array = self._choices[(paid.argmin if worst else paid.argmax)(axis=1)]
        return actions

    def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
        if self._fault == "learns nothing":
            return {}
        states = self._states(episode_data.observations)
        valid = np.ones(len(states), bool) if episode_data.valid is None else episode_data.valid
        targets = self._targets(episode_data, states)
        actions = np.asarray(episode_data.actions)
        chosen = [int(np.argmin(np.abs(self._choices - action))) for action in actions]
        rewards = np.asarray(episode_data.rewards)
        for row in np.flatnonzero(valid):
            self._paid[states[row], chosen[row]] = rewards[row]
        for state in np.unique(states[valid]):
            self._values[state] = targets[valid & (states == state)].mean()
        return {}

    def _targets(self, episode: EpisodeData, states: Array) -> Array:
        rewards = np.asarray(episode.rewards, np.float64)
        terminated = np.asarray(episode.terminated, bool)
        truncated = np.asarray(episode.truncated, bool)
        next_states = self._next_states(episode, states)
        factor = {"does not discount": 1.0, "discounts twice": self._gamma**2}.get(
            self._fault or "", 0.0 if self._fault == "does not bootstrap" else self._gamma
        )
        goes_on = ~terminated
        if self._fault == "bootstraps terminated steps":
            goes_on[:] = True
        if self._fault == "takes truncated for terminated":
            goes_on &= ~truncated
        if self._fault == "takes a window's border for an end":
            goes_on[-episode.num_envs :] = False
        return rewards + factor * goes_on * self._values[next_states]

    def _next_states(self, episode: EpisodeData, states: Array) -> Array:
        stride = 1 if self._fault == "mixes up environments" else episode.num_envs
        last = states[-stride:]
        if episode.final_obs is not None:
            last = self._states(episode.final_obs.reshape(-1, *self._probe.observations.shape[1:]))
        following = np.append(states[stride:], last[-stride:])
        if self._fault != "bootstraps from the next row":
            assert episode.end_observations is not None
            following[self._end_rows(episode)] = [
                self._states(observation[None])[0] for observation in episode.end_observations
            ]
        return following

    def _end_rows(self, episode: EpisodeData) -> Array:
        assert episode.end_rows is not None
        return np.roll(episode.end_rows, self._fault == "mixes up final observations")

    def _states(self, observations: Any) -> Array:
        flat = np.asarray(observations, np.float64).reshape(len(observations), 1, -1)
        known = self._probe.observations.astype(np.float64).reshape(1, len(self._values), -1)
        states: Array = np.abs(flat - known).sum(axis=2).argmin(axis=1)
        return np.zeros_like(states) if self._fault == "ignores observations" else states

    def get_hyperparams(self) -> HyperparamSet:
        return HyperparamSet({"gamma": self._gamma})

    def set_hyperparams(self, hyperparams: HyperparamSet) -> None:
        self._gamma = hyperparams.params["gamma"]

    def save_weights(self, path: PathLike) -> None:
        raise NotImplementedError

    def load_weights(self, path: PathLike) -> None:
        raise NotImplementedError
