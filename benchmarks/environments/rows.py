"""Rows of a pipeline against those of a loop by hand, environment by environment; prints a table.

    python -m benchmarks.environments.rows

An agent that was never trained acts at random in two environments. The loop takes the same actions in
environments of its own, and compares what both saw, were paid, and were told of ends.
"""

from __future__ import annotations

import warnings
from collections import Counter
from typing import Any

import numpy as np

from benchmarks.environments.hand_loop import MASK, made, seen, taken
from tensor_optix import VectorBatchPipeline, make_agent
from tensor_optix.pipeline.vector_contract import spread_seed

NUM_ENVS = 2
SEED = 7
ENVIRONMENTS = {
    "gym_pusht:gym_pusht/PushT-v0": (700, {}),
    "panda_gym:PandaReach-v3": (150, {"reward_type": "dense"}),
    "gymnasium_robotics:FrankaKitchen-v1": (300, {}),
    "tetris_gymnasium.envs:tetris_gymnasium/Tetris": (400, {}),
    "flappy_bird_gymnasium:FlappyBird-v0": (150, {"use_lidar": False}),
    "highway_env:parking-v0": (110, {}),
    "gym_anytrading:stocks-v0": (700, {"frame_bound": (30, 300), "window_size": 10}),
    "minigrid:BabyAI-GoToRedBall-v0": (150, {}),
    "shimmy:dm_control/reacher-easy-v0": (1100, {}),
    "Taxi-v4": (450, {}),
    "Blackjack-v1": (150, {}),
}
"""The rows of a window, and arguments, of each: so many that episodes end."""


class Compared:
    """One environment beside a column of a window.

    Args:
        env: An environment of its own.
        seed: Of its first reset.
    """

    def __init__(self, env: Any, seed: int) -> None:
        self._env = env
        self._shown, self._info = env.reset(seed=seed)
        self._has_ended = False
        self.counts: Counter[str] = Counter()

    def row(self, given: dict[str, Any], end: Any) -> None:
        """Compare a row.

        Args:
            given: The pipeline's.
            end: The last observation of the episode that ended with it, None if none did.
        """
        if self._has_ended:
            self._shown, self._info = self._env.reset()
            self._has_ended = False
            self._note("resets that are no rows", not given["valid"])
            return
        self._note("observations", np.array_equal(self._row(), given["observation"]))
        action = taken(self._env.action_space, given["action"])
        self._shown, reward, terminated, truncated, self._info = self._env.step(action)
        self._note("rewards", np.float32(reward) == given["reward"] and given["valid"])
        ends = (bool(terminated), bool(truncated))
        self._note("flags", ends == (given["terminated"], given["truncated"]))
        self._has_ended = any(ends)
        if self._has_ended:
            # What is allowed behind an end, only some environments say.
            same = end is not None and np.array_equal(
                self._row()[: self._plain], end[: self._plain]
            )
            self._note("last observations", same)

    def _row(self) -> Any:
        row = seen(self._env.observation_space, self._shown)
        self._plain = None
        if MASK not in self._info:
            return row
        self._plain = row.size
        return np.concatenate([np.ravel(row), np.asarray(self._info[MASK], row.dtype)])

    def _note(self, what: str, is_same: bool) -> None:
        self.counts[what] += 1
        self.counts["others"] += not is_same


def compared(env_id: str, rows: int, env_kwargs: dict[str, Any]) -> Counter[str]:
    """Return how many of which were compared, and under `"others"` how many were not the same."""
    run = {"env_id": env_id, "env_kwargs": env_kwargs, "wrappers": []}
    ours = [made(run) for _ in range(NUM_ENVS)]
    pipeline = VectorBatchPipeline(
        env_id=env_id,
        num_envs=NUM_ENVS,
        window_size=rows,
        backend="sync",
        seed=SEED,
        env_kwargs=env_kwargs,
    )
    pipeline.set_agent(make_agent(pipeline.env, seed=SEED))
    pipeline.setup()
    window = next(pipeline.episodes())
    pipeline.teardown()
    columns = [Compared(env, spread_seed(SEED) + n) for n, env in enumerate(ours)]
    assert window.end_rows is not None
    assert window.end_observations is not None
    ends = dict(zip(window.end_rows.tolist(), window.end_observations, strict=True))
    valid = np.ones(window.length, bool) if window.valid is None else window.valid
    for number in range(window.length):
        given = {
            "observation": window.observations[number],
            "action": np.asarray(window.actions[number]),
            "reward": window.rewards[number],
            "terminated": bool(window.terminated[number]),
            "truncated": bool(window.truncated[number]),
            "valid": bool(valid[number]),
        }
        columns[number % NUM_ENVS].row(given, ends.get(number))
    return sum((one.counts for one in columns), Counter())


HEADS = (
    "observations",
    "rewards",
    "flags",
    "last observations",
    "resets that are no rows",
    "others",
)


def main() -> None:
    """Compare, and print the table."""
    warnings.simplefilter("ignore")
    lines = [["environment", *HEADS[:-1], "of these not the same"], ["---"] * (len(HEADS) + 1)]
    for env_id, (rows, env_kwargs) in ENVIRONMENTS.items():
        counts = compared(env_id, rows, env_kwargs)
        lines.append([env_id, *(f"{counts[head]:,}" for head in HEADS)])
    print("\n".join(f"| {' | '.join(cells)} |" for cells in lines))


if __name__ == "__main__":
    main()
