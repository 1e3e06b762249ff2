"""The loop, driven by scores that are known beforehand."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest

from tensor_optix.core.base_evaluator import MeanReturnEvaluator
from tensor_optix.core.callbacks import LoopCallback
from tensor_optix.core.types import EpisodeData, LoopState
from tests.core.scripted_loop import EVERY_WINDOW, Setup, rising_then_falling
from tests.scripted import CountingAgent, OffPolicyAgent, ScriptedOptimizer, ScriptedPipeline


def test_the_saved_weights_are_those_that_made_the_score(tmp_path):
    setup = Setup(tmp_path, rising_then_falling, max_episodes=9, scheduler=EVERY_WINDOW).run()
    assert setup.agent.updates == 5
    assert setup.controller.best_snapshot.eval_metrics.primary_score == 100.0


def test_run_restores_the_hyperparameters_of_the_best_policy_too(tmp_path):
    setup = Setup(
        tmp_path,
        rising_then_falling,
        max_episodes=9,
        optimizer=ScriptedOptimizer(),
        scheduler=EVERY_WINDOW,
    ).run()
    # The best window, number 5, was collected after suggestions in windows 1 and 3: a change is first
    # learned with in the window after it, and first shows in the score of the one after that.
    assert setup.agent.params["learning_rate"] == pytest.approx(0.1 * 3)


def test_exactly_max_episodes_windows_are_collected_and_learned(tmp_path):
    setup = Setup(tmp_path, lambda updates, window: 0.0, max_episodes=5).run()
    assert setup.pipeline.collected == 5
    assert len(setup.agent.learned) == 5


@pytest.mark.parametrize("optimizer", [None, ScriptedOptimizer(), ScriptedOptimizer(probing=True)])
def test_a_constant_score_stops_at_the_documented_evaluation(tmp_path, optimizer):
    setup = Setup(tmp_path, lambda updates, window: 1.0, optimizer=optimizer).run()
    assert setup.diary.named("on_dormant") == [1300]
    assert setup.pipeline.collected == 1301
    assert setup.controller.state is LoopState.DORMANT


def test_a_collapse_without_rollback_still_comes_to_an_end(tmp_path):
    setup = Setup(
        tmp_path,
        lambda updates, window: 500.0 if window < 20 else 9.0,
        scheduler={"max_interval_episodes": 1, "dormant_threshold": 20},
        max_episodes=200,
    ).run()
    assert setup.diary.named("on_dormant")[0] <= 20 + 5 + 20
    assert "degradation" in setup.diary.kinds()


def test_a_collapse_with_rollback_reloads_the_best_weights_once_confirmed(tmp_path):
    """The policy falls apart from its 10th update on; the best ones before scored 500."""
    setup = Setup(
        tmp_path,
        lambda updates, window: 500.0 + updates if updates < 10 else 9.0,
        scheduler={"max_interval_episodes": 1, "noise_k": 0.0},
        rollback_on_degradation=True,
        max_episodes=14,
    ).run()
    kinds = setup.diary.kinds()
    assert kinds.index("degradation") < kinds.index("rollback")
    collected = [report.score for report in setup.diary.windows]
    assert collected[10:12] == [9.0, 9.0]
    assert collected[12] >= 500.0


def collapse(updates: int, window: int) -> float:
    return 500.0 if window < 10 else 9.0


def test_off_policy_agents_are_not_checked_for_degradation_unless_rollback_was_asked_for(tmp_path):
    setup = Setup(
        tmp_path, collapse, agent=OffPolicyAgent(), scheduler=EVERY_WINDOW, max_episodes=20
    ).run()
    assert not setup.diary.named("on_degradation")


@pytest.mark.parametrize("agent", [CountingAgent, OffPolicyAgent])
def test_a_collapse_is_rolled_back_once_it_is_confirmed_where_that_was_asked_for(tmp_path, agent):
    """Two evaluations of it confirm a fall: the learner is then that of the best policy again."""
    setup = Setup(
        tmp_path,
        collapse,
        agent=agent(),
        scheduler=EVERY_WINDOW,
        rollback_on_degradation=True,
        max_episodes=12,
    )
    seen = []
    setup.agent.load_weights = lambda path: seen.append(setup.agent.updates)
    setup.run()
    assert setup.diary.named("on_degradation") == [11]
    assert setup.diary.kinds().count("rollback") == 1
    assert seen[0] == 12


def test_min_episodes_before_degradation_is_respected(tmp_path):
    setup = Setup(
        tmp_path,
        lambda updates, window: 500.0 if window < 3 else 9.0,
        scheduler={"max_interval_episodes": 1, "min_episodes_before_degradation": 1000},
        max_episodes=15,
    ).run()
    assert not setup.diary.named("on_degradation")


@pytest.mark.parametrize("first", [math.nan, math.inf])
def test_a_score_that_is_not_finite_is_never_the_best(tmp_path, first):
    setup = Setup(
        tmp_path,
        lambda updates, window: first if window == 0 else float(window),
        scheduler=EVERY_WINDOW,
        max_episodes=4,
    ).run()
    assert setup.controller.best_snapshot.eval_metrics.primary_score == 3.0
    assert setup.diary.named("on_episode_end")[0] == (0, None)


def test_windows_without_a_finished_episode_are_no_evidence(tmp_path, caplog):
    """The best score stays, the counters stay, and after many such windows the user is told why."""

    class Endless(ScriptedPipeline):
        def window(self, window: int) -> EpisodeData:
            episode = super().window(window)
            episode.terminated = [window == 0]
            return episode

    pipeline = Endless(lambda updates, window: 7.0)
    setup = Setup(tmp_path, None, pipeline=pipeline, scheduler=EVERY_WINDOW, max_episodes=60)
    with caplog.at_level(logging.WARNING):
        setup.run()
    assert setup.controller.best_snapshot.eval_metrics.primary_score == 7.0
    assert setup.scheduler.consecutive_non_improvements == 0
    assert sum("primary_score_fn" in record.message for record in caplog.records) == 1


def test_a_score_of_another_kind_is_not_corrected_by_the_spread_of_the_returns(tmp_path):
    class Episodes(ScriptedPipeline):
        def window(self, window: int) -> EpisodeData:
            episode = super().window(window)
            episode.finished_returns = np.array([0.0, 1.0 + 200.0 * window])
            episode.finished_lengths = np.ones(2, np.int64)
            return episode

    setup = Setup(
        tmp_path,
        None,
        pipeline=Episodes(lambda u, w: 0.0),
        evaluator=MeanReturnEvaluator(lambda episode, diagnostics: 0.1 * episode.episode_id),
        scheduler=EVERY_WINDOW,
        max_episodes=5,
    ).run()
    assert setup.agent.updates == 4


def test_a_probe_window_is_never_the_best(tmp_path):
    optimizer = ScriptedOptimizer()

    def score_of(updates: int, window: int) -> float:
        optimizer.probing = window == 3
        return 1000.0 if window == 3 else float(window)

    setup = Setup(
        tmp_path, score_of, optimizer=optimizer, scheduler=EVERY_WINDOW, max_episodes=6
    ).run()
    assert setup.controller.best_snapshot.eval_metrics.primary_score == 5.0


def test_a_lucky_episode_does_not_crown_a_policy(tmp_path):
    """One window is a single lucky episode of 110; a later one shows 100 in each of 30 episodes."""

    class Episodes(ScriptedPipeline):
        def window(self, window: int) -> EpisodeData:
            episode = super().window(window)
            returns = {0: [20.0, 80.0] * 5, 1: [110.0], 2: [100.0] * 30}[window]
            episode.finished_returns = np.asarray(returns)
            episode.finished_lengths = np.ones(len(returns), np.int64)
            return episode

    pipeline = Episodes(lambda updates, window: 0.0)
    setup = Setup(tmp_path, None, pipeline=pipeline, scheduler=EVERY_WINDOW, max_episodes=3).run()
    assert setup.agent.updates == 2


def test_a_callback_that_claims_dormancy_restarts_the_scheduler(tmp_path):
    class Claim(LoopCallback):
        claims = 0

        def on_dormant(self, episode_id: int) -> bool:
            self.claims += 1
            return self.claims < 3

    claim = Claim()
    thresholds = {"max_interval_episodes": 1, "plateau_threshold": 2, "dormant_threshold": 4}
    Setup(tmp_path, lambda u, w: 1.0, callbacks=[claim], scheduler=thresholds).run()
    assert claim.claims == 3


def test_hooks_are_called_when_the_contract_says(tmp_path):
    thresholds = {"max_interval_episodes": 1, "plateau_threshold": 2, "dormant_threshold": 4}
    setup = Setup(
        tmp_path,
        lambda updates, window: float(min(window, 2)),
        optimizer=ScriptedOptimizer(),
        scheduler=thresholds,
    ).run()
    diary = setup.diary
    hooks = [name for name, _ in diary.calls]
    assert hooks[0] == "on_loop_start"
    assert hooks[-1] == "on_loop_stop"
    assert [episode_id for episode_id, _ in diary.named("on_episode_end")] == list(range(7))
    assert len(diary.named("on_improvement")) == 2
    assert [episode_id for episode_id, _ in diary.named("on_plateau")] == [4, 5]
    assert diary.named("on_dormant") == [6]
    assert len(diary.named("on_hyperparam_update")) == 6


def test_the_optimizer_hears_of_improvements_and_plateaus(tmp_path):
    optimizer = ScriptedOptimizer()
    Setup(
        tmp_path,
        lambda updates, window: float(min(window, 2)),
        optimizer=optimizer,
        scheduler={"max_interval_episodes": 1, "plateau_threshold": 1},
        max_episodes=4,
    ).run()
    assert optimizer.calls == ["improvement", "suggest", "improvement", "plateau", "suggest"]


def test_the_verbose_line_has_the_documented_form(tmp_path, capsys):
    Setup(
        tmp_path,
        lambda updates, window: [20.0, 30.0, 30.0, 30.0][window],
        verbose=True,
        max_episodes=4,
        score_smoothing=2,
    ).run()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "  [loop] ep=   0  raw=   20.0  smoothed=   20.0  state=ACTIVE  interval=1"
    assert lines[1] == (
        "  [loop] ep=   1  raw=   30.0  smoothed=   25.0  state=ACTIVE  interval=1"
        "  ← improvement detected, reset"
    )


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"score_smoothing": 0}, "score_smoothing must be at least 1, got 0"),
        ({"max_episodes": 0}, "max_episodes must be at least 1 or None, got 0"),
        ({"improvement_margin": -1.0}, "improvement_margin must not be negative, got -1.0"),
        ({"target_score": math.nan}, "target_score must be a finite number or None, got nan"),
        ({"finalists": -1}, "finalists must not be negative, got -1"),
    ],
)
def test_numbers_out_of_range_are_refused_at_once(tmp_path, option, message):
    with pytest.raises(ValueError, match=message):
        Setup(tmp_path, lambda u, w: 0.0, **option)


def test_a_window_without_a_score_is_made_up_for_by_the_next_that_has_one(tmp_path):
    """Episodes end in every third window only, and every second window is due."""
    setup = Setup(
        tmp_path,
        lambda updates, window: 1.0 if window % 3 == 0 else math.nan,
        scheduler={"base_interval": 2, "max_interval_episodes": 2},
        max_episodes=13,
    ).run()
    scored = [report.episode_id for report in setup.diary.windows if report.score is not None]
    assert scored == [0, 3, 6, 9, 12]


def test_a_fall_while_the_agent_explores_is_not_rolled_back_and_ends_nothing(tmp_path):
    class Exploring(OffPolicyAgent):
        is_exploring = True

    setup = Setup(
        tmp_path,
        collapse,
        agent=Exploring(),
        scheduler=EVERY_WINDOW | {"dormant_threshold": 8},
        rollback_on_degradation=True,
        max_episodes=60,
    ).run()
    assert "rollback" not in setup.diary.kinds()
    assert not setup.diary.named("on_dormant")


def test_after_three_rollbacks_in_a_row_a_collapse_is_left_alone(tmp_path):
    setup = Setup(
        tmp_path,
        collapse,
        scheduler=EVERY_WINDOW | {"dormant_threshold": 100},
        rollback_on_degradation=True,
        max_episodes=60,
    ).run()
    assert setup.diary.kinds().count("rollback") == 3
    assert setup.diary.kinds().count("degradation") > 3


@pytest.mark.parametrize("returned", [None, 0.5])
def test_learn_returns_a_dict_or_nothing(tmp_path, returned):
    class Terse(CountingAgent):
        def learn(self, episode_data):
            super().learn(episode_data)
            return returned

    setup = Setup(tmp_path, rising_then_falling, agent=Terse(), max_episodes=2)
    if returned is None:
        assert [report.diagnostics for report in setup.run().diary.windows] == [{}, {}]
    else:
        with pytest.raises(TypeError, match=r"learn must return a dict .*, or None, got float"):
            setup.run()
