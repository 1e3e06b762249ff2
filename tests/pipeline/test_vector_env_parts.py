"""Observations of several parts, a Dict or a Tuple: the rows of the table, laid out, from every backend."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, Text, Tuple
from gymnasium.spaces.utils import flatten
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeLimit

from tensor_optix import BatchPipeline, VectorBatchPipeline
from tensor_optix.core.observation_layout import FlatSpace, MaskedSpace, layout_of
from tensor_optix.pipeline.agent_view import seen_by
from tensor_optix.pipeline.envpool_env import quiet_making
from tensor_optix.pipeline.vector_env import from_env_fns, make_vector_env, wrap_env
from tests.core.array_agent import ArrayAgent
from tests.pipeline.any_space_env import SampledEnv
from tests.pipeline.row_envs import (
    EXPECTED_ROWS,
    TIME_LIMIT,
    ScriptedEnv,
    ScriptedVectorEnv,
    record,
)

N = len(EXPECTED_ROWS)
NUMBER = Box(0, 100, (), np.int64)
ONE = Box(0, 100, (1,), np.int16)
GRID = Box(0, 100, (1, 1), np.float64)


def as_dict(rows: Any) -> Any:
    """Return observations `[..., 3]` as a Dict has them."""
    rows = np.array(rows)
    return {
        "a": rows[..., 0:1],
        "b": (rows[..., 1].astype(np.int64), rows[..., 2:3, None].astype(float)),
    }


def as_tuple(rows: Any) -> Any:
    """Return the same as a Tuple has them."""
    return tuple(as_dict(rows)[key] for key in "ab")


SPACES = {
    as_dict: Dict({"a": ONE, "b": Tuple((NUMBER, GRID))}),
    as_tuple: Tuple((ONE, Tuple((NUMBER, GRID)))),
}
each_form = pytest.mark.parametrize("form", SPACES, ids=lambda form: form.__name__)


class PartsEnv(ScriptedEnv):
    """The scripts, with observations of several parts, written over at every step."""

    def __init__(self, form: Any) -> None:
        super().__init__()
        self.observation_space, self.form = SPACES[form], form

    def _observe(self) -> Any:
        return self.form(super()._observe())


class PartsVectorEnv(ScriptedVectorEnv):
    """The scripts in a vector environment of our own; `final_obs` in one of three forms."""

    def __init__(self, form: Any, autoreset_mode: str, final: str = "leaves") -> None:
        super().__init__(N, autoreset_mode=autoreset_mode)
        self.single_observation_space, self.form, self.final = SPACES[form], form, final

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        obs, infos = super().reset(seed=seed, options=options)
        return self.form(obs), infos

    def step(self, actions: Any) -> Any:
        obs, *rest, infos = super().step(actions)
        if "final_obs" in infos:
            infos = {**infos, "final_obs": self._final(infos["final_obs"])}
        return (self.form(obs), *rest, infos)

    def _final(self, rows: Any) -> Any:
        if self.final == "leaves":
            return self.form(rows)
        return [self.form(row) for row in rows] if self.final == "list" else _boxed(self.form, rows)


def _boxed(form: Any, rows: Any) -> Any:
    boxed = np.empty(len(rows), object)
    for number, row in enumerate(rows):
        boxed[number] = form(row)
    return boxed


def limited(form: Any) -> Any:
    return lambda: TimeLimit(PartsEnv(form), TIME_LIMIT)


def made_by_user(vector: Any, mode: AutoresetMode) -> Any:
    return lambda form: wrap_env(vector([limited(form)] * N, autoreset_mode=mode))


BACKENDS: dict[str, Any] = {
    "functions sync": lambda form: from_env_fns([limited(form)] * N),
    "functions async": lambda form: from_env_fns([limited(form)] * N, asynchronous=True),
    **{
        f"{vector.__name__} {mode.value}": made_by_user(vector, mode)
        for vector in (SyncVectorEnv, AsyncVectorEnv)
        for mode in AutoresetMode
    },
    "own next step": lambda form: wrap_env(PartsVectorEnv(form, "NextStep")),
    **{
        f"own same step, {final}": (
            lambda form, final=final: wrap_env(PartsVectorEnv(form, "SameStep", final))
        )
        for final in ("leaves", "list", "objects")
    },
}


@each_form
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_delivers_the_rows_of_the_table(backend, form):
    env = BACKENDS[backend](form)
    try:
        recording = record(env, steps=19)
    finally:
        env.close()
    for env_id, expected in EXPECTED_ROWS.items():
        assert recording.rows[env_id][: len(expected)] == expected
    assert isinstance(env.observation_space, FlatSpace)
    assert env.observation_layout == layout_of(SPACES[form])
    for step in recording.steps:
        assert step.observations.shape == (N, 3)
        assert step.observations.dtype == step.end_observations.dtype == np.float32


@each_form
@pytest.mark.parametrize("env_id", EXPECTED_ROWS)
def test_one_environment_delivers_them_to_an_agent_that_sees_rows(env_id, form):
    env = wrap_env(limited(form)())
    assert env.observation_layout == layout_of(SPACES[form])
    view = seen_by(Rows(), env)
    expected = EXPECTED_ROWS[env_id]
    recording = record(view, len(expected), env_id, lambda _, row: (row + env_id) % 3)
    assert recording.rows[0] == expected
    assert view.observation_layout == env.observation_layout
    assert seen_by(ArrayAgent(), env) is env


class Rows(ArrayAgent):
    """A ready-made agent, so to say; always 0."""

    sees_rows = True

    def act(self, observation: Any) -> Any:
        self.seen = observation
        return 0


def test_a_mask_is_the_last_columns_of_the_row():
    space = Dict(action_mask=MultiBinary(2), pixels=Box(0, 255, (2, 2, 3), np.uint8))
    for env in (
        from_env_fns([lambda: SampledEnv(space, Discrete(2))] * 2),
        wrap_env(SyncVectorEnv([lambda: SampledEnv(space, Discrete(2))] * 2)),
    ):
        assert isinstance(env.observation_space, MaskedSpace)
        assert env.observation_layout.fields[-1].columns == slice(12, 14)
        step = record(env, 3).steps[0]
        assert (step.observations.shape, step.observations.dtype) == ((2, 14), np.uint8)
        assert step.observations[:, 12:].max() <= 1


def test_the_message_names_environment_method_and_part():
    class Wrong(PartsEnv):
        def _observe(self) -> Any:
            return {"a": np.array([0.5]), "b": (0, np.zeros((1, 1)))}

    said = r"reset \(part a\) must return observations of int16, .* array of float64"
    two = from_env_fns([lambda: Wrong(as_dict)] * 2)
    with pytest.raises(TypeError, match=rf"^environment 0 \(Wrong\): {said}"):
        two.reset(0)
    view = seen_by(Rows(), wrap_env(Wrong(as_dict)))
    view.reset(0)
    with pytest.raises(TypeError, match=r"^environment Wrong \(part a\) must return"):
        view.recv()


def test_a_vector_environment_that_lacks_a_part_is_refused():
    class Wrong(PartsVectorEnv):
        def reset(self, **options: Any) -> Any:
            return {"a": np.zeros((N, 1), np.int16)}, {}

    env = wrap_env(Wrong(as_dict, "NextStep"))
    message = "^vector environment Wrong: reset must .*all parts .*got none for b/0: 'b' is not"
    with pytest.raises(ValueError, match=message):
        env.reset(0)


def test_a_final_observation_is_held_to_its_space_too():
    class Wrong(PartsVectorEnv):
        def _final(self, rows: Any) -> Any:
            return {"a": rows[:, :1] + 0.5, "b": self.form(rows)["b"]}

    with pytest.raises(
        TypeError, match=r"Wrong: infos\['final_obs'\] \(part a\) must return observations of int16"
    ):
        record(wrap_env(Wrong(as_dict, "SameStep")), steps=4)


TEXT = Dict(mission=Text(5), inner=Tuple((Text(3), NUMBER)))


def told(caplog: Any) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


@pytest.mark.parametrize(
    "make",
    [
        lambda: BatchPipeline(SampledEnv(TEXT, Discrete(2)), Rows(), 4),
        lambda: VectorBatchPipeline([lambda: SampledEnv(TEXT, Discrete(2))] * 2, Rows(), 4),
        lambda: VectorBatchPipeline(
            env=SyncVectorEnv([lambda: SampledEnv(TEXT, Discrete(2))] * 2),
            agent=ArrayAgent(),
            window_size=4,
        ),
    ],
)
def test_parts_that_an_agent_does_not_see_are_named_once(make, caplog):
    pipeline = make()
    for _ in range(2):
        pipeline.setup()
        next(iter(pipeline.episodes()))
    pipeline.set_agent(Rows())
    (message,) = told(caplog)
    assert message.startswith("environment SampledEnv: the agent does not see these parts")
    assert "inner/0, mission." in message or "mission, inner/0." in message
    twin = pipeline.twin()
    if twin is not None:
        twin.set_agent(Rows())
        twin.setup()
        assert len(told(caplog)) == 1


class Own(Rows):
    """The user's own."""

    sees_rows = False


def test_an_agent_that_gets_the_object_itself_misses_nothing(caplog):
    pipeline = BatchPipeline(SampledEnv(TEXT, Discrete(2)), Own(), 4)
    window = next(iter(pipeline.episodes()))
    assert isinstance(window.observations[0]["mission"], str)
    assert told(caplog) == []


@pytest.mark.parametrize("backend", ["envpool", "envpool-async"])
@pytest.mark.parametrize(
    ("env_id", "size"), [("CheetahRun-v1", 17), ("MiniGrid-Empty-5x5-v0", 4 + 7 * 7 * 3 + 96)]
)
def test_envpools_parts_come_as_rows(env_id, size, backend):
    envpool = pytest.importorskip("envpool")
    env = make_vector_env(env_id, 2, backend, seed=5, batch_size=1 if "async" in backend else None)
    steps = [env.recv() for _ in range(2 // env.batch_size)]
    env.close()
    with quiet_making():
        pool = envpool.make(env_id, env_type="gymnasium", num_envs=2, seed=5)
        space = pool.observation_space
    shown, _ = pool.reset()
    pool.close()
    assert [field.name for field in env.observation_layout.fields] == list(space.spaces)
    for step in steps:
        assert step.observations.shape == (env.batch_size, size)
        assert step.observations.dtype == env.observation_space.dtype
        for row, env_id in zip(step.observations, step.env_ids, strict=True):
            one = {key: part[env_id] for key, part in shown.items()}
            np.testing.assert_array_equal(row, flatten(space, one).astype(row.dtype))


def test_envpools_bounds_that_are_none_are_open():
    pytest.importorskip("envpool")
    env = make_vector_env("CheetahRun-v1", 1, "envpool")
    assert np.isneginf(env.observation_space.low).all()
    env.close()
