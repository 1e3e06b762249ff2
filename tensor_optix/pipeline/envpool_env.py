"""Environments that EnvPool runs, in lock step or first come, first served.

In comes an EnvPool object, made here or by the user; out come `VectorStep` rows. EnvPool is
imported only by the function that makes one.
"""

from __future__ import annotations

import logging
import math
import os
import sys
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

from tensor_optix.core.environment_recipe import arguments_named
from tensor_optix.core.observation_layout import has_parts, laid_out, seen_space
from tensor_optix.core.observation_values import ObservationDoor
from tensor_optix.core.plain_warnings import quiet_making
from tensor_optix.core.problem import Problem, counts_of, envpool_problem
from tensor_optix.pipeline.game import Game
from tensor_optix.pipeline.vector_contract import (
    NO_REWARD,
    SEEDS,
    VectorEnv,
    VectorStep,
    constant,
    has_arrays,
    space_dtype,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tensor_optix.core.observation_layout import AnySpace
    from tensor_optix.core.types import Array

logger = logging.getLogger(__name__)

MASKS = ("action_mask", "legal_action_mask")
"""The infos in which tasks tell which actions are allowed."""
CHEAP_FAMILIES = ("envpool.classic_control", "envpool.toy_text")


class EnvPoolEnv(VectorEnv):
    """An EnvPool. It resets on the step after an end.

    An Atari game that goes on after an episode, a life, does not count its steps anew then.
    """

    def __init__(
        self, pool: Any, make: Callable[[int], Any] | None = None, seed: int | None = None
    ) -> None:
        """Wrap `pool`.

        Args:
            pool: What `envpool.make(..., env_type="gymnasium")` returned.
            make: Makes the same pool with another seed. None: the pool is the user's, who chose its
                seed once and for all.
            seed: The seed that `pool` was made with.

        Raises:
            TypeError: If the pool has another interface than Gymnasium's.
            ValueError: If the environment has several players or a space is not supported.
        """
        require_gymnasium_pool(pool)
        config, problem = pool.config, _problem(pool)
        asynchronous = bool(pool.is_async)
        super().__init__(
            "envpool-async" if asynchronous else "envpool",
            (seen_space(problem.observation_space), problem.action_space),
            num_envs=config["num_envs"],
            batch_size=config["batch_size"],
            max_episode_steps=problem.max_episode_steps,
        )
        self.label = f"environment {type(pool).__name__}"
        self._take = _taking(problem.observation_space)
        self._to_pool = _giving(problem.action_space, pool.action_space)
        self._pool = pool
        self._make = make
        self._unused_seed = seed
        self._begun_with: int | None = None
        self._has_warned = False
        self._under_way = 0
        # False while a call is open: an exception in it, Ctrl-C say, leaves it unknown which rows are
        # on their way, and who waited for one that is not would wait for ever.
        self._is_certain = True
        self._unanswered = 0
        self._resetting = np.zeros(self.num_envs, bool)
        self._has_lives = _has_lives(config)
        self._ids = None if asynchronous else constant(np.arange(self.num_envs))
        self._all_valid = constant(np.ones(self.batch_size, bool))
        shape = self.observation_space.shape or ()
        self._no_ends = constant(np.empty((0, *shape), space_dtype(self.observation_space)))
        told = pool.spec.state_array_spec
        self._mask_key = next((key for key in MASKS if f"info:{key}" in told), "")
        if self._mask_key:
            self.mask_size = math.prod(told[f"info:{self._mask_key}"].shape)

    def reset(self, seed: int | None = None) -> None:
        """Reset every environment. A seed makes the pool anew, as only then it can be seeded.

        Nothing is done where that has just been done with this seed.
        """
        pool = self._open_pool()
        if not self._is_certain:
            raise RuntimeError("the environment was interrupted in the middle of a step: close it")
        if seed is not None and seed == self._begun_with:
            return
        if self._make is None:
            self._take_over([pool])
        self._drain(pool)
        if seed is not None and self._make is None and not self._has_warned:
            self._has_warned = True
            logger.warning("reset(seed=%d) is ignored: EnvPool is seeded when it is made", seed)
        elif seed is not None and seed != self._unused_seed and self._make is not None:
            # The threads of the old pool end before those of the new one start.
            del pool
            self._pool = None
            self._pool = pool = self._make(seed)
            _problem(pool)
        self._unused_seed = None
        self._begun_with = None if self._make is None else seed
        self._resetting[:] = True
        pool.async_reset()
        self._under_way = self.num_envs
        self._unanswered = 0

    def recv(self) -> VectorStep:
        """Wait for the B environments that finish first."""
        pool = self._open_pool()
        if not self._under_way:
            raise RuntimeError("recv() has nothing to return: call reset() or send() before it")
        self._is_certain = False
        self._begun_with = None
        observations, rewards, terminated, truncated, info = pool.recv()
        self._under_way -= self.batch_size
        self._is_certain = True
        self._unanswered += self.batch_size
        if self._take is not None:
            observations = self._take(observations, self.label, self.batch_size)
        ids = info["env_id"].astype(np.int64) if self._ids is None else self._ids
        rewards, elapsed = np.asarray(rewards, np.float32), info["elapsed_step"]
        resetting, valid = self._resetting[ids], self._all_valid
        if np.count_nonzero(resetting) or np.count_nonzero(elapsed) < self.batch_size:
            valid = (elapsed != 0) & ~resetting
            rewards = np.where(valid, rewards, NO_REWARD)
            terminated, truncated = terminated & valid, truncated & valid
        done = terminated | truncated
        self._resetting[ids] = done
        ends = observations.compress(done, 0) if np.count_nonzero(done) else self._no_ends
        infos = () if self.info_keys is None else self.info_keys.of_rows(info, valid, done)
        game = _game(info, valid, truncated) if self._has_lives else None
        rows = VectorStep(
            ids, observations, rewards, terminated, truncated, valid, ends, infos, game=game
        )
        if not (self._mask_key and self.needs_masks):
            return rows
        masks = info[self._mask_key].reshape(self.batch_size, -1) != 0
        return rows._replace(action_masks=masks, end_masks=masks[done])

    def send(self, actions: Array, env_ids: Array) -> None:
        """Hand the actions to EnvPool's threads, without waiting for them."""
        if len(env_ids) > self._unanswered:
            self._require_held()
            raise RuntimeError(
                f"send() has {self._unanswered} rows to answer, not {len(env_ids)}: call recv() first"
            )
        pool = self._open_pool()
        self._is_certain = False
        pool.send(self._to_pool(actions), None if env_ids is self._ids else np.asarray(env_ids))
        self._unanswered -= len(env_ids)
        self._under_way += len(env_ids)
        self._is_certain = True

    def close(self) -> None:
        """Close the pool and end its threads if it is the library's; else leave it idle."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        if self._make is not None:
            pool.close()
        elif self._is_certain:
            self._drain(pool)

    def let_go(self) -> None:
        """Drop the rows under way, too."""
        super().let_go()
        self._unanswered = 0

    def _drain(self, pool: Any) -> None:
        while self._under_way:
            pool.recv()
            self._under_way -= self.batch_size

    def _open_pool(self) -> Any:
        if self._pool is None:
            raise RuntimeError("the environment is closed: make a new one")
        return self._pool


def _has_lives(config: dict[str, Any]) -> bool:
    """Whether a pool's rewards or ends are not those of its Atari games."""
    return "reward_clip" in config and bool(config["reward_clip"] or config["episodic_life"])


def _game(info: dict[str, Any], valid: Array, truncated: Array) -> Game:
    """Return what EnvPool tells of Atari games: the rewards before they are clipped, and their ends."""
    rewards = np.where(valid, info["reward"], NO_REWARD)
    return Game(rewards, valid & (info["terminated"].astype(bool) | truncated))


def is_envpool(env: object) -> bool:
    """Whether `env` is an EnvPool. Does not import it: who has such an object has done so."""
    return any(base.__module__.split(".")[0] == "envpool" for base in type(env).__mro__)


def require_gymnasium_pool(pool: Any) -> None:
    """Check that an EnvPool has Gymnasium's interface.

    Raises:
        TypeError: If it has another one, with the argument that gives it.
    """
    if not isinstance(pool, gymnasium.vector.VectorEnv):
        raise TypeError(
            f'env must be an EnvPool made with env_type="gymnasium", got {type(pool).__name__}: '
            'envpool.make(env_id, env_type="gymnasium", num_envs=...)'
        )


def make_envpool(
    env_id: str,
    num_envs: int,
    batch_size: int,
    seed: int | None,
    kwargs: Mapping[str, Any] = MappingProxyType({}),
) -> EnvPoolEnv:
    """Make a pool of `num_envs` environments that delivers `batch_size` of them at a time.

    Args:
        env_id: A task that EnvPool has.
        num_envs: N.
        batch_size: B, a divisor of N; N makes the pool synchronous.
        seed: None draws one: left to itself, EnvPool would always take the same.
        kwargs: Further arguments of `envpool.make`.

    Raises:
        ValueError: If EnvPool does not know one of these.
    """
    import envpool

    spec = envpool.make_spec(env_id)
    chosen = {
        "num_envs": num_envs,
        "batch_size": batch_size,
        "num_threads": _num_threads(spec, num_envs),
    }

    def known() -> list[str]:
        return [name for name in spec.config._fields if name not in (*chosen, "seed")]

    def make(pool_seed: int) -> Any:
        with quiet_making(), arguments_named(env_id, kwargs, known):
            number = int(pool_seed) % SEEDS
            return envpool.make(env_id, env_type="gymnasium", seed=number, **chosen, **kwargs)

    if seed is None:
        seed = int(np.random.SeedSequence().generate_state(1)[0])
    return EnvPoolEnv(make(seed), make, seed)


def _problem(pool: Any) -> Problem:
    """Return spaces and time limit. EnvPool builds spaces when first asked, which must happen in here."""
    with quiet_making():
        return envpool_problem(pool.config, (pool.observation_space, pool.action_space))


def _taking(space: AnySpace) -> Callable[..., Array] | None:
    """Return what makes rows of the observations of a batch, or checks them; None for those of a Box.

    EnvPool's arrays have the declared shape and dtype.
    """
    if has_parts(space):
        return laid_out(space).flattened_batch
    return None if isinstance(space, Box) or not has_arrays(space) else ObservationDoor(space)


def _giving(space: AnySpace, pools: AnySpace) -> Callable[[Array], Array]:
    """Return what makes the pool's actions of those of `space`: combinations of one number each."""
    if not isinstance(space, Discrete) or not isinstance(pools, Box):
        return lambda actions: actions
    low, counts = pools.low, counts_of(pools)
    return lambda actions: low + np.stack(np.unravel_index(actions, counts), axis=-1)


def _num_threads(spec: object, num_envs: int) -> int:
    """Return how many threads step the environments.

    A step of the cheap families takes about a microsecond, less than waking a thread: one thread is
    enough. All others get every core that the process may use.
    """
    if any(base.__module__.startswith(CHEAP_FAMILIES) for base in type(spec).__mro__):
        return 1
    if sys.platform == "linux":
        return min(num_envs, len(os.sched_getaffinity(0)))
    return min(num_envs, os.cpu_count() or 1)
