"""The scripted environments as a backend that answers in any order."""

from __future__ import annotations

from typing import Any

import numpy as np

from tensor_optix.pipeline.vector_env import VectorEnv, VectorStep
from tests.pipeline.row_envs import LENGTHS, TIME_LIMIT, ScriptedEnv

N = len(LENGTHS)


class AnyOrder(VectorEnv):
    """Two environments of each script; two answer at a time, in a random order.

    They reset on the step after an end.
    """

    def __init__(self) -> None:
        spaces = (ScriptedEnv.observation_space, ScriptedEnv.action_space)
        super().__init__("any-order", spaces, num_envs=2 * N, batch_size=2)
        self.rng = np.random.default_rng(0)

    def reset(self, seed: int | None = None) -> None:
        self.envs = [ScriptedEnv() for _ in range(self.num_envs)]
        self.actions: dict[int, Any] = dict.fromkeys(range(self.num_envs))
        self.to_reset = set(self.actions)
        for n, env in enumerate(self.envs):
            env.script = n % N

    def recv(self) -> VectorStep:
        ids = self.rng.permutation(list(self.actions))[: self.batch_size]
        observations, rewards, terminated, truncated, valid = zip(*map(self._row, ids), strict=True)
        stacked = np.stack(observations)
        ended = np.array(terminated) | np.array(truncated)
        return VectorStep(
            np.array(ids),
            stacked,
            np.array(rewards, np.float32),
            np.array(terminated),
            np.array(truncated),
            np.array(valid),
            stacked[ended],
        )

    def _row(self, n: int) -> tuple:
        action, env = self.actions.pop(int(n)), self.envs[n]
        if n in self.to_reset:
            self.to_reset.remove(n)
            return env.reset()[0].copy(), 0.0, False, False, False
        observation, reward, terminated, _, _ = env.step(action)
        truncated = env.t == TIME_LIMIT
        if terminated or truncated:
            self.to_reset.add(int(n))
        return observation.copy(), reward, terminated, truncated, True

    def send(self, actions: Any, env_ids: Any) -> None:
        self.actions.update(zip(env_ids.tolist(), actions.tolist(), strict=True))

    def close(self) -> None:
        pass
