"""Playing whole episodes with a policy's best actions: an agent and environments in, returns out.

Nothing is learned or recorded. The `tensor-optix evaluate` command is built on it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tensor_optix.core.decisions.validation import GreedyAgent
from tensor_optix.core.episode_returns import EpisodeCounter, FirstEpisodes
from tensor_optix.core.foreign_agent import as_actor
from tensor_optix.core.observation_layout import MaskedSpace
from tensor_optix.pipeline.action_scaling import chooser_of, environment_actions
from tensor_optix.pipeline.agent_view import seen_by

if TYPE_CHECKING:
    from tensor_optix.core.foreign_agent import Actor
    from tensor_optix.core.types import Array
    from tensor_optix.pipeline.vector_contract import VectorEnv


@dataclass(frozen=True)
class Played:
    """What came of playing."""

    returns: Array
    """`[K]` float64, the undiscounted returns of the episodes that ended."""
    lengths: Array
    """`[K]` int64, in steps, in the same order."""
    steps: int
    """Of all environments, also in episodes that did not end."""
    reward_per_step: float
    """The mean over these."""


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

    Args:
        agent: Acts by `act_greedy`, where it has that, or by `act`.
        env: Is reset first, and stays open.
        episodes: E, how many to play in all; the environments differ by at most one.
        seed: Of the reset. None: the seed that the environments were made with.
        rescale_actions: Whether an agent's actions in [-1, 1] are stretched to the action space, as a
            pipeline does.

    Returns:
        The undiscounted returns `[E]` float64 and the lengths `[E]` int64 in steps, the episodes of
        one environment together.

    Raises:
        ValueError: If `episodes` is below 1, or actions do not have the form that the action space asks for.
    """
    played = _play(agent, env, episodes, None, (seed, rescale_actions))
    return played.returns, played.lengths


def play_bounded(agent: Actor, env: VectorEnv, episodes: int, most_steps: int) -> Played:
    """Play like `play_episodes`, but come to an end also where episodes do not.

    Args:
        agent: Acts by `act_greedy`.
        env: Is reset first, and stays open.
        episodes: E, how many to play.
        most_steps: What an episode is given, in steps: if none has ended then, or not all of them after
            as many steps for each, the others are given up.

    Raises:
        ValueError: If `episodes` is below 1, or actions do not have the form that the action space asks for.
    """
    return _play(agent, env, episodes, most_steps, (None, True))


def _play(
    agent: Actor,
    env: VectorEnv,
    episodes: int,
    most_steps: int | None,
    options: tuple[int | None, bool],
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
    most = math.inf if most_steps is None else most_steps * env.num_envs
    each = math.ceil(episodes / env.num_envs)
    steps, rewards = 0, 0.0
    while True:
        step = env.recv()
        valid, dones = step.valid, step.terminated | step.truncated
        finished = counter.add_step(step.env_ids[valid], step.rewards[valid], dones[valid])
        for env_id, total, length in zip(*finished, strict=True):
            played.add(env_id, total, length)
        steps += int(np.count_nonzero(valid))
        rewards += float(np.sum(step.rewards[valid], dtype=np.float64))
        if played.is_complete or steps >= (each * most if played.lengths.any() else most):
            ended = played.lengths > 0
            return Played(played.returns[ended], played.lengths[ended], steps, rewards / steps)
        # A copy, as the environment may write over its own: an agent may keep what it acts on.
        actions = np.asarray(chooser.act_batch(np.array(step.observations)))
        env.send(to_env(actions), step.env_ids)
