"""The rules of the backoff scheduler with explicit thresholds."""

import inspect
import json
import math

import numpy as np
import pytest

from tensor_optix.core.backoff_scheduler import (
    MOST_SCORES,
    AutoScheduler,
    BackoffScheduler,
    Judgement,
)
from tensor_optix.core.checkpoints.saved_state import read_state, write_state
from tensor_optix.core.types import LoopState


def dormant_after(scheduler, scores):
    """Return the index of the score that made it DORMANT, or None."""
    for index, score in enumerate(scores):
        scheduler.decide(float(score))
        if scheduler.current_state is LoopState.DORMANT:
            return index
    return None


def flat_run(scheduler, windows=5000, score=5.0):
    """Return the windows evaluated until DORMANT."""
    scheduler.record_improvement(score)
    evaluated = []
    for window in range(1, windows):
        if scheduler.should_adapt(window):
            evaluated.append(window)
            scheduler.decide(float(score))
        if scheduler.current_state is LoopState.DORMANT:
            break
    return evaluated


def test_the_signature_is_the_documented_one():
    parameters = inspect.signature(BackoffScheduler).parameters
    assert {name: p.default for name, p in parameters.items()} == {
        "base_interval": 1,
        "backoff_factor": 2.0,
        "max_interval_episodes": 100,
        "plateau_threshold": 5,
        "dormant_threshold": 20,
        "degradation_threshold": 0.95,
        "min_degradation_drop": 1e-4,
        "min_episodes_before_dormant": 0,
        "min_episodes_before_degradation": 5,
        "noise_k": 2.0,
        "score_window": 20,
        "trend_window": 8,
    }


@pytest.mark.parametrize("score", [5.0, 0.0, -0.1, 1e9])
def test_a_flat_score_is_dormant_at_window_1300_with_the_defaults(score):
    expected = [1, 2, 4, 8, 16, 32, 64, *range(100, 1301, 100)]
    assert flat_run(BackoffScheduler(), score=score) == expected


def test_the_interval_grows_to_its_maximum_and_improvement_resets_it():
    scheduler = BackoffScheduler(base_interval=2, backoff_factor=1.6, max_interval_episodes=9)
    seen = []
    for _ in range(6):
        scheduler.record_non_improvement()
        seen.append(scheduler.current_interval)
    assert seen == [3, 4, 6, 9, 9, 9]
    assert scheduler.consecutive_non_improvements == 6
    assert scheduler.current_state is LoopState.COOLING
    scheduler.record_improvement(1.0)
    assert scheduler.current_interval == 2
    assert scheduler.consecutive_non_improvements == 0
    assert scheduler.current_state is LoopState.ACTIVE
    assert scheduler.total_episodes == 7


def test_cooling_and_dormant_come_at_their_thresholds():
    scheduler = BackoffScheduler(plateau_threshold=2, dormant_threshold=4)
    states = []
    for _ in range(4):
        scheduler.record_non_improvement()
        states.append(scheduler.current_state.value)
    assert states == ["ACTIVE", "COOLING", "COOLING", "DORMANT"]


def test_dormant_waits_for_its_minimum_of_evaluations():
    scheduler = BackoffScheduler(
        dormant_threshold=3, plateau_threshold=9, min_episodes_before_dormant=6
    )
    scheduler.record_improvement(1.0)
    states = []
    for _ in range(5):
        scheduler.record_non_improvement()
        states.append(scheduler.current_state.value)
    assert states == ["ACTIVE", "ACTIVE", "COOLING", "COOLING", "DORMANT"]


def test_window_zero_is_always_evaluated_and_others_at_multiples_of_the_interval():
    scheduler = BackoffScheduler(base_interval=3)
    assert [w for w in range(10) if scheduler.should_adapt(w)] == [0, 3, 6, 9]


@pytest.mark.parametrize(
    ("best", "threshold", "limit"),
    [(100.0, 0.95, 95.0), (-100.0, 0.95, -105.0), (0.0, 0.95, -1e-4), (100.0, 0.5, 50.0)],
)
def test_degradation_is_a_strict_fall_below_a_share_of_the_best(best, threshold, limit):
    scheduler = BackoffScheduler(degradation_threshold=threshold, min_episodes_before_degradation=0)
    assert not scheduler.check_degradation(-1e9)
    scheduler.record_improvement(best)
    assert not scheduler.check_degradation(limit + 1e-9)
    assert scheduler.check_degradation(limit - 1e-6)
    assert not scheduler.check_degradation(math.nan)


def test_degradation_is_not_looked_for_before_its_minimum_of_evaluations():
    scheduler = BackoffScheduler(min_episodes_before_degradation=4)
    scheduler.record_improvement(100.0)
    seen = []
    for _ in range(4):
        seen.append(scheduler.check_degradation(0.0))
        scheduler.record_non_improvement()
    assert seen == [False, False, False, True]


def test_a_degradation_makes_the_state_active_and_counts_no_evaluation():
    scheduler = BackoffScheduler()
    scheduler.record_improvement(100.0)
    for _ in range(6):
        scheduler.record_non_improvement()
    scheduler.record_degradation()
    assert scheduler.current_state is LoopState.ACTIVE
    assert scheduler.current_interval == 64
    assert (scheduler.total_episodes, scheduler.consecutive_non_improvements) == (7, 6)


def test_a_suspicion_sets_watchdog_until_the_next_evaluation_which_comes_at_once():
    scheduler = BackoffScheduler(base_interval=10, min_episodes_before_degradation=0)
    scheduler.record_improvement(100.0)
    assert scheduler.decide(1.0) is Judgement.SUSPICION
    assert scheduler.current_state is LoopState.WATCHDOG
    assert scheduler.current_interval == 10
    assert scheduler.should_adapt(11)
    scheduler.record_non_improvement()
    assert scheduler.current_state is LoopState.ACTIVE
    assert not scheduler.should_adapt(11)
    assert scheduler.total_episodes == 3


def test_a_second_fall_on_end_is_a_degradation_and_a_third_counts_as_no_improvement():
    scheduler = BackoffScheduler(min_episodes_before_degradation=0, noise_k=0.0)
    scheduler.record_improvement(100.0)
    falls = [(scheduler.decide(1.0), scheduler.current_state.name) for _ in range(4)]
    assert falls == [
        (Judgement.SUSPICION, "WATCHDOG"),
        (Judgement.DEGRADATION, "ACTIVE"),
        (Judgement.SUSPICION, "WATCHDOG"),
        (Judgement.DEGRADATION, "ACTIVE"),
    ]
    assert scheduler.consecutive_non_improvements == 3
    assert scheduler.total_episodes == 4


def test_the_smoothed_score_is_compared_and_the_raw_one_is_kept():
    scheduler = BackoffScheduler()
    assert scheduler.decide(50.0, 10.0) is Judgement.IMPROVEMENT
    assert scheduler.best_score == 10.0
    assert scheduler.decide(99.0, 9.0) is Judgement.NON_IMPROVEMENT
    assert scheduler.decide(9.0, 99.0, improvement_margin=100.0) is Judgement.NON_IMPROVEMENT
    assert scheduler.noise() > 10.0


def test_what_may_not_rest_or_degrade_does_not():
    scheduler = BackoffScheduler(min_episodes_before_degradation=0, dormant_threshold=2)
    scheduler.record_improvement(100.0)
    for _ in range(5):
        assert scheduler.decide(1.0, may_rest=False, may_degrade=False) is Judgement.NON_IMPROVEMENT
    assert scheduler.current_state is LoopState.COOLING


def test_a_restart_resets_counter_interval_and_state_and_keeps_the_best():
    scheduler = BackoffScheduler(dormant_threshold=4)
    scheduler.record_improvement(100.0)
    for _ in range(4):
        scheduler.record_non_improvement()
    assert scheduler.current_state is LoopState.DORMANT
    scheduler.record_restart()
    assert scheduler.current_state is LoopState.ACTIVE
    assert (scheduler.current_interval, scheduler.consecutive_non_improvements) == (1, 0)
    assert scheduler.best_score == 100.0
    assert not scheduler.is_improvement(99.0)


def test_the_best_score_never_falls():
    scheduler = BackoffScheduler()
    assert scheduler.best_score is None
    for score in (3.0, 9.0, 4.0, math.inf, math.nan, 8.0):
        scheduler.record_improvement(score)
    assert scheduler.best_score == 9.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_never_best_and_raises_nothing(bad):
    scheduler = BackoffScheduler()
    scheduler.record_score(bad)
    scheduler.record_improvement(bad)
    assert scheduler.best_score is None
    assert not scheduler.is_improvement(bad)
    assert scheduler.is_improvement(-1e6)
    scheduler.record_improvement(5.0)
    scheduler.record_improvement(bad)
    assert scheduler.best_score == 5.0
    assert math.isfinite(scheduler.margin())
    assert not scheduler.is_improving()


def test_the_margin_is_the_larger_of_the_fixed_one_and_the_noise():
    scheduler = BackoffScheduler(noise_k=3.0, score_window=200)
    for score in np.random.default_rng(0).normal(0.0, 2.0, 200):
        scheduler.record_score(score)
    assert scheduler.margin() == pytest.approx(6.0, rel=0.2)
    assert scheduler.margin(50.0) == 50.0


def test_a_gain_within_the_margin_is_no_improvement():
    scheduler = BackoffScheduler()
    for score in np.random.default_rng(1).normal(0.0, 1.0, 20):
        scheduler.record_score(score)
    scheduler.record_improvement(2.0)
    scheduler.record_score(2.0)
    assert not scheduler.is_improvement(2.0 + 0.9 * scheduler.margin())
    assert scheduler.is_improvement(2.0 + 1.1 * scheduler.margin())
    assert not scheduler.is_improvement(2.0 + 1.1 * scheduler.margin(), improvement_margin=99.0)


def test_a_score_recorded_before_its_decision_enters_the_noise_once():
    one, two = BackoffScheduler(), BackoffScheduler()
    for score in np.random.default_rng(2).normal(size=20):
        one.record_score(score)
        one.record_improvement(score)
        two.record_improvement(score)
    assert one.margin() == two.margin() > 0.0


@pytest.mark.parametrize("factor", [1.0, 2.0])
@pytest.mark.parametrize(("slope", "offset"), [(1.0, 0.0), (1e-3, -5.0), (10.0, 1e4), (3.0, -1e4)])
def test_a_steady_rise_is_never_dormant(factor, slope, offset):
    for seed in range(3):
        noise = np.random.default_rng(seed).normal(0.0, 0.01 * 500, 500)
        for rise in (np.arange(500), np.arange(500) + noise):
            scheduler = BackoffScheduler(backoff_factor=factor)
            assert dormant_after(scheduler, offset + slope * rise) is None


STATIONARY = {
    "two values": lambda rng: rng.choice([300.0, 500.0], 200),
    "normal": lambda rng: rng.normal(200.0, 30.0, 200),
}


@pytest.mark.parametrize("kind", STATIONARY)
def test_stationary_noise_is_dormant_within_twice_the_noiseless_count(kind):
    stops = []
    for seed in range(100):
        scheduler = BackoffScheduler(backoff_factor=1.0, plateau_threshold=5, dormant_threshold=20)
        stop = dormant_after(scheduler, STATIONARY[kind](np.random.default_rng(seed)))
        stops.append(math.inf if stop is None else stop)
    assert np.mean(np.array(stops) <= 40) >= 0.95


def test_a_collapse_is_dormant_within_plateau_plus_dormant_evaluations():
    scores = [500.0] * 20 + [9.0] * 60
    stop = dormant_after(BackoffScheduler(backoff_factor=1.0, dormant_threshold=30), scores)
    assert stop is not None
    assert stop - 20 <= 35


@pytest.mark.parametrize("also_counted", [False, True])
def test_a_loop_that_records_a_degradation_at_every_evaluation_still_stops(also_counted):
    scheduler = BackoffScheduler()
    scheduler.record_improvement(500.0)
    count = 0
    while scheduler.current_state is not LoopState.DORMANT and count < 40:
        count += 1
        scheduler.record_score(9.0)
        if also_counted:
            scheduler.record_non_improvement()
        scheduler.record_degradation()
    assert count <= 25


def test_an_explicit_degradation_threshold_is_obeyed_to_the_letter_whatever_the_noise():
    scores = np.random.default_rng(0).normal(100.0, 5.0, 15)
    exact = AutoScheduler(degradation_threshold=0.95, dormant_threshold=1000)
    for score in scores:
        exact.decide(float(score))
    limit = exact.best_score * 0.95
    assert exact.looks_degraded(limit - 0.01)
    assert not exact.looks_degraded(limit + 0.01)


def test_ten_percent_noise_hardly_ever_looks_degraded_and_a_collapse_does():
    alarms = evaluations = 0
    for seed in range(20):
        scheduler = BackoffScheduler(dormant_threshold=1000)
        for score in np.random.default_rng(seed).normal(200.0, 20.0, 200):
            scheduler.decide(float(score))
            alarms += scheduler.current_state is LoopState.WATCHDOG
            evaluations += 1
        scheduler.decide(20.0)
        assert scheduler.current_state is LoopState.WATCHDOG
    assert alarms / evaluations < 0.01


def test_a_scheduler_goes_on_from_its_state_dict():
    scores = np.random.default_rng(3).normal(10.0, 1.0, 60)
    whole, first, second = (BackoffScheduler(dormant_threshold=90) for _ in range(3))
    for score in scores[:30]:
        first.decide(float(score))
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for score in scores[30:]:
        second.decide(float(score))
    for score in scores:
        whole.decide(float(score))
    assert second.state_dict() == whole.state_dict()


SCHEDULERS = [
    AutoScheduler,
    lambda: AutoScheduler(dormant_threshold=25),
    lambda: BackoffScheduler(backoff_factor=1.3, plateau_threshold=2),
]


def heard(scheduler, scores, first):
    """Return all that a scheduler says of the scores of the windows from `first` on."""
    said = []
    for window, score in enumerate(scores, first):
        if not scheduler.should_adapt(window):
            continue
        judgement = scheduler.decide(float(score), may_rest=window % 50 < 40)
        said.append((window, judgement, scheduler.current_state, scheduler.current_interval))
        said.append((scheduler.consecutive_non_improvements, scheduler.best_score))
        said.append((scheduler.margin(), scheduler.last_plateau_test))
        if scheduler.current_state is LoopState.DORMANT and window % 3 == 0:
            scheduler.record_restart()
    return repr(said)


@pytest.mark.parametrize("make", SCHEDULERS)
def test_from_its_state_in_a_file_it_goes_on_alike_at_any_moment(make, tmp_path):
    rng = np.random.default_rng(5)
    scores = np.cumsum(rng.normal(0.1, 1.0, 600)) + rng.normal(0.0, 3.0, 600)
    scores[200:] -= 40.0
    for moment in range(1, 300, 37):
        straight, resumed = make(), make()
        heard(straight, scores[:moment], 0)
        write_state(tmp_path / "scheduler", straight.state_dict())
        resumed.load_state_dict(read_state(tmp_path / "scheduler"))
        further = scores[moment : moment + 300]
        assert heard(resumed, further, moment) == heard(straight, further, moment)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": [1.0, math.nan]}, "a score must be a finite number, got nan"),
        ({"best": "x"}, "best must be a finite number, got 'x'"),
        ({"times": [0]}, "there must be 2 times of scores, got 1"),
    ],
)
def test_a_damaged_state_is_refused(changes, message):
    scheduler = AutoScheduler()
    scheduler.decide(1.0)
    scheduler.decide(2.0)
    with pytest.raises(ValueError, match=message):
        AutoScheduler().load_state_dict(scheduler.state_dict() | changes)


def test_the_scores_that_it_remembers_are_bounded_and_still_tell_a_rise_from_a_plateau():
    scheduler, scatter = AutoScheduler(), np.random.default_rng(0).normal(size=60_000)
    for window in range(30_000):
        scheduler.should_adapt(window)
        scheduler.record_score(window / 100 + scatter[window])
    assert scheduler.last_plateau_test.still_rising
    assert scheduler.last_plateau_test.gain == pytest.approx(300.0, rel=0.2)
    assert scheduler.last_plateau_test.noise == pytest.approx(1.0, rel=0.1)
    for window in range(30_000, 60_000):
        scheduler.should_adapt(window)
        scheduler.record_score(300.0 + scatter[window])
    assert scheduler.last_plateau_test.is_plateau
    state = scheduler.state_dict()
    assert len(state["scores"]) == len(state["times"]) <= MOST_SCORES
    assert (state["times"][0], state["times"][-1]) == (0, 59_999)


def test_scores_before_a_restart_stay_before_it_when_some_are_left_out():
    scheduler = BackoffScheduler()
    for _ in range(MOST_SCORES // 2):
        scheduler.record_score(0.0)
    scheduler.record_restart()
    for _ in range(3 * MOST_SCORES):
        scheduler.record_score(1.0)
    state = scheduler.state_dict()
    before = state["restarted_at"]
    assert before > 0
    assert set(state["scores"][:before]) == {0.0}
    assert set(state["scores"][before:]) == {1.0}
