"""Which backend is chosen, and what is said where none can be."""

import logging
import multiprocessing
import re
import sys

import pytest

from tensor_optix.core.environment_ids import say_once
from tensor_optix.pipeline.vector_env import half_batch, make_vector_env, steps_per_second
from tests.pipeline.row_envs import EXPECTED_ROWS, TIME_LIMIT, record_on


def test_auto_takes_envpool_where_it_has_the_environment():
    pytest.importorskip("envpool")
    env = make_vector_env("CartPole-v1", 4)
    assert env.name == "envpool"
    env.close()


def test_auto_without_envpool_measures_the_others_and_says_what_it_found(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "envpool", None)
    with caplog.at_level(logging.INFO):
        env = make_vector_env("CartPole-v1", 64)
    assert env.name == "vector", "64 carts in one array are far faster than one by one"
    for name in ("vector", "sync", "async"):
        assert f"CartPole-v1: backend {name} makes" in caplog.text
    assert "using backend vector" in caplog.text
    env.close()


def test_auto_keeps_the_fastest_and_closes_the_others():
    """Sleeping two milliseconds a step, or twenty in the vector entry point: processes win."""
    before = multiprocessing.active_children()
    env = make_vector_env("RowSleeping-v0", 4)
    assert env.name == "async"
    assert len(multiprocessing.active_children()) == len(before) + 4
    env.close()
    assert multiprocessing.active_children() == before


OTHER_PROBLEMS = {
    "RowClipped-v0": r"the reward 1 and not 1.25 in step 1 from seed 0",
    "RowWider-v0": r"observations Box\(0, 200, .* and not Box\(0, 100,",
    "RowLonger-v0": r"episodes that end otherwise from seed 0, in step \d+",
}
"""Vector entry points that are much faster than `gymnasium.make`, and what they differ in."""


def test_auto_takes_a_vector_entry_point_that_is_the_same_problem():
    env = make_vector_env("RowSame-v0", 2)
    assert env.name == "vector"
    env.close()


@pytest.mark.parametrize("env_id", OTHER_PROBLEMS)
def test_auto_leaves_out_a_vector_entry_point_that_is_another_problem(env_id, caplog):
    say_once.cache_clear()
    with caplog.at_level(logging.INFO):
        env = make_vector_env(env_id, 1)
    assert env.name == "sync"
    env.close()
    said = [record.getMessage() for record in caplog.records if "another problem" in record.message]
    assert len(said) == 1
    assert re.search(OTHER_PROBLEMS[env_id], said[0])


@pytest.mark.parametrize("env_id", OTHER_PROBLEMS)
def test_it_is_taken_when_it_is_asked_for_and_what_differs_is_said_once(env_id, caplog):
    say_once.cache_clear()
    for _ in range(2):
        env = make_vector_env(env_id, 2, "vector")
        assert env.name == "vector"
        env.close()
    (said,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert re.search(OTHER_PROBLEMS[env_id], said.getMessage())


def test_a_vector_entry_point_that_is_the_same_problem_is_taken_without_a_word(caplog):
    say_once.cache_clear()
    for env_id in ("RowSame-v0", "CartPole-v1"):
        make_vector_env(env_id, 2, "vector").close()
    assert not caplog.records


def test_arguments_that_only_the_vector_entry_point_takes_are_no_reason_to_refuse_it(caplog):
    say_once.cache_clear()
    options = {"env_kwargs": {"autoreset_mode": "NextStep"}}
    with caplog.at_level(logging.INFO):
        make_vector_env("RowClipped-v0", 2, "vector", **options).close()
    assert "cannot be compared" in caplog.text
    assert not [record for record in caplog.records if record.levelno == logging.WARNING]


def test_auto_with_one_plain_environment_runs_it_here():
    env = make_vector_env("RowNoise-v0", 1)
    assert (env.name, env.num_envs) == ("sync", 1)
    env.close()


def test_measuring_leaves_no_trace_in_the_rows():
    env = make_vector_env("RowScript-v0", 3, seed=0)
    assert env.max_episode_steps == TIME_LIMIT
    rows = record_on(env, steps=19).rows
    env.close()
    for env_id, expected in EXPECTED_ROWS.items():
        assert rows[env_id][: len(expected)] == expected


def test_the_speed_counts_environment_steps_and_no_resets():
    env = make_vector_env("RowSleeping-v0", 1, "sync", seed=0)
    assert 200 < steps_per_second(env) < 500
    env.close()


def test_an_unknown_backend_is_refused_with_the_list():
    with pytest.raises(ValueError, match="one of auto, envpool, envpool-async, sync, async, vec"):
        make_vector_env("CartPole-v1", 2, "fast")


def test_a_misspelt_id_is_answered_with_the_nearest():
    for backend in ("auto", "sync", "vector"):
        expected = r'^unknown environment "CartPol-v1"; did you mean "CartPole-v1"\?$'
        with pytest.raises(ValueError, match=expected):
            make_vector_env("CartPol-v1", 2, backend)
    with pytest.raises(ValueError, match='unknown environment "qqqqq"; import the package'):
        make_vector_env("qqqqq", 2)


@pytest.mark.parametrize("backend", ["auto", "sync", "async"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(backend):
    with pytest.raises(ImportError, match=r"No module named.*pip install a_missing_package"):
        make_vector_env("RowMissing-v0", 2, backend)


def test_a_missing_extra_of_gymnasium_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "Box2D", None)
    monkeypatch.delitem(sys.modules, "gymnasium.envs.box2d.lunar_lander", raising=False)
    with pytest.raises(ImportError, match=r'Box2D is not.*pip install "gymnasium\[box2d\]"'):
        make_vector_env("LunarLander-v3", 2, "sync")


def test_an_id_that_only_envpool_has_is_refused_with_the_way_out():
    pytest.importorskip("envpool")
    with pytest.raises(ValueError, match='but EnvPool has: backend="envpool"'):
        make_vector_env("Pong-v5", 2, "sync")


def test_an_environment_without_a_vector_entry_point_is_refused():
    with pytest.raises(ValueError, match='"RowNoise-v0" has no vector entry point: use backend'):
        make_vector_env("RowNoise-v0", 2, "vector")


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="num_envs must be at least 1, got 0"):
        make_vector_env("CartPole-v1", 0)
    with pytest.raises(ValueError, match="batch_size needs backend=\"envpool-async\", got 'sync'"):
        make_vector_env("CartPole-v1", 4, "sync", batch_size=2)


def test_a_module_before_the_colon_is_imported():
    env = make_vector_env("tests.pipeline.row_envs:RowScript-v0", 2, "sync")
    assert env.num_envs == 2
    env.close()


@pytest.mark.parametrize(("num_envs", "batch"), [(1, 1), (2, 1), (7, 1), (8, 4), (9, 3), (64, 32)])
def test_half_a_batch_divides_the_environments(num_envs, batch):
    assert half_batch(num_envs) == batch
