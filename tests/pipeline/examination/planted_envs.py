"""A small sound environment, and others of its kind with one defect each."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete

LIMIT = 40


class WalkEnv(gymnasium.Env[Any, Any]):
    """A walk along a line, pushed by the action and by chance; it pays for being near the middle."""

    observation_space: Any = Box(-5.0, 5.0, (2,), np.float32)
    action_space: Any = Discrete(3)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._place, self._speed, self._steps = float(self.np_random.uniform(-0.5, 0.5)), 0.0, 0
        return self.shown(), self.info()

    def step(self, action: Any) -> Any:
        self._steps += 1
        self._speed = 0.8 * self._speed + 0.1 * self.push(action) + self.chance()
        self._place += self._speed
        is_gone = abs(self._place) > 1.0
        reward = self.paid()
        return self.shown(), reward, *self.flags(is_gone, self._steps >= LIMIT), self.info()

    def push(self, action: Any) -> float:
        return float(action) - 1.0

    def chance(self) -> float:
        return float(self.np_random.normal(0.0, 0.05))

    def shown(self) -> Any:
        return np.array([self._place, self._speed], np.float32).clip(-5.0, 5.0)

    def paid(self) -> Any:
        return 1.0 - self._place**2

    def flags(self, is_gone: bool, is_late: bool) -> tuple[Any, Any]:
        return is_gone, is_late and not is_gone

    def info(self) -> dict[str, Any]:
        return {}


class ForceEnv(WalkEnv):
    """Is pushed by a force of two components, which are added."""

    action_space = Box(-1.0, 1.0, (2,), np.float32)

    def push(self, action: Any) -> float:
        return float(action[0] + 0.5 * action[1])


class TwoChoicesEnv(WalkEnv):
    action_space = MultiDiscrete([3, 2])

    def push(self, action: Any) -> float:
        return float(action[0] - 1 + action[1])


class PartsEnv(WalkEnv):
    observation_space = Dict(
        place=Box(-5, 5, (1,), np.float32), speed=Box(-5, 5, (1,), np.float32), side=Discrete(2)
    )

    def shown(self) -> Any:
        place, speed = super().shown()
        return {"place": place[None], "speed": speed[None], "side": int(self._place > 0)}


class MaskEnv(WalkEnv):
    """Tells that who is on the right may not push on."""

    def push(self, action: Any) -> float:
        assert action < 2 or self._place <= 0.0
        return super().push(action)

    def info(self) -> dict[str, Any]:
        return {"action_mask": np.array([1, 1, self._place <= 0.0], np.int8)}


SOUND = (WalkEnv, ForceEnv, TwoChoicesEnv, PartsEnv, MaskEnv)

# ---- seeds and resets


class GlobalChance(WalkEnv):
    def chance(self) -> float:
        return float(np.random.default_rng().normal(0.0, 0.05))


class StartsByTheClock(WalkEnv):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._place = float(np.random.default_rng().uniform(-0.5, 0.5))
        return self.shown(), {}


class AlwaysSeeds(WalkEnv):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed=7 if seed is None else seed)


# ---- what is returned


class OneBuffer(WalkEnv):
    def __init__(self) -> None:
        self._buffer = np.zeros(2, np.float32)

    def shown(self) -> Any:
        self._buffer[:] = super().shown()
        return self._buffer


class OneBufferInParts(PartsEnv):
    def __init__(self) -> None:
        self._buffer = {"place": np.zeros(1, np.float32), "speed": np.zeros(1, np.float32)}

    def shown(self) -> Any:
        self._buffer["place"][:] = self._place
        self._buffer["speed"][:] = self._speed
        return {**self._buffer, "side": int(self._place > 0)}


class DoublePrecision(WalkEnv):
    def shown(self) -> Any:
        return super().shown().astype(np.float64)


class OtherShape(WalkEnv):
    def shown(self) -> Any:
        return super().shown()[None]


class OldStep(WalkEnv):
    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated or truncated, info


class Crashes(WalkEnv):
    def step(self, action: Any) -> Any:
        raise RuntimeError("the simulator is gone")


class ResetsItself(WalkEnv):
    def step(self, action: Any) -> Any:
        result = super().step(action)
        if result[2] or result[3]:
            return self.reset()[0], *result[1:]
        return result


class UnseededGenerator(WalkEnv):
    """Is reproducible, but by a generator of its own: only Gymnasium's checker minds."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        if seed is not None:
            self._own = np.random.default_rng(seed)
        self._place, self._speed, self._steps = float(self._own.uniform(-0.5, 0.5)), 0.0, 0
        return self.shown(), {}

    def chance(self) -> float:
        return float(self._own.normal(0.0, 0.05))


# ---- ends


class BothFlags(WalkEnv):
    def flags(self, is_gone: bool, is_late: bool) -> tuple[Any, Any]:
        return (is_gone or is_late,) * 2


class TerminatedByTime(WalkEnv):
    """Ends by time alone, and calls that its own end."""

    def flags(self, is_gone: bool, is_late: bool) -> tuple[Any, Any]:
        return is_late, False

    def shown(self) -> Any:
        return np.tanh(super().shown())


class TerminatedAtItsLimit(TerminatedByTime):
    """Says in its spec what the limit is, and is terminated there."""

    spec: Any = SimpleNamespace(max_episode_steps=LIMIT, id="", additional_wrappers=())


class IgnoresItsLimit(WalkEnv):
    spec: Any = SimpleNamespace(max_episode_steps=10, id="", additional_wrappers=())


class NeverEnds(TerminatedByTime):
    def flags(self, is_gone: bool, is_late: bool) -> tuple[Any, Any]:
        return False, False


# ---- rewards


class NanRewards(WalkEnv):
    def paid(self) -> Any:
        with np.errstate(invalid="ignore"):
            return float(np.log(0.3 - abs(self._place)))


class InfiniteRewards(WalkEnv):
    def paid(self) -> Any:
        return float("inf") if self._steps == 5 else 1.0


class TwoObjectives(WalkEnv):
    def paid(self) -> Any:
        return np.array([1.0, -self._place])


class NoRewards(WalkEnv):
    def paid(self) -> Any:
        return 0.0


class SameReturns(WalkEnv):
    """Pays the same for whatever is done."""

    def paid(self) -> Any:
        return -1.0 if self._steps == 1 else 0.0


class HugeRewards(WalkEnv):
    def paid(self) -> Any:
        return 1e4 * super().paid()


class TinyRewards(WalkEnv):
    def paid(self) -> Any:
        return 1e-5 * super().paid()


# ---- observations


class OutsideItsSpace(WalkEnv):
    observation_space = Box(-0.2, 0.2, (2,), np.float32)


class OutsideItsParts(PartsEnv):
    observation_space = Dict(
        place=Box(-0.2, 0.2, (1,), np.float32), speed=Box(-5, 5, (1,), np.float32), side=Discrete(2)
    )


class NoSuchNumber(WalkEnv):
    observation_space = Discrete(3)

    def shown(self) -> Any:
        return self._steps


class NanObservations(WalkEnv):
    def shown(self) -> Any:
        return super().shown() if self._steps < 5 else np.full(2, np.nan, np.float32)


class ConstantElement(WalkEnv):
    observation_space = Box(-5.0, 5.0, (3,), np.float32)

    def shown(self) -> Any:
        return np.append(super().shown(), np.float32(0.5))


class NothingToSee(WalkEnv):
    def shown(self) -> Any:
        return np.zeros(2, np.float32)


class LargeNumbers(WalkEnv):
    observation_space = Box(-np.inf, np.inf, (2,), np.float32)

    def shown(self) -> Any:
        return 1e6 * super().shown()


class SmallNumbers(WalkEnv):
    def shown(self) -> Any:
        return 1e-5 * super().shown()


# ---- actions and masks


class ActionsDoNothing(WalkEnv):
    def push(self, action: Any) -> float:
        return 0.0


class TwoAlike(WalkEnv):
    action_space = Discrete(4)

    def push(self, action: Any) -> float:
        return super().push(min(action, 2))


class IdleComponent(ForceEnv):
    def push(self, action: Any) -> float:
        return float(action[0])


class IdleChoice(TwoChoicesEnv):
    def push(self, action: Any) -> float:
        return float(action[0] - 1)


class WideBounds(ForceEnv):
    action_space = Box(-100.0, 100.0, (2,), np.float32)

    def push(self, action: Any) -> float:
        return super().push(np.clip(action, [-1.0, -2.0], [1.0, 2.0]))


class ShortMask(WalkEnv):
    def info(self) -> dict[str, Any]:
        return {"action_mask": np.ones(2, np.int8)}


class MaskOfNumbers(WalkEnv):
    def info(self) -> dict[str, Any]:
        return {"action_mask": np.array([1, 2, 3])}


class MaskNowAndThen(WalkEnv):
    def info(self) -> dict[str, Any]:
        return {"action_mask": np.array([1, 1, 0], np.int8)} if self._steps < 3 else {}


class EmptyMask(WalkEnv):
    def info(self) -> dict[str, Any]:
        return {"action_mask": np.array([1, 1, 0], np.int8) * (self._place <= 0.0)}


class IdleMask(WalkEnv):
    def info(self) -> dict[str, Any]:
        return {"action_mask": np.ones(3, np.int8)}


PLANTED: dict[type[WalkEnv], tuple[str, str, str]] = {
    GlobalChance: (
        "seed",
        "problem",
        "differ in step 1: draw every random number from self.np_random",
    ),
    StartsByTheClock: ("seed", "problem", "differ at once"),
    AlwaysSeeds: ("reset", "problem", "began in the same state, though seeds begin in others"),
    OneBuffer: ("aliasing", "note", "writes over observations that it has returned"),
    OneBufferInParts: ("aliasing", "note", "writes over observations that it has returned"),
    DoublePrecision: ("dtype", "note", "come as float64, their space says float32"),
    OtherShape: ("steps", "problem", "must return observations of the shape (2,)"),
    OldStep: ("steps", "problem", "that is the API of gym before 0.26"),
    Crashes: ("steps", "problem", "RuntimeError: the simulator is gone"),
    ResetsItself: ("last-observation", "problem", "step() seems to reset by itself"),
    UnseededGenerator: ("gymnasium", "note", "super().reset(seed=seed)"),
    BothFlags: ("flags", "problem", "ended with terminated and truncated both"),
    TerminatedByTime: ("time-limit", "note", "were terminated after 40 steps"),
    TerminatedAtItsLimit: (
        "time-limit",
        "problem",
        "reach the limit of 40 steps end with terminated",
    ),
    IgnoresItsLimit: ("time-limit", "problem", "beyond the limit of 10 that its spec"),
    NeverEnds: ("ends", "note", "no episode ended within"),
    NanRewards: ("rewards", "problem", "rewards were not finite, the first one, nan"),
    InfiniteRewards: (
        "rewards",
        "problem",
        "rewards were not finite, the first one, inf, in step 4",
    ),
    TwoObjectives: ("steps", "problem", "mo_gymnasium.wrappers.LinearReward"),
    NoRewards: ("sparse", "note", "no reward but 0"),
    SameReturns: ("sparse", "note", "random episodes paid -1"),
    HugeRewards: ("reward-scale", "note", "as large as 1e+04: --normalize-rewards"),
    TinyRewards: ("reward-scale", "note", "no larger than 1e-05: --normalize-rewards"),
    OutsideItsSpace: ("observations", "problem", "element 0 of the observation is"),
    OutsideItsParts: ("observations", "problem", "element 0 of place is"),
    NoSuchNumber: ("steps", "problem", "within the observation space Discrete(3), got 3"),
    NanObservations: ("observations", "problem", "hold NaN or infinity"),
    ConstantElement: (
        "constant",
        "note",
        "1 of 3 elements of the observation never changed (element 2",
    ),
    NothingToSee: ("constant", "problem", "the observation was the same in"),
    LargeNumbers: ("observation-scale", "note", "element 0 of the observation from -"),
    SmallNumbers: ("observation-scale", "note", "--normalize-observations"),
    ActionsDoNothing: ("actions", "problem", "no action made a difference"),
    TwoAlike: ("actions", "note", "actions 2, 3 did the same"),
    IdleComponent: ("actions", "note", "component 1 of the action made no difference"),
    IdleChoice: ("actions", "note", "choice 1 of the action made no difference"),
    WideBounds: ("actions", "note", "the outer half of the action made no difference"),
    ShortMask: ("masks", "problem", "has 2 numbers, but there are 3 actions"),
    MaskOfNumbers: ("steps", "problem", "'action_mask' must hold 1 for each action"),
    MaskNowAndThen: ("steps", "problem", "some have it and some do not"),
    EmptyMask: ("masks", "note", "allowed nothing in"),
    IdleMask: ("masks", "note", "allowed everything in all"),
}
"""What is found of each defect: the check, its grade, and some of its words."""
