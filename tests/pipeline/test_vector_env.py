"""The row format: one table of expected rows for every backend that can run Python environments."""

import contextlib
import functools
import itertools
import multiprocessing

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from tensor_optix.pipeline.batch_pipeline import BatchPipeline
from tensor_optix.pipeline.vector_env import from_env_fns, make_vector_env, wrap_env
from tensor_optix.pipeline.vector_pipeline import VectorBatchPipeline
from tests.pipeline.row_envs import (
    EXPECTED_ROWS,
    TIME_LIMIT,
    FailingEnv,
    NoiseEnv,
    ScriptedEnv,
    ScriptedVectorEnv,
    record,
    record_on,
)
from tests.scripted import CountingAgent

N = len(EXPECTED_ROWS)


@pytest.fixture
def opened():
    """Called with what a test opens; closes it at the end, the last one first."""
    with contextlib.ExitStack() as stack:

        def opened(*closable):
            for each in closable:
                stack.callback(each.close)
            return closable[-1]

        yield opened


def made_by_user(opened, vector_class, mode):
    # Gymnasium itself mixes up the final observation of an environment that reuses its buffer when
    # it resets in the same step.
    reuse = mode != AutoresetMode.SAME_STEP
    make = functools.partial(gymnasium.make, "RowScript-v0", reuse_buffer=reuse)
    vector = vector_class([make] * N, autoreset_mode=mode)
    return opened(vector, wrap_env(vector))


def scripted_fns(num_envs):
    return [lambda: gymnasium.make("RowScript-v0")] * num_envs


BACKENDS = {
    "made sync": lambda opened: opened(make_vector_env("RowScript-v0", N, "sync")),
    "made async": lambda opened: opened(make_vector_env("RowScript-v0", N, "async")),
    "made vector": lambda opened: opened(make_vector_env("RowScript-v0", N, "vector")),
    "functions sync": lambda opened: opened(from_env_fns(scripted_fns(N))),
    "functions async": lambda opened: opened(from_env_fns(scripted_fns(N), asynchronous=True)),
    "sync next step": lambda opened: made_by_user(opened, SyncVectorEnv, AutoresetMode.NEXT_STEP),
    "sync same step": lambda opened: made_by_user(opened, SyncVectorEnv, AutoresetMode.SAME_STEP),
    "sync disabled": lambda opened: made_by_user(opened, SyncVectorEnv, AutoresetMode.DISABLED),
    "async next step": lambda opened: made_by_user(opened, AsyncVectorEnv, AutoresetMode.NEXT_STEP),
    "async same step": lambda opened: made_by_user(opened, AsyncVectorEnv, AutoresetMode.SAME_STEP),
    "async disabled": lambda opened: made_by_user(opened, AsyncVectorEnv, AutoresetMode.DISABLED),
    "own next step": lambda _: wrap_env(ScriptedVectorEnv(N)),
    "own same step": lambda _: wrap_env(ScriptedVectorEnv(N, autoreset_mode="SameStep")),
}


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_delivers_the_rows_of_the_table(backend, opened):
    env = BACKENDS[backend](opened)
    rows = record(env, steps=19).rows
    for env_id, expected in EXPECTED_ROWS.items():
        assert rows[env_id][: len(expected)] == expected


@pytest.mark.parametrize("env_id", EXPECTED_ROWS)
@pytest.mark.parametrize("make", [lambda: make_vector_env("RowScript-v0", 1, "sync"), None])
def test_a_plain_environment_delivers_the_rows_of_the_table_without_a_wasted_step(
    env_id, make, opened
):
    env = opened(make() if make else wrap_env(gymnasium.make("RowScript-v0")))
    expected = EXPECTED_ROWS[env_id]
    rows = record(env, len(expected), seed=env_id, action_of=lambda _, row: (row + env_id) % 3).rows
    assert rows[0] == expected


@pytest.mark.parametrize("mode", AutoresetMode)
def test_invalid_rows_are_the_first_ones_and_those_after_an_end_on_the_next_step(mode, opened):
    steps = record(made_by_user(opened, SyncVectorEnv, mode), steps=19).steps
    assert not steps[0].valid.any()
    for before, step in itertools.pairwise(steps):
        ended = before.terminated | before.truncated
        resetting = ended if mode == AutoresetMode.NEXT_STEP else np.zeros(N, bool)
        np.testing.assert_array_equal(step.valid, ~resetting)


@pytest.mark.parametrize("mode", AutoresetMode)
def test_all_environments_may_end_together_and_each_end_observation_comes_with_its_row(
    mode, opened
):
    step = record(made_by_user(opened, SyncVectorEnv, mode), steps=2).steps[-1]
    assert step.terminated.all()
    assert step.end_observations.tolist() == [[0, 0, 2], [1, 0, 2], [2, 0, 2]]
    fresh = step.observations.tolist() == [[0, 1, 0], [1, 1, 0], [2, 1, 0]]
    assert fresh == (mode != AutoresetMode.NEXT_STEP)


@pytest.mark.parametrize("backend", ["sync", "async", "vector"])
def test_what_is_delivered_stays_true_until_the_next_send(backend, opened):
    env = opened(make_vector_env("RowScript-v0", N, backend))
    env.reset(0)
    step = env.recv()
    kept = [np.array(part) for part in step]
    for part, copy in zip(step, kept, strict=True):
        np.testing.assert_array_equal(part, copy)
    env.send(np.zeros(N, int), step.env_ids)
    after = env.recv()
    assert after.observations.tolist() == [[0, 0, 1], [1, 0, 1], [2, 0, 1]]
    assert kept[1].tolist() == [[0, 0, 0], [1, 0, 0], [2, 0, 0]]


@pytest.mark.parametrize("backend", ["made sync", "made async", "made vector"])
def test_the_parts_have_the_promised_types(backend, opened):
    env = BACKENDS[backend](opened)
    for step in record(env, steps=3).steps:
        assert step.env_ids.dtype == np.int64
        assert step.observations.dtype == step.end_observations.dtype == np.int16
        assert step.rewards.dtype == np.float32
        assert step.terminated.dtype == step.truncated.dtype == step.valid.dtype == bool
        assert step.end_observations.shape[1:] == (3,)
    assert (env.num_envs, env.batch_size, env.max_episode_steps) == (N, N, TIME_LIMIT)
    assert env.name == backend.removeprefix("made ")


@pytest.mark.parametrize("backend", ["sync", "async"])
@pytest.mark.parametrize("num_envs", [1, 3])
def test_the_same_seed_gives_the_same_rows_and_another_gives_others(backend, num_envs, opened):
    env = opened(make_vector_env("RowNoise-v0", num_envs, backend, seed=5))
    play = functools.partial(record, env, 12, action_of=lambda env_id, row: row % 2)
    by_factory = record_on(env, 12, lambda env_id, row: row % 2).rows
    first, second, other = play(seed=5).rows, play(seed=5).rows, play(seed=6).rows
    assert by_factory == first == second
    assert other != first
    assert play(seed=None).rows != other


def test_a_hand_written_vector_environment_gets_the_seed():
    env = wrap_env(ScriptedVectorEnv(1))
    assert record(env, 3, seed=1).rows != record(env, 3, seed=2).rows


@pytest.mark.filterwarnings("ignore:.*Worker:UserWarning", "ignore:.*Raising:UserWarning")
@pytest.mark.filterwarnings("ignore:.*Traceback:UserWarning")
@pytest.mark.parametrize(
    "make",
    [
        lambda: wrap_env(FailingEnv()),
        lambda: make_vector_env("RowFailing-v0", 2, "sync"),
        lambda: make_vector_env("RowFailing-v0", 2, "async"),
    ],
    ids=["plain", "sync", "async"],
)
def test_an_exception_of_the_environment_is_not_a_termination(make, opened):
    env = opened(make())
    with pytest.raises(ZeroDivisionError, match="the third step"):
        record(env, 8)


def test_a_users_environment_stays_open():
    plain = ScriptedEnv()
    env = wrap_env(plain)
    env.close()
    assert not plain.closed
    vector = SyncVectorEnv([ScriptedEnv] * 2)
    wrap_env(vector).close()
    assert not any(env.closed for env in vector.envs)


@pytest.mark.parametrize("num_envs", [1, 2])
def test_our_environments_are_closed_once(num_envs):
    plain = [ScriptedEnv() for _ in range(num_envs)]
    env = from_env_fns([lambda env=env: env for env in plain])
    env.close()
    env.close()
    assert all(env.closed for env in plain)


def test_closing_ends_the_worker_processes_even_in_the_middle_of_a_step():
    before = multiprocessing.active_children()
    env = make_vector_env("RowScript-v0", 2, "async")
    env.reset(0)
    env.send(np.zeros(2, int), env.recv().env_ids)
    env.close()
    assert multiprocessing.active_children() == before


def test_a_reset_in_the_middle_of_a_step_begins_afresh(opened):
    env = opened(make_vector_env("RowScript-v0", N, "async"))
    env.reset(0)
    env.send(np.zeros(N, int), env.recv().env_ids)
    rows = record(env, steps=5).rows
    assert rows[0][:4] == EXPECTED_ROWS[0][:4]


@pytest.mark.parametrize("backend", ["sync", "async"])
def test_recv_and_send_out_of_turn_are_refused(backend, opened):
    env = opened(make_vector_env("RowScript-v0", 2, backend))
    with pytest.raises(RuntimeError, match="call reset"):
        env.recv()
    env.reset(0)
    with pytest.raises(RuntimeError, match=r"call recv\(\)"):
        env.send(np.zeros(2, int), np.arange(2))
    step = env.recv()
    with pytest.raises(RuntimeError, match="nothing to return"):
        env.recv()
    with pytest.raises(ValueError, match="env_ids must be those"):
        env.send(np.zeros(2, int), np.array([1, 0]))
    env.send(np.zeros(2, int), step.env_ids)
    with pytest.raises(RuntimeError, match=r"call recv\(\)"):
        env.send(np.zeros(2, int), step.env_ids)


def test_a_vector_environment_without_a_reset_tag_warns_and_counts_as_next_step():
    with pytest.warns(UserWarning, match="ScriptedVectorEnv does not say how it resets"):
        env = wrap_env(ScriptedVectorEnv(N, autoreset_mode=None))
    rows = record(env, steps=19).rows
    assert rows[2][:10] == EXPECTED_ROWS[2]


def test_an_unknown_reset_tag_is_refused():
    with pytest.raises(ValueError, match="NEXT_STEP, SAME_STEP or DISABLED, got 'Sometimes'"):
        wrap_env(ScriptedVectorEnv(N, autoreset_mode="Sometimes"))


@pytest.mark.parametrize("mode", AutoresetMode)
def test_the_reset_mode_is_that_of_the_instance(mode, opened):
    """Gymnasium 1.1 to 1.3 write it into a dict that all environments of the class share."""
    env = SyncVectorEnv([NoiseEnv] * 2, autoreset_mode=mode)
    others = [other for other in AutoresetMode if other != mode]
    found = []
    for other in (mode, *others):
        env.metadata = {"autoreset_mode": other}
        found.append(record(opened(wrap_env(env)), 12, action_of=lambda *_: 0).rows)
    assert found[0] == found[1] == found[2]


def test_something_else_than_an_environment_is_refused():
    with pytest.raises(TypeError, match=r"env must be a gymnasium\.Env.*got dict"):
        wrap_env({})
    with pytest.raises(ValueError, match="at least one environment"):
        from_env_fns([])


def test_unseeded_noise_differs_from_run_to_run():
    runs = [record(wrap_env(NoiseEnv()), 5, seed=None, action_of=lambda *_: 0) for _ in range(2)]
    assert runs[0].rows != runs[1].rows


class ResetsCounted(ScriptedEnv):
    """Counts its resets, by the class too."""

    resets = 0

    def reset(self, **options):
        type(self).resets += 1
        return super().reset(**options)


gymnasium.register("RowResets-v0", ResetsCounted, disable_env_checker=True)


@pytest.mark.parametrize("seed", [0, None])
@pytest.mark.parametrize(
    "make",
    [
        lambda seed: BatchPipeline(env_id="RowResets-v0", seed=seed),
        lambda seed: BatchPipeline(env=ResetsCounted(), seed=seed),
        lambda seed: VectorBatchPipeline([ResetsCounted], seed=seed),
        lambda seed: VectorBatchPipeline(
            env_id="RowResets-v0", num_envs=1, backend="sync", seed=seed
        ),
    ],
)
def test_a_setup_resets_each_environment_once(make, seed, monkeypatch):
    monkeypatch.setattr(ResetsCounted, "resets", 0)
    pipeline = make(seed)
    pipeline.set_agent(CountingAgent())
    pipeline.setup()
    assert ResetsCounted.resets == 1
    pipeline.setup()
    assert ResetsCounted.resets == 2
    pipeline.teardown()


@pytest.mark.parametrize("backend", ["sync", "async", "vector"])
def test_a_seed_begins_afresh_unless_it_has_just_done_so(backend, opened):
    env = opened(make_vector_env("RowScript-v0", N, backend, seed=0))
    assert record(env, steps=5).rows[0][:4] == EXPECTED_ROWS[0][:4]
    assert record(env, steps=5).rows[0][:4] == EXPECTED_ROWS[0][:4]
    env.reset(0)
    env.reset(1)
    assert env.recv().observations[:, 0].tolist() == [1, 2, 0]
    env.reset(1)
    env.send(np.zeros(N, int), env.recv().env_ids)
    env.reset(1)
    assert env.recv().observations.tolist() == [[1, 0, 0], [2, 0, 0], [0, 0, 0]]
