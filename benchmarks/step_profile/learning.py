"""What a step takes for learning: the rows of updates, the updates, what is around them."""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.peers.settings import PPO, SAC
from benchmarks.step_profile.measure import microseconds
from benchmarks.step_profile.table import PRODUCTS, Part
from benchmarks.step_profile.updates import bound, network, update_of
from tensor_optix import HyperparamSet
from tensor_optix.core.replay_buffer import PrioritizedReplayBuffer, ReplayBatch
from tensor_optix.core.trajectory_buffer import MinibatchSampler, episode_advantages
from tensor_optix.core.types import Transitions
from tensor_optix.kernels import engine

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmarks.step_profile.measure import Rates
    from benchmarks.step_profile.training import Training

    Array = NDArray[Any]

STILL = HyperparamSet({"learning_rate": 1e-12})
"""What is learned over and over moves nothing, or it would become another problem than that of the case."""
NEVER = 10**9
FILLED = 20_000
"""Rows of the replay that is sampled from."""
MOST_BATCHES = 64
"""That agents draw at once."""


def spaces_of(training: Training) -> tuple[int, int]:
    """Return the numbers of an observation, and as `update_of` has them, those of the actions."""
    env = training.pipeline.env
    dims = int(np.prod(env.observation_space.shape))
    space: Any = env.action_space
    return dims, int(space.n) if space.shape == () else -int(np.prod(space.shape))


def update_parts(training: Training, rates: Rates) -> list[Part]:
    """Return the updates in the engine, and what they consist of, for a vector step."""
    update = update_of(training.settings, *spaces_of(training))
    scale = training.updates
    whole = microseconds(update.whole, update.made) * scale
    products, adam, blends = (
        time * scale
        for time in (update.products_time(), update.optimizer_time(), update.blend_time())
    )
    floor, blas = (scale * update.operations / rate for rate in (rates.own, rates.blas))
    floor_is = f"their operations at the engine's rate; {blas:,.1f} at NumPy's"
    moved = f"{update.adam_bytes / 1024:,.0f} KiB an update, as a copy moves them"
    parts = [
        Part(
            "updates, in the engine",
            whole,
            "learning",
            floor,
            "their products at the engine's rate",
        ),
        Part(PRODUCTS, products, floor=floor, floor_is=floor_is),
        Part("Adam", adam, floor=scale * update.adam_bytes / rates.copied, floor_is=moved),
    ]
    if blends:
        moved = f"{update.blend_bytes / 1024:,.0f} KiB an update, as a copy moves them"
        floor = scale * update.blend_bytes / rates.copied
        parts.append(Part("the targets' steps", blends, floor=floor, floor_is=moved))
    rest = whole - products - adam - blends
    return [*parts, Part("activations, losses, biases, norms: the rest", rest)]


def ppo_parts(training: Training, rates: Rates) -> list[Part]:
    """Return what `learn` takes of the last window, for a vector step."""
    steps, settings = training.window_size, training.settings
    assert isinstance(settings, PPO)
    window, agent = training.window, training.agent
    updates = update_parts(training, rates)
    judging = _judging_time(training) / steps
    advantages = _advantages_time(training) / steps
    fields = _fields(training)
    rows = np.arange(settings.rows, dtype=np.int32)
    gathering = microseconds(partial(MinibatchSampler(0).epoch, fields, rows))
    moved = 2 * sum(field.nbytes for field in fields.values())
    scale = settings.epochs / steps
    agent.set_hyperparams(STILL)
    learned = microseconds(partial(agent.learn, window), steps)
    known = updates[0].time + judging + advantages + gathering * scale
    return [
        Part("log-probabilities and values of the window, in the engine", judging, "learning"),
        Part("advantages and returns", advantages, "learning"),
        Part(
            "minibatches, shuffled and gathered",
            gathering * scale,
            "learning",
            moved * scale / rates.copied,
            "their bytes, as a copy moves them",
        ),
        *updates,
        Part("around the updates: Python of `learn`", learned - known, "learning"),
    ]


def _judging_time(training: Training) -> float:
    dims, actions = spaces_of(training)
    settings, is_discrete = training.settings, actions > 0
    assert isinstance(settings, PPO)
    rng = np.random.default_rng(0)
    rows, hidden = settings.rows, settings.hidden_sizes
    actor = bound(network((dims, *hidden, actions if is_discrete else -2 * actions), "tanh"))
    critic = bound(network((dims, *hidden, 1), "tanh"))
    observations = rng.standard_normal((rows, dims), np.float32)
    found, values = np.empty(rows, np.float32), np.empty((rows, 1), np.float32)
    taken: Array = (
        rng.integers(0, actions, (rows, 1))
        if is_discrete
        else rng.standard_normal((rows, -actions), np.float32)
    )
    workspace, counts = engine.Workspace(), (actions,) if is_discrete else ()
    judge = partial(engine.log_probs, actor, workspace, counts, observations, taken, None, found)
    value = partial(engine.forward, critic, observations, values, workspace)
    return microseconds(judge) + microseconds(value)


def _advantages_time(training: Training) -> float:
    window = training.window
    rewards = np.asarray(window.rewards, np.float32)
    ends = 0 if window.end_rows is None else len(window.end_rows)
    values = (np.zeros(length, np.float32) for length in (len(rewards), ends, window.num_envs))
    return microseconds(partial(episode_advantages, window, rewards, *values, (0.99, 0.95)))


def _fields(training: Training) -> dict[str, Array]:
    """Return what minibatches are gathered of."""
    rows = len(np.asarray(training.window.rewards))
    names = ("log_probs", "advantages", "returns")
    return {
        "observations": np.ascontiguousarray(training.window.observations),
        "actions": np.ascontiguousarray(training.window.actions),
        **{name: np.zeros(rows, np.float32) for name in names},
    }


def replay_parts(training: Training, rates: Rates) -> list[Part]:
    """Return what `observe` takes, for a vector step."""
    settings, agent = training.settings, training.agent
    assert not isinstance(settings, PPO)
    transitions = _transitions(training)
    given = itertools.cycle(transitions)
    per = len(transitions)
    agent.set_hyperparams(STILL)
    learned = microseconds(
        lambda: [agent.observe(next(given)) for _ in range(per)], per, seconds=5.0
    )
    agent.set_hyperparams(HyperparamSet({"learning_starts": NEVER}))
    kept = microseconds(lambda: [agent.observe(next(given)) for _ in range(per)], per)
    replay = PrioritizedReplayBuffer(settings.capacity, num_envs=settings.num_envs, seed=0)
    action_dtype = agent.action_dtype
    rows = [(one[0], one[1].astype(action_dtype), *one[2:7]) for one in transitions]
    stored = microseconds(lambda: [replay.extend(*row) for row in rows], per)
    while len(replay) < min(FILLED, settings.capacity):
        replay.extend(*next(iter(rows)))
    updates = update_parts(training, rates)
    sampling = _sampling(training, replay, rates)
    noise = _noise_parts(training)
    known = updates[0].time + sampling.time + sum(part.time for part in noise)
    return [
        Part("rows of the replay", stored, "keeping rows"),
        Part("around them: Python of `observe`", kept - stored, "keeping rows"),
        sampling,
        *noise,
        *updates,
        Part("around the updates: Python", learned - kept - known, "learning"),
    ]


def _transitions(training: Training) -> list[Transitions]:
    """Return the last window's rows as a pipeline shows them, one vector step after the other."""
    window, num_envs = training.window, training.settings.num_envs
    observations = np.array(window.observations).reshape(
        -1, num_envs, *window.observations.shape[1:]
    )
    actions = np.array(window.actions)
    actions = actions.reshape(-1, num_envs, *actions.shape[1:])
    rewards = np.asarray(window.rewards, np.float32).reshape(-1, num_envs)
    no, ids = np.zeros(num_envs, bool), np.arange(num_envs)
    return [
        Transitions(*row, following, no, no, ids, num_envs)
        for *row, following in zip(
            observations, actions, rewards, np.roll(observations, -1, axis=0), strict=True
        )
    ]


def _sampling(training: Training, replay: PrioritizedReplayBuffer, rates: Rates) -> Part:
    settings = training.settings
    assert not isinstance(settings, PPO)
    batches = min(settings.updates, MOST_BATCHES)
    drawn = replay.sample(settings.batch, batches)
    again = partial(replay.sample, settings.batch, batches, out=drawn)
    scale = training.updates / batches
    floor = scale * 2 * _bytes_of(drawn) / rates.copied
    name = "batches, drawn from the replay"
    return Part(
        name, microseconds(again) * scale, "learning", floor, "their bytes, as a copy moves them"
    )


def _bytes_of(drawn: ReplayBatch) -> int:
    return sum(field.nbytes for field in drawn if isinstance(field, np.ndarray))


def _noise_parts(training: Training) -> list[Part]:
    settings, rng = training.settings, np.random.default_rng(0)
    if not isinstance(settings, SAC):
        return []
    _, actions = spaces_of(training)
    draw = partial(rng.standard_normal, (settings.batch, -actions), np.float32)
    time = 2 * microseconds(draw) * training.updates
    return [Part("the policy's noise, by NumPy", time, "learning")]
