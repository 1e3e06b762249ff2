"""The rows of one live window while they come in: rows in, `EpisodeData` and `Transitions` out."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.core.types import Array, EpisodeData, Transitions

if TYPE_CHECKING:
    from tensor_optix.pipeline.live_rows import LiveRow

_ENV_IDS = np.zeros(1, np.int64)


class EpisodeTally:
    """Return and length of the episode under way, across windows."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget the episode."""
        self._return, self._length = 0.0, 0

    def add(self, reward: float) -> None:
        """Count a step."""
        self._return += reward
        self._length += 1

    def take(self) -> tuple[float, int]:
        """Return what the episode came to, and begin the next one."""
        result = self._return, self._length
        self.clear()
        return result


class LiveWindow:
    """Rows of one episode, or of a part of one. A row begins with an action, and may be paid later."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all rows."""
        self._begun = time.monotonic()
        self._observations: list[Array] = []
        self._actions: list[Array] = []
        self._paid: list[LiveRow] = []

    def __len__(self) -> int:
        return len(self._observations)

    @property
    def seconds(self) -> float:
        """Since the first row began."""
        return time.monotonic() - self._begun

    @property
    def last_observation(self) -> Array:
        """`[...]`, of the newest row."""
        return self._observations[-1]

    def begin(self, observation: Array, action: Array) -> None:
        """Add what was seen and done."""
        if not self._observations:
            self._begun = time.monotonic()
        self._observations.append(observation)
        self._actions.append(action)

    def pay(self, source: LiveRow) -> None:
        """Add what came of the newest row: the reward, the flags and the info of `source`."""
        self._paid.append(source)

    def drop_unpaid(self) -> Array | None:
        """Take out a row whose reward never came; return its observation, None if there is none."""
        if len(self._paid) == len(self):
            return None
        self._actions.pop()
        return self._observations.pop()

    def transition(self, following: Array) -> Transitions:
        """Return the newest row as a vector step of one environment; `following` is what it led to."""
        paid = self._paid[-1]
        return Transitions(
            self._observations[-1][None],
            self._actions[-1][None],
            np.array([paid.reward], np.float32),
            following[None],
            np.array([paid.terminated]),
            np.array([paid.truncated]),
            _ENV_IDS,
            1,
        )

    def cut(self, number: int, final_obs: Array) -> EpisodeData:
        """Return the window; the episode goes on with `final_obs` `[...]`."""
        return self._episode(number, final_obs=final_obs)

    def lost(self, number: int, final_obs: Array | None) -> EpisodeData:
        """Return the window; nobody knows how the episode went on.

        Args:
            number: The window's.
            final_obs: What the last row led to. None: that is not known, and the row is no transition.
        """
        episode = self._episode(number, final_obs=final_obs)
        episode.truncated[-1] = True  # type: ignore[index]
        if final_obs is None:
            episode.final_obs = self.last_observation
            episode.valid = self._all_but_last()
        return episode

    def end(self, number: int, last: Array | None, finished: tuple[float, int]) -> EpisodeData:
        """Return the window; the episode is over.

        Args:
            number: The window's.
            last: The episode's last observation. None: not known; then a truncated row cannot be
                bootstrapped, and is no transition.
            finished: The episode's return and length.
        """
        episode = self._episode(number, final_obs=None)
        episode.end_rows = np.array([len(self) - 1])
        episode.end_observations = (self.last_observation if last is None else last)[None]
        episode.finished_returns = np.array([finished[0]], np.float64)
        episode.finished_lengths = np.array([finished[1]], np.int64)
        if last is None and not self._paid[-1].terminated:
            episode.valid = self._all_but_last()
        return episode

    def _all_but_last(self) -> Array:
        return np.arange(len(self)) < len(self) - 1

    def _episode(self, number: int, final_obs: Array | None) -> EpisodeData:
        shown = self.last_observation
        infos: list[dict[str, Any]] = [paid.info for paid in self._paid]
        return EpisodeData(
            observations=np.stack(self._observations),
            actions=np.stack(self._actions),
            rewards=[paid.reward for paid in self._paid],
            terminated=[paid.terminated for paid in self._paid],
            truncated=[paid.truncated for paid in self._paid],
            infos=infos,
            episode_id=number,
            episode_starts=[0],
            final_obs=final_obs,
            end_rows=np.empty(0, np.int64),
            end_observations=np.empty((0, *shown.shape), shown.dtype),
            finished_returns=np.empty(0, np.float64),
            finished_lengths=np.empty(0, np.int64),
        )
