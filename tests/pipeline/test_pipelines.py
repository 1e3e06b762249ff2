"""Windows: their borders, their bookkeeping, and what a pipeline does with an environment."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

from tensor_optix.core.base_evaluator import MeanReturnEvaluator
from tensor_optix.core.trajectory_buffer import compute_gae, episode_advantages
from tensor_optix.pipeline.batch_pipeline import BatchPipeline
from tensor_optix.pipeline.rollout_pipeline import RolloutPipeline
from tensor_optix.pipeline.vector_contract import spread_seed
from tensor_optix.pipeline.vector_env import VectorEnv, VectorStep
from tensor_optix.pipeline.vector_pipeline import VectorBatchPipeline
from tests.contracts.pipeline_contract import PipelineContract
from tests.pipeline.counting_env import Counter, collect
from tests.scripted import CountingAgent


class TestBatchPipelineContract(PipelineContract):
    @pytest.fixture
    def pipeline(self):
        return BatchPipeline(env=Counter(), window_size=4)


class TestVectorBatchPipelineContract(PipelineContract):
    @pytest.fixture
    def pipeline(self):
        return VectorBatchPipeline([Counter, Counter], window_size=4)


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


def test_each_environment_has_its_own_final_observation_starts_and_ends():
    """Environment n ends after n + 2 steps; its reset row, where there is one, is no start."""
    env_fns = [lambda n=n: Counter(n, length=n + 2) for n in range(3)]
    pipeline = VectorBatchPipeline(env_fns, CountingAgent(), window_size=4)
    first, second = collect(pipeline, 2)
    # Steps that each environment has made of its episode after 4 rows: 0 ended twice in 2 + 1 rows.
    assert first.final_obs.tolist() == [[0, 1], [1, 0], [2, 4]]
    assert second.observations[:3].tolist() == first.final_obs.tolist()
    ends = dict(zip(first.end_rows.tolist(), first.end_observations.tolist(), strict=True))
    assert ends == {1 * 3 + 0: [0, 2], 2 * 3 + 1: [1, 3], 3 * 3 + 2: [2, 4]}
    assert first.end_rows.tolist() == sorted(ends)
    assert first.episode_starts == [0, 1, 2, 3 * 3 + 0]
    assert first.finished_lengths.tolist() == [2, 3, 4]
    pipeline.teardown()


@pytest.mark.parametrize("num_envs", [1, 3])
def test_a_time_limit_is_no_termination_all_the_way_from_the_environment_to_the_critic(num_envs):
    """Each step pays 1, for ever but for a time limit of 5: the return of every row is 10.

    With gamma = 0.9 and a critic that says 10 everywhere, every advantage is 0.
    """
    env_fns = [lambda: Counter(length=5, truncates=True) for _ in range(num_envs)]
    pipeline = VectorBatchPipeline(env_fns, CountingAgent(), window_size=17)
    for episode in collect(pipeline, 3):
        advantages, returns, usable = episode_advantages(
            episode,
            np.asarray(episode.rewards, np.float32),
            np.full(episode.length, 10.0, np.float32),
            np.full(len(episode.end_rows), 10.0, np.float32),
            np.full(num_envs, 10.0, np.float32),
            (0.9, 0.95),
        )
        assert usable.sum() == episode.num_steps
        np.testing.assert_allclose(advantages[usable], 0.0, atol=1e-5)
        np.testing.assert_allclose(returns[usable], 10.0, atol=1e-5)
    pipeline.teardown()


class Uneven(VectorEnv):
    """Two environments that never end; 0 answers twice as often as 1. Observes the steps made."""

    def __init__(self) -> None:
        space = gymnasium.spaces.Box(-1e6, 1e6, (1,), np.float32)
        super().__init__("uneven", (space, gymnasium.spaces.Discrete(2)), num_envs=2, batch_size=1)

    slow = 1

    def reset(self, seed: int | None = None) -> None:
        self.steps = [0, 0]
        self.waiting = [0, 1]
        self.turns = 0

    def recv(self) -> VectorStep:
        turn = self.slow if self.turns % 3 == 2 else 1 - self.slow
        self.turns += 1
        n = turn if turn in self.waiting else self.waiting[0]
        self.waiting.remove(n)
        is_step = self.steps[n] > 0
        flags = np.zeros(1, bool)
        return VectorStep(
            env_ids=np.array([n]),
            observations=np.array([[self.steps[n]]], np.float32),
            rewards=np.zeros(1, np.float32),
            terminated=flags,
            truncated=flags,
            valid=np.array([is_step]),
            end_observations=np.empty((0, 1), np.float32),
        )

    def send(self, actions: np.ndarray, env_ids: np.ndarray) -> None:
        for n in env_ids:
            self.steps[n] += 1
            self.waiting.append(int(n))

    def close(self) -> None:
        pass


def test_columns_of_different_lengths_are_bootstrapped_from_what_follows_their_last_row():
    """The value of an observation is taken to be its step count: every TD error is 1."""
    pipeline = RolloutPipeline(lambda seed: Uneven(), CountingAgent(), 8, None)
    for episode in collect(pipeline, 4):
        lengths = episode.grid(episode.valid).sum(axis=0)
        assert lengths[0] > lengths[1] > 0
        values = episode.observations[:, 0].copy()
        advantages, _, usable = episode_advantages(
            episode,
            np.asarray(episode.rewards, np.float32),
            values,
            np.empty(0, np.float32),
            episode.final_obs[:, 0].copy(),
            (1.0, 0.0),
        )
        assert usable.sum() == episode.num_steps == lengths.sum()
        np.testing.assert_array_equal(advantages[usable], 1.0)
    pipeline.teardown()


def test_what_an_earlier_window_left_in_a_short_column_is_wiped_out():
    """First environment 0 is the fast one, and pays; then environment 1 is, and nobody pays."""

    class Paying(Uneven):
        def recv(self) -> VectorStep:
            is_early = self.turns < 40
            self.slow = int(is_early)
            return super().recv()._replace(rewards=np.array([7.0 * is_early], np.float32))

    pipeline = RolloutPipeline(lambda seed: Paying(), CountingAgent(), 8, None)
    late = collect(pipeline, 6)[-1]
    assert not np.any(late.rewards)
    pipeline.teardown()


def test_a_window_is_collected_with_the_agent_as_it_is_then():
    agent = CountingAgent()
    pipeline = BatchPipeline(env=Counter(), agent=agent, window_size=3)
    source = pipeline.episodes()
    assert next(source).actions.tolist() == [0, 0, 0]
    agent.act = lambda observation: 1
    assert next(source).actions.tolist() == [1, 1, 1]


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


class Seeds(Counter):
    """Notes the seeds that it is reset with."""

    def __init__(self, seeds: list[int]) -> None:
        super().__init__()
        self.seeds = seeds

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        if seed is not None:
            self.seeds.append(seed)
        return super().reset(seed=seed)


@pytest.mark.parametrize("num_envs", [1, 8])
def test_pipelines_of_neighbouring_seeds_share_no_environments_seed(num_envs):
    given: list[int] = []
    for seed in range(50):
        functions = [lambda: Seeds(given)] * num_envs
        VectorBatchPipeline(functions, CountingAgent(), seed=seed).setup()
        BatchPipeline(env=Seeds(given), agent=CountingAgent(), seed=seed + 50).setup()
    assert len(given) == len(set(given)) == 50 * (num_envs + 1)


def test_the_seeds_of_many_pipelines_stay_far_apart():
    firsts = np.sort([spread_seed(seed) for seed in range(100_000)])
    gaps = np.diff(np.append(firsts, firsts[0] + 2**31))
    assert gaps.min() > 9000
    assert spread_seed(0) == 0
    assert spread_seed(np.int64(20_250_101)) == spread_seed(20_250_101) < 2**31


@pytest.mark.parametrize("seed", [-1, 0.5, "0", True])
def test_what_is_no_seed_is_refused_before_anything_is_made(seed):
    with pytest.raises(ValueError, match="seed must be a whole number of at least 0, got"):
        VectorBatchPipeline([Counter], seed=seed)


def test_a_second_setup_counts_returns_from_the_fresh_start_of_the_environments():
    pipeline = BatchPipeline(env=Counter(length=5), agent=CountingAgent(), window_size=3)
    for begin in (pipeline.setup, pipeline.restart, pipeline.setup):
        begin()
        windows = collect(pipeline, 2)
        assert [window.finished_returns.tolist() for window in windows] == [[], [5.0]]
