"""Vector environments of other libraries: the rows of the one table, or one line that says what to do."""

import functools
import logging

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv

from tensor_optix.algorithms.agent_factory import make_agent
from tensor_optix.pipeline.batch_pipeline import BatchPipeline
from tensor_optix.pipeline.vector_env import from_env_fns, wrap_env
from tensor_optix.pipeline.vector_pipeline import VectorBatchPipeline
from tests.pipeline.counting_env import collect
from tests.pipeline.foreign_envs import (
    Listing,
    Objectives,
    Overwriting,
    StableBaselines,
    Untold,
    Weighed,
)
from tests.pipeline.row_envs import (
    EXPECTED_ROWS,
    ScriptedEnv,
    ScriptedVectorEnv,
    record,
    scripted_action,
)
from tests.scripted import CountingAgent

N = len(EXPECTED_ROWS)


def named(name, final, done):
    return {name: final, f"_{name}": done}


def objects(final, done):
    kept = np.full(len(final), None, object)
    for row in np.flatnonzero(done):
        kept[row] = final[row]
    return {"final_obs": kept}


TOLD = {
    "an array": functools.partial(named, "final_obs"),
    "by its old name": functools.partial(named, "final_observation"),
    "objects": objects,
    "a list": lambda final, done: {"final_obs": list(final)},
}


@pytest.mark.parametrize("told", TOLD)
def test_last_observations_come_in_many_forms(told):
    rows = record(wrap_env(Untold(N, TOLD[told])), steps=19).rows
    for env_id, expected in EXPECTED_ROWS.items():
        assert rows[env_id][: len(expected)] == expected


@pytest.mark.parametrize("told", TOLD)
def test_who_does_not_say_how_it_resets_is_known_by_its_last_observations(told):
    with pytest.warns(UserWarning, match="does not say how it resets .* same step if it gives"):
        env = wrap_env(Untold(N, TOLD[told], says=False))
    rows = record(env, steps=19).rows
    for env_id, expected in EXPECTED_ROWS.items():
        assert rows[env_id][: len(expected)] == expected


@pytest.mark.parametrize("make", [Listing, StableBaselines])
def test_infos_in_lists_and_one_flag_for_both_ends(make):
    foreign = make(N)
    env = wrap_env(foreign)
    assert (env.num_envs, env.observation_space) == (N, ScriptedEnv.observation_space)
    rows = record(env, steps=19).rows
    for env_id, expected in EXPECTED_ROWS.items():
        if (
            make is StableBaselines
        ):  # which says of an end by both that it was none of the time limit
            expected = [
                row._replace(truncated=row.truncated and not row.terminated) for row in expected
            ]
        assert rows[env_id][: len(expected)] == expected
    env.close()
    assert not getattr(foreign, "listing", foreign).closed_by_somebody


@pytest.mark.parametrize("make", [Listing, StableBaselines])
def test_infos_in_lists_are_kept_by_their_keys(make):
    pipeline = VectorBatchPipeline(
        env=make(N), agent=CountingAgent(), window_size=4, seed=0, info_keys=["steps"]
    )
    (window,) = collect(pipeline, 1)
    assert len(window.infos) == 4 * N
    assert all("steps" in info for info in window.infos)


@pytest.mark.parametrize("make", [Listing, StableBaselines])
def test_agents_are_made_for_them_and_trained_on_them(make):
    env = make(N)
    agent = make_agent(env, seed=0, hidden_sizes=(4,))
    (window,) = collect(VectorBatchPipeline(env=env, agent=agent, window_size=8), 1)
    assert np.isfinite(agent.learn(window)["policy_loss"])


def without(final, done):
    return {"other": 1}


def test_where_no_last_observation_is_given_the_one_before_stands_in_and_a_cut_is_warned_of(caplog):
    env = wrap_env(Untold(N, without))
    with caplog.at_level(logging.WARNING):
        rows = record(env, steps=19).rows
    for env_id, expected in EXPECTED_ROWS.items():
        stood_in = [
            row._replace(next_obs=row.obs) if row.terminated or row.truncated else row
            for row in expected
        ]
        assert rows[env_id][: len(expected)] == stood_in
    (warning,) = [record.getMessage() for record in caplog.records]
    assert warning.startswith("vector environment Untold resets in the step that ends an episode")
    assert warning.endswith("Put the last ones into infos['final_obs']")


def test_who_gives_none_and_never_cuts_is_not_warned_of(caplog):
    env = Untold(1, without)
    env.limit = None
    with caplog.at_level(logging.WARNING):
        assert record(wrap_env(env), steps=19).rows[0][1].terminated
    assert not caplog.records


def test_too_few_last_observations_are_refused():
    env = wrap_env(Untold(N, lambda final, done: {"final_obs": final[:1]}))
    with pytest.raises(RuntimeError, match=r"infos\['final_obs'\] must have 3 entries.*got 1"):
        record(env, steps=3)


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_what_is_written_over_afterwards_is_not_what_a_window_has(mode):
    class Acting(CountingAgent):
        def act_batch(self, observations):
            return np.full(len(observations), 2)

    def windows(make):
        pipeline = VectorBatchPipeline(env=make, agent=Acting(), window_size=7, seed=0)
        return collect(pipeline, 3)

    clean = windows(ScriptedVectorEnv(N, autoreset_mode=mode))
    written = windows(Overwriting(N, mode))
    for one, other in zip(clean, written, strict=True):
        assert (np.asarray(other.actions) == 2).all()
        for field in ("observations", "rewards", "terminated", "truncated", "end_observations"):
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


REFUSAL = r"rewards must be one number, got vectors of the space Box.*mo_gymnasium\.wrappers\.LinearReward"


def wrapped():
    return gymnasium.wrappers.TimeLimit(Objectives(), 5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: BatchPipeline(env=Objectives()),
        lambda: BatchPipeline(env=wrapped()),
        lambda: VectorBatchPipeline([Objectives] * 2),
        lambda: VectorBatchPipeline([wrapped] * 2, async_envs=True),
        lambda: VectorBatchPipeline(env=SyncVectorEnv([wrapped] * 2)),
    ],
)
def test_rewards_for_several_objectives_are_refused_before_the_first_step(make):
    with pytest.raises(TypeError, match=REFUSAL):
        make().setup()


def test_rewards_for_several_objectives_of_a_vector_are_refused_before_the_first_step():
    env = ScriptedVectorEnv(2)
    env.reward_space = Objectives.reward_space
    with pytest.raises(TypeError, match=f"environment ScriptedVectorEnv: {REFUSAL}"):
        wrap_env(env)


def test_who_makes_one_number_of_them_is_trusted_and_the_first_step_tells():
    assert record(wrap_env(Weighed(Objectives())), 3).rows[0][0].reward == 0.75
    doubled = gymnasium.wrappers.TransformReward(Objectives(), lambda rewards: 2 * rewards)
    for env in (wrap_env(doubled), from_env_fns([lambda: doubled])):
        with pytest.raises(TypeError, match=r"one number as reward, got an array.*LinearReward"):
            record(env, 3)


def test_vectors_of_rewards_that_nobody_spoke_of_are_refused_at_the_first_step():
    class Unsaid(ScriptedVectorEnv):
        def step(self, actions):
            observations, rewards, *rest = super().step(actions)
            return observations, np.stack([rewards, rewards], 1), *rest

    with pytest.raises(TypeError, match=r"rewards of the shape \(2,\), .*LinearReward"):
        record(wrap_env(Unsaid(2)), 3, action_of=scripted_action)


def test_several_agents_in_one_environment_are_refused_with_what_makes_a_vector_of_them():
    class Parallel:
        possible_agents = ("one", "two")

        def reset(self, seed=None, options=None):
            raise NotImplementedError

        def step(self, actions):
            raise NotImplementedError

    for door in (lambda env: BatchPipeline(env=env), lambda env: VectorBatchPipeline(env=env)):
        with pytest.raises(TypeError, match=r"supersuit\.pettingzoo_env_to_vec_env_v1\(env\)"):
            door(Parallel())


def test_a_pool_with_another_interface_is_refused_with_the_argument_that_gives_gymnasiums():
    envpool = pytest.importorskip("envpool")
    pool = envpool.make("CartPole-v1", env_type="dm", num_envs=2)
    for door in (wrap_env, lambda env: VectorBatchPipeline(env=env)):
        with pytest.raises(
            TypeError, match=r'env_type="gymnasium", got CartPoleDMEnvPool: envpool'
        ):
            door(pool)
    pool.close()
