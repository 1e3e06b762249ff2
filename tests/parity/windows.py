"""Windows with all that can be in one, ends and invalid rows included, and agents that learn from them."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from tensor_optix.core.types import EpisodeData

VECTOR, IMAGE = (4,), (6, 6, 2)
NUM_ACTIONS, ACTION_DIM = 3, 2
CHOICES = (2, 3, 3)
STEPS, NUM_ENVS = 17, 3
ROWS = STEPS * NUM_ENVS
TERMINATED, TRUNCATED = (9, 20, 40), (13, 31)
INVALID = (12, 16, 23, 34, 43)
"""The rows after the ends, of the same environment: the environment's own reset steps."""


def make_window(
    obs_shape: tuple[int, ...] = VECTOR, is_discrete: bool = True, seed: int = 0, **changes: Any
) -> EpisodeData:
    """Return a window of 51 rows of 3 environments: 46 transitions, 3 ends and 2 time limits among them."""
    rng = np.random.default_rng(seed)
    terminated, truncated, valid = np.zeros(ROWS, bool), np.zeros(ROWS, bool), np.ones(ROWS, bool)
    terminated[list(TERMINATED)] = truncated[list(TRUNCATED)] = True
    valid[list(INVALID)] = False
    ends = np.sort([*TERMINATED, *TRUNCATED])
    actions = (
        rng.integers(0, NUM_ACTIONS, ROWS)
        if is_discrete
        else np.tanh(1.5 * rng.standard_normal((ROWS, ACTION_DIM))).astype(np.float32)
    )
    fields = {
        "observations": draw_observations(rng, ROWS, obs_shape),
        "actions": actions,
        "rewards": rng.standard_normal(ROWS).astype(np.float32),
        "terminated": terminated,
        "truncated": truncated,
        "infos": [],
        "episode_id": seed,
        "num_envs": NUM_ENVS,
        "valid": valid,
        "final_obs": draw_observations(rng, NUM_ENVS, obs_shape),
        "end_rows": ends,
        "end_observations": draw_observations(rng, len(ends), obs_shape),
    }
    return EpisodeData(**(fields | changes))


def make_window_of_choices(seed: int = 0) -> EpisodeData:
    """Return the same window with actions of several choices."""
    rng = np.random.default_rng(100 + seed)
    actions = np.stack([rng.integers(0, count, ROWS) for count in CHOICES], axis=1)
    return make_window(seed=seed, actions=actions)


def make_row(obs_shape: tuple[int, ...] = VECTOR, is_discrete: bool = True) -> EpisodeData:
    """Return a window of one row, which a time limit ends."""
    window = make_window(obs_shape, is_discrete, seed=9)
    return EpisodeData(
        observations=window.observations[:1],
        actions=window.actions[:1],
        rewards=window.rewards[:1],
        terminated=np.array([False]),
        truncated=np.array([True]),
        infos=[],
        episode_id=9,
        end_rows=np.array([0]),
        end_observations=window.end_observations[:1],
    )


def draw_observations(rng: np.random.Generator, count: int, obs_shape: tuple[int, ...]) -> Any:
    """Return vectors of about unit scale, or byte images."""
    if len(obs_shape) == 1:
        return rng.standard_normal((count, *obs_shape)).astype(np.float32)
    return rng.integers(0, 256, (count, *obs_shape), np.uint8)


def learned_alike(native: Any, framework: Any, window: EpisodeData, most: float) -> dict[str, Any]:
    """Let two agents learn from a window, one by the native engine, and assert that they say the same of it.

    Returns:
        What the first said.
    """
    ours, theirs = (agent.learn(copy.deepcopy(window)) for agent in (native, framework))
    assert native.engine_choice.name == "native"
    assert list(ours) == list(theirs)
    for name, value in theirs.items():
        if isinstance(value, float):
            assert ours[name] == pytest.approx(value, rel=1e-5, abs=most, nan_ok=True), name
        else:
            assert ours[name] == value, name
    return dict(ours)
