"""The plateau test and the automatic scheduler, on simulated learning curves."""

import json
import math

import numpy as np
import pytest

from tensor_optix.core.backoff_scheduler import AutoScheduler
from tensor_optix.core.decisions.convergence import plateau_test
from tensor_optix.core.types import LoopState


def stop_of(scores, scheduler=None):
    """Return the index of the score at which the scheduler becomes DORMANT, infinite if never."""
    scheduler = scheduler or AutoScheduler()
    for index, score in enumerate(map(float, scores)):
        scheduler.decide(score, may_degrade=False)
        if scheduler.current_state is LoopState.DORMANT:
            return index
    return math.inf


def stops_of(curve, seeds):
    return np.array([stop_of(curve(np.random.default_rng(seed))) for seed in range(seeds)])


def saturating(tau, noise):
    t = np.arange(800)
    return lambda rng: 1.0 - np.exp(-t / tau) + noise * rng.normal(size=800)


def cartpole(rng):
    """20 to 500 in 30 evaluations, with 20 % noise on the way and dips to 200..400 after."""
    scores = np.concatenate([np.linspace(20.0, 500.0, 31), np.full(150, 500.0)])
    scores[:30] *= 1.0 + 0.2 * rng.normal(size=30)
    dips = (rng.random(181) < 0.08) & (np.arange(181) > 30)
    scores[dips] = rng.uniform(200.0, 400.0, dips.sum())
    return np.minimum(scores, 500.0)


@pytest.mark.parametrize(("slope", "offset"), [(1.0, 0.0), (1e-3, -5.0), (10.0, 1e4), (3.0, -1e4)])
def test_a_steady_rise_is_never_dormant(slope, offset):
    def curve(rng):
        return offset + slope * (np.arange(500) + 0.01 * 500 * rng.normal(size=500))

    assert np.isinf(stops_of(curve, 5)).all()


@pytest.mark.parametrize("noise", [0.02, 0.05])
@pytest.mark.parametrize("tau", [10, 30, 60])
def test_a_saturating_curve_stops_near_its_asymptote_and_soon(tau, noise):
    stops = stops_of(saturating(tau, noise), 25)
    assert np.mean(1.0 - np.exp(-stops / tau) >= 0.95) >= 0.95
    assert np.median(stops) <= 1.5 * tau * math.log(100.0) + 20


def test_a_saturating_curve_without_noise_stops_too():
    assert 90 < stop_of(saturating(30, 0.0)(np.random.default_rng(0))) <= 227


def test_a_cartpole_like_run_stops_25_to_90_evaluations_after_its_maximum():
    after = stops_of(cartpole, 100) - 30
    assert np.mean(after >= 25) >= 0.95
    assert np.mean(after <= 90) >= 0.95
    assert np.median(after) <= 50


def test_scores_constant_at_their_maximum_stop_about_as_late_as_they_rose():
    after = stop_of(np.concatenate([np.linspace(20.0, 500.0, 26), np.full(100, 500.0)])) - 25
    assert 22 <= after <= 36


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.05])
def test_a_pause_of_15_evaluations_is_not_the_end(noise):
    def curve(rng):
        stages = (np.linspace(0, 0.5, 30), np.full(15, 0.5), np.linspace(0.5, 1, 30), np.ones(100))
        scores = np.concatenate(stages)
        return scores + noise * rng.normal(size=len(scores))

    stops = stops_of(curve, 40)
    assert np.mean(stops >= 75) >= 0.95
    assert np.isfinite(stops).all()


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.05])
def test_a_flat_start_of_40_evaluations_is_not_the_end(noise):
    def curve(rng):
        scores = np.concatenate([np.zeros(40), np.linspace(0, 1, 40), np.ones(150)])
        return scores + noise * rng.normal(size=len(scores))

    stops = stops_of(curve, 40)
    assert np.mean(stops >= 80) >= 0.95
    assert np.isfinite(stops).all()


def test_stationary_noise_stops():
    """Within twice the evaluations that a constant score takes."""
    assert np.mean(stops_of(lambda rng: rng.normal(200.0, 30.0, 400), 40) <= 320) >= 0.95
    assert np.mean(stops_of(lambda rng: rng.choice([300.0, 500.0], 400), 40) <= 320) >= 0.95
    assert stop_of([5.0] * 300) == 160


def test_a_collapse_is_a_plateau():
    risen = np.linspace(20.0, 500.0, 26)
    scores = np.concatenate([risen, np.full(10, 500.0), np.full(40, 9.0)])
    test = plateau_test(scores)
    assert test.is_plateau
    assert max(test.improvements) <= 0.0
    assert 36 < stop_of(scores) <= 36 + 25


def test_the_numbers_of_a_verdict_are_those_of_its_definition():
    scores = np.concatenate([np.linspace(0.0, 100.0, 60), np.full(40, 100.0)])
    test = plateau_test(scores)
    assert test.horizons == (100 / 8, 19)
    assert test.improvements == pytest.approx((0.0, 0.0))
    assert test.gain == pytest.approx(100.0 - scores[:12].mean())
    assert test.has_gained
    assert not test.still_rising
    assert test.is_plateau
    assert test.uncertainties == pytest.approx(
        # Of a horizon of 12.5, 13 scores are recent and 12 come before.
        (2.0 * test.noise * math.sqrt(1 / 13 + 1 / 12), 2.0 * test.noise * math.sqrt(2 / 19))
    )


def test_scores_that_are_not_finite_are_no_evidence():
    scores = cartpole(np.random.default_rng(0))[:70]
    holes = [5, 20, 50]
    holed, times = np.insert(scores, holes, math.nan), np.insert(np.arange(70.0), holes, holes)
    assert plateau_test(holed, times=times) == plateau_test(scores)


def test_horizons_are_spans_of_time_not_numbers_of_evaluations():
    """The same curve, looked at ever more rarely: the last third of the looks is most of the time."""
    times = np.concatenate([np.arange(60), np.arange(60, 200, 4)])
    scores = np.minimum(times, 150.0)
    short, long = plateau_test(scores, times=times).horizons
    assert short == pytest.approx(len(times) / 8, abs=8) or short >= 200 / 8
    assert long == pytest.approx(0.18 * 200, abs=45)
    assert long == 19 * 4


def test_the_noisier_the_curve_the_longer_the_pause_that_is_no_end():
    """A rise, a pause of as many evaluations as it took, and a second rise, with 2 % and 12 % noise."""

    def curve(noise):
        stages = (np.linspace(0, 0.5, 60), np.full(60, 0.5), np.linspace(0.5, 1, 60), np.ones(400))
        scores = np.concatenate(stages)
        return lambda rng: scores + noise * rng.normal(size=len(scores))

    assert np.mean(stops_of(curve(0.12), 10) >= 150) >= 0.9
    assert np.mean(stops_of(curve(0.02), 10) < 150) >= 0.9


def wandering(evaluations: int, trend: float = 0.0):
    """A rise within 100 evaluations, then slow waves of a twentieth of it, and noise."""
    k = np.arange(evaluations)
    since = np.maximum(k - 100, 0)
    waves = 0.05 * np.sin(since / 60.0) * (since > 0) + trend * since
    return np.minimum(k / 100, 1.0) + waves + 0.04 * np.random.default_rng(0).normal(size=len(k))


def test_a_run_that_has_long_been_at_its_best_only_wanders():
    assert plateau_test(wandering(500)).only_wanders
    # Before so many evaluations it might be a pause.
    assert not plateau_test(wandering(199)).only_wanders
    # Nor while it rises.
    assert not plateau_test(wandering(500, trend=1e-3)).only_wanders
    assert not plateau_test(np.linspace(0.0, 1.0, 500)).only_wanders


def test_a_restart_needs_evidence_of_its_own_and_keeps_the_gain():
    scores = np.concatenate([np.linspace(0.0, 100.0, 60), np.full(40, 100.0)])
    assert not plateau_test(scores, since=90).is_plateau
    assert plateau_test(scores, since=60).is_plateau
    assert plateau_test(scores, since=60).gain == pytest.approx(100.0 - scores[:8].mean())

    scheduler = AutoScheduler()
    stop_of(scores, scheduler)
    scheduler.record_restart()
    assert 30 < stop_of([100.0] * 100, scheduler) < 45


def test_an_empty_history_has_no_plateau():
    test = plateau_test([])
    assert not test.is_plateau
    assert test.evaluations == 0


def test_the_interval_stays_a_small_share_of_the_windows():
    scheduler = AutoScheduler()
    scheduler.record_improvement(1.0)
    evaluated = []
    for window in range(1, 2000):
        if scheduler.should_adapt(window):
            evaluated.append(window)
            scheduler.record_non_improvement()
    assert evaluated[:99] == list(range(1, 100))
    windows = np.array(evaluated)
    assert (np.diff(windows) <= np.maximum(1, 2 * (windows[1:] // 50))).all()
    assert len(evaluated) < 400


def test_explicit_intervals_are_obeyed():
    scheduler = AutoScheduler(max_interval_episodes=8, base_interval=None)
    scheduler.record_improvement(1.0)
    seen = []
    for window in range(1, 40):
        if scheduler.should_adapt(window):
            seen.append(window)
            scheduler.record_non_improvement()
    assert seen == [1, 2, 4, 8, 16, 24, 32]


def test_an_explicit_dormant_threshold_is_obeyed_and_switches_the_test_off():
    flat = AutoScheduler(dormant_threshold=3)
    assert stop_of([1.0] * 10, flat) == 3
    assert flat.last_plateau_test is None
    scores = np.concatenate([np.linspace(20.0, 500.0, 26), np.full(200, 500.0)])
    assert stop_of(scores, AutoScheduler(dormant_threshold=100)) == 125


def test_a_minimum_of_evaluations_holds_for_a_plateau_as_well():
    scores = np.concatenate([np.linspace(20.0, 500.0, 26), np.full(200, 500.0)])
    assert stop_of(scores, AutoScheduler(min_episodes_before_dormant=90)) == 89


def test_an_unknown_argument_is_refused():
    with pytest.raises(TypeError, match="dormant_treshold"):
        AutoScheduler(dormant_treshold=3)


def test_an_automatic_scheduler_goes_on_from_its_state_dict():
    scores = cartpole(np.random.default_rng(7))
    whole, first, second = AutoScheduler(), AutoScheduler(), AutoScheduler()
    stop = stop_of(scores, whole)
    assert stop_of(scores[:40], first) == math.inf
    first.should_adapt(39)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert second.current_interval == first.current_interval
    assert stop_of(scores[40:], second) == stop - 40


def test_after_a_restart_evaluations_are_as_close_as_at_the_beginning():
    """A variant that begins in window 1000 is not looked at every 20 windows only."""
    scheduler = AutoScheduler()
    for window in range(1000):
        if scheduler.should_adapt(window):
            scheduler.record_score(1.0)
            scheduler.record_non_improvement()
    assert scheduler.current_interval > 10
    scheduler.record_restart()
    evaluated = 0
    for window in range(1000, 1100):
        if scheduler.should_adapt(window):
            evaluated += 1
            scheduler.record_score(1.0)
            scheduler.record_non_improvement()
    assert evaluated >= 95
