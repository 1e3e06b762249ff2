"""Tiny environments whose every row is known, and a recorder of the rows that come out of them.

An observation is `[script, episode, t]`; the reward of a step is `10 * episode + t + action / 4`.
Which script an environment plays is chosen by its seed, so that N environments seeded 0, 1, 2...
play the scripts one after the other.
"""

import time
from collections import defaultdict
from typing import NamedTuple

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode

TIME_LIMIT = 4
LENGTHS = ((2, 3, 4, 1, 9), (2, 4, 1, 1, 9), (2, 9, 1, 3))
"""When each episode of each script terminates; 4 is the time limit's step too, 9 is beyond it."""


class Row(NamedTuple):
    obs: tuple
    action: int
    reward: float
    terminated: bool
    truncated: bool
    next_obs: tuple
    """The end observation where the episode ended."""


def _row(script, episode, t, action, reward, flags=""):
    start, after = (script, episode, t), (script, episode, t + 1)
    return Row(start, action, reward, "T" in flags, "L" in flags, after)


# Columns: episode, t, action, reward, T for terminated, L for the time limit.
EXPECTED_ROWS = {
    0: [
        _row(0, 0, 0, 0, 0.0),
        _row(0, 0, 1, 1, 1.25, "T"),
        _row(0, 1, 0, 2, 10.5),
        _row(0, 1, 1, 0, 11.0),
        _row(0, 1, 2, 1, 12.25, "T"),
        _row(0, 2, 0, 2, 20.5),
        _row(0, 2, 1, 0, 21.0),
        _row(0, 2, 2, 1, 22.25),
        _row(0, 2, 3, 2, 23.5, "TL"),
        _row(0, 3, 0, 0, 30.0, "T"),
        _row(0, 4, 0, 1, 40.25),
        _row(0, 4, 1, 2, 41.5),
        _row(0, 4, 2, 0, 42.0),
        _row(0, 4, 3, 1, 43.25, "L"),
    ],
    1: [
        _row(1, 0, 0, 1, 0.25),
        _row(1, 0, 1, 2, 1.5, "T"),
        _row(1, 1, 0, 0, 10.0),
        _row(1, 1, 1, 1, 11.25),
        _row(1, 1, 2, 2, 12.5),
        _row(1, 1, 3, 0, 13.0, "TL"),
        _row(1, 2, 0, 1, 20.25, "T"),
        _row(1, 3, 0, 2, 30.5, "T"),
        _row(1, 4, 0, 0, 40.0),
        _row(1, 4, 1, 1, 41.25),
        _row(1, 4, 2, 2, 42.5),
        _row(1, 4, 3, 0, 43.0, "L"),
    ],
    2: [
        _row(2, 0, 0, 2, 0.5),
        _row(2, 0, 1, 0, 1.0, "T"),
        _row(2, 1, 0, 1, 10.25),
        _row(2, 1, 1, 2, 11.5),
        _row(2, 1, 2, 0, 12.0),
        _row(2, 1, 3, 1, 13.25, "L"),
        _row(2, 2, 0, 2, 20.5, "T"),
        _row(2, 3, 0, 0, 30.0),
        _row(2, 3, 1, 1, 31.25),
        _row(2, 3, 2, 2, 32.5, "T"),
    ],
}


def scripted_action(env_id, row):
    return (row + env_id) % 3


class ScriptedEnv(gymnasium.Env):
    """Plays a script and leaves the time limit to Gymnasium's wrapper."""

    observation_space = Box(0, 100, (3,), np.int16)
    action_space = Discrete(3)

    def __init__(self, reuse_buffer=True):
        self.reuse_buffer = reuse_buffer
        self.obs = np.zeros(3, np.int16)
        self.script, self.episode = 0, -1
        self.closed = False

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.script, self.episode = seed % len(LENGTHS), -1
        self.episode += 1
        self.t = 0
        return self._observe(), {}

    def step(self, action):
        reward = 10 * self.episode + self.t + float(action) / 4
        self.t += 1
        return self._observe(), reward, self.t == self._length(), False, {}

    def close(self):
        self.closed = True

    def _length(self):
        lengths = LENGTHS[self.script]
        return lengths[self.episode] if self.episode < len(lengths) else 2

    def _observe(self):
        if not self.reuse_buffer:
            self.obs = np.zeros(3, np.int16)
        self.obs[:] = self.script, self.episode, self.t
        return self.obs


class ScriptedVectorEnv(gymnasium.vector.VectorEnv):
    """The same scripts in a vector environment of our own, with one plain array of final_obs."""

    single_observation_space = ScriptedEnv.observation_space
    single_action_space = ScriptedEnv.action_space

    def __init__(self, num_envs=1, max_episode_steps=TIME_LIMIT, autoreset_mode="NextStep"):
        self.num_envs = num_envs
        self.limit = max_episode_steps
        self.same_step = autoreset_mode == "SameStep"
        self.metadata = {} if autoreset_mode is None else {"autoreset_mode": autoreset_mode}
        if autoreset_mode == "NextStep":
            self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}
        self.envs = [ScriptedEnv() for _ in range(num_envs)]
        self.obs = np.zeros((num_envs, 3), np.int16)

    def reset(self, *, seed=None, options=None):
        self.done = np.zeros(self.num_envs, bool)
        for i, env in enumerate(self.envs):
            self.obs[i], _ = env.reset(seed=None if seed is None else seed + i)
        return self.obs, {}

    def step(self, actions):
        # On a reset row it reports nonsense, which must not come through.
        rewards = np.full(self.num_envs, 7.0)
        terminated, truncated = np.zeros((2, self.num_envs), bool)
        for i, env in enumerate(self.envs):
            if self.done[i]:
                self.obs[i], _ = env.reset()
                continue
            self.obs[i], rewards[i], terminated[i], _, _ = env.step(actions[i])
            truncated[i] = env.t == self.limit
        self.done = terminated | truncated
        infos = {}
        if self.same_step and self.done.any():
            infos = {"final_obs": self.obs.copy(), "_final_obs": self.done}
            for i in np.flatnonzero(self.done):
                self.obs[i], _ = self.envs[i].reset()
            self.done = np.zeros(self.num_envs, bool)
            return self.obs, rewards, terminated, truncated, infos
        return self.obs, rewards, terminated, truncated, infos


class SleepingEnv(ScriptedEnv):
    """A step takes two milliseconds."""

    def step(self, action):
        time.sleep(0.002)
        return super().step(action)


class SleepingVectorEnv(ScriptedVectorEnv):
    """A vector entry point that is slower than its environments."""

    def step(self, actions):
        time.sleep(0.02)
        return super().step(actions)


class ClippedVectorEnv(ScriptedVectorEnv):
    """A vector entry point with rewards of its own."""

    def step(self, actions):
        observations, rewards, *others = super().step(actions)
        return observations, np.clip(rewards, -1, 1), *others


class WiderVectorEnv(ScriptedVectorEnv):
    """A vector entry point with observations of its own."""

    single_observation_space = Box(0, 200, (3,), np.int16)


class LongerVectorEnv(ScriptedVectorEnv):
    """A vector entry point with a time limit of its own."""

    def __init__(self, num_envs=1, max_episode_steps=TIME_LIMIT):
        super().__init__(num_envs, max_episode_steps + 1)


class FailingEnv(ScriptedEnv):
    """The third step of an episode raises."""

    def step(self, action):
        if self.t == 2:
            raise ZeroDivisionError("the third step")
        return super().step(action)


class ShapedEnv(gymnasium.Env):
    """Gives a constant observation of any space and takes any action of any space."""

    def __init__(self, observation_space, action_space=ScriptedEnv.action_space, reward=0.0):
        self.observation_space = observation_space
        self.action_space = action_space
        self.reward = reward
        self.actions = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(0)
        self.obs = self.observation_space.sample()
        return self.obs, {}

    def step(self, action):
        self.actions.append(action)
        return self.obs, self.reward, False, False, {}


class NoiseEnv(gymnasium.Env):
    """Its observations are random; the episode ends at random too."""

    observation_space = Box(-10, 10, (2,), np.float32)
    action_space = Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._observe(), {}

    def step(self, action):
        return self._observe(), float(action), bool(self.np_random.random() < 0.2), False, {}

    def _observe(self):
        return np.clip(self.np_random.normal(size=2), -10, 10).astype(np.float32)


class Recording(NamedTuple):
    rows: dict
    """Per environment, its valid rows in order."""
    steps: list
    """Every `VectorStep`, copied."""


def record(env, steps, seed=0, action_of=scripted_action):
    """Play `steps` vector steps; `action_of(env_id, number of the env's valid row)` acts."""
    env.reset(seed)
    return record_on(env, steps, action_of)


def record_on(env, steps, action_of=scripted_action):
    """The same from where `env` stands."""
    rows, last = defaultdict(list), {}
    step, history = env.recv(), []
    for _ in range(steps):
        _note(step, rows, last)
        history.append(type(step)(*(np.array(part) for part in step)))
        actions = np.array([action_of(int(i), len(rows[int(i)])) for i in step.env_ids])
        for i, obs, action in zip(step.env_ids, step.observations, actions, strict=True):
            last[int(i)] = (obs.copy(), action)
        env.send(actions, step.env_ids)
        actions[...] = -1  # a sent action may be overwritten
        step = env.recv()
    _note(step, rows, last)
    history.append(type(step)(*(np.array(part) for part in step)))
    return Recording(dict(rows), history)


def _note(step, rows, last):
    ended = step.terminated | step.truncated
    assert len(step.end_observations) == ended.sum()
    ends = iter(step.end_observations)
    for k, env_id in enumerate(step.env_ids.tolist()):
        after = next(ends) if ended[k] else step.observations[k]
        if not step.valid[k]:
            assert not ended[k]
            assert step.rewards[k] == 0
            continue
        obs, action = last[env_id]
        flags = bool(step.terminated[k]), bool(step.truncated[k])
        reward = float(step.rewards[k])
        start, after = tuple(obs.ravel()), tuple(after.ravel())
        rows[env_id].append(Row(start, action.tolist(), reward, *flags, after))


def _register(name, entry_point, **options):
    # The checker complains about a reused observation buffer, which is what is tested.
    gymnasium.register(name, entry_point, disable_env_checker=True, **options)


_register(
    "RowScript-v0", ScriptedEnv, vector_entry_point=ScriptedVectorEnv, max_episode_steps=TIME_LIMIT
)
_register("RowNoise-v0", NoiseEnv, max_episode_steps=7)
_register("RowFailing-v0", FailingEnv)
_register("RowSleeping-v0", SleepingEnv, vector_entry_point=SleepingVectorEnv)
_register("RowMissing-v0", "a_missing_package.envs:Env")
for _name, _vector in {
    "RowSame-v0": ScriptedVectorEnv,
    "RowClipped-v0": ClippedVectorEnv,
    "RowWider-v0": WiderVectorEnv,
    "RowLonger-v0": LongerVectorEnv,
}.items():
    _register(_name, SleepingEnv, vector_entry_point=_vector, max_episode_steps=TIME_LIMIT)
