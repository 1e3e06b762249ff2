"""What a pipeline refuses, what it leaves alone, and what it lets through."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

from tensor_optix.exploration.rnd import RNDPipeline
from tensor_optix.optimizer import RLOptimizer
from tensor_optix.pipeline.batch_pipeline import BatchPipeline
from tensor_optix.pipeline.vector_pipeline import VectorBatchPipeline
from tests.pipeline.counting_env import Counter, collect
from tests.scripted import CountingAgent


def test_a_mistake_in_the_environment_propagates():
    class Broken(Counter):
        def step(self, action: int) -> Any:
            raise NameError("a mistake in the environment")

    pipeline = BatchPipeline(env=Broken(), agent=CountingAgent())
    with pytest.raises(NameError, match="a mistake"):
        next(pipeline.episodes())


def test_the_users_environment_stays_open_and_a_second_run_works():
    env = Counter()
    pipeline = BatchPipeline(env=env, agent=CountingAgent(), window_size=4)
    for _ in range(2):
        pipeline.setup()
        assert next(pipeline.episodes()).observations[0].tolist() == [0, 0]
        pipeline.teardown()
    assert not env.closed


def test_actions_of_the_wrong_kind_are_refused():
    class Floats(CountingAgent):
        def act(self, observation: Any) -> float:
            return 0.5

    pipeline = BatchPipeline(env=Counter(), agent=Floats())
    with pytest.raises(TypeError, match="Cannot cast"):
        next(pipeline.episodes())


class Vectors(Counter):
    """Takes a vector of three."""

    def __init__(self) -> None:
        super().__init__()
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (3,), np.float32)


@pytest.mark.parametrize("action", [0.5, [0.1, 0.2], [[0.1, 0.2, 0.3]]])
@pytest.mark.parametrize("count", [1, 3])
def test_actions_of_the_wrong_shape_are_refused_and_never_broadcast(action, count):
    class Shapes(CountingAgent):
        def act(self, observation: Any) -> Any:
            return action

    pipeline = VectorBatchPipeline([Vectors] * count, Shapes(), window_size=4)
    with pytest.raises(ValueError, match=r"act must give actions of shape \(3,\) for each"):
        next(pipeline.episodes())
    pipeline.teardown()


def test_a_vector_environment_of_the_users_is_stepped_and_stays_open():
    envs = gymnasium.vector.SyncVectorEnv([Counter, lambda: Counter(1)])
    pipeline = VectorBatchPipeline(env=envs, agent=CountingAgent(), window_size=4)
    assert collect(pipeline, 1)[0].num_envs == 2
    pipeline.teardown()
    assert not envs.closed
    with pytest.raises(ValueError, match="got a vector of 2; use VectorBatchPipeline"):
        BatchPipeline(env=envs, agent=CountingAgent()).setup()
    envs.close()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BatchPipeline("CartPole-v1"), "for an id use env_id='CartPole-v1'"),
        (lambda: VectorBatchPipeline("CartPole-v1"), "for an id use env_id='CartPole-v1'"),
        (lambda: VectorBatchPipeline([Counter()]), "a list of functions that each make one"),
        (lambda: VectorBatchPipeline(Counter), "a list of functions that each make one"),
    ],
)
def test_what_is_no_environment_is_refused_with_the_way_out(make, message):
    with pytest.raises(TypeError, match=message):
        make()


def test_no_environments_are_refused():
    with pytest.raises(ValueError, match="num_envs must be at least 1, got 0"):
        VectorBatchPipeline(env_id="CartPole-v1", num_envs=0, agent=CountingAgent()).setup()


@pytest.mark.parametrize("call", ["recv", "send"])
def test_an_interrupt_in_the_middle_of_a_step_does_not_hang_the_teardown(call, monkeypatch):
    pytest.importorskip("envpool")
    pipeline = VectorBatchPipeline(
        env_id="CartPole-v1", num_envs=4, backend="envpool-async", agent=CountingAgent()
    )
    pipeline.setup()
    pool = pipeline.env._open_pool()
    real = getattr(pool, call)

    def interrupted(*args: Any) -> Any:
        real(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(type(pool), call, lambda self, *args: interrupted(*args))
    with pytest.raises(KeyboardInterrupt):
        next(pipeline.episodes())
    pipeline.teardown()


def test_a_pipeline_without_an_agent_says_so():
    with pytest.raises(RuntimeError, match="BatchPipeline has no agent: pass agent="):
        next(BatchPipeline(env=Counter()).episodes())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either env= or env_id="),
        ({"env": Counter(), "env_id": "CartPole-v1"}, "either env= or env_id="),
        ({"env": Counter(), "window_size": 0}, "window_size must be a whole number >= 1, got 0"),
        ({"env": Counter(), "window_size": 5, "n_steps": 6}, "got 5 and 6"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        BatchPipeline(**arguments)


def test_env_id_and_n_steps_are_accepted_as_the_documents_have_them():
    pipeline = BatchPipeline(env_id="CartPole-v1", n_steps=64, agent=CountingAgent(), seed=3)
    assert pipeline.n_steps == pipeline.window_size == 64
    assert collect(pipeline, 1)[0].length == 64
    pipeline.teardown()


def test_one_environment_behind_several_functions_is_refused():
    env = Counter()
    for make in (lambda: env, lambda: gymnasium.wrappers.TimeLimit(env, 9)):
        with pytest.raises(
            ValueError, match="environments 1 and 2 are one and the same Counter: let each"
        ):
            VectorBatchPipeline([Counter, make, make], CountingAgent()).setup()
    vector = gymnasium.vector.SyncVectorEnv([lambda: env] * 2)
    with pytest.raises(ValueError, match="environments 0 and 1 are one and the same Counter"):
        VectorBatchPipeline(env=vector, agent=CountingAgent()).setup()


def shared_by(kind: str) -> tuple[Any, Any]:
    """Two pipelines over one environment."""
    env = Counter()
    if kind == "plain":
        return tuple(BatchPipeline(env=env, agent=CountingAgent(), window_size=3) for _ in range(2))
    if kind == "wrapped":
        wrapped = gymnasium.wrappers.TimeLimit(env, 9)
        return tuple(BatchPipeline(env=each, agent=CountingAgent()) for each in (env, wrapped))
    if kind == "function":
        functions = [lambda: env]
        return tuple(VectorBatchPipeline(functions, CountingAgent(), 3) for _ in range(2))
    if kind == "part of a vector":
        vector = gymnasium.vector.SyncVectorEnv([lambda: env, Counter])
        return VectorBatchPipeline(env=vector, agent=CountingAgent()), BatchPipeline(
            env, CountingAgent()
        )
    envpool = pytest.importorskip("envpool")
    pool = envpool.make("CartPole-v1", env_type="gymnasium", num_envs=2, seed=0)
    return tuple(
        VectorBatchPipeline(env=pool, agent=CountingAgent(), window_size=3) for _ in range(2)
    )


KINDS = ["plain", "wrapped", "function", "part of a vector", "envpool"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_pipeline_whose_environment_another_has_reset_does_not_go_on(kind):
    first, second = shared_by(kind)
    windows = first.episodes()
    next(windows)
    next(second.episodes())
    with pytest.raises(RuntimeError, match="give each pipeline an environment object of its own"):
        next(windows)
    next(second.episodes())
    first.restart()
    next(first.episodes())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "function"])
def test_validation_over_the_environment_that_is_trained_on_is_refused_before_the_first_step(
    kind, tmp_path
):
    first, second = shared_by(kind)
    for pair in ((first, second), (second, first), (RNDPipeline(first, obs_dim=2), second)):
        with pytest.raises(
            ValueError, match=r"environments of their own, got one .* object in both"
        ):
            RLOptimizer(CountingAgent(), pair[0], val_pipeline=pair[1], checkpoint_dir=tmp_path)


def test_validation_over_what_the_same_functions_return_ends_the_run_and_says_so(tmp_path):
    first, second = shared_by("function")
    with pytest.raises(RuntimeError, match="another pipeline has reset this one's environment"):
        RLOptimizer(
            CountingAgent(), first, val_pipeline=second, checkpoint_dir=tmp_path, max_episodes=3
        ).run()


@pytest.mark.parametrize(
    "given", [{"env_fns": [Counter, Counter]}, {"env": Counter()}], ids=["env_fns", "env"]
)
def test_a_backend_is_of_an_id(given):
    with pytest.raises(ValueError, match="backend needs env_id=, got 'async' with environments"):
        VectorBatchPipeline(**given, backend="async")
