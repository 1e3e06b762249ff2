"""Rows with masks, from every backend, against a loop by hand; and masks that do not fit."""

from __future__ import annotations

import functools
from collections import defaultdict
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from tensor_optix.core.observation_layout import MaskedSpace
from tensor_optix.pipeline.agent_view import seen_by
from tensor_optix.pipeline.batch_pipeline import BatchPipeline
from tensor_optix.pipeline.play import play_episodes
from tensor_optix.pipeline.vector_env import (
    from_env_fns,
    make_vector_env,
    steps_per_second,
    wrap_env,
)
from tensor_optix.pipeline.vector_pipeline import VectorBatchPipeline
from tests.pipeline.masked_envs import (
    MaskedByMethod,
    MaskedParts,
    MaskedScript,
    MaskedVector,
    OnlyMasksTell,
    limited,
    mask_at,
)
from tests.pipeline.row_envs import Row, ScriptedEnv, ShapedEnv, record_on, scripted_action
from tests.scripted import CountingAgent

N, STEPS = 3, 19
ALL = [True, True, True]


class Taker(CountingAgent):
    """Takes masks, and chooses the first action that is allowed."""

    takes_action_masks = True
    sees_rows = True
    space: Any = None

    def check_spaces(self, observation_space: Any, action_space: Any) -> None:
        self.space = observation_space

    def act(self, observation: Any) -> Any:
        return int(self.act_batch(observation[None])[0])

    def act_batch(self, observations: Any) -> Any:
        if not isinstance(self.space, MaskedSpace):
            return np.zeros(len(observations), int)
        return np.argmax(self.space.split(observations)[1], axis=1)


def of_user(vector: Any, mode: Any, kind: Any = MaskedScript) -> Any:
    reuse = mode != AutoresetMode.SAME_STEP
    makers = [functools.partial(limited, kind, reuse_buffer=reuse)] * N
    return wrap_env(vector(makers, autoreset_mode=mode))


BACKENDS = {
    "functions sync": lambda: from_env_fns([limited] * N),
    "functions async": lambda: from_env_fns([limited] * N, asynchronous=True),
    **{f"sync {mode.name}": functools.partial(of_user, SyncVectorEnv, mode) for mode in AutoresetMode},
    **{f"async {mode.name}": functools.partial(of_user, AsyncVectorEnv, mode) for mode in AutoresetMode},
    "own next step": lambda: wrap_env(MaskedVector(N)),
    "own same step": lambda: wrap_env(MaskedVector(N, autoreset_mode="SameStep")),
    "parts sync": lambda: from_env_fns([functools.partial(limited, MaskedParts)] * N),
    "parts async": lambda: from_env_fns([functools.partial(limited, MaskedParts)] * N, asynchronous=True),
    **{f"parts {mode.name}": functools.partial(of_user, SyncVectorEnv, mode, MaskedParts)
       for mode in AutoresetMode},
    "methods": lambda: from_env_fns([functools.partial(limited, MaskedByMethod)] * N),
    "methods async": lambda: from_env_fns(
        [functools.partial(limited, MaskedByMethod)] * N, asynchronous=True
    ),
}  # fmt: skip


def by_hand(steps: int, env_id: int = 0, kind: Any = MaskedScript) -> list[Row]:
    """Return the rows of a plain loop, in which an observation has its mask behind it."""

    def shown(observation: Any) -> tuple[int, ...]:
        return tuple(int(n) for n in (*observation, *mask_at(observation)))

    env, rows = limited(kind, reuse_buffer=False), []
    observation, _ = env.reset(seed=env_id)
    for step in range(steps):
        action = scripted_action(env_id, step)
        after, reward, terminated, truncated, _ = env.step(action)
        flags = terminated, truncated
        rows.append(Row(shown(observation), action, reward, *flags, shown(after)))
        observation = after
        if terminated or truncated:
            observation, _ = env.reset()
    return rows


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_delivers_the_rows_of_a_loop_by_hand_with_their_masks(backend):
    env = BACKENDS[backend]()
    try:
        env.reset(0)
        view = seen_by(Taker(), env)
        assert view.mask_size == 3
        recorded = record_on(view, STEPS)
    finally:
        env.close()
    assert all(len(recorded.rows[env_id]) > STEPS // 2 for env_id in range(N))
    for env_id, rows in recorded.rows.items():
        assert rows == by_hand(len(rows), env_id)


@pytest.mark.parametrize("kind", [MaskedScript, MaskedByMethod, MaskedParts])
@pytest.mark.parametrize("env_id", range(N))
def test_so_does_a_plain_environment_whatever_way_it_tells(kind, env_id):
    env = wrap_env(limited(kind))
    env.reset(env_id)
    # A plain environment is the first of all: its rows are those of its script.
    act = functools.partial(lambda _, row: scripted_action(env_id, row))
    rows = record_on(seen_by(Taker(), env), STEPS, act).rows[0]
    assert rows == by_hand(STEPS, env_id)


@pytest.mark.parametrize("backend", ["functions sync", "sync SAME_STEP", "own next step"])
def test_who_does_not_take_masks_sees_the_observations_of_the_environment(backend):
    env = BACKENDS[backend]()
    env.reset(0)
    view = seen_by(CountingAgent(), env)
    assert view is env
    step = record_on(env, 3).steps[-1]
    assert step.observations.shape == (N, 3)
    assert step.action_masks == step.end_masks == None  # noqa: E711


def windows_of(pipeline: Any, count: int = 2) -> list[Any]:
    pipeline.setup()
    found = [window for window, _ in zip(pipeline.episodes(), range(count), strict=False)]
    pipeline.teardown()
    return found


def test_windows_say_how_many_numbers_are_masks_and_infos_are_what_they_were():
    masked, plain = (
        windows_of(BatchPipeline(limited(), agent, window_size=9, seed=3))
        for agent in (Taker(), CountingAgent())
    )
    assert [one.mask_size for one in (*masked, *plain)] == [3, 3, 0, 0]
    assert masked[0].observations.shape == (9, 6)
    assert plain[0].observations.shape == (9, 3)
    for window in masked:
        assert window.end_observations.shape[1:] == (6,)
        for row in (*window.observations, *window.end_observations):
            np.testing.assert_array_equal(row[3:], mask_at(row))
        assert all("action_mask" in info for info in window.infos)


def test_a_change_of_agents_begins_anew_where_masks_come_or_go():
    pipeline = VectorBatchPipeline([limited] * N, Taker(), window_size=4, seed=0)
    for agent, size in ((Taker(), 6), (CountingAgent(), 3), (Taker(), 6)):
        pipeline.set_agent(agent)
        window = next(pipeline.episodes())
        assert window.observations.shape == (4 * N, size)
    pipeline.teardown()


class Silent(MaskedScript):
    """Tells nothing of the last observation of an episode."""

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = super().step(action)
        if terminated or self.t == 4:
            info = {}
        return observation, reward, terminated, truncated, info


@pytest.mark.parametrize("mode", [None, *AutoresetMode])
def test_of_last_observations_whose_mask_is_not_told_all_actions_are_allowed(mode):
    makers = [functools.partial(limited, Silent, reuse_buffer=False)] * N
    env = wrap_env(makers[0]() if mode is None else SyncVectorEnv(makers, autoreset_mode=mode))
    env.reset(0)
    env.needs_masks = True
    steps = record_on(env, STEPS).steps
    assert sum(len(step.end_masks) for step in steps) > 3
    for step in steps:
        assert step.end_masks.all()
        ended = step.terminated | step.truncated
        is_last = ended if mode is AutoresetMode.NEXT_STEP else np.zeros(len(ended), bool)
        expected = [
            ALL if last else mask_at(observation).tolist()
            for last, observation in zip(is_last, step.observations, strict=True)
        ]
        assert step.action_masks.tolist() == expected


class OnlyWhenStepped(MaskedScript):
    """Tells masks at steps, but none at a reset."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed=seed)[0], {}


class OnlyWhenReset(MaskedScript):
    """Tells masks at a reset, but none at steps."""

    def step(self, action: Any) -> Any:
        return *super().step(action)[:4], {}


class Growing(MaskedScript):
    """Tells of one action more at every step."""

    def step(self, action: Any) -> Any:
        rest = super().step(action)[:4]
        return *rest, {"action_mask": [1] * (3 + self.t)}


class Floating(MaskedScript):
    """Gives what is no mask."""

    def _told(self, observation: Any, info: dict[str, Any]) -> Any:
        return observation, {"action_mask": np.array([0.0, -1e8, 0.0])}


WRONG = {
    OnlyWhenStepped: (ValueError, "step had it and reset did not"),
    OnlyWhenReset: (ValueError, "at every reset and every step.*some have it and some do not"),
    Growing: (ValueError, "must have one length at every reset.*got 3 and 4"),
    Floating: (TypeError, "must hold 1 for each action that is allowed and 0"),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("count", [1, N])
def test_masks_that_come_and_go_or_change_are_an_error(kind, count):
    error, message = WRONG[kind]
    pipeline = VectorBatchPipeline([kind] * count, Taker(), window_size=8)
    with pytest.raises(error, match=message):
        next(pipeline.episodes())


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("count", [1, N])
def test_to_who_takes_no_masks_they_do_not_matter(kind, count):
    pipeline = VectorBatchPipeline([kind] * count, CountingAgent(), window_size=8)
    assert next(pipeline.episodes()).length == 8 * count


def test_masks_of_some_environments_only_are_an_error():
    makers = [MaskedScript, lambda: gymnasium.make("RowScript-v0", reuse_buffer=False)]
    pipeline = VectorBatchPipeline(makers, Taker(), window_size=4)
    with pytest.raises(ValueError, match="of every environment, or at none"):
        pipeline.setup()
    pipeline.set_agent(CountingAgent())
    assert next(pipeline.episodes()).length == 8


class Masking(ShapedEnv):
    """Tells a mask of a given length."""

    def __init__(self, action_space: Any, mask: Any) -> None:
        super().__init__(Box(0, 1, (2,), np.float32), action_space)
        self.mask = mask

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed=seed)[0], {"action_mask": self.mask}

    def step(self, action: Any) -> Any:
        return *super().step(action)[:4], {"action_mask": self.mask}


@pytest.mark.parametrize(
    "begin",
    [
        lambda env: play_episodes(Taker(), wrap_env(env), 1),
        lambda env: BatchPipeline(env, Taker()).setup(),
    ],
    ids=["play", "train"],
)
def test_a_mask_of_another_length_than_that_of_the_actions_is_refused_before_a_step(begin):
    env = Masking(Discrete(3), [1, 0])
    with pytest.raises(ValueError, match=r"for each of the 3 actions of Discrete\(3\), got 2"):
        begin(env)
    assert env.actions == []


def test_masks_of_several_choices_lie_side_by_side_and_may_come_in_rows():
    # Of the second choice nothing is allowed, which says nothing.
    env = wrap_env(Masking(MultiDiscrete([2, 2]), [[0, 1], [0, 0]]))
    env.reset()
    view = seen_by(Taker(), env)
    assert isinstance(view.observation_space, MaskedSpace)
    assert view.recv().observations[0, 2:].tolist() == [0, 1, 1, 1]


def test_masks_do_not_concern_actions_that_are_no_choices():
    env = wrap_env(Masking(Box(-1, 1, (2,)), [1, 0]))
    env.reset()
    assert seen_by(Taker(), env) is env


def test_a_mask_that_an_observation_holds_is_none_of_its_numbers():
    env = wrap_env(limited(MaskedParts))
    env.reset(0)
    plain = seen_by(RowSeer(), env)
    assert plain.observation_space.shape == (3,)
    assert plain.recv().observations.tolist() == [[0, 0, 0]]


class RowSeer(CountingAgent):
    """Sees rows, but takes no masks."""

    sees_rows = True


class WithArguments(ScriptedEnv):
    """Has a method of that name that means something else."""

    def action_masks(self, state: int) -> list[bool]:
        return [False]


def test_a_method_that_needs_arguments_tells_nothing():
    env = wrap_env(WithArguments())
    env.reset(0)
    assert env.mask_size == 0


def test_infos_count_before_a_method():
    class Both(MaskedScript):
        def action_masks(self) -> Any:
            raise AssertionError

    env = wrap_env(Both())
    env.reset(0)
    step = env.recv()
    assert step.action_masks.tolist() == [mask_at([0, 0, 0]).tolist()]


def test_a_measurement_of_speed_takes_allowed_actions():
    class Measured(OnlyMasksTell):
        forbidden = steps = 0

    assert steps_per_second(from_env_fns([Measured] * N)) > 0
    assert Measured.steps > 100
    assert Measured.forbidden == 0


def test_evaluation_takes_allowed_actions():
    class Played(OnlyMasksTell):
        forbidden = steps = 0

    returns, lengths = play_episodes(Taker(), from_env_fns([Played] * N), 6, seed=1)
    assert Played.forbidden == 0
    assert lengths.tolist() == [8] * 6
    assert returns.min() >= 0


def taxi_id() -> str:
    """Return the id of the Taxi that the installed Gymnasium has."""
    ids = [one for one in gymnasium.registry if one.startswith("Taxi-v")]
    return max(ids, key=lambda one: int(one.removeprefix("Taxi-v")))


@pytest.mark.parametrize("backend", ["sync", "async"])
def test_taxi_takes_only_actions_that_move(backend):
    env = make_vector_env(taxi_id(), 2, backend, seed=4)
    env.reset(4)
    view = seen_by(Taker(), env)
    agent = Taker()
    agent.check_spaces(view.observation_space, view.action_space)
    tables = gymnasium.make(taxi_id()).unwrapped
    step = view.recv()
    for _ in range(250):
        rows = step.observations
        for row in rows:
            np.testing.assert_array_equal(row[1:], tables.action_mask(int(row[0])))
        view.send(agent.act_batch(rows), step.env_ids)
        step = view.recv()
        # What is forbidden in Taxi costs 10, or leaves the state as it was.
        assert (step.rewards > -10).all()
    env.close()


@pytest.mark.parametrize("batch_size", [4, 2])
def test_envpool_tells_masks_in_its_infos(batch_size):
    envpool = pytest.importorskip("envpool")
    options = {"env_type": "gymnasium", "num_envs": 4, "seed": 3}
    env = wrap_env(envpool.make("Play2048-v1", batch_size=batch_size, **options))
    assert env.mask_size == 4
    env.reset()
    pool = envpool.make("Play2048-v1", **options)
    shown, info = pool.reset()
    expected: dict[int, list[Any]] = defaultdict(list)
    actions = np.zeros(4, int)
    for _ in range(400):
        for env_id in range(4):
            mask = info["legal_action_mask"][env_id]
            expected[env_id].append([*shown[env_id].ravel(), *mask])
            actions[env_id] = np.argmax(mask)
        shown, _, _, _, info = pool.step(actions)
    view = seen_by(Taker(), env)
    agent = Taker()
    agent.check_spaces(view.observation_space, view.action_space)
    found: dict[int, list[Any]] = defaultdict(list)
    ends = 0
    while min(map(len, (found[n] for n in range(4)))) < 400:
        step = view.recv()
        ends += len(step.end_observations)
        for env_id, row in zip(step.env_ids, step.observations, strict=True):
            found[int(env_id)].append(row.tolist())
        view.send(agent.act_batch(step.observations), step.env_ids)
    assert ends > 0
    for env_id, rows in expected.items():
        assert found[env_id][:400] == [[int(n) for n in row] for row in rows]


@pytest.mark.parametrize("batch_size", [4, 2])
def test_envpool_tells_masks_in_its_observations(batch_size):
    envpool = pytest.importorskip("envpool")
    pool = envpool.make(
        "Game2048-v1", env_type="gymnasium", num_envs=4, seed=3, batch_size=batch_size
    )
    env, agent = wrap_env(pool), Taker()
    env.reset()
    view = seen_by(agent, env)
    agent.check_spaces(view.observation_space, view.action_space)
    assert view.observation_space.shape == (16 + 4,)
    is_masked = False
    for _ in range(200):
        step = view.recv()
        boards, masks = np.split(step.observations, [16], axis=1)
        for board, mask in zip(boards.reshape(-1, 4, 4), masks, strict=True):
            # In 2048 a move is allowed if it moves something: up, right, down, left.
            moved = [_moves(np.rot90(board, turns)) for turns in (1, 2, 3, 0)]
            if any(moved):
                assert mask.tolist() == moved
            is_masked |= not mask.all()
        view.send(agent.act_batch(step.observations), step.env_ids)
    assert is_masked


def _moves(board: Any) -> bool:
    """Whether a move to the left moves a tile or joins two."""
    before, after = board[:, :-1], board[:, 1:]
    return bool((((before == 0) | (before == after)) & (after != 0)).any())


def test_masks_of_bools_and_of_images_are_kept_in_the_dtype_of_the_observations():
    for dtype, shape in ((np.uint8, (1, 8, 8)), (np.float32, (3,)), (np.int64, ())):
        plain = Box(0, 5, shape, dtype) if shape else Discrete(6)
        space = MaskedSpace(plain, 2)
        observations = np.stack([plain.sample(), plain.sample()])
        masks = np.array([[True, False], [False, False]])
        rows = space.joined(observations, masks)
        assert rows.dtype == space.dtype == dtype
        split, allowed = space.split(rows)
        np.testing.assert_array_equal(split, observations)
        assert allowed.tolist() == [[True, False], [True, True]]


def test_a_dict_of_masks_alone_is_refused():
    class Empty(ShapedEnv):
        def __init__(self) -> None:
            super().__init__(Dict(action_mask=Box(0, 1, (3,), np.int8)))

    with pytest.raises(ValueError, match="no part of the observation space"):
        BatchPipeline(Empty(), Taker()).setup()
