"""Held-out windows, with their episodes played to the end."""

from __future__ import annotations

import numpy as np
import pytest

from tensor_optix.core.base_evaluator import MeanReturnEvaluator
from tensor_optix.core.decisions.episode_ends import EpisodesWithoutEnd
from tensor_optix.core.decisions.validation import (
    EpisodeRecord,
    HeldOut,
    Validation,
    first_returns,
    whole_episodes,
)
from tensor_optix.core.types import EpisodeData, EvalMetrics
from tensor_optix.trials.trial import NegatedEvaluator
from tests.scripted import CountingAgent, ScriptedPipeline


def window(dones, finished=(), num_envs=1, number=0) -> EpisodeData:
    """A window whose rows end episodes where `dones` says; `finished` are their (return, length)."""
    rows = len(dones)
    ends = np.flatnonzero(dones)
    return EpisodeData(
        observations=np.full((rows, 1), number, np.float32),
        actions=np.zeros(rows, np.int64),
        rewards=np.ones(rows, np.float32),
        terminated=np.array(dones, bool),
        truncated=np.zeros(rows, bool),
        infos=[],
        episode_id=number,
        num_envs=num_envs,
        end_rows=ends,
        finished_returns=np.array([one[0] for one in finished], np.float64),
        finished_lengths=np.array([one[1] for one in finished], np.int64),
    )


def test_an_episode_that_outlives_the_window_is_played_to_its_end_and_counted():
    windows = iter([window([0, 0]), window([0, 0]), window([0, 1], [(6.0, 6)]), None])
    whole = whole_episodes(windows, 9)
    assert whole.finished_returns.tolist() == [6.0]
    assert whole.finished_lengths.tolist() == [6]
    assert whole.length == 2
    assert next(windows) is None


def test_episodes_that_began_after_the_first_window_are_not_counted():
    """Environment 0 is done with its second episode before environment 1 ends its first."""
    windows = iter(
        [
            window([1, 0, 0, 0], [(1.0, 1)], num_envs=2),
            window([1, 0, 1, 0], [(2.0, 2), (1.0, 1)], num_envs=2),
            window([0, 1, 1, 0], [(9.0, 5), (3.0, 3)], num_envs=2),
        ]
    )
    whole = whole_episodes(windows, 9)
    assert whole.finished_returns.tolist() == [1.0, 2.0, 9.0]


def test_a_window_that_ends_with_its_episodes_is_enough():
    first = window([0, 1], [(2.0, 2)])
    assert whole_episodes(iter([first]), 9) is first


def test_sources_that_do_not_track_episodes_give_one_window():
    first = window([0, 0])
    first.finished_returns = None
    assert whole_episodes(iter([first]), 9) is first


def test_an_episode_without_end_is_given_up_and_said_so(caplog):
    windows = iter([window([1, 0], [(1.0, 1)]), *(window([0, 0]) for _ in range(4))])
    whole = whole_episodes(windows, 3)
    assert whole.finished_returns.tolist() == [1.0]
    assert "validation: 1 of 2 episodes did not end within 6 steps and are not" in caplog.text
    assert len(list(windows)) == 1


def test_the_first_window_survives_the_reuse_of_its_storage():
    storage = window([0, 0], number=7)

    def windows():
        yield storage
        storage.observations[:] = -1.0
        yield window([0, 1], [(4.0, 4)])

    assert whole_episodes(windows(), 9).observations.tolist() == [[7.0], [7.0]]


def test_a_policy_that_gets_stuck_is_scored_by_the_episodes_that_it_finished():
    """Two episodes end, and then none any more: asking for more must come to an end."""

    class Stuck(ScriptedPipeline):
        def episodes(self):
            yield window([1, 1], [(3.0, 1), (5.0, 1)])
            while True:
                yield window([0, 0])

    validation = Validation(Stuck(lambda u, w: 0.0), MeanReturnEvaluator())
    metrics = validation.score_surely(CountingAgent(), 20)
    assert metrics.primary_score == 4.0
    assert metrics.metrics["score_count"] == 2


def held_out(*returns: list[float], confirmed: float | None = None, score: float = 0.0) -> HeldOut:
    sure = None if confirmed is None else EvalMetrics(confirmed, {}, 0)
    return HeldOut(EvalMetrics(score, {}, 0), sure, tuple(np.array(own, float) for own in returns))


def test_policies_are_compared_in_the_episodes_that_both_played():
    """The first environment's second episode, and the second's, are the best policy's alone."""
    best = held_out([10.0, 500.0], [-10.0, 300.0])
    assert held_out([11.0], [-9.0]).gain_over(best) == 1.0


def test_a_gain_is_sure_by_one_standard_error_of_the_differences():
    best = held_out([0.0, 0.0, 0.0, 0.0])
    gain = held_out([1.0, 3.0, 1.0, 3.0]).gain_over(best)
    assert gain == 2.0 - 1.0 / 2.0
    assert held_out([1000.0, -520.0]).gain_over(held_out([0.0, 0.0])) < 0.0


def test_who_is_better_in_one_episode_and_worse_in_none_is_better():
    best = held_out([500.0, 500.0], [500.0, 446.0])
    assert held_out([500.0, 500.0], [500.0, 500.0]).gain_over(best) > 0.0
    assert held_out([500.0, 500.0], [500.0, 446.0]).gain_over(best) == 0.0


def test_without_an_episode_of_both_nothing_is_gained():
    assert held_out([], [5.0]).gain_over(held_out([1.0], [])) < 0.0


def test_scores_that_are_no_mean_are_compared_part_by_part():
    """The first episodes with the first ones; with those that follow, once both have played them."""
    best = held_out(score=10.0, confirmed=2.0)
    assert held_out(score=9.0).gain_over(best) == -1.0
    assert held_out(score=11.0, confirmed=1.0).gain_over(best) == -1.0


def test_the_returns_of_a_score_are_those_of_the_episodes_that_begin_in_its_windows():
    """Environment 0 ends a third episode while the second of environment 1 is waited for."""
    record = EpisodeRecord(
        iter(
            [
                window([1, 1, 0, 0], [(1.0, 1), (2.0, 1)], num_envs=2),
                window([1, 0, 1, 0], [(3.0, 2), (4.0, 1)], num_envs=2),
                window([0, 1, 0, 0], [(5.0, 4)], num_envs=2),
                window([1, 0, 0, 1], [(6.0, 3), (7.0, 3)], num_envs=2),
            ]
        )
    )
    assert whole_episodes(record, 9).finished_returns.tolist() == [1.0, 2.0, 3.0, 5.0]
    assert [own.tolist() for own in record.returns()] == [[1.0, 3.0], [2.0, 5.0]]
    record.begin_part()
    whole_episodes(record, 9)
    assert [own.tolist() for own in record.returns()] == [[1.0, 3.0, 4.0, 6.0], [2.0, 5.0, 7.0]]


def test_a_score_whose_sign_is_turned_is_the_mean_of_returns_all_the_same():
    pipeline = ScriptedPipeline(lambda updates, window: 7.0)
    validation = Validation(pipeline, NegatedEvaluator(MeanReturnEvaluator()))
    assessed = validation.assess(CountingAgent(), lambda held_out: True)
    assert [own.tolist() for own in assessed.returns] == [[-7.0, -7.0]]
    assert assessed.ranking.primary_score == -7.0


# ---- episodes that take too long


def test_of_every_environment_an_episode_may_take_the_steps_that_it_is_given():
    """The first ends in time though windows are short; the second takes one step more."""
    windows = [window([0, 0, 0, 0], num_envs=2), window([1, 0, 0, 0], [(2.0, 3)], num_envs=2)]
    with pytest.raises(EpisodesWithoutEnd, match="1 of 2 episodes did not end within 4 steps"):
        first_returns(iter([*windows, window([1, 1, 0, 0], num_envs=2)]), 2, 4)
    windows.append(window([0, 1, 0, 0], [(9.0, 5)], num_envs=2))
    assert first_returns(iter(windows), 2, 5).tolist() == [2.0, 9.0]


def test_steps_that_a_window_lacks_are_not_counted_as_waited_for():
    late = window([0, 0], number=1)
    late.valid = np.array([True, False])
    assert first_returns(iter([late] * 4 + [window([0, 1], [(3.0, 6)])]), 1, 6).tolist() == [3.0]


def test_a_source_that_runs_dry_is_an_error():
    with pytest.raises(RuntimeError, match="no further window before 2 episodes ended"):
        first_returns(iter([window([0, 1], [(2.0, 2)])]), 2, 100)
