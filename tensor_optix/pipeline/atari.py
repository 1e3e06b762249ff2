"""Atari games as they are usually learned: an id comes in, how a game is made that way goes out.

Grey images of 84 by 84 pixels, four of them as one observation, each action for four frames, up to 30 no-ops
at the start, FIRE where a game waits for it, an episode for each life, rewards clipped to [-1, 1] (Mnih et
al. 2015, Methods). The score stays the game's own, and the same environments serve to evaluate. Sticky
actions (Machado et al. 2018) are the id's: `ALE/Pong-v5` has them, EnvPool's `Pong-v5` does not.
"""

from __future__ import annotations

import copy
from typing import Any, TypedDict

import gymnasium
from gymnasium.wrappers import AtariPreprocessing, ClipReward, FrameStackObservation

from tensor_optix.core.environment_ids import ATARI_NAMES, envpool_ids
from tensor_optix.core.envpool_import import import_envpool
from tensor_optix.pipeline.game import GAME_OVER, GAME_REWARD, TELLS_GAME

FRAMES = 4
NO_OP, FIRE = 0, 1
ENVPOOL_KWARGS = {"episodic_life": True, "reward_clip": True}
"""The rest of it is EnvPool's own default."""


def is_atari(env_id: str) -> bool:
    """Whether an id is that of an Atari game, of EnvPool's or of ale-py's."""
    module, _, name = env_id.rpartition(":")
    spec = gymnasium.registry.get(name)
    is_registered = spec is not None and str(spec.entry_point).startswith("ale_py.")
    return (
        name.startswith(ATARI_NAMES) or module == "ale_py" or is_registered or _is_envpools(env_id)
    )


class AtariArguments(TypedDict):
    """How a game is made with the standard preprocessing."""

    env_id: str
    backend: str
    env_kwargs: dict[str, Any]
    wrappers: tuple[str, ...]


def atari(env_id: str, backend: str = "auto") -> AtariArguments:
    """Return the arguments with which `VectorBatchPipeline` makes a game with the standard preprocessing.

    `VectorBatchPipeline(**atari("Pong-v5"), num_envs=8)`, for instance.

    Args:
        env_id: A game of EnvPool's, such as `"Pong-v5"`, or of ale-py's, such as `"ALE/Pong-v5"`.
        backend: `"auto"`, or who is to step it.

    Raises:
        ValueError: If it is no Atari game.
    """
    if not is_atari(env_id):
        raise ValueError(
            f'the Atari preprocessing needs an Atari game, such as "Pong-v5" of EnvPool or "ALE/Pong-v5" of '
            f'ale-py, got "{env_id}"'
        )
    if _is_envpools(env_id):
        chosen = "envpool" if backend == "auto" else backend
        return AtariArguments(
            env_id=env_id, backend=chosen, env_kwargs=dict(ENVPOOL_KWARGS), wrappers=()
        )
    wrappers = (f"{__name__}:{preprocessed.__name__}",)
    return AtariArguments(
        env_id=env_id, backend=backend, env_kwargs={"frameskip": 1}, wrappers=wrappers
    )


def preprocessed(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    """Put the standard preprocessing around one of ale-py's games.

    Args:
        env: Of `gymnasium.make(env_id, frameskip=1)`.

    Raises:
        ValueError: If its observations are no pictures.
    """
    if len(env.observation_space.shape or ()) not in (2, 3):
        raise ValueError(
            f"the Atari preprocessing needs pictures, got {env.observation_space}: leave it out, on the "
            "command line by --no-atari"
        )
    frames = FrameStackObservation(AtariPreprocessing(env, frame_skip=FRAMES), FRAMES)
    return ClipReward(EpisodicLife(frames), -1.0, 1.0)


class EpisodicLife(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Ends an episode with each life, while the game goes on, and tells what the game itself paid.

    After a lost life one step is taken with no input, or with FIRE where there is that, and the next episode
    begins behind it; what this step pays belongs to the game, and to no episode. The info of every step says
    as "game_reward" what the game's score rose by, and as "game_over" whether the game ended. Wrappers around
    this one may change the rewards that are learned from.

    Args:
        env: Has `get_action_meanings`, and `"lives"` in its infos, as ale-py's have.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self.metadata = {**env.metadata, TELLS_GAME: True}
        meanings = env.get_wrapper_attr("get_action_meanings")()
        self._fires = "FIRE" in meanings[FIRE : FIRE + 1]
        self._lives = 0
        self._next_life: tuple[Any, dict[str, Any]] | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin with the next life where one was lost, else, or with a seed, begin a game."""
        next_life, self._next_life = self._next_life, None
        if next_life is not None and seed is None and not options:
            return next_life
        observation, info = self.env.reset(seed=seed, options=options)
        if self._fires:
            observation, _, terminated, truncated, info = self.env.step(FIRE)
            if terminated or truncated:
                observation, info = self.env.reset(options=options)
        self._lives = info["lives"]
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take one step, and the one behind it where it costs a life."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        paid, is_over = float(reward), bool(terminated or truncated)
        self._next_life = None
        # A game may stay at its last life, number 0, for some frames before it is over.
        is_lost = 0 < info["lives"] < self._lives and not is_over
        self._lives = info["lives"]
        if is_lost:
            # The environment may write over what it has shown.
            observation, info = copy.deepcopy((observation, info))
            more, is_over = self._begin_next_life()
            paid += more
        told = {**info, GAME_REWARD: paid, GAME_OVER: is_over}
        return observation, reward, bool(terminated or is_lost), bool(truncated), told

    def _begin_next_life(self) -> tuple[float, bool]:
        """Take the step between two lives; return what it paid, and whether it ended the game."""
        action = FIRE if self._fires else NO_OP
        observation, reward, terminated, truncated, info = self.env.step(action)
        is_over = bool(terminated or truncated)
        self._lives = info["lives"]
        self._next_life = None if is_over else (observation, info)
        return float(reward), is_over


def _is_envpools(env_id: str) -> bool:
    # Who registered an environment under the name of a game means that one.
    if env_id not in envpool_ids() or env_id in gymnasium.registry:
        return False
    try:
        return "reward_clip" in import_envpool().make_spec(env_id).config._fields
    except Exception:
        # Some ids of EnvPool's cannot be made; whoever makes them says why.
        return False
