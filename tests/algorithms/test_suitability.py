"""What an algorithm would be in an environment: as it would be made, and as its replay would be."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from tensor_optix.algorithms.catalogue import ALGORITHMS
from tensor_optix.algorithms.suitability import Fit, fit_of
from tensor_optix.core.replay_buffer import ReplayBuffer
from tensor_optix.pipeline.vector_env import wrap_env
from tests.frameworks import NAMES, require
from tests.pipeline.any_space_env import SampledEnv
from tests.pipeline.examination.planted_envs import ForceEnv, MaskEnv, ShortMask, WalkEnv

FRAMES = Box(0, 255, (4, 20, 20), np.uint8)


def fitted(name, env, framework="torch", shown=(None, None)) -> Fit:
    require(framework)
    adapter = wrap_env(env)
    adapter.reset(0)
    return fit_of(ALGORITHMS[name], framework, adapter, shown)


@pytest.mark.parametrize("framework", NAMES)
def test_weights_are_those_of_the_networks(framework):
    # Two numbers are seen, three actions are scored: 2 -> 120 -> 84 -> 3.
    expected = 2 * 120 + 120 + 120 * 84 + 84 + 84 * 3 + 3
    assert fitted("dqn", WalkEnv(), framework).weights == {"q_network": expected}


@pytest.mark.parametrize("name", ["sac", "td3"])
def test_an_algorithm_of_other_actions_refuses_with_those_that_fit(name):
    found = fitted(name, WalkEnv())
    assert "use 'ppo' or 'dqn'" in found.refusal
    assert not found.weights
    assert fitted(name, ForceEnv()).refusal == ""


def test_masks_that_do_not_fit_the_actions_are_a_refusal():
    assert fitted("ppo", MaskEnv()).refusal == ""
    assert "number for each of the 3 actions" in fitted("ppo", ShortMask()).refusal


@pytest.mark.parametrize(
    ("name", "env", "action"),
    [("dqn", WalkEnv(), np.zeros(1, np.int64)), ("sac", ForceEnv(), np.zeros((1, 2), np.float32))],
)
def test_the_replay_takes_what_a_buffer_of_such_rows_takes(name, env, action):
    found = fitted(name, env)
    buffer = ReplayBuffer(found.replay_rows, num_envs=1)
    rows = np.zeros((1, 2), np.float32)
    flags = np.zeros(1, bool)
    buffer.extend(rows, action, np.zeros(1, np.float32), rows, flags, flags)
    assert found.replay_bytes == pytest.approx(buffer.nbytes, rel=1e-3)


def test_a_stack_of_frames_is_kept_once_a_frame():
    shown = np.random.default_rng(0).integers(0, 255, (5, 20, 20), np.uint8)
    env = SampledEnv(FRAMES, Discrete(2))
    stacked = fitted("dqn", env, shown=(shown[:4], shown[1:]))
    others = fitted("dqn", env, shown=(shown[:4], shown[:4]))
    assert others.replay_bytes > 3 * stacked.replay_bytes


def test_an_algorithm_without_a_replay_says_none():
    assert fitted("ppo", WalkEnv()).replay_rows == 0
