"""Wrappers that cases name on the command line."""

from __future__ import annotations

from typing import Any

from mo_gymnasium.wrappers import LinearReward


def one_reward(env: Any) -> LinearReward:
    """Return an environment that pays the mean of its several rewards."""
    return LinearReward(env)
