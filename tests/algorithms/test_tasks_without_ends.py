"""Every kind of agent, in every pipeline, on a task whose episodes do not end."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tensor_optix import BatchPipeline, LivePipeline, RLOptimizer, VectorBatchPipeline, make_agent
from tests.core.test_episode_ends import ROWS, Endless, scores
from tests.scripted import CountingAgent, Diary


class Feed:
    """A stream without ends that pays 1 a row."""

    def stream(self) -> Any:
        while True:
            yield np.zeros(2, np.float32), 1.0, False, False, {}


PIPELINES = {
    "batch": lambda continuous: BatchPipeline(env=Endless(continuous=continuous), window_size=ROWS),
    "vector": lambda continuous: VectorBatchPipeline(
        env_fns=[lambda: Endless(continuous=continuous)] * 2, window_size=ROWS
    ),
    "live": lambda continuous: LivePipeline(
        Feed(), episode_boundary_fn=LivePipeline.every_n_steps(ROWS)
    ),
}


@pytest.mark.parametrize("pipeline", list(PIPELINES))
@pytest.mark.parametrize("algorithm", ["ppo", "dqn", "sac", None])
def test_every_agent_in_every_pipeline_has_scores_and_a_best_policy(tmp_path, pipeline, algorithm):
    env, diary = Endless(continuous=algorithm == "sac"), Diary()
    agent: Any = CountingAgent()
    if algorithm is not None:
        agent = make_agent(env, algorithm, seed=0, hidden_sizes=(4,))
    source = PIPELINES[pipeline](algorithm == "sac")
    optimizer = RLOptimizer(
        agent, source, max_episodes=9, seed=0, checkpoint_dir=tmp_path, callbacks=[diary]
    )
    optimizer.run()
    assert [score is None for score in scores(diary)] == [True] * 4 + [False] * 5
    heard = [metrics for _, metrics in diary.named("on_episode_end")][4:]
    assert all(math.isfinite(metrics.primary_score) for metrics in heard)
    assert optimizer.best_snapshot.eval_metrics.is_per_step
