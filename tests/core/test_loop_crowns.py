"""Which policy is the best where held-out episodes say so: the loop over environments with luck."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from tensor_optix import RLOptimizer, VectorBatchPipeline
from tensor_optix.core.base_agent import BaseAgent
from tensor_optix.core.base_evaluator import BaseEvaluator
from tensor_optix.core.types import EvalMetrics, HyperparamSet
from tests.core.scripted_loop import EVERY_WINDOW, Setup
from tests.scripted import CountingAgent, ScriptedPipeline

WINDOWS = 30
EPISODE = 5


class Lucky(gymnasium.Env):
    """Pays what the action says, and an amount that is drawn once an episode."""

    observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1e6, 1e6, (1,), np.float32)
    spread = 10.0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        self.luck = self.spread * self.np_random.standard_normal()
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        reward = (float(action[0]) + self.luck) / EPISODE
        return np.zeros(1, np.float32), reward, self.steps == EPISODE, False, {}


class Rising(BaseAgent):
    """Its only weight is its action, which every `learn` makes a little better."""

    def __init__(self) -> None:
        self.action = 0.0

    def act(self, observation: Any) -> np.ndarray:
        return np.full(1, self.action, np.float32)

    def learn(self, episode_data: Any) -> dict[str, Any]:
        self.action += 0.1
        return {}

    def get_hyperparams(self) -> HyperparamSet:
        return HyperparamSet({})

    def set_hyperparams(self, hyperparams: HyperparamSet) -> None:
        pass

    def save_weights(self, path: Any) -> None:
        Path(path).mkdir(parents=True, exist_ok=True)
        (Path(path) / "action.json").write_text(json.dumps(self.action))

    def load_weights(self, path: Any) -> None:
        self.action = json.loads((Path(path) / "action.json").read_text())


class BestReturn(BaseEvaluator):
    """A score that is no mean of returns."""

    def score(self, episode_data: Any, train_diagnostics: dict[str, Any]) -> EvalMetrics:
        returns = episode_data.finished_returns
        best = float(returns.max()) if len(returns) else np.nan
        return EvalMetrics(best, {}, episode_data.episode_id)


def pipeline() -> VectorBatchPipeline:
    return VectorBatchPipeline([Lucky] * 4, window_size=EPISODE)


@pytest.mark.parametrize("seed", [0, 1, 2, 3, None])
@pytest.mark.parametrize("evaluator", [None, BestReturn()])
def test_every_rise_in_the_same_episodes_is_found_however_lucky_they_are(tmp_path, seed, evaluator):
    """Also where nobody gave the held-out environments a seed, and where the score is no mean."""
    agent = Rising()
    RLOptimizer(
        agent,
        pipeline(),
        val_pipeline=pipeline(),
        evaluator=evaluator,
        seed=seed,
        max_episodes=WINDOWS,
        checkpoint_dir=tmp_path,
    ).run()
    assert agent.action == pytest.approx(0.1 * (WINDOWS - 1))


class Falling(Rising):
    """Every `learn` makes its action a little worse."""

    def learn(self, episode_data: Any) -> dict[str, Any]:
        self.action -= 0.1
        return {}


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 4, 5])
def test_none_is_crowned_for_lucky_first_episodes_that_the_best_had_too(tmp_path, seed):
    """The best played further episodes, less lucky ones: the first ones alone would look better."""
    agent = Falling()
    RLOptimizer(
        agent,
        pipeline(),
        val_pipeline=pipeline(),
        seed=seed,
        max_episodes=WINDOWS,
        checkpoint_dir=tmp_path,
    ).run()
    assert agent.action == 0.0


class Recording(CountingAgent):
    """Learns from what it recorded in `act`, and counts the windows where that is something else."""

    def __init__(self) -> None:
        super().__init__()
        self.acted: list[float] = []
        self.strange = 0

    def act(self, observation: Any) -> int:
        self.acted.append(float(observation[0]))
        return 0

    def learn(self, episode_data: Any) -> dict[str, Any]:
        seen = [float(row[0]) for row in episode_data.observations]
        self.strange += self.acted[-len(seen) :] != seen
        return super().learn(episode_data)


class Acting(ScriptedPipeline):
    """Lets the agent act once a window, on a number of the pipeline's own."""

    def __init__(self, first: float) -> None:
        super().__init__(lambda updates, window: 1.0)
        self.observed = first

    def window(self, window: int) -> Any:
        self.observed += 1.0
        self.agent.act(np.full(1, self.observed))
        episode = super().window(window)
        episode.observations[:] = self.observed
        return episode


@pytest.mark.parametrize(
    "options",
    [
        {"val_pipeline": Acting(1000.0)},
        {"checkpoint_score_fn": lambda agent: float(agent.act(np.full(1, -1.0)))},
    ],
    ids=["validation", "external score"],
)
def test_nobody_acts_between_a_window_and_its_learn(tmp_path, options):
    """The weights that collect a window are judged before they collect it."""
    setup = Setup(
        tmp_path,
        None,
        agent=Recording(),
        pipeline=Acting(0.0),
        scheduler=EVERY_WINDOW,
        max_episodes=5,
        **options,
    ).run()
    assert len(setup.agent.acted) > 5
    assert setup.agent.strange == 0


class LearningWhileCollecting(CountingAgent):
    """Off-policy: an update for every window that is being collected, none in `learn`."""

    is_on_policy = False

    def act(self, observation: Any) -> int:
        self.updates += 1
        return 0

    def act_greedy(self, observations: Any) -> np.ndarray:
        return np.zeros(len(observations), np.int64)

    def learn(self, episode_data: Any) -> dict[str, Any]:
        return {}


def test_the_best_policy_is_the_one_that_was_validated_also_where_collecting_changes_it(tmp_path):
    """With `n` updates it reaches `-|n - 3|`; the window that the best collects makes it 4."""
    agent = LearningWhileCollecting()
    validation = ScriptedPipeline(lambda updates, window: -abs(updates - 3.0))
    validation.set_agent = lambda greedy: setattr(validation, "agent", agent)
    setup = Setup(
        tmp_path,
        None,
        agent=agent,
        pipeline=Acting(0.0),
        val_pipeline=validation,
        scheduler=EVERY_WINDOW,
        max_episodes=7,
    ).run()
    assert setup.controller.best_snapshot.eval_metrics.primary_score == 0.0
    assert setup.agent.updates == 3


def test_a_policy_whose_window_never_comes_leaves_no_files(tmp_path):
    class Ending(ScriptedPipeline):
        def episodes(self):
            yield self.window(0)

    validation = ScriptedPipeline(lambda updates, window: 1.0)
    pipeline = Ending(lambda updates, window: 1.0)
    setup = Setup(tmp_path, None, pipeline=pipeline, val_pipeline=validation).run()
    assert setup.diary.events[-1].reason == "the data source ended"
    assert not [path for path in tmp_path.iterdir() if "staging" in path.name]
