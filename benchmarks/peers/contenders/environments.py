"""One Gymnasium environment, for contenders that bring no wrappers of their own: settings in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium
from gymnasium.wrappers import FrameStackObservation, ReshapeObservation

if TYPE_CHECKING:
    from benchmarks.peers.settings import Settings


def make_env(settings: Settings) -> Any:
    """Return an environment; an Atari game in Stable-Baselines3's wrappers, four frames `[4, 84, 84]`."""
    if not getattr(settings, "is_atari", False):
        return gymnasium.make(settings.env_id)
    # Only here: what is not needed would count as start-up.
    import ale_py
    from stable_baselines3.common.atari_wrappers import AtariWrapper

    gymnasium.register_envs(ale_py)
    frames = FrameStackObservation(AtariWrapper(gymnasium.make(settings.env_id)), 4)
    return ReshapeObservation(frames, (4, 84, 84))
