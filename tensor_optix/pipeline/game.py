"""The game behind episodes: where they end with a life, or their rewards are clipped, it is what is scored.

In come the infos of environments that tell of it; out goes a `Game`, which travels with the rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tensor_optix.pipeline.info_keys import InfoKeys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tensor_optix.core.types import Array

TELLS_GAME = "tells_game"
"""In the metadata of an environment: true where the infos of its steps have both keys."""
GAME_REWARD = "game_reward"
"""Key of an info: what the step added to the game's own score, a number."""
GAME_OVER = "game_over"
"""Key of an info: whether the game ended with the step, a bool; False where only an episode ended."""


class Game(NamedTuple):
    """What counts for the score in B rows, beside the rewards and the ends that are learned from."""

    rewards: Array
    """`[B]` float32, what the game itself paid; 0 where the row is not valid."""
    is_over: Array
    """`[B]` bool, whether the game ended; False where the row is not valid."""


class GameInfos:
    """Reads the game out of infos that tell of it."""

    def __init__(self) -> None:
        self._keys = InfoKeys((GAME_REWARD, GAME_OVER))

    def of_row(self, info: Mapping[str, Any]) -> Game:
        """Return what a plain environment's step tells, as one row."""
        return self._game([self._keys.of_row(info)], np.ones(1, bool))

    def of_rows(self, infos: Mapping[str, Any], valid: Array, dones: Array) -> Game:
        """Return what the infos of a vector step tell; arguments as those of `InfoKeys.of_rows`."""
        return self._game(self._keys.of_rows(infos, valid, dones), valid)

    def _game(self, rows: list[dict[str, Any]], valid: Array) -> Game:
        rewards, is_over = np.zeros(len(rows), np.float32), np.zeros(len(rows), bool)
        for n in np.flatnonzero(valid):
            if len(rows[n]) < 2:
                raise ValueError(
                    f'an environment whose metadata say "{TELLS_GAME}" must give "{GAME_REWARD}" and '
                    f'"{GAME_OVER}" in the info of every step, got {sorted(rows[n])}'
                )
            rewards[n], is_over[n] = rows[n][GAME_REWARD], rows[n][GAME_OVER]
        return Game(rewards, is_over)


def game_infos(metadata: Mapping[str, Any] | None) -> GameInfos | None:
    """Return what reads the infos of an environment with such metadata; None where it tells of no game."""
    return GameInfos() if metadata and metadata.get(TELLS_GAME) else None
