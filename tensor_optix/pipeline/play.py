"""Playing whole episodes with a policy's best actions: an agent and environments in, returns out.

Nothing is learned or recorded. The `tensor-optix evaluate` command is built on it.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tensor_optix.core.decisions.episode_ends import EpisodesWithoutEnd, did_not_end, steps_to_end
from tensor_optix.core.decisions.validation import GreedyAgent
from tensor_optix.core.episode_returns import EpisodeCounter, FirstEpisodes
from tensor_optix.core.foreign_agent import as_actor
from tensor_optix.core.observation_layout import MaskedSpace
from tensor_optix.pipeline.action_scaling import chooser_of, environment_actions
from tensor_optix.pipeline.agent_view import seen_by

if TYPE_CHECKING:
    from collections.abc import Callable

    from tensor_optix.core.foreign_agent import Actor
    from tensor_optix.core.types import Array
    from tensor_optix.pipeline.vector_contract import VectorEnv

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Played:
    """What came of playing."""

    returns: Array
    """`[K]` float64, the undiscounted returns of the episodes that ended."""
    lengths: Array
    """`[K]` int64, in steps, in the same order."""
    given_up: int
    """How many others were not waited for, as one of their environment did not end in time."""
    most_steps: int
    """Steps that an episode was given."""
    steps: int
    """Of all environments, also in episodes that did not end."""
    reward_per_step: float
    """The mean over these; NaN without any."""


def play_episodes(
    agent: Actor,
    env: VectorEnv,
    episodes: int,
    seed: int | None = None,
    rescale_actions: bool = True,
) -> tuple[Array, Array]:
    """Play `episodes` episodes greedily, from their beginnings to their ends.

    Every environment plays a number of episodes that is fixed beforehand: taking the first that
    finish instead would favour the short ones. A reward that is NaN makes its own episode's return
    NaN, and no other.

    An episode is given as many steps as its time limit has, or `MOST_STEPS` where none is known. What takes
    longer is left out with a warning, and so are the further episodes of its environment.

    Args:
        agent: Acts by `act_greedy`, where it has that, or by `act`.
        env: Is reset first, and stays open.
        episodes: E, how many to play in all; the environments differ by at most one.
        seed: Of the reset. None: go on with the random state that the environments have.
        rescale_actions: Whether an agent's actions in [-1, 1] are stretched to the action space, as a
            pipeline does.

    Returns:
        The undiscounted returns `[E]` float64 and the lengths `[E]` int64 in steps, the episodes of
        one environment together; only of those that ended.

    Raises:
        ValueError: If `episodes` is below 1, or actions do not have the form that the action space asks for.
        EpisodesWithoutEnd: A RuntimeError, if none ended. It says the mean reward a step; `play_bounded`
            returns it.
    """
    most_steps = steps_to_end(env.max_episode_steps)
    played = _play(agent, env, episodes, most_steps, (seed, rescale_actions))
    if played.given_up:
        said = did_not_end(played.given_up, episodes, most_steps)
        if not len(played.returns):
            raise EpisodesWithoutEnd(
                f"{said}: there is no return, only a mean reward of {played.reward_per_step:g} a step; "
                "give the environment a time limit, or use play_bounded"
            )
        logger.warning("%s, and are left out", said)
    return played.returns, played.lengths


def play_bounded(
    agent: Actor,
    env: VectorEnv,
    episodes: int,
    most_steps: int,
    is_over: Callable[[], bool] = lambda: False,
    seed: int | None = None,
) -> Played:
    """Play like `play_episodes`, but return what there is also where no episode ends.

    Args:
        agent: Acts by `act_greedy`.
        env: Is reset first, and stays open.
        episodes: E, how many to play.
        most_steps: What an episode is given, in steps: if one has not ended then, it and the further ones of
            its environment are given up.
        is_over: Asked after every step; True ends the playing.
        seed: Of the reset. None: go on with the random state that the environments have.

    Raises:
        ValueError: If `episodes` is below 1, or actions do not have the form that the action space asks for.
    """
    return _play(agent, env, episodes, most_steps, (seed, True), is_over)


def _play(
    agent: Actor,
    env: VectorEnv,
    episodes: int,
    most_steps: int,
    options: tuple[int | None, bool],
    is_over: Callable[[], bool] = lambda: False,
) -> Played:
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, got {episodes}")
    seed, rescale_actions = options
    counter, played = EpisodeCounter(env.num_envs), FirstEpisodes(episodes, env.num_envs)
    actor = as_actor(agent)
    env.reset(seed)
    env = seen_by(actor, env)
    if isinstance(env.observation_space, MaskedSpace):
        actor.check_spaces(env.observation_space, env.action_space)
    to_env = environment_actions(actor, env.action_space, rescale_actions)
    chooser = chooser_of(GreedyAgent(actor), env.action_space)
    steps, rewards, given_up = 0, 0.0, 0
    while True:
        step = env.recv()
        valid, (paid, dones) = step.valid, step.scored
        finished = counter.add_step(step.env_ids[valid], paid[valid], dones[valid])
        for env_id, total, length in zip(*finished, strict=True):
            played.add(env_id, total, length)
        steps += int(np.count_nonzero(valid))
        rewards += float(np.sum(paid[valid], dtype=np.float64))
        if steps >= most_steps:
            given_up += played.give_up(counter.lengths >= most_steps)
        if played.is_complete or is_over():
            ended = played.lengths > 0
            figures = played.returns[ended], played.lengths[ended]
            mean = rewards / steps if steps else math.nan
            return Played(*figures, given_up, most_steps, steps, mean)
        # A copy, as the environment may write over its own: an agent may keep what it acts on.
        actions = np.asarray(chooser.act_batch(np.array(step.observations)))
        env.send(to_env(actions), step.env_ids)
