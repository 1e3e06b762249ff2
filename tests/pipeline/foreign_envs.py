"""Vector environments as other libraries have them, playing the scripts of `row_envs`."""

from typing import Any

import gymnasium
import numpy as np

from tests.pipeline.row_envs import ScriptedEnv, ScriptedVectorEnv


class Untold(ScriptedVectorEnv):
    """Resets in the same step and tells the last observations in a way of its own, or not at all.

    Args:
        num_envs: N.
        told: Makes the infos of the last observations `[N, 3]` and of what ended `[N]`.
        says: Whether its metadata say how it resets.
    """

    def __init__(self, num_envs: int, told: Any, says: bool = True) -> None:
        super().__init__(num_envs, autoreset_mode="SameStep")
        self.told = told
        self.metadata = self.metadata if says else {}

    def step(self, actions: Any) -> Any:
        *rest, infos = super().step(actions)
        if infos:
            infos = self.told(infos["final_obs"], infos["_final_obs"])
        return *rest, infos


class Listing(gymnasium.vector.VectorEnv):
    """As SuperSuit's: the spaces of one environment, flags as numbers, infos in a list."""

    def __init__(self, num_envs: int) -> None:
        self.inner = ScriptedVectorEnv(num_envs, autoreset_mode="SameStep")
        self.num_envs = num_envs
        self.observation_space = ScriptedEnv.observation_space
        self.action_space = ScriptedEnv.action_space
        self.metadata = {"name": "several agents"}
        self.closed_by_somebody = False

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        # Processes of SuperSuit's give a list per process.
        return self.inner.reset(seed=seed)[0], [[]]

    def step(self, actions: Any) -> Any:
        observations, rewards, *flags, infos = self.inner.step(actions)
        listed: list[dict[str, Any]] = [{"steps": env.t} for env in self.inner.envs]
        for n in np.flatnonzero(infos.get("_final_obs", [])):
            listed[n]["terminal_observation"] = infos["final_obs"][n].copy()
        return observations, rewards, *(each.astype(np.uint8) for each in flags), listed

    def close(self) -> None:
        self.closed_by_somebody = True


class StableBaselines:
    """As a `VecEnv` of Stable-Baselines3, which is no environment of Gymnasium's."""

    def __init__(self, num_envs: int) -> None:
        self.listing = Listing(num_envs)
        self.num_envs = num_envs
        self.observation_space = self.listing.observation_space
        self.action_space = self.listing.action_space
        self.chosen: int | None = None

    def seed(self, seed: int | None = None) -> None:
        self.chosen = seed

    def reset(self) -> Any:
        observations, _ = self.listing.reset(self.chosen)
        self.chosen = None
        return observations

    def step_async(self, actions: Any) -> None:
        self.actions = actions

    def step_wait(self) -> Any:
        observations, rewards, terminated, truncated, infos = self.listing.step(self.actions)
        for info, ended, cut in zip(infos, terminated, truncated, strict=True):
            info["TimeLimit.truncated"] = bool(cut) and not ended
        return observations, rewards, terminated.astype(bool) | truncated.astype(bool), infos

    def step(self, actions: Any) -> Any:
        self.step_async(actions)
        return self.step_wait()

    def env_method(self, name: str) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self.listing.close()


class Overwriting(ScriptedVectorEnv):
    """Writes over what it is given, and over all that it gave."""

    def __init__(self, num_envs: int, autoreset_mode: str = "NextStep") -> None:
        super().__init__(num_envs, autoreset_mode=autoreset_mode)
        self.given: list[Any] = []

    def step(self, actions: Any) -> Any:
        for array in self.given:
            array[...] = 77 if array.dtype != bool else True
        observations, rewards, *flags, infos = super().step(actions)
        actions[...] = 0
        self.given = [rewards, *flags, *([infos["final_obs"]] if infos else [])]
        return observations, rewards, *flags, infos


class Objectives(gymnasium.Env):
    """Pays a vector of two numbers, and says so."""

    observation_space = ScriptedEnv.observation_space
    action_space = ScriptedEnv.action_space
    reward_space = gymnasium.spaces.Box(-1, 1, (2,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return np.zeros(3, np.int16), {}

    def step(self, action: int) -> Any:
        return np.zeros(3, np.int16), np.array([0.25, 0.5], np.float32), False, False, {}


class Weighed(gymnasium.Wrapper):
    """Makes one number of them."""

    def step(self, action: int) -> Any:
        observation, rewards, *rest = super().step(action)
        return observation, float(rewards.sum()), *rest
