"""Environments that EnvPool runs, in lock step or first come, first served.

In comes an EnvPool object, made here or by the user; out come `VectorStep` rows. EnvPool is
imported only by the function that makes one.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.core.problem import Problem, envpool_problem
from tensor_optix.pipeline.vector_contract import (
    NO_REWARD,
    SEEDS,
    VectorEnv,
    VectorStep,
    constant,
    space_dtype,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tensor_optix.core.types import Array

logger = logging.getLogger(__name__)

CHEAP_FAMILIES = ("envpool.classic_control", "envpool.toy_text")


class EnvPoolEnv(VectorEnv):
    """An EnvPool. It resets on the step after an end, and says so by an elapsed step count of 0."""

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
            ValueError: If the environment has several players or a space is not supported.
        """
        config, problem = pool.config, _problem(pool)
        asynchronous = bool(pool.is_async)
        super().__init__(
            "envpool-async" if asynchronous else "envpool",
            problem.spaces,
            num_envs=config["num_envs"],
            batch_size=config["batch_size"],
            max_episode_steps=problem.max_episode_steps,
        )
        self._pool = pool
        self._make = make
        self._unused_seed = seed
        self._has_warned = False
        self._under_way = 0
        # False while a call is open: an exception in it, Ctrl-C say, leaves it unknown which rows are
        # on their way, and who waited for one that is not would wait for ever.
        self._is_certain = True
        self._unanswered = 0
        self._ids = None if asynchronous else constant(np.arange(self.num_envs))
        self._all_valid = constant(np.ones(self.batch_size, bool))
        shape = self.observation_space.shape or ()
        self._no_ends = constant(np.empty((0, *shape), space_dtype(self.observation_space)))

    def reset(self, seed: int | None = None) -> None:
        """Reset every environment. A seed makes the pool anew, as only then it can be seeded."""
        pool = self._open_pool()
        if not self._is_certain:
            raise RuntimeError("the environment was interrupted in the middle of a step: close it")
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
        pool.async_reset()
        self._under_way = self.num_envs
        self._unanswered = 0

    def recv(self) -> VectorStep:
        """Wait for the B environments that finish first."""
        pool = self._open_pool()
        if not self._under_way:
            raise RuntimeError("recv() has nothing to return: call reset() or send() before it")
        self._is_certain = False
        observations, rewards, terminated, truncated, info = pool.recv()
        self._under_way -= self.batch_size
        self._is_certain = True
        self._unanswered += self.batch_size
        ids = info["env_id"].astype(np.int64) if self._ids is None else self._ids
        rewards = np.asarray(rewards, np.float32)
        elapsed = info["elapsed_step"]
        valid = self._all_valid
        if np.count_nonzero(elapsed) != self.batch_size:
            valid = elapsed.astype(bool)
            rewards = np.where(valid, rewards, NO_REWARD)
            terminated, truncated = terminated & valid, truncated & valid
        done = terminated | truncated
        ends = observations.compress(done, 0) if np.count_nonzero(done) else self._no_ends
        infos = () if self.info_keys is None else self.info_keys.of_rows(info, valid, done)
        return VectorStep(ids, observations, rewards, terminated, truncated, valid, ends, infos)

    def send(self, actions: Array, env_ids: Array) -> None:
        """Hand the actions to EnvPool's threads, without waiting for them."""
        if len(env_ids) > self._unanswered:
            self._require_held()
            raise RuntimeError(
                f"send() has {self._unanswered} rows to answer, not {len(env_ids)}: call recv() first"
            )
        pool = self._open_pool()
        self._is_certain = False
        pool.send(actions, None if env_ids is self._ids else np.asarray(env_ids))
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


def is_envpool(env: object) -> bool:
    """Whether `env` is an EnvPool. Does not import it: who has such an object has done so."""
    return any(base.__module__.split(".")[0] == "envpool" for base in type(env).__mro__)


def make_envpool(env_id: str, num_envs: int, batch_size: int, seed: int | None) -> EnvPoolEnv:
    """Make a pool of `num_envs` environments that delivers `batch_size` of them at a time.

    Args:
        env_id: A task that EnvPool has.
        num_envs: N.
        batch_size: B, a divisor of N; N makes the pool synchronous.
        seed: None draws one: left to itself, EnvPool would always take the same.
    """
    import envpool

    threads = _num_threads(envpool.make_spec(env_id), num_envs)

    def make(pool_seed: int) -> Any:
        with quiet_making():
            return envpool.make(
                env_id,
                env_type="gymnasium",
                num_envs=num_envs,
                batch_size=batch_size,
                num_threads=threads,
                seed=int(pool_seed) % SEEDS,
            )

    if seed is None:
        seed = int(np.random.SeedSequence().generate_state(1)[0])
    return EnvPoolEnv(make(seed), make, seed)


@contextmanager
def quiet_making() -> Iterator[None]:
    """Keep from the user the warnings that the makers of environments, not users, can act upon."""
    with warnings.catch_warnings():
        # EnvPool states the limits of its float32 boxes in float64.
        warnings.filterwarnings("ignore", r".*Box (low|high)'s precision lowered", UserWarning)
        # Box2D's bindings were made by a SWIG that newer Pythons complain about.
        warnings.filterwarnings(
            "ignore", r"builtin type \w+ has no __module__ attribute", DeprecationWarning
        )
        yield


def _problem(pool: Any) -> Problem:
    """Return spaces and time limit. EnvPool builds spaces when first asked, which must happen in here."""
    with quiet_making():
        return envpool_problem(pool.config, (pool.observation_space, pool.action_space))


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
