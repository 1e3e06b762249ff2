"""A script of a user's, run as `python -m tests.pipeline.spawning CASE METHOD` for what it prints."""

import multiprocessing
import os
import sys
import threading
import warnings

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

from tensor_optix.pipeline.vector_env import from_env_fns, make_vector_env


class Loud(gymnasium.Env):
    """Warns where it is made and stepped, shows what its space does not allow; may end its process."""

    observation_space = Box(0, 9, (1,), np.float32)
    action_space = Discrete(2)

    def __init__(self, number=0, is_deadly=False):
        warnings.warn("made with care", stacklevel=1)
        if number:
            warnings.warn(f"number {number} is special", stacklevel=1)
        self.is_deadly = is_deadly

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.full(1, 10, np.float32), {}

    def step(self, action):
        if self.is_deadly:
            os._exit(7)
        warnings.warn("stepped with care", stacklevel=1)
        return np.full(1, 10, np.float32), 1.0, False, False, {}


def script_id():
    return make_vector_env("Loud-v0", 3, "async", seed=0)


def lambdas():
    return from_env_fns([lambda n=n: Loud(n) for n in range(3)], asynchronous=True)


def here():
    return from_env_fns([lambda n=n: gymnasium.make("Loud-v0", number=n) for n in range(3)])


def by_name():
    return from_env_fns([lambda: gymnasium.make("Loud-v0")] * 2, asynchronous=True)


def locked():
    lock = threading.Lock()
    return from_env_fns([lambda: Loud(lock)] * 2, asynchronous=True)


def deadly():
    return from_env_fns([lambda: Loud(is_deadly=True)] * 2, asynchronous=True)


def main(case, method):
    multiprocessing.set_start_method(method)
    gymnasium.register("Loud-v0", entry_point=Loud)
    try:
        env = {f.__name__: f for f in (script_id, lambdas, here, by_name, locked, deadly)}[case]()
        env.reset(0)
        for _ in range(3):
            env.send(np.zeros(env.num_envs, int), env.recv().env_ids)
        print("rows:", env.recv().observations.tolist())
        env.close()
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
        print("cause:", error.__cause__)
    print("children:", multiprocessing.active_children())


if __name__ == "__main__":
    main(*sys.argv[1:])
