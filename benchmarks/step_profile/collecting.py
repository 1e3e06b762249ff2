"""What a step takes until its row is kept: environment, acting, bookkeeping."""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from benchmarks.peers.settings import DQN
from benchmarks.step_profile.measure import microseconds
from benchmarks.step_profile.table import Part
from benchmarks.step_profile.updates import bound, network
from tensor_optix.core.envpool_import import import_envpool
from tensor_optix.core.episode_returns import EpisodeCounter
from tensor_optix.kernels import engine
from tensor_optix.pipeline.action_scaling import environment_actions, kept_dtype, kept_shape
from tensor_optix.pipeline.rollout_pipeline import Rollout

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmarks.step_profile.measure import Rates
    from benchmarks.step_profile.training import Training
    from tensor_optix.pipeline.vector_contract import VectorEnv, VectorStep

    Array = NDArray[Any]

ACTIONS = 64
"""Batches of actions that environments are stepped with, in turn."""


def drawn_actions(space: Any, num_envs: int) -> list[Array]:
    """Return batches of random actions, of the dtype of the space."""
    space.seed(0)
    return [np.stack([space.sample() for _ in range(num_envs)]) for _ in range(ACTIONS)]


def own_time(env_id: str, num_envs: int, backend: str) -> tuple[float, float, str]:
    """Measure the environments without this library.

    Returns:
        Microseconds of a vector step by their public methods, those of the same without their Python, and
        what the latter are, in words.
    """
    if backend == "envpool":
        return *_envpool_times(env_id, num_envs), "EnvPool's compiled `_send` and `_recv` alone"
    if backend == "vector":
        return *_vector_times(env_id, num_envs), "its `step` without the wrappers of `make_vec`"
    return *_gymnasium_times(env_id, num_envs), "`step` of the unwrapped environments"


def _envpool_times(env_id: str, num_envs: int) -> tuple[float, float]:
    pools = import_envpool()
    shared = {"num_envs": num_envs, "batch_size": num_envs, "num_threads": 1, "seed": 0}
    pool = pools.make(env_id, env_type="gymnasium", **shared)

    class Compiled(type(pool)):  # type: ignore[misc]
        """The pool, and what its `send` and `recv` call in the end."""

        def prepared(self, actions: Array) -> list[Array]:
            made: list[Array] = self._from(actions, None)
            return made

        def bare_step(self, prepared: list[Array]) -> None:
            self._send(prepared)
            self._recv()

    bare = Compiled(pool.spec)
    actions = drawn_actions(pool.action_space, num_envs)
    prepared = [bare.prepared(batch) for batch in actions]
    pool.reset()
    bare.reset()

    def by_methods() -> None:
        for batch in actions:
            pool.send(batch)
            pool.recv()

    def compiled() -> None:
        for batch in prepared:
            bare.bare_step(batch)

    return microseconds(by_methods, ACTIONS), microseconds(compiled, ACTIONS)


def _gymnasium_times(env_id: str, num_envs: int) -> tuple[float, float]:
    envs = [gymnasium.make(env_id) for _ in range(num_envs)]
    actions = drawn_actions(envs[0].action_space, num_envs)
    times = []
    for stepped in (envs, [env.unwrapped for env in envs]):
        for env in envs:
            env.reset(seed=0)

        def steps(stepped: list[Any] = stepped) -> None:
            for batch in actions:
                for env, action in zip(stepped, batch, strict=True):
                    _, _, terminated, truncated, _ = env.step(action)
                    if terminated or truncated:
                        env.reset()

        times.append(microseconds(steps, ACTIONS))
    return times[0], times[1]


def _vector_times(env_id: str, num_envs: int) -> tuple[float, float]:
    env = gymnasium.make_vec(env_id, num_envs, "vector_entry_point")
    actions = drawn_actions(env.single_action_space, num_envs)
    env.reset(seed=0)
    times = [
        microseconds(lambda one=one: [one.step(batch) for batch in actions], ACTIONS)
        for one in (env, env.unwrapped)
    ]
    return times[0], times[1]


def adapter_time(env: VectorEnv) -> float:
    """Measure `send` and `recv` of a backend of this library, the environments in them included."""
    actions = drawn_actions(env.action_space, env.num_envs)
    env.reset(0)
    ids = env.recv().env_ids

    def steps() -> None:
        for batch in actions:
            env.send(batch, ids)
            env.recv()

    return microseconds(steps, ACTIONS)


def environment_parts(training: Training) -> list[Part]:
    """Return the environments' own time and what this library puts around them."""
    settings, env = training.settings, training.pipeline.env
    own, bare, bare_is = own_time(settings.env_id, settings.num_envs, env.name)
    return [
        Part(f"environments, by {env.name}", own, "environment", bare, bare_is),
        Part(
            "rows of the environments: checks, resets, ends",
            max(adapter_time(env) - own, 0.0),
            "keeping rows",
        ),
    ]


def acting_parts(training: Training, rates: Rates) -> list[Part]:
    """Return what it takes to choose actions and to put them as the environments want them."""
    agent, env = training.agent, training.pipeline.env
    rng, draws = np.random.default_rng(0), not isinstance(training.settings, DQN)
    rows, dims = env.num_envs, int(np.prod(env.observation_space.shape))
    observations = rng.standard_normal((rows, dims)).astype(env.observation_space.dtype)
    acting = acting_time(training)
    actions = agent.act_batch(observations)
    outputs = outputs_of(env.action_space, draws)
    sizes = (dims, *training.settings.hidden_sizes, outputs)
    made = np.empty((rows, outputs), np.float32)
    one, seen = bound(network(sizes)), observations.astype(np.float32)
    forward = microseconds(partial(engine.forward, one, seen, made, engine.Workspace()))
    weights = 4 * sum(inner * outer for inner, outer in itertools.pairwise(sizes))
    parts = [
        Part("choosing actions", acting, "acting"),
        Part("the forward pass", forward, floor=weights / rates.copied, floor_is=READ),
    ]
    if draws:
        drawing = microseconds(partial(agent.distribution.sample, rng, made))
        parts.append(Part("drawing of the distribution, by NumPy", drawing))
    to_env = environment_actions(agent, env.action_space, True)
    stretched = microseconds(partial(to_env, actions))
    return [*parts, Part("actions as the environments take them", stretched, "acting")]


def acting_time(training: Training) -> float:
    """Measure an agent's choice of actions for all environments."""
    space = training.pipeline.env.observation_space
    observations = np.random.default_rng(0).standard_normal(
        (training.settings.num_envs, *space.shape)
    )
    return microseconds(partial(training.agent.act_batch, observations.astype(space.dtype)))


READ = "its weights, read once from the cache"


def outputs_of(space: Any, has_distribution: bool) -> int:
    """Return how many numbers a policy returns, or a network of the values of actions."""
    if isinstance(space, gymnasium.spaces.Discrete):
        return int(space.n)
    return (2 if has_distribution else 1) * int(np.prod(space.shape))


def keeping_time(training: Training) -> float:
    """Measure the rows of a rollout: begun, finished, checked, made a window; of a replay's, transitions."""
    agent, env = training.agent, training.pipeline.env
    kept = kept_shape(agent, env.action_space), kept_dtype(agent, env.action_space)
    rollout = Rollout(env, training.window_size, kept)
    step = _step_of(env)
    actions = np.zeros((env.num_envs, *kept[0]), kept[1])
    ids, counter = np.arange(env.num_envs), EpisodeCounter(env.num_envs)
    is_on_policy = agent.is_on_policy

    def window() -> None:
        rollout.start(step.observations, np.dtype(np.float32))
        for _ in range(training.window_size):
            rollout.shown(ids)
            rollout.begin(ids, actions)
            if not is_on_policy:
                rollout.require_finite(step, 0)
            rollout.finish(step)
            if not is_on_policy:
                rollout.transitions(step)
        rollout.to_window(0, counter)

    return microseconds(window, training.window_size)


def _step_of(env: VectorEnv) -> VectorStep:
    """Return a step in which no episode ends."""
    env.reset(0)
    first = env.recv()
    fields = {
        name: np.array(value)
        for name, value in first._asdict().items()
        if isinstance(value, np.ndarray)
    }
    return first._replace(**fields | {"valid": np.ones(env.num_envs, bool), "infos": ()})


def collecting_parts(training: Training, rates: Rates) -> list[Part]:
    """Return everything up to a kept row."""
    return [
        *environment_parts(training),
        *acting_parts(training, rates),
        Part("rows of the rollout", keeping_time(training), "keeping rows"),
    ]
