"""The loop with held-out windows, and with a score of the user's own."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tensor_optix.core.decisions.validation import PLAYED_ENVS, PLAYED_ROWS
from tensor_optix.core.types import LoopState
from tensor_optix.pipeline.batch_pipeline import BatchPipeline
from tensor_optix.pipeline.vector_pipeline import VectorBatchPipeline
from tests.core.scripted_loop import EVERY_WINDOW, Setup
from tests.pipeline.counting_env import Counter
from tests.scripted import CountingAgent, ScriptedPipeline


def test_the_baseline_is_evaluated_on_validation_and_its_rise_is_checkpointed(tmp_path):
    """The training score is flat at 100; only validation sees the policy improve from 50 on."""
    validation = ScriptedPipeline(lambda updates, window: 50.0 + updates)
    validation.set_agent = lambda agent: setattr(validation, "agent", setup.agent)
    setup = Setup(
        tmp_path,
        lambda updates, window: 100.0,
        val_pipeline=validation,
        scheduler=EVERY_WINDOW,
        max_episodes=6,
    )
    setup.run()
    best = setup.controller.best_snapshot.eval_metrics
    assert best.primary_score == 55.0
    assert best.generalization_gap == 45.0
    assert setup.agent.updates == 5


class Guessing(CountingAgent):
    """Explores half of the time, by the clock of its acts; its best action is 1."""

    acts = 0

    def act(self, observation: Any) -> int:
        self.acts += 1
        return self.acts % 2

    def act_greedy(self, observations: Any) -> Any:
        return np.ones(len(observations), np.int64)


class Paying(Counter):
    """Pays the action, and a bonus."""

    def __init__(self, bonus: float = 0.0) -> None:
        super().__init__(length=4)
        self.bonus = bonus

    def step(self, action: int) -> Any:
        observation, _, *rest = super().step(action)
        return observation, float(action) + self.bonus, *rest


@pytest.mark.parametrize(
    ("pipeline", "gap"),
    [
        (VectorBatchPipeline([lambda: Paying(0.25)], window_size=8), 1.0),
        (BatchPipeline(env=Paying(0.25), window_size=8), None),
    ],
    ids=["further environments", "the user's environment"],
)
def test_the_gap_compares_best_actions_with_best_actions(tmp_path, pipeline, gap):
    """Training pays a bonus of 1 an episode, and exploring costs 2: the score falls, not the gap."""
    setup = Setup(
        tmp_path,
        None,
        agent=Guessing(),
        pipeline=pipeline,
        val_pipeline=BatchPipeline(env=Paying(), window_size=8),
        max_episodes=3,
    ).run()
    metrics = setup.controller.best_snapshot.eval_metrics
    assert metrics.primary_score == 4.0
    assert metrics.generalization_gap == gap


@pytest.mark.parametrize("is_held_out", [False, True])
def test_a_twin_that_only_plays_has_few_environments_and_short_windows(
    tmp_path, monkeypatch, is_held_out
):
    made = []

    def twin(self, *most):
        made.append(own_twin(self, *most))
        return made[-1]

    own_twin = VectorBatchPipeline.twin
    monkeypatch.setattr(VectorBatchPipeline, "twin", twin)
    many = VectorBatchPipeline(env_id="CartPole-v1", num_envs=12, window_size=40, backend="sync")
    held_out = {}
    if is_held_out:
        held_out["val_pipeline"] = BatchPipeline(env_id="CartPole-v1", window_size=8)
    setup = Setup(tmp_path, None, agent=Guessing(), pipeline=many, max_episodes=1, **held_out)
    setup.run()
    setup.controller.play([setup.agent], 2)
    size = (12, 40) if is_held_out else (PLAYED_ENVS, PLAYED_ROWS)
    assert [(one.env.num_envs, one.window_size) for one in made] == [size]
    few = own_twin(many, 13, 41)
    assert (few.env.num_envs, few.window_size) == (12, 40)
    # Those of functions may be of several kinds: all of them are made.
    made_by_functions = VectorBatchPipeline([lambda: Paying(0.25)] * 3, window_size=8)
    assert own_twin(made_by_functions, 2, 4).env.num_envs == 3


def test_validation_acts_greedily_and_is_never_learned_from(tmp_path):
    seen = []
    validation = ScriptedPipeline(lambda updates, window: 1.0)
    validation.set_agent = lambda agent: (seen.append(agent), setattr(validation, "agent", agent))
    setup = Setup(tmp_path, lambda u, w: 1.0, val_pipeline=validation, max_episodes=3).run()
    assert type(seen[0]).__name__ == "GreedyAgent"
    assert len(setup.agent.learned) == 3
    assert validation.teardowns == validation.setups


def test_a_policy_that_outlives_the_validation_window_is_validated_all_the_same(tmp_path):
    """Both pipelines have windows of 4; the policy with k updates lives 2 + k steps in validation."""

    class Longer(Counter):
        def step(self, action: int) -> Any:
            self.length = 2 + setup.agent.updates
            return super().step(action)

    setup = Setup(
        tmp_path,
        lambda updates, window: 1.0,
        val_pipeline=BatchPipeline(env=Longer(), window_size=4),
        scheduler=EVERY_WINDOW,
        max_episodes=12,
    )
    setup.run()
    assert setup.agent.updates == 11
    assert setup.controller.best_snapshot.eval_metrics.primary_score == 13.0


def test_the_training_pipeline_cannot_be_its_own_validation(tmp_path):
    pipeline = ScriptedPipeline(lambda u, w: 1.0)
    with pytest.raises(ValueError, match="val_pipeline must be another pipeline"):
        Setup(tmp_path, None, pipeline=pipeline, val_pipeline=pipeline)


def test_setups_and_teardowns_of_the_validation_pipeline_are_paired(tmp_path):
    validation = ScriptedPipeline(lambda updates, window: 1.0)
    Setup(tmp_path, lambda u, w: 1.0, val_pipeline=validation, max_episodes=5).run()
    assert validation.setups == validation.teardowns > 1


def test_an_external_score_counts_also_where_the_window_holds_no_finished_episode(tmp_path):
    setup = Setup(
        tmp_path,
        lambda updates, window: math.nan,
        checkpoint_score_fn=lambda agent: -float(abs(agent.updates - 2)),
        scheduler=EVERY_WINDOW,
        max_episodes=6,
    ).run()
    assert setup.agent.updates == 2


def test_an_external_score_decides_which_checkpoint_is_best_and_nothing_else(tmp_path):
    setup = Setup(
        tmp_path,
        lambda updates, window: float(updates),
        checkpoint_score_fn=lambda agent: -float(abs(agent.updates - 2)),
        scheduler=EVERY_WINDOW,
        max_episodes=8,
    ).run()
    assert setup.agent.updates == 2
    assert setup.controller.state is LoopState.ACTIVE


def test_a_new_best_is_confirmed_in_further_episodes_before_it_is_crowned(tmp_path):
    """The first episodes after each restart are lucky once; those that follow tell the truth."""
    asked: list[tuple[int, int]] = []

    class Luck(ScriptedPipeline):
        def window(self, window: int) -> Any:
            updates = setup.agent.updates
            asked.append((updates, window))
            self.score_of = lambda u, w: (
                1000.0 if (updates, window) == (2, 0) else -500.0 * (updates == 2) - 10.0 * updates
            )
            return super().window(window)

    validation = Luck(lambda updates, window: 0.0)
    validation.set_agent = lambda agent: setattr(validation, "agent", setup.agent)
    setup = Setup(
        tmp_path,
        lambda updates, window: 1.0,
        val_pipeline=validation,
        scheduler=EVERY_WINDOW,
        max_episodes=4,
    )
    setup.run()
    # 1000 and -480 pool to 260 +- 520: nothing to crown a policy for.
    assert setup.controller.best_snapshot.eval_metrics.primary_score < 1000.0
    assert setup.agent.updates != 2
    assert (2, 1) in asked
    # A policy that does not look like the best is not asked twice.
    assert (0, 1) in asked
    assert [window for updates, window in asked if updates == 3] == [0]
