"""Environments and agents from plain settings: what `train` and `evaluate` build alike."""

from __future__ import annotations

import os
import sys
import warnings
from typing import TYPE_CHECKING

import numpy as np
from gymnasium.spaces import Box, Discrete

from tensor_optix.cli.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tensor_optix.algorithms.torch_ppo import TorchPPOAgent
    from tensor_optix.cli.run_directory import RunConfig
    from tensor_optix.pipeline.vector_env import VectorEnv

_NETWORKS = 1
_EPISODES = 2


def derived_seeds(seed: int, purpose: int, count: int) -> list[int]:
    """Return `count` seeds below 2**31 that follow from `seed`, different ones for each purpose."""
    words = np.random.SeedSequence(seed, spawn_key=(purpose,)).generate_state(count)
    return [int(word) % 2**31 for word in words]


def episode_seed(seed: int) -> int:
    """Return the seed of the environments that `evaluate` plays in, none that training uses."""
    return derived_seeds(seed, _EPISODES, 1)[0]


def open_environments(
    env_id: str, make: Callable[[], VectorEnv], warn: Callable[[str], None]
) -> VectorEnv:
    """Make environments, and check that the command can train in them.

    Args:
        env_id: What errors call them.
        make: Makes them.
        warn: Is told what the packages warned of, if all went well.

    Raises:
        CommandError: If they cannot be made, or have spaces that the command does not support.
    """
    if os.getcwd() not in sys.path:
        # So that the module of "module:id" may lie here, as with `python -m`.
        sys.path.append(os.getcwd())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            env = make()
        except ModuleNotFoundError as error:
            raise CommandError(
                f'cannot make "{env_id}": {error}; install that module, or run where it lies'
            ) from error
        except (ValueError, ImportError) as error:
            raise CommandError(str(error)) from error
        except Exception as error:
            raise CommandError(
                f'cannot make "{env_id}": {type(error).__name__}: {error}; try another --backend'
            ) from error
    try:
        _require_supported(env_id, env)
    except CommandError:
        env.close()
        raise
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        warn(message)
    return env


def build_agent(env: VectorEnv, config: RunConfig) -> TorchPPOAgent:
    """Build the agent of a run, with the weights that its seed gives.

    Raises:
        CommandError: If the device cannot be used.
    """
    from tensor_optix.adapters.pytorch.networks import adam, mlp
    from tensor_optix.adapters.pytorch.placement import resolve_device
    from tensor_optix.algorithms.torch_ppo import TorchPPOAgent
    from tensor_optix.core.types import HyperparamSet

    try:
        resolve_device(config.device)
    except ValueError as error:
        raise CommandError(str(error).replace("choose", "choose --device")) from error
    assert env.observation_space.shape is not None
    assert isinstance(env.action_space, Discrete)
    (width,) = env.observation_space.shape
    actor_seed, critic_seed = derived_seeds(config.seed, _NETWORKS, 2)
    # A small last layer makes the first policy almost uniform.
    actor = mlp(width, int(env.action_space.n), config.hidden_sizes, actor_seed, output_gain=0.01)
    critic = mlp(width, 1, config.hidden_sizes, critic_seed)
    optimizer = adam([actor, critic], config.hyperparams["learning_rate"])
    hyperparams = HyperparamSet(dict(config.hyperparams))
    return TorchPPOAgent(actor, critic, optimizer, hyperparams, device=config.device)


def _require_supported(env_id: str, env: VectorEnv) -> None:
    seen, actions = env.observation_space, env.action_space
    is_vector = isinstance(seen, Box) and len(seen.shape) == 1
    if not is_vector or not np.issubdtype(seen.dtype or np.void, np.floating):
        raise CommandError(
            f'unsupported space: "{env_id}" observes {seen}; the command supports vectors of '
            "floats (a 1-d float Box) for now; choose or wrap an environment that gives such"
        )
    if not isinstance(actions, Discrete):
        raise CommandError(
            f'unsupported space: "{env_id}" takes actions from {actions}; the command supports '
            "Discrete actions for now; choose or wrap an environment that takes such"
        )
