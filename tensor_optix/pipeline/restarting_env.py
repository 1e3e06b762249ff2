"""An environment that is made anew where it fails: what makes it comes in, an environment goes out."""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING, Any

import gymnasium

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

MOST_IN_A_ROW = 3
"""Failures without a step between them, after which making it anew is no help."""


class RestartingEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Goes on after an exception, with another environment of the same function.

    The episode is cut: the step that failed is a truncation, with no reward, at the observation before it.

    Args:
        make: Makes a `gymnasium.Env`.
        number: Of the environment, for messages.

    Raises:
        TypeError: If the function makes something else.
    """

    def __init__(self, make: Callable[[], Any], number: int = 0) -> None:
        env = make()
        if not isinstance(env, gymnasium.Env):
            raise TypeError(
                f"restart_environments takes environments of Gymnasium's, got a {type(env).__name__}"
            )
        super().__init__(env)
        self._make = make
        self._number = number
        self._shown: Any = None
        self._info: dict[str, Any] = {}
        self.restarts = 0
        """How often it was made anew."""
        self._in_a_row = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; if that fails, in an environment made anew."""
        while True:
            try:
                observation, info = self.env.reset(seed=seed, options=options)
            except Exception as error:
                self._begin_anew(error)
            else:
                return self._noted(observation, info), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take a step; one that fails cuts the episode."""
        try:
            observation, reward, terminated, truncated, info = self.env.step(action)
        except Exception as error:
            self._begin_anew(error)
            return self._shown, 0.0, False, True, dict(self._info)
        self._in_a_row = 0
        return self._noted(observation, info), reward, terminated, truncated, info

    def _noted(self, observation: Any, info: dict[str, Any]) -> Any:
        self._shown, self._info = copy.deepcopy(observation), info
        return observation

    def _begin_anew(self, error: Exception) -> None:
        """Make the environment anew. Raises what it raised where that was no help before."""
        self._in_a_row += 1
        if self._in_a_row > MOST_IN_A_ROW:
            raise error
        self.restarts += 1
        logger.warning(
            "environment %d failed and is made anew, its episode is cut (%d so far): %s: %s",
            self._number,
            self.restarts,
            type(error).__name__,
            error,
        )
        try:
            self.env.close()
        except Exception as closing:
            logger.info("it could not be closed: %r", closing)
        self.env = self._make()
