"""Training on a probe, and saying what is broken where the answer is wrong.

Agents and functions of NumPy arrays come in, so that every algorithm and framework can be asked; an
`AssertionError` in words goes out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import Box

from tensor_optix.pipeline.batch_pipeline import BatchPipeline
from tensor_optix.pipeline.vector_pipeline import VectorBatchPipeline

if TYPE_CHECKING:
    from collections.abc import Callable

    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.base_pipeline import BasePipeline
    from tensor_optix.core.types import Array
    from tests.probes.catalogue import Probe

ENV_SEED = 90210
"""Not 0 or 1: agents are seeded with those, and an agent whose random numbers are those of its
environment always makes the same choice in the same state."""


def train(
    agent: BaseAgent,
    probe: Probe,
    steps: int,
    num_envs: int | None = None,
    window_size: int | None = None,
    seed: int = ENV_SEED,
) -> None:
    """Let `agent` collect and learn windows until `steps` environment steps have been made.

    Args:
        agent: Its discount must be `probe.answer.gamma`.
        probe: What to learn.
        steps: In all environments together.
        num_envs: None: as the probe has it.
        window_size: Rows per environment. None: as the probe has it.
        seed: Of the environments.

    Raises:
        ValueError: If the agent's discount is another one, or `num_envs` does not fit the probe.
    """
    gamma = agent.get_hyperparams().params.get("gamma")
    if gamma != probe.answer.gamma:
        raise ValueError(
            f"the agent's gamma must be {probe.answer.gamma} for {probe.name}, got {gamma}"
        )
    num_envs = num_envs or probe.answer.num_envs
    if probe.answer.homes is not None and num_envs != len(probe.answer.homes):
        raise ValueError(
            f"{probe.name} needs {len(probe.answer.homes)} environments, got {num_envs}"
        )
    pipeline = _make_pipeline(agent, probe, num_envs, window_size or probe.answer.window_size)
    pipeline.seed(seed)
    pipeline.setup()
    try:
        for episode in pipeline.episodes():
            agent.learn(episode)
            steps -= episode.num_steps
            if steps <= 0:
                break
    finally:
        pipeline.teardown()


def _make_pipeline(agent: BaseAgent, probe: Probe, num_envs: int, window_size: int) -> BasePipeline:
    if num_envs == 1:
        return BatchPipeline(probe.make_env(0), agent, window_size)
    functions = [lambda env_id=env_id: probe.make_env(env_id) for env_id in range(num_envs)]
    return VectorBatchPipeline(functions, agent, window_size)


def check_values(predict: Callable[[Array], Any], probe: Probe) -> None:
    """Check a critic V, or a critic Q with any actions filled in.

    Args:
        predict: `[M, ...]` observations to `[M]` or `[M, 1]` values.
        probe: One of the value probes.

    Raises:
        AssertionError: With what is broken.
        ValueError: If the probe's values depend on the policy.
    """
    if probe.values is None:
        raise ValueError(f"the values of {probe.name} depend on the policy; use check_greedy")
    values = np.asarray(predict(probe.observations), np.float64)
    assert values.size == len(probe.values), (
        f"{probe.name}: one value per observation was expected, got shape {values.shape}"
    )
    _compare(probe, "V", values.reshape(-1), probe.values)


def check_action_values(predict: Callable[[Array], Any], probe: Probe) -> None:
    """Check a Q-network.

    Args:
        predict: `[M, ...]` observations to `[M, 2]` values.
        probe: Any with discrete actions.

    Raises:
        AssertionError: With what is broken.
        ValueError: If the probe has no value per action.
    """
    expected = probe.action_values
    if expected is None:
        raise ValueError(f"{probe.name} has no list of actions; use check_greedy")
    values = np.asarray(predict(probe.observations), np.float64)
    assert values.shape == expected.shape, (
        f"{probe.name}: values of shape {expected.shape} were expected, got {values.shape}"
    )
    _compare(probe, "Q", values, expected)


def check_greedy(
    act_greedy: Callable[[Array], Any], probe: Probe, has_unit_actions: bool = False
) -> None:
    """Check the policy's best actions.

    Args:
        act_greedy: `[M, ...]` observations to `[M]` or `[M, 1]` actions.
        probe: One of the action probes.
        has_unit_actions: The agent's own; actions in [-1, 1] are stretched to the Box.

    Raises:
        AssertionError: With what is broken.
        ValueError: If any action will do in this probe.
    """
    if probe.actions is None:
        raise ValueError(f"any action is right in {probe.name}; use check_values")
    actions = np.asarray(act_greedy(probe.observations), np.float64)
    assert actions.shape == probe.actions.shape, (
        f"{probe.name}: actions of shape {probe.actions.shape} were expected, got {actions.shape}"
    )
    if has_unit_actions and isinstance(probe.action_space, Box):
        low, high = probe.action_space.low, probe.action_space.high
        actions = np.asarray(low + (actions + 1.0) / 2.0 * (high - low), np.float64)
    _compare(probe, "action", actions.reshape(len(actions)), probe.actions.reshape(-1))


def _compare(probe: Probe, what: str, got: Array, expected: Array) -> None:
    tolerance = probe.answer.tolerance
    if bool((np.abs(got - expected) <= tolerance).all()):
        return
    raise AssertionError(
        f"{probe.name}: {what} = {_shown(got)}, expected {_shown(expected)} +- {tolerance}: "
        f"{_diagnosis(probe, got)}"
    )


def _diagnosis(probe: Probe, got: Array) -> str:
    if not np.isfinite(got).all():
        return "the network's output is not finite"
    columns = got.reshape(len(got), -1).T
    for symptom in probe.answer.symptoms:
        if all(symptom.fits(column) for column in columns):
            return symptom.words
    if len(got) > 1 and bool((np.ptp(columns, axis=1) <= probe.answer.tolerance).all()):
        return "the output does not depend on the observation"
    return f"look at {probe.answer.suspects}"


def _shown(numbers: Array) -> str:
    rounded = np.round(numbers, 3).tolist()
    return str(rounded[0] if len(rounded) == 1 else rounded)
