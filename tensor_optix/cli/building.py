"""Environments and agents from plain settings: what `train` and `evaluate` build alike."""

from __future__ import annotations

import os
import sys
import warnings
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from tensor_optix.algorithms.agent_factory import default_hidden_sizes, has_images, make_agent
from tensor_optix.cli.errors import CommandError
from tensor_optix.cli.framework_loading import computing_device, load, require_framework
from tensor_optix.core.callbacks import LoopCallback
from tensor_optix.core.named_objects import named_object
from tensor_optix.core.recorded_spaces import space_to_json
from tensor_optix.core.types import HyperparamSet
from tensor_optix.pipeline.agent_view import seen_by
from tensor_optix.runs.run_directory import RunConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from tensor_optix.algorithms.frameworks import Framework
    from tensor_optix.cli.options import LearnerOptions
    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.environment_recipe import EnvironmentRecipe
    from tensor_optix.pipeline.vector_env import VectorEnv

Made = TypeVar("Made")

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
    environment: EnvironmentRecipe, make: Callable[[], Made], warn: Callable[[str], None]
) -> Made:
    """Make environments.

    Args:
        environment: What is made.
        make: Makes it.
        warn: Is told what the packages warned of, if all went well.

    Raises:
        CommandError: If they cannot be made.
    """
    if os.getcwd() not in sys.path:
        # So that the module of "module:id" may lie here, as with `python -m`.
        sys.path.append(os.getcwd())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            env = make()
        except (ValueError, ImportError) as error:
            raise CommandError(str(error)) from error
        except Exception as error:
            remedy = "look at --env-kwargs" if environment.kwargs else "try another --backend"
            raise CommandError(
                f"cannot make {environment.title}: {type(error).__name__}: {error}; {remedy}"
            ) from error
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        warn(message)
    return env


def build_agent(env: VectorEnv, config: RunConfig) -> BaseAgent:
    """Build the agent of a run, with the weights that its seed gives.

    Raises:
        CommandError: If environments, settings, framework and device do not fit together.
    """
    framework = require_framework(config.framework)
    load(framework)
    computing_device(framework, config.device)
    (seed,) = derived_seeds(config.seed or 0, _NETWORKS, 1)
    try:
        agent = make_agent(
            env,
            config.algorithm,
            config.framework,
            hyperparams=HyperparamSet(dict(config.hyperparams)),
            hidden_sizes=config.hidden_sizes,
            seed=seed,
            device=config.device,
            normalize_observations=config.normalize_observations,
            normalize_rewards=config.normalize_rewards,
            channels=config.channels,
            engine=config.engine,
        )
        agent.check_spaces(seen_by(agent, env).observation_space, env.action_space)
    except ValueError as error:
        raise CommandError(f'cannot train in "{config.title}": {error}') from error
    return agent


def named_callbacks(config: RunConfig) -> list[LoopCallback]:
    """Make the listeners that a run names.

    Raises:
        CommandError: If one cannot be found or made.
    """
    return [_callback(text, f'callback "{text}"') for text in config.callbacks]


def _callback(text: str, said: str) -> LoopCallback:
    try:
        found = named_object(text, said, callable)
    except ValueError as error:
        raise CommandError(str(error)) from error
    try:
        made = found() if callable(found) else found
    except Exception as error:
        raise CommandError(
            f"{said} cannot be made without arguments: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(made, LoopCallback):
        raise CommandError(
            f"{said} is none: expected a subclass of tensor_optix.LoopCallback or a function that "
            f"returns one, got {made!r}"
        )
    return made


def run_config(
    options: LearnerOptions, env: VectorEnv, framework: Framework, **others: Any
) -> RunConfig:
    """Return what options ask for, with what they leave open: algorithm's defaults, a seed, the device.

    Args:
        options: Were checked.
        env: The environments.
        framework: Is loaded, or will be.
        **others: Further fields of `RunConfig`.
    """
    drawn = int(np.random.SeedSequence().generate_state(1)[0])
    algorithm, space = options.algorithm, env.observation_space
    sizes = options.hidden_sizes
    return RunConfig(
        env_id=options.env_id,
        env_kwargs=dict(options.environment.kwargs),
        wrappers=options.wrapper,
        backend=env.name,
        seed=drawn if options.seed is None else options.seed,
        num_envs=options.envs,
        window_size=options.window,
        hidden_sizes=default_hidden_sizes(algorithm, space) if sizes is None else sizes,
        device=options.device,
        hyperparams=algorithm.default_params(has_images(space)) | options.hyperparams,
        algorithm=algorithm.name,
        normalize_observations=bool(options.normalize_observations),
        normalize_rewards=options.normalize_rewards,
        framework=framework.name,
        engine=options.engine,
        computed_on=computing_device(framework, options.device),
        observation_space=space_to_json(space),
        action_space=space_to_json(env.action_space),
        **others,
    )
