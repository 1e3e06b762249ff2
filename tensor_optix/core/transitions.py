"""The steps of a window, one vector step after the other: `EpisodeData` comes in, `Transitions` go out.

Also, whether a window consists of steps that were seen before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tensor_optix.core.types import Array, EpisodeData, Transitions

if TYPE_CHECKING:
    from collections.abc import Iterator


class ObservedRows:
    """The rows that an agent was shown since the last window it learned from: how many, and the last."""

    def __init__(self) -> None:
        self._rows = 0
        self._last: tuple[int, Array, Array] | None = None

    def add(self, transitions: Transitions) -> None:
        """Count the rows of a vector step and keep a copy of the first."""
        self._rows += len(transitions.rewards)
        observation, action = transitions.observations[0], transitions.actions[0]
        self._last = int(transitions.env_ids[0]), np.array(observation), np.array(action)

    def covers(self, episode: EpisodeData) -> bool:
        """Return whether the rows of a window are among these.

        A count is not enough: what was collected may have been thrown away, as when a run is interrupted.
        """
        if self._last is None or self._rows < episode.num_steps:
            return False
        env_id, observation, action = self._last
        valid = np.ones(episode.length, bool) if episode.valid is None else episode.valid
        own = np.flatnonzero(np.asarray(valid)[env_id :: episode.num_envs])
        if env_id >= episode.num_envs or not len(own):
            return False
        row = int(own[-1]) * episode.num_envs + env_id
        return np.array_equal(episode.observations[row], observation, equal_nan=True) and (
            np.array_equal(episode.actions[row], action, equal_nan=True)
        )


def transitions_of(episode: EpisodeData) -> Iterator[Transitions]:
    """Yield the rows of a window in time order, each environment's with its own next observation.

    Where an episode ended, that is its true last observation. Left out are rows that are not valid, and those
    whose next observation is not known: a truncated row without it, and the last one where the
    window has no `final_obs`. A terminated row never needs it: its own observation stands in.
    """
    num_envs = episode.num_envs
    observations = episode.grid(np.asarray(episode.observations))
    actions = episode.grid(np.asarray(episode.actions))
    rewards = episode.grid(episode.rewards, np.float32)
    terminated = episode.grid(episode.terminated, bool)
    truncated = episode.grid(episode.truncated, bool)
    is_valid = np.ones(len(episode.rewards), bool) if episode.valid is None else episode.valid
    valid = episode.grid(is_valid, bool)
    ends = _end_observations(episode)
    for t in range(len(rewards)):
        following, known = _following(episode, observations, t)
        dones = terminated[t] | truncated[t]
        usable = valid[t] & known
        for n in np.flatnonzero(dones):
            row = t * num_envs + int(n)
            following[n] = ends.get(row, observations[t, n])
            usable[n] = valid[t, n] & (terminated[t, n] | (row in ends))
        rows = np.flatnonzero(usable)
        if len(rows):
            yield Transitions(
                observations[t][rows],
                actions[t][rows],
                rewards[t][rows],
                following[rows],
                terminated[t][rows],
                truncated[t][rows],
                rows,
                num_envs,
            )


def _following(episode: EpisodeData, observations: Array, t: int) -> tuple[Array, bool]:
    """Return what each environment shows after row `t`, and whether that is known."""
    if t + 1 < len(observations):
        return observations[t + 1].copy(), True
    if episode.final_obs is None:
        return observations[t].copy(), False
    final = np.array(episode.final_obs, observations.dtype)
    return final.reshape(observations[t].shape), True


def _end_observations(episode: EpisodeData) -> dict[int, Array]:
    if episode.end_rows is None or episode.end_observations is None:
        return {}
    return dict(zip(episode.end_rows.tolist(), episode.end_observations, strict=True))
