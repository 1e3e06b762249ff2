"""The best policy of a run, played by a loop as one writes it by hand: the check of `tensor-optix evaluate`.

    python -m benchmarks.environments.hand_loop RUN_DIR EVALUATION RESULT

EVALUATION is a file with what `tensor-optix evaluate RUN_DIR --json` printed. The environments are made by
`gymnasium.make` and `envpool.make`, stepped one after another, and their observations and actions are brought
into form here; of the library there is only the policy. Returns of the same episodes go to RESULT, as JSON.
"""

from __future__ import annotations

import importlib
import json
import sys
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation

from tensor_optix import CheckpointRegistry, HyperparamSet, make_agent

FIRE = 1
MASK = "action_mask"
NESTED = (spaces.Dict, spaces.Tuple)


# ---- observations and actions


def parts(space: Any, observation: Any, is_top: bool = True) -> list[Any]:
    """Return the numbers of an observation's parts, those that choose among some as unit vectors."""
    if isinstance(space, spaces.Dict):
        named = [
            (one, observation[key])
            for key, one in space.spaces.items()
            if not (is_top and key == MASK)
        ]
        return [part for one, value in named for part in parts(one, value, False)]
    if isinstance(space, spaces.Tuple):
        pairs = zip(space.spaces, observation, strict=True)
        return [part for one, value in pairs for part in parts(one, value, False)]
    if isinstance(space, spaces.Discrete):
        return [np.eye(space.n, dtype=np.uint8)[int(np.ravel(observation)[0]) - space.start]]
    if isinstance(space, spaces.MultiDiscrete):
        numbers = zip(space.nvec.ravel(), np.ravel(observation - space.start), strict=True)
        return [np.eye(count, dtype=np.uint8)[number] for count, number in numbers]
    if isinstance(space, spaces.MultiBinary):
        return [np.ravel(observation).astype(np.uint8)]
    return [np.ravel(observation).astype(space.dtype)] if isinstance(space, spaces.Box) else []


def seen(space: Any, observation: Any) -> Any:
    """Return an observation as the policy's networks take it."""
    if not isinstance(space, NESTED):
        return np.asarray(observation, space.dtype)
    row = np.concatenate(parts(space, observation))
    return row if row.dtype == np.uint8 else row.astype(np.float32)


def taken(space: Any, action: Any) -> Any:
    """Return an action as the environment takes it."""
    if isinstance(space, spaces.Discrete):
        return int(action) + int(space.start)
    if isinstance(space, spaces.MultiDiscrete):
        return (action.reshape(space.shape) + space.start).astype(space.dtype)
    if isinstance(space, spaces.MultiBinary):
        return action.reshape(space.shape).astype(space.dtype)
    action = action.reshape(space.shape).astype(np.float64)
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    if not np.isfinite(space.low).all():
        return action.astype(space.dtype)
    return np.clip((high + low) / 2 + (high - low) / 2 * action, low, high).astype(space.dtype)


def chosen(agent: Any, observations: Any, masks: Any) -> Any:
    """Return the policy's best actions; the likeliest that is allowed, where masks tell."""
    if masks is None:
        return agent.act_greedy(observations)
    masks = np.asarray(masks, bool).reshape(len(observations), -1)
    masks |= ~masks.any(axis=1, keepdims=True)
    return np.where(masks, agent.action_probs(observations), -1.0).argmax(axis=1)


# ---- environments


class WholeGame(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An Atari game in which FIRE begins each life, as in training; an episode is a whole game."""

    def reset(self, **options: Any) -> Any:
        """Begin a game."""
        self._lives_with = FIRE if "FIRE" in self.unwrapped.get_action_meanings()[1:2] else 0
        observation, info = self.env.reset(**options)
        if self._lives_with == FIRE:
            observation, _, _, _, info = self.env.step(FIRE)
        self._lives = info["lives"]
        return observation, info

    def step(self, action: Any) -> Any:
        """Take a step, and one more where a life was lost."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        lost, self._lives = 0 < info["lives"] < self._lives, info["lives"]
        if lost and not (terminated or truncated):
            observation, more, terminated, truncated, info = self.env.step(self._lives_with)
            reward, self._lives = reward + more, info["lives"]
        return observation, reward, terminated, truncated, info


def preprocessed(env: Any) -> Any:
    """Return an Atari game as it is usually learned, with rewards and ends of its own."""
    return WholeGame(FrameStackObservation(AtariPreprocessing(env, frame_skip=4), 4))


def made(run: dict[str, Any]) -> Any:
    """Return one of Gymnasium's environments."""
    module, _, name = run["env_id"].rpartition(":")
    importlib.import_module(module or "ale_py")
    env = gymnasium.make(name, **run["env_kwargs"])
    for wrapper in run["wrappers"]:
        place, _, function = wrapper.partition(":")
        wrap = getattr(importlib.import_module(place), function)
        env = preprocessed(env) if place == "tensor_optix.pipeline.atari" else wrap(env)
    return env


class Envs:
    """Gymnasium's environments in a list. Those whose episode has ended stand still."""

    resets: Any = False
    """Which of the steps are resets: none."""

    def __init__(self, run: dict[str, Any], count: int, seed: int) -> None:
        self._envs = [made(run) for _ in range(count)]
        self.space, self._actions = self._envs[0].observation_space, self._envs[0].action_space
        first = [env.reset(seed=seed + number) for number, env in enumerate(self._envs)]
        self._shown, self._infos = map(list, zip(*first, strict=True))

    def agent_env(self) -> Any:
        """What the policy is made for."""
        return self._envs[0]

    def observations(self) -> Any:
        """What the policy sees."""
        return np.stack([seen(self.space, one) for one in self._shown])

    def masks(self) -> Any:
        """Which actions are allowed, None where nothing tells."""
        told = [
            {**info, **(one if isinstance(one, dict) else {})}
            for one, info in zip(self._shown, self._infos, strict=True)
        ]
        return [one[MASK] for one in told] if MASK in told[0] else None

    def step(self, actions: Any, alive: Any) -> tuple[Any, Any]:
        """Return rewards and ends."""
        rewards, ends = np.zeros(len(alive)), np.zeros(len(alive), bool)
        for n in np.flatnonzero(alive):
            result = self._envs[n].step(taken(self._actions, actions[n]))
            self._shown[n], rewards[n], terminated, truncated, self._infos[n] = result
            ends[n] = terminated or truncated
        return rewards, ends


class Pool:
    """An EnvPool."""

    def __init__(self, run: dict[str, Any], count: int, seed: int) -> None:
        import envpool

        options = {"env_type": "gymnasium", "num_envs": count, "seed": seed} | run["env_kwargs"]
        self._pool = envpool.make(run["env_id"], **options)
        self._count, self._ended = count, np.zeros(count, bool)
        self.resets = self._ended
        self._is_clipped = bool(run["env_kwargs"].get("reward_clip"))
        self.space, self._actions = self._pool.observation_space, self._pool.action_space
        if "step_count" in getattr(self.space, "spaces", {}):
            # Snake's count ends at a number that its space does not have.
            counted = spaces.Discrete(self._pool.config["max_episode_steps"] + 1)
            self.space = spaces.Dict(OrderedDict(self.space.spaces | {"step_count": counted}))
        self._shown, self._info = self._pool.reset()

    def agent_env(self) -> Any:
        """What the policy is made for."""
        return self._pool

    def observations(self) -> Any:
        """What the policy sees."""
        return np.stack([seen(self.space, self._one(self._shown, n)) for n in range(self._count)])

    def masks(self) -> Any:
        """Which actions are allowed, None where nothing tells."""
        shown = self._shown if isinstance(self._shown, dict) else {}
        told = {**self._info, **shown}
        return told.get(MASK)

    def step(self, actions: Any, alive: Any) -> tuple[Any, Any]:
        """Return rewards and ends."""
        sent = np.stack([taken(self._actions, one) for one in actions])
        self._shown, rewards, terminated, truncated, self._info = self._pool.step(sent)
        # The step behind an end is a reset.
        self.resets, self._ended = self._ended, terminated | truncated
        if self._is_clipped:
            rewards, terminated = self._info["reward"], self._info["terminated"].astype(bool)
        return np.where(self.resets, 0.0, rewards), (terminated | truncated) & ~self.resets

    def _one(self, shown: Any, number: int) -> Any:
        if isinstance(shown, dict):
            return {key: self._one(part, number) for key, part in shown.items()}
        return (
            tuple(self._one(part, number) for part in shown)
            if isinstance(shown, tuple)
            else shown[number]
        )


# ---- playing


def policy(run_dir: Path, run: dict[str, Any], env: Any) -> Any:
    """Return the best policy of a run."""
    agent = make_agent(
        env,
        run["algorithm"],
        run["framework"],
        hyperparams=HyperparamSet(run["hyperparams"]),
        hidden_sizes=run["hidden_sizes"],
        normalize_observations=run["normalize_observations"],
        channels=run["channels"],
    )
    CheckpointRegistry(run_dir / "checkpoints").load_best(agent)
    return agent


def play(agent: Any, envs: Any, count: int, most_steps: int) -> dict[str, Any]:
    """Play an episode in each environment."""
    alive, totals, lengths = np.ones(count, bool), [0.0] * count, np.zeros(count, int)
    ended = np.zeros(count, bool)
    with np.errstate(all="ignore"):
        while alive.any():
            rewards, ends = envs.step(chosen(agent, envs.observations(), envs.masks()), alive)
            for n in np.flatnonzero(alive):
                totals[n] += float(rewards[n])
            lengths += alive & ~np.asarray(envs.resets)
            ended |= ends & alive
            alive &= ~ends & (lengths < most_steps)
    returns = [totals[n] for n in np.flatnonzero(ended)]
    score = sum(returns) / len(returns) if returns else sum(totals) / int(lengths.sum())
    return {"score": score, "returns": returns, "lengths": lengths[ended].tolist()}


def main(run_dir: str, evaluation: str, result: str) -> None:
    """Play what was evaluated."""
    warnings.simplefilter("ignore")
    run = json.loads((Path(run_dir) / "run.json").read_text())
    played = json.loads(Path(evaluation).read_text())
    count = played["num_envs"]
    kind = Pool if played["backend"].startswith("envpool") else Envs
    envs = kind(run, count, played["env_seed"])
    by_hand = play(policy(Path(run_dir), run, envs.agent_env()), envs, count, played["most_steps"])
    Path(result).write_text(json.dumps(by_hand))


if __name__ == "__main__":
    main(*sys.argv[1:])
