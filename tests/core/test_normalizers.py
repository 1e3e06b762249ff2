"""The normalizers agree with plain NumPy over the whole stream."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tensor_optix.core.normalizers import ObsNormalizer, RewardNormalizer, RunningMeanStd


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def moments_of(rows):
    """Mean and variance of a stream."""
    rows = np.asarray(rows, np.float64)
    return rows.mean(axis=0), rows.var(axis=0)


def returns_step_by_step(rewards, dones, gamma):
    """The running return of one environment, written as its definition."""
    running, returns = 0.0, []
    for reward, done in zip(rewards, dones, strict=True):
        running = gamma * running + reward
        returns.append(running)
        if done:
            running = 0.0
    return np.array(returns)


def same_state(left, right):
    return left.keys() == right.keys() and all(np.array_equal(left[k], right[k]) for k in left)


# ---- running moments


def test_it_starts_at_mean_zero_variance_one():
    moments = RunningMeanStd((2,))
    assert moments.mean.tolist() == [0, 0]
    assert moments.var.tolist() == [1, 1]
    assert moments.count == 1e-4
    assert RunningMeanStd().mean.shape == ()


@pytest.mark.parametrize("shape", [(), (3,), (2, 5)])
@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (-3.0, 20.0), (1e6, 1.0)])
def test_moments_equal_those_of_the_whole_stream(rng, shape, mean, std):
    rows = rng.normal(mean, std, (2000, *shape)).astype(np.float32)
    moments = RunningMeanStd(shape, epsilon=1e-8)
    for batch in np.split(rows, [1, 2, 40, 41, 1000]):
        moments.update(batch)
    expected_mean, expected_var = moments_of(rows)
    assert moments.mean == pytest.approx(expected_mean, rel=1e-9)
    assert moments.var == pytest.approx(expected_var, rel=1e-6)
    assert moments.count == pytest.approx(2000)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mean", [0.0, 1e6, -1e9])
def test_the_first_batch_is_normalised_by_its_own_moments(rng, dtype, mean):
    """Of the start, at mean 0, nothing is left; and of float64 nothing is lost on the way."""
    rows = (mean + rng.normal(0, 1, (256, 3))).astype(dtype)
    if dtype == np.float32 and abs(mean) > 1e8:
        rows = (mean + 1e4 * rng.normal(0, 1, (256, 3))).astype(dtype)
    moments, normalizer = RunningMeanStd((3,)), ObsNormalizer((3,), clip=0)
    exact = (rows - rows.mean(axis=0, dtype=np.float64)) / rows.std(axis=0, dtype=np.float64)
    for normalized in (
        moments.update_and_normalize(rows, clip=0),
        normalizer.update_and_normalize(rows),
        normalizer.normalize(rows),
    ):
        assert normalized.dtype == np.float32
        np.testing.assert_allclose(normalized, exact, atol=1e-4)
    assert moments.count == pytest.approx(256)


def test_nothing_but_rows_that_are_not_finite_is_no_first_batch(rng):
    moments = RunningMeanStd((2,))
    before = moments.state_dict()
    for dtype in (np.float32, np.float64):
        moments.update(np.full((3, 2), np.nan, dtype))
        moments.update(np.empty((0, 2), dtype))
    assert same_state(moments.state_dict(), before)


def test_whole_numbers_beyond_what_float32_tells_apart_are_taken_as_they_are():
    normalizer = ObsNormalizer((1,))
    rows = 2**40 + np.arange(5)[:, None]
    assert normalizer.update_and_normalize(rows)[:, 0] == pytest.approx(
        (np.arange(5) - 2.0) / np.sqrt(2.0), rel=1e-5
    )


def test_rows_one_by_one_are_the_same_as_a_batch(rng):
    rows = rng.normal(5, 2, (300, 4))
    one_by_one, at_once = RunningMeanStd((4,)), RunningMeanStd((4,))
    for row in rows:
        one_by_one.update(row)
    at_once.update(rows.reshape(30, 10, 4))
    assert one_by_one.mean == pytest.approx(at_once.mean, rel=1e-12)
    assert one_by_one.var == pytest.approx(at_once.var, rel=1e-12)
    assert one_by_one.count == pytest.approx(at_once.count)


def test_scalars_one_by_one_are_the_same_as_a_batch(rng):
    values = rng.normal(5, 2, 300)
    one_by_one, at_once = RunningMeanStd(), RunningMeanStd()
    for value in values:
        one_by_one.update(value)
    at_once.update(values)
    assert one_by_one.var == pytest.approx(at_once.var, rel=1e-12)


def test_rows_that_are_not_finite_stay_out_of_the_statistics(rng):
    rows = rng.normal(size=(50, 2))
    clean, dirty = RunningMeanStd((2,)), RunningMeanStd((2,))
    clean.update(rows)
    dirty.update(np.vstack([rows, [[math.nan, 0], [0, math.inf], [1e300, 0]]]))
    assert same_state(clean.state_dict(), dirty.state_dict())


def test_normalized_rows_are_float32_and_match_the_formula(rng):
    rows = rng.normal(7, 3, (500, 3)).astype(np.float32)
    moments = RunningMeanStd((3,))
    moments.update(rows)
    expected = (rows.astype(np.float64) - moments.mean) / np.sqrt(moments.var + 1e-8)
    normalized = moments.normalize(rows)
    assert normalized.dtype == np.float32
    assert normalized == pytest.approx(expected, abs=1e-5)
    assert moments.normalize(rows[0]) == pytest.approx(expected[0], abs=1e-5)


@pytest.mark.parametrize(("clip", "largest"), [(10.0, 10), (2.0, 2), (0, 1000)])
def test_clip_zero_means_no_clip(clip, largest):
    moments = RunningMeanStd()
    assert moments.normalize(1000.0, clip=clip) == pytest.approx(largest)
    assert moments.normalize(-1000.0, clip=clip) == pytest.approx(-largest)


def test_updating_and_normalizing_in_one_call_is_the_same_as_in_two(rng):
    one, two = RunningMeanStd((3,)), RunningMeanStd((3,))
    for _ in range(5):
        batch = rng.normal(4, 2, (8, 3)).astype(np.float32)
        two.update(batch)
        assert one.update_and_normalize(batch) == pytest.approx(two.normalize(batch), rel=1e-6)
    assert one.mean == pytest.approx(two.mean, rel=1e-12)


def test_a_row_of_the_wrong_shape_is_an_error():
    with pytest.raises(ValueError, match=r"one row of shape \(3,\) or a batch of them, got \(4,\)"):
        RunningMeanStd((3,)).update(np.zeros(4))


def test_a_negative_epsilon_is_an_error():
    with pytest.raises(ValueError, match="epsilon must be >= 0, got -1"):
        RunningMeanStd(epsilon=-1)


def test_frozen_moments_do_not_change():
    moments = RunningMeanStd((2,))
    before = moments.state_dict()
    with moments.freeze():
        moments.update(np.full((5, 2), 3.0))
        moments.update_and_normalize(np.full((5, 2), 3.0))
    assert same_state(moments.state_dict(), before)


# ---- observations


def test_observations_of_any_dtype_come_out_with_mean_zero_and_variance_one(rng):
    frames = rng.integers(0, 256, (400, 6, 6), dtype=np.uint8)
    normalizer = ObsNormalizer((6, 6))
    for batch in np.split(frames, 8):
        normalizer.update(batch)
    normalized = normalizer.normalize(frames)
    assert normalized.dtype == np.float32
    assert normalized.mean(axis=0) == pytest.approx(np.zeros((6, 6)), abs=1e-3)
    assert normalized.std(axis=0) == pytest.approx(np.ones((6, 6)), abs=1e-3)
    assert normalizer.mean == pytest.approx(frames.mean(axis=0), rel=1e-5)
    assert normalizer.var == pytest.approx(frames.var(axis=0), rel=1e-3)


def test_observations_are_clipped():
    normalizer = ObsNormalizer((1,), clip=5.0)
    assert normalizer.normalize(np.array([100.0])).tolist() == [5]
    assert ObsNormalizer((1,), clip=0).normalize(np.array([100.0]))[0] == pytest.approx(100)


def test_frozen_observations_leave_the_statistics_alone(rng):
    normalizer = ObsNormalizer((2,))
    normalizer.update(rng.normal(size=(10, 2)))
    before = normalizer.state_dict()
    with normalizer.freeze():
        assert normalizer.frozen
        normalizer.update(np.ones((5, 2)))
        normalizer.update_and_normalize(np.ones((5, 2)))
    assert same_state(normalizer.state_dict(), before)
    assert not normalizer.frozen
    normalizer.update(np.ones((5, 2)))
    assert not same_state(normalizer.state_dict(), before)


def test_freezing_twice_keeps_it_frozen_until_the_outer_end():
    normalizer = ObsNormalizer((2,))
    with normalizer.freeze():
        with normalizer.freeze():
            pass
        assert normalizer.frozen


def test_an_error_while_frozen_thaws_it():
    normalizer = RewardNormalizer()
    with pytest.raises(RuntimeError), normalizer.freeze():
        raise RuntimeError
    assert not normalizer.frozen


# ---- rewards


def test_rewards_are_divided_by_the_deviation_of_the_running_return(rng):
    rewards = rng.normal(2, 3, 1000)
    dones = rng.random(1000) < 0.05
    normalizer = RewardNormalizer(gamma=0.9)
    for reward, done in zip(rewards, dones, strict=True):
        normalizer.step(reward)
        if done:
            normalizer.reset()
    _, var = moments_of(returns_step_by_step(rewards, dones, 0.9))
    assert normalizer.var == pytest.approx(var, rel=1e-6)
    normalized = normalizer.normalize(rewards)
    assert normalized.dtype == np.float32
    assert normalized == pytest.approx(rewards / np.sqrt(var + 1e-8), rel=1e-5)


def test_epsilon_bounds_what_a_reward_is_divided_by():
    normalizer = RewardNormalizer(epsilon=3.0)
    np.testing.assert_allclose(normalizer.normalize([2.0]), [1.0])
    with pytest.raises(ValueError, match="epsilon must not be negative, got -1"):
        RewardNormalizer(epsilon=-1.0)


def test_each_environment_carries_its_own_return(rng):
    rewards, dones = rng.normal(size=(200, 3)), rng.random((200, 3)) < 0.1
    normalizer = RewardNormalizer(gamma=0.95)
    for row, ended in zip(rewards, dones, strict=True):
        normalizer.step(row, ended)
    alone = [returns_step_by_step(rewards[:, n], dones[:, n], 0.95) for n in range(3)]
    assert normalizer.var == pytest.approx(moments_of(np.concatenate(alone))[1], rel=1e-6)
    last = [0.0 if dones[-1, n] else alone[n][-1] for n in range(3)]
    assert normalizer.returns == pytest.approx(last)


def test_no_mean_is_taken_from_rewards():
    normalizer = RewardNormalizer()
    for _ in range(50):
        normalizer.step(1.0)
    assert np.all(normalizer.normalize(np.ones(3)) > 0)


@settings(deadline=None, max_examples=50)
@given(
    steps=st.integers(1, 70),
    num_envs=st.integers(1, 4),
    gamma=st.sampled_from([0.0, 0.5, 0.99, 1.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_window_is_the_same_as_its_steps_row_by_row(steps, num_envs, gamma, seed):
    rng = np.random.default_rng(seed)
    shape = (steps, num_envs)
    rewards, dones = rng.normal(1, 2, shape), rng.random(shape) < 0.2
    whole, rows = RewardNormalizer(gamma), RewardNormalizer(gamma)
    for normalizer in (whole, rows):
        normalizer.step(np.ones(num_envs))
    whole.update(rewards, dones)
    for row, ended in zip(rewards, dones, strict=True):
        rows.step(row, ended)
    assert whole.returns == pytest.approx(rows.returns, rel=1e-9, abs=1e-9)
    assert whole.var == pytest.approx(rows.var, rel=1e-5)


def test_rows_that_are_not_valid_are_passed_over(rng):
    rewards, dones = rng.normal(size=(40, 2)), rng.random((40, 2)) < 0.2
    valid = rng.random((40, 2)) < 0.7
    whole = RewardNormalizer(gamma=0.9)
    whole.update(rewards, dones, valid)
    kept = [
        returns_step_by_step(rewards[valid[:, n], n], dones[valid[:, n], n], 0.9) for n in range(2)
    ]
    assert whole.var == pytest.approx(moments_of(np.concatenate(kept))[1], rel=1e-6)
    assert whole.state_dict()["count"][0] == pytest.approx(valid.sum() + 1e-4)


def test_a_window_without_environment_axis_is_one_environment(rng):
    rewards, dones = rng.normal(size=30), rng.random(30) < 0.2
    flat, columns = RewardNormalizer(), RewardNormalizer()
    flat.update(rewards.tolist(), dones.tolist())
    columns.update(rewards[:, None], dones[:, None])
    assert same_state(flat.state_dict(), columns.state_dict())


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e308])
def test_a_reward_that_is_not_finite_spoils_neither_statistics_nor_returns(bad):
    normalizer = RewardNormalizer(gamma=0.5)
    normalizer.update([1.0, bad, 1.0], [False] * 3)
    assert normalizer.returns.tolist() == [1.25]
    assert normalizer.var == pytest.approx(moments_of([1.0, 1.25])[1], rel=1e-6)


def test_normalized_rewards_are_clipped_and_keep_their_shape():
    normalizer = RewardNormalizer(clip=3.0)
    assert normalizer.normalize(np.full((4, 2), -100.0)).tolist() == [[-3, -3]] * 4
    assert normalizer.normalize(100.0).shape == ()
    assert RewardNormalizer(clip=0).normalize(100.0) == pytest.approx(100)


def test_reset_forgets_the_running_return_and_nothing_else():
    normalizer = RewardNormalizer()
    normalizer.step(np.array([1.0, 2.0]))
    var = normalizer.var
    normalizer.reset()
    assert normalizer.returns.size == 0
    assert normalizer.var == var
    normalizer.step(5.0)
    assert normalizer.returns.tolist() == [5]


def test_frozen_rewards_leave_statistics_and_returns_alone():
    normalizer = RewardNormalizer()
    normalizer.step(np.array([1.0, 2.0]))
    before = normalizer.state_dict()
    with normalizer.freeze():
        normalizer.step(np.array([7.0, 7.0]), np.array([True, False]))
        normalizer.update(np.ones((5, 2)), np.ones((5, 2), bool))
        normalizer.normalize(np.ones(3))
        normalizer.reset()
    assert same_state(normalizer.state_dict(), before)


def test_another_number_of_environments_is_an_error():
    normalizer = RewardNormalizer()
    normalizer.step(np.ones(4))
    with pytest.raises(ValueError, match="of 4 environments, as before, got 2"):
        normalizer.step(np.ones(2))
    with pytest.raises(ValueError, match=r"must have the shape \(3, 4\) of rewards"):
        normalizer.update(np.ones((3, 4)), np.zeros((3, 2)))


@pytest.mark.parametrize("arguments", [{"gamma": 1.5}, {"gamma": math.nan}, {"clip": -1}])
def test_reward_arguments_are_checked(arguments):
    with pytest.raises(ValueError, match="must be"):
        RewardNormalizer(**arguments)


# ---- state


def test_a_restored_normalizer_goes_on_as_the_original(rng):
    original, restored = RewardNormalizer(), RewardNormalizer()
    original.update(rng.normal(size=(20, 3)), rng.random((20, 3)) < 0.2)
    state = original.state_dict()
    restored.load_state_dict(state)
    rewards, dones = rng.normal(size=(20, 3)), rng.random((20, 3)) < 0.2
    original.update(rewards, dones)
    restored.update(rewards, dones)
    assert same_state(original.state_dict(), restored.state_dict())
    assert all(type(value) is np.ndarray for value in state.values())


def test_a_state_shares_no_memory_with_the_normalizer(rng):
    normalizer, other = ObsNormalizer((2,)), ObsNormalizer((2,))
    normalizer.update(rng.normal(size=(10, 2)))
    state = normalizer.state_dict()
    other.load_state_dict(state)
    for array in state.values():
        array += 1
    normalizer.mean[:] = 99
    assert same_state(normalizer.state_dict(), other.state_dict())
    assert not same_state(normalizer.state_dict(), state)


def test_a_state_that_does_not_fit_is_an_error_and_changes_nothing():
    normalizer = ObsNormalizer((2,))
    before = normalizer.state_dict()
    with pytest.raises(ValueError, match=r"'mean' must have shape \(2,\), got \(3,\)"):
        normalizer.load_state_dict(ObsNormalizer((3,)).state_dict())
    with pytest.raises(ValueError, match="state must hold 'var', got"):
        normalizer.load_state_dict({"mean": np.ones(2)})
    with pytest.raises(ValueError, match="state must hold 'returns'"):
        RewardNormalizer().load_state_dict(RunningMeanStd().state_dict())
    assert same_state(normalizer.state_dict(), before)
