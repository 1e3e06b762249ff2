"""Environments that tell which actions are allowed, in every way in which that is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary
from gymnasium.wrappers import TimeLimit

from tests.pipeline.row_envs import TIME_LIMIT, ScriptedEnv, ScriptedVectorEnv

if TYPE_CHECKING:
    from tensor_optix.core.types import Array

NUM_ACTIONS = 4
LENGTH = 8
LOSS = -100.0


def mask_at(observation: Any) -> Array:
    """Return the mask `[3]` of an observation of the scripted environments; each allows something."""
    script, episode, t = (int(number) for number in np.ravel(observation)[:3])
    number = 1 + (5 * script + 3 * episode + t) % 7
    return np.array([number >> bit & 1 for bit in range(3)], np.int8)


class MaskedScript(ScriptedEnv):
    """The scripts with masks in one buffer that it writes into again and again."""

    def __init__(self, reuse_buffer: bool = True) -> None:
        super().__init__(reuse_buffer)
        self.mask = np.zeros(3, np.int8)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self._told(*super().reset(seed=seed, options=options))

    def step(self, action: Any) -> Any:
        observation, *rest, info = super().step(action)
        observation, info = self._told(observation, info)
        return observation, *rest, info

    def _told(self, observation: Any, info: dict[str, Any]) -> Any:
        if not self.reuse_buffer:
            self.mask = np.zeros(3, np.int8)
        self.mask[:] = mask_at(self.obs)
        return observation, info | {"action_mask": self.mask}


class MaskedByMethod(ScriptedEnv):
    """The scripts with masks that a method tells."""

    def action_masks(self) -> list[bool]:
        return [bool(allowed) for allowed in mask_at(self.obs)]


class MaskedParts(MaskedScript):
    """The scripts with the mask as a part of the observation."""

    observation_space = Dict(
        seen=ScriptedEnv.observation_space, action_mask=Box(0, 1, (3,), np.int8)
    )

    def _told(self, observation: Any, info: dict[str, Any]) -> Any:
        observation, told = super()._told(observation, info)
        return {"seen": observation, "action_mask": told["action_mask"]}, info


class MaskedVector(ScriptedVectorEnv):
    """The scripts in a vector environment of our own: masks in a list, an info for each final observation."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        observations, _ = super().reset(seed=seed, options=options)
        return observations, {"action_mask": [mask_at(row).tolist() for row in observations]}

    def step(self, actions: Any) -> Any:
        observations, *rest, infos = super().step(actions)
        masks = {"action_mask": [mask_at(row).tolist() for row in observations]}
        if "final_obs" in infos:
            finals: list[Any] = [None] * self.num_envs
            for n in np.flatnonzero(infos["_final_obs"]):
                finals[n] = {"action_mask": mask_at(infos["final_obs"][n])}
            masks["final_info"] = finals
        return observations, *rest, infos | masks


def limited(kind: type[ScriptedEnv] = MaskedScript, reuse_buffer: bool = True) -> Any:
    """Return one of the scripts with the time limit."""
    return TimeLimit(kind(reuse_buffer), TIME_LIMIT)


class OnlyMasksTell(gymnasium.Env[Any, Any]):
    """Pays 1 for the greatest of the allowed actions, and ends with a large loss for one that is not allowed.

    What is allowed is drawn anew at every step, and nothing but the mask tells.
    """

    action_space = Discrete(NUM_ACTIONS)
    forbidden = 0
    """How often an action was taken that was not allowed, in all environments of a class."""
    steps = 0

    def __init__(self, told_in: str = "info") -> None:
        self._told_in = told_in
        here = Box(-1, 1, (2,), np.float32)
        parts = {"here": here, "action_mask": MultiBinary(NUM_ACTIONS)}
        self.observation_space = Dict(parts) if told_in == "observation" else here

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._t = 0
        return self._told()

    def step(self, action: Any) -> Any:
        kind = type(self)
        kind.steps += 1
        if not self._mask[action]:
            kind.forbidden += 1
            return self._told()[0], LOSS, True, False, self._told()[1]
        reward = float(action == np.flatnonzero(self._mask)[-1])
        self._t += 1
        observation, info = self._told()
        return observation, reward, False, self._t == LENGTH, info

    def _told(self) -> Any:
        number = int(self.np_random.integers(1, 2**NUM_ACTIONS))
        self._mask = np.array([number >> bit & 1 for bit in range(NUM_ACTIONS)], np.int8)
        here = np.array([1.0, self.np_random.uniform(-1, 1)], np.float32)
        if self._told_in == "observation":
            return {"here": here, "action_mask": self._mask}, {}
        return here, {"action_mask": self._mask} if self._told_in == "info" else {}


class OnlyItsMethodTells(OnlyMasksTell):
    """The same, and a method tells."""

    def __init__(self) -> None:
        super().__init__("method")

    def action_masks(self) -> Array:
        return self._mask
