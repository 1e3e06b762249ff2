"""A run of Stable-Baselines3, or of nobody: an environment, settings and a seed come in, returns go out.

    python -m benchmarks.no_knobs.peer CartPole-v1 tuned 0

Prints one JSON object.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import gymnasium
import numpy as np

from benchmarks.no_knobs.cases import CASES, EPISODES, Case

FRESH = 1_000_003
"""Seeds of the episodes that a run is judged by: none that training uses."""
PLAYED_AT_ONCE = 10


def played_at_random(case: Case, seed: int) -> list[float]:
    env = gymnasium.make(case.env_id)
    env.action_space.seed(seed)
    returns = []
    for episode in range(EPISODES):
        env.reset(seed=FRESH + EPISODES * seed + episode)
        total, is_over = 0.0, False
        while not is_over:
            _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            total += float(reward)
            is_over = terminated or truncated
        returns.append(total)
    return returns


def arguments(settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """Return arguments of an algorithm, with functions in the place of their names."""
    given = {
        name: falling(float(value.removeprefix("lin_")))
        if isinstance(value, str) and value.startswith("lin_")
        else value
        for name, value in settings.items()
    }
    return {**given, "seed": seed, "device": "cpu"}


def falling(first: float) -> Any:
    return lambda remaining: remaining * first


def trained(case: Case, is_tuned: bool, seed: int) -> list[float]:
    """Train with all of the budget, and return what the last policy reaches."""
    import stable_baselines3
    import torch
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.vec_env import VecNormalize

    torch.set_num_threads(1)
    settings = case.tuned if is_tuned else {}
    envs: Any = make_vec_env(case.env_id, case.num_envs if is_tuned else 1, seed)
    fresh: Any = make_vec_env(case.env_id, PLAYED_AT_ONCE, FRESH + EPISODES * seed)
    normalizes = is_tuned and case.normalizes
    if normalizes:
        envs = VecNormalize(envs, gamma=settings["gamma"])
        fresh = VecNormalize(fresh, training=False, norm_reward=False)
    kind = getattr(stable_baselines3, case.algorithm)
    model = kind("MlpPolicy", envs, **arguments(settings, seed))
    model.learn(case.steps)
    if normalizes:
        fresh.obs_rms = envs.obs_rms
    returns, _ = evaluate_policy(model, fresh, EPISODES, return_episode_rewards=True)
    return [float(one) for one in returns]


def main() -> None:
    env_id, contender, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
    case, begun = CASES[env_id], time.perf_counter()
    returns = (
        played_at_random(case, seed)
        if contender == "random"
        else trained(case, contender == "tuned", seed)
    )
    steps = 0 if contender == "random" else case.steps
    seconds = time.perf_counter() - begun
    row = {"score": float(np.mean(returns)), "steps": steps, "seconds": seconds}
    print(json.dumps(row))


if __name__ == "__main__":
    main()
