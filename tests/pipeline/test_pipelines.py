"""Windows: their borders, their bookkeeping, and what a pipeline does with an environment."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import pytest

from tensor_optix.core.base_evaluator import MeanReturnEvaluator
from tensor_optix.core.trajectory_buffer import compute_gae
from tensor_optix.pipeline.batch_pipeline import BatchPipeline
from tensor_optix.pipeline.vector_pipeline import VectorBatchPipeline
from tests.contracts.pipeline_contract import PipelineContract
from tests.scripted import CountingAgent

if TYPE_CHECKING:
    from tensor_optix.core.types import EpisodeData


class Counter(gymnasium.Env[np.ndarray, int]):
    """Observes (who, steps of this episode); pays 1 a step; ends at `length`, by a time limit or not."""

    def __init__(self, who: int = 0, length: int = 5, truncates: bool = False) -> None:
        self.observation_space = gymnasium.spaces.Box(-1e6, 1e6, (2,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(2)
        self.who, self.length, self.truncates = who, length, truncates
        self.steps = self.resets = 0
        self.closed = False

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.steps = 0
        self.resets += 1
        return self.observation(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.steps += 1
        over = self.steps >= self.length
        info = {"steps": self.steps}
        return self.observation(), 1.0, over and not self.truncates, over and self.truncates, info

    def observation(self) -> np.ndarray:
        return np.array([self.who, self.steps], np.float32)

    def close(self) -> None:
        self.closed = True


class TestBatchPipelineContract(PipelineContract):
    @pytest.fixture
    def pipeline(self):
        return BatchPipeline(env=Counter(), window_size=4)


class TestVectorBatchPipelineContract(PipelineContract):
    @pytest.fixture
    def pipeline(self):
        return VectorBatchPipeline([Counter, Counter], window_size=4)


def collect(pipeline: Any, count: int) -> list[EpisodeData]:
    """Copies of the next windows, because a pipeline reuses its storage."""
    windows = []
    source = pipeline.episodes()
    for _ in range(count):
        windows.append(copy.deepcopy(next(source)))
    return windows


def test_windows_of_one_environment_go_on_where_the_last_one_stopped():
    env = Counter(length=5)
    pipeline = BatchPipeline(env=env, agent=CountingAgent(), window_size=4)
    first, second, third = collect(pipeline, 3)
    assert first.observations[:, 1].tolist() == [0, 1, 2, 3]
    assert second.observations[:, 1].tolist() == [4, 0, 1, 2]
    assert [episode.episode_id for episode in (first, second, third)] == [0, 1, 2]
    assert first.final_obs.tolist() == [0, 4]
    assert second.terminated == [True, False, False, False]
    assert second.episode_starts == [0, 1]
    assert second.end_rows.tolist() == [0]
    assert second.end_observations.tolist() == [[0, 5]]
    assert env.resets == 3


def test_an_end_on_the_last_row_leaves_no_final_observation():
    pipeline = BatchPipeline(env=Counter(length=4), agent=CountingAgent(), window_size=4)
    first, second = collect(pipeline, 2)
    assert first.final_obs is None
    assert first.terminated[-1] is True
    assert second.observations[0].tolist() == [0, 0]


def test_a_window_of_one_environment_holds_lists_and_infos_as_documented():
    pipeline = BatchPipeline(env=Counter(), agent=CountingAgent(), window_size=3)
    episode = collect(pipeline, 1)[0]
    assert episode.rewards == [1.0, 1.0, 1.0]
    assert episode.truncated == [False, False, False]
    assert episode.infos == [{"steps": 1}, {"steps": 2}, {"steps": 3}]
    assert episode.dones == [False, False, False]
    assert episode.total_reward == 3.0
    assert episode.length == 3


@pytest.mark.parametrize("window_size", [1, 7, 200, 512])
@pytest.mark.parametrize("num_envs", [1, 3])
def test_a_policy_that_always_earns_500_scores_500_whatever_the_window(window_size, num_envs):
    """Also where an episode spans several windows, and where none of them ends in a window."""
    env_fns = [lambda n=n: Counter(n, length=500, truncates=True) for n in range(num_envs)]
    pipeline = VectorBatchPipeline(env_fns, CountingAgent(), window_size)
    if num_envs == 1:
        pipeline = BatchPipeline(env=env_fns[0](), agent=CountingAgent(), window_size=window_size)
    evaluator = MeanReturnEvaluator()
    windows = collect(pipeline, 1100 // window_size + 1)
    scores = [evaluator.score(episode, {}).primary_score for episode in windows]
    finished = [score for score in scores if not np.isnan(score)]
    assert finished == [500.0] * len(finished)
    assert len(finished) >= 2
    pipeline.teardown()


def test_rows_of_one_environment_follow_each_other_and_never_anothers():
    env_fns = [lambda n=n: Counter(n, length=3 + n) for n in range(4)]
    pipeline = VectorBatchPipeline(env_fns, CountingAgent(), window_size=16)
    for episode in collect(pipeline, 3):
        observations = episode.grid(episode.observations)
        valid, dones = episode.grid(episode.valid), episode.grid(episode.dones)
        for n in range(4):
            assert (observations[:, n, 0] == n).all()
            for t in range(15):
                if valid[t, n] and not dones[t, n]:
                    assert observations[t + 1, n, 1] == observations[t, n, 1] + 1
    pipeline.teardown()


def test_reset_rows_are_marked_and_the_steps_that_are_left_are_the_real_ones():
    env_fns = [lambda: Counter(length=2), lambda: Counter(length=50)]
    pipeline = VectorBatchPipeline(env_fns, CountingAgent(), window_size=9)
    episode = collect(pipeline, 1)[0]
    valid = episode.grid(episode.valid)
    assert valid[:, 1].all()
    assert valid[:, 0].tolist() == [True, True, False] * 3
    assert episode.num_steps == 15
    assert episode.finished_returns.tolist() == [2.0, 2.0, 2.0]
    # No valid row acts on the observation of an episode that is over.
    observations = episode.grid(episode.observations)
    assert observations[:, 0, 1][valid[:, 0]].max() == 1
    pipeline.teardown()


def test_an_environment_that_pays_nothing_is_not_credited_with_its_neighbours_reward():
    class Poor(Counter):
        def step(self, action: int) -> Any:
            observation, _, *rest = super().step(action)
            return observation, 0.0, *rest

    pipeline = VectorBatchPipeline([Poor, Counter], CountingAgent(), window_size=32)
    episode = collect(pipeline, 1)[0]
    zeros = np.zeros((32, 2))
    advantages, _ = compute_gae(
        episode.grid(episode.rewards),
        zeros,
        episode.grid(episode.dones),
        last_value=[0, 0],
        valid=episode.grid(episode.valid),
    )
    assert (advantages[:, 0] == 0).all()
    assert advantages[:, 1].max() > 1
    pipeline.teardown()


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


def test_a_pipeline_without_an_agent_says_so():
    with pytest.raises(RuntimeError, match="BatchPipeline has no agent: pass agent="):
        next(BatchPipeline(env=Counter()).episodes())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either env= or env_id="),
        ({"env": Counter(), "env_id": "CartPole-v1"}, "either env= or env_id="),
        ({"env": Counter(), "window_size": 0}, "window_size must be at least 1, got 0"),
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


@pytest.mark.parametrize("backend", ["sync", "envpool", "envpool-async"])
def test_the_same_seed_gives_the_same_windows(backend):
    if backend != "sync":
        pytest.importorskip("envpool")

    def observations(seed: int) -> np.ndarray:
        pipeline = VectorBatchPipeline(
            env_id="CartPole-v1",
            num_envs=4,
            window_size=40,
            backend=backend,
            seed=seed,
            agent=CountingAgent(),
        )
        episode = collect(pipeline, 1)[0]
        pipeline.teardown()
        grid = episode.grid(episode.observations)
        # Environments that answer in any order fill columns of different lengths.
        return grid[:20]

    np.testing.assert_array_equal(observations(1), observations(1))
    assert not np.array_equal(observations(1), observations(2))


def test_environments_that_answer_in_any_order_fill_their_own_columns():
    pytest.importorskip("envpool")
    pipeline = VectorBatchPipeline(
        env_id="CartPole-v1",
        num_envs=6,
        window_size=50,
        backend="envpool-async",
        agent=CountingAgent(),
        seed=0,
    )
    steps = 0
    for episode in collect(pipeline, 4):
        observations = episode.grid(episode.observations)
        valid, dones = episode.grid(episode.valid), episode.grid(episode.dones)
        # CartPole's position moves by 0.02 s times its velocity: a row follows the one above it.
        moved = observations[:-1, :, 0] + 0.02 * observations[:-1, :, 1]
        follows = valid[:-1] & ~dones[:-1]
        np.testing.assert_allclose(observations[1:, :, 0][follows], moved[follows], atol=1e-5)
        steps += episode.num_steps
        assert len(episode.end_rows) == len(episode.finished_returns) == dones.sum()
    assert steps > 4 * 6 * 50 * 0.8
    pipeline.teardown()
