"""A run with an agent of the user's own in an environment whose spaces are Dicts, from start to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, Text, Tuple

from tensor_optix import BatchPipeline, HyperparamSet, RLOptimizer, make_agent
from tensor_optix.core.observation_layout import seen_space
from tests.pipeline.any_space_env import LENGTH, BufferedEnv, SampledEnv, Words

VECTOR = Box(-1, 1, (2,), np.float32)
SPACE_OF = {"ppo": Discrete(3), "dqn": Discrete(3), "sac": VECTOR}


class Table:
    """Six methods: picks what paid for a target before, else what was not tried."""

    def __init__(self) -> None:
        self.paid: dict[int, int] = {}
        self.tried: dict[int, int] = {}

    def act(self, observation: Any) -> dict[str, Any]:
        target = observation["target"]
        pick = self.paid.get(target, self.tried.get(target, 0))
        return {"pick": pick, "strength": observation["past"].astype(np.float32)}

    def learn(self, episode_data: Any) -> dict[str, float]:
        for row, observation in enumerate(episode_data.observations):
            target, pick = observation["target"], episode_data.actions[row]["pick"]
            if episode_data.rewards[row]:
                self.paid[target] = pick
            else:
                self.tried[target] = (pick + 1) % 3
        return {"known": len(self.paid)}

    def get_hyperparams(self) -> HyperparamSet:
        return HyperparamSet({})

    def set_hyperparams(self, hyperparams: HyperparamSet) -> None:
        pass

    def save_weights(self, path: Any) -> None:
        Path(path).write_text(json.dumps([list(self.paid.items()), list(self.tried.items())]))

    def load_weights(self, path: Any) -> None:
        self.paid, self.tried = (dict(pairs) for pairs in json.loads(Path(path).read_text()))


@pytest.mark.parametrize("is_validated", [False, True])
def test_a_run_learns_scores_and_hands_back_the_best_policy(tmp_path, is_validated):
    agent = Table()
    held_out = BatchPipeline(BufferedEnv(), window_size=6) if is_validated else None
    run = RLOptimizer(
        agent,
        BatchPipeline(BufferedEnv(), window_size=6),
        val_pipeline=held_out,
        max_episodes=30,
        run_dir=tmp_path,
        seed=0,
    )
    run.run()
    best = run.best_snapshot
    assert run.agent is agent
    assert best is not None
    assert best.eval_metrics.primary_score == LENGTH
    shown = [{"target": target, "past": np.zeros(2)} for target in range(3)]
    assert [agent.act(observation)["pick"] for observation in shown] == [0, 1, 2]
    scores = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    # Of the targets 0, 1, 2, 0 it picks 0 at first: the two steps at target 0 pay.
    assert scores[0]["score"] == 2.0


@pytest.mark.parametrize("algorithm", list(SPACE_OF))
def test_ready_made_agents_refuse_what_they_cannot_take(framework, algorithm):
    actions = SPACE_OF[algorithm]
    agent = make_agent(SampledEnv(VECTOR, actions), algorithm, framework.name, hidden_sizes=(8,))
    env = SampledEnv(BufferedEnv.observation_space, actions)
    with pytest.raises(
        ValueError, match=r"shape \(5,\) and dtype float32, a row of target, past: "
    ):
        BatchPipeline(env, agent).setup()
    make_agent(env, algorithm, framework.name).check_spaces(
        seen_space(env.observation_space), actions
    )
    for observations in (Text(3), Words()):
        env = SampledEnv(observations, actions)
        with pytest.raises(
            ValueError, match=r"^the .* takes arrays of numbers, got the observation space .*own$"
        ):
            BatchPipeline(env, agent).setup()
        with pytest.raises(ValueError, match=r"^ready-made networks take observations of numbers"):
            make_agent(env, algorithm, framework.name)
        assert env.got == []
    env = SampledEnv(VECTOR, Tuple((Discrete(2), Discrete(3))))
    with pytest.raises(ValueError, match=r"^this agent.* needs .*action space.*, got Tuple"):
        BatchPipeline(env, agent).setup()
    with pytest.raises(ValueError, match=r" takes .* actions, got Tuple"):
        make_agent(env, algorithm, framework.name)
    assert env.got == []
