"""The return of an episode: rewards come in, returns and lengths of the episodes that finished go out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tensor_optix import kernels

if TYPE_CHECKING:
    from tensor_optix.core.types import Array


class EpisodeCounter:
    """Undiscounted returns and lengths of the episodes under way in N environments.

    Args:
        num_envs: N.
    """

    def __init__(self, num_envs: int) -> None:
        self._returns = np.zeros(num_envs, np.float64)
        self._lengths = np.zeros(num_envs, np.int64)

    @property
    def lengths(self) -> Array:
        """Steps `[N]` of the episodes under way."""
        return self._lengths

    def clear(self) -> None:
        """Forget what is under way."""
        self._returns[:] = 0.0
        self._lengths[:] = 0

    def state_dict(self) -> dict[str, Array]:
        """Return copies of what is under way."""
        return {"returns": self._returns.copy(), "lengths": self._lengths.copy()}

    def load_state_dict(self, state: dict[str, Array]) -> None:
        """Go on with what `state_dict` returned.

        Raises:
            ValueError: If it is of another number of environments.
        """
        for name, kept in (("returns", self._returns), ("lengths", self._lengths)):
            if np.shape(state[name]) != kept.shape:
                raise ValueError(
                    f"the {name} of episodes under way must have the shape {kept.shape}, got "
                    f"{np.shape(state[name])}: they are of another number of environments"
                )
            kept[:] = state[name]

    def add_step(
        self, env_ids: Array, rewards: Array | float, dones: Array
    ) -> tuple[Array, Array, Array]:
        """Add one row each of B environments.

        Args:
            env_ids: `[B]`, different ones.
            rewards: `[B]`, or the only one.
            dones: `[B]` bool, whether the row ends an episode.

        Returns:
            Environments, returns and lengths of the K episodes that finished, each `[K]`.
        """
        self._returns[env_ids] += rewards
        self._lengths[env_ids] += 1
        ended = env_ids[dones]
        finished = ended, self._returns[ended], self._lengths[ended]
        # Assigned, not subtracted: NaN would stay.
        self._returns[ended] = 0.0
        self._lengths[ended] = 0
        return finished

    def add_window(self, rewards: Array, dones: Array, valid: Array) -> tuple[Array, Array]:
        """Add a window `[T, N]`: float32 rewards, bool flags; rows that are not valid do not count.

        Returns:
            Returns and lengths of the K episodes that finished in it, row by row, each `[K]`.
        """
        returns, lengths = np.empty(rewards.size, np.float64), np.empty(rewards.size, np.int64)
        envs = np.empty(rewards.size, np.int32)
        running = self._returns, self._lengths
        count = kernels.episode_statistics(rewards, dones, valid, *running, returns, lengths, envs)
        # Copies: who keeps the few numbers is not to keep the room for as many as there might have been.
        return returns[:count].copy(), lengths[:count].copy()

    @property
    def under_way(self) -> Array:
        """`[N]` bool, which environments are in the middle of an episode."""
        return self._lengths > 0


class FirstEpisodes:
    """The first E episodes that N environments finish, with the same number of each.

    The first environments give one more where N does not divide E. Taking whichever finish first would
    favour short episodes.

    Args:
        episodes: E.
        num_envs: N.
    """

    def __init__(self, episodes: int, num_envs: int) -> None:
        self.returns = np.zeros(episodes, np.float64)
        """`[E]`, those of one environment together."""
        self.lengths = np.zeros(episodes, np.int64)
        """`[E]`, in the same order."""
        self._missing = episodes // num_envs + (np.arange(num_envs) < episodes % num_envs)
        self._next = np.cumsum(self._missing) - self._missing

    @property
    def is_complete(self) -> bool:
        """Whether every environment has finished its share."""
        return not self._missing.any()

    def give_up(self, is_lost: Array) -> int:
        """Wait no longer for the environments `[N]` that a bool marks; return how many episodes are lost."""
        lost = int(self._missing[is_lost].sum())
        self._missing[is_lost] = 0
        return lost

    def add(self, env_id: int, total: float, length: int) -> None:
        """Take the return and the length of an episode, unless its environment has given its share."""
        if self._missing[env_id]:
            self.returns[self._next[env_id]] = total
            self.lengths[self._next[env_id]] = length
            self._next[env_id] += 1
            self._missing[env_id] -= 1
