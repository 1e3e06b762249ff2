"""Generalised advantages and discounted returns against the oracle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

from tests import oracle

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Not multiples of a vector, one more and one less than the blocks the kernels walk in.
SHAPES = [(1, 1), (7, 1), (1, 5), (5, 8), (6, 17), (3, 31), (4, 32), (9, 33), (2, 63), (5, 125)]
GAMMA, LAMBDA = 0.97, 0.9


class Rollout(NamedTuple):
    rewards: NDArray[np.float32]
    values: NDArray[np.float32]
    dones: NDArray[np.uint8]
    valid: NDArray[np.uint8]
    last_values: NDArray[np.float32]


def random_rollout(rows: int, envs: int, seed: int = 0) -> Rollout:
    rng = np.random.default_rng([seed, rows, envs])
    shape = (rows, envs)
    return Rollout(
        rng.normal(size=shape).astype(np.float32),
        rng.normal(size=shape).astype(np.float32),
        (rng.random(shape) < 0.2).astype(np.uint8),
        (rng.random(shape) < 0.85).astype(np.uint8),
        rng.normal(size=envs).astype(np.float32),
    )


def gae(kernels: Any, rollout: Rollout) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    outputs = [np.full(rollout.rewards.shape, 7.0, np.float32) for _ in range(2)]
    kernels.gae(*rollout, GAMMA, LAMBDA, *outputs)
    return outputs[0], outputs[1]


def discounted(kernels: Any, rollout: Rollout) -> NDArray[np.float32]:
    rewards, _, dones, valid, last_values = rollout
    returns = np.full(rewards.shape, 7.0, np.float32)
    kernels.discounted_returns(rewards, dones, valid, last_values, GAMMA, returns)
    return returns


@pytest.mark.parametrize("shape", SHAPES)
def test_gae_equals_the_oracle(kernels: Any, shape: tuple[int, int]) -> None:
    for seed in range(5):
        rollout = random_rollout(*shape, seed)
        expected = oracle.gae(*rollout, GAMMA, LAMBDA)
        np.testing.assert_allclose(gae(kernels, rollout), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_discounted_returns_equal_the_oracle(kernels: Any, shape: tuple[int, int]) -> None:
    for seed in range(5):
        rollout = random_rollout(*shape, seed)
        rewards, _, dones, valid, last_values = rollout
        expected = oracle.discounted_returns(rewards, dones, valid, last_values, GAMMA)
        np.testing.assert_allclose(discounted(kernels, rollout), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_both_backends_give_the_same_bits(
    native_and_numba: tuple[Any, Any], shape: tuple[int, int]
) -> None:
    rollout = random_rollout(*shape)
    native, numba = native_and_numba
    for ours, theirs in zip(gae(native, rollout), gae(numba, rollout), strict=True):
        assert ours.tobytes() == theirs.tobytes()
    assert discounted(native, rollout).tobytes() == discounted(numba, rollout).tobytes()


def test_a_worked_example(kernels: Any) -> None:
    """gamma = lambda = 0.5: a row that goes on, a row that ends, a row cut by the window."""
    column = [np.array([[x], [y], [z]], np.float32) for x, y, z in [(1, 2, 3), (4, 8, 16)]]
    dones, valid = np.array([[0], [1], [0]], np.uint8), np.ones((3, 1), np.uint8)
    advantages, returns = np.empty((3, 1), np.float32), np.empty((3, 1), np.float32)
    last = np.array([32], np.float32)
    kernels.gae(*column, dones, valid, last, 0.5, 0.5, advantages, returns)
    # t=2: 3 + 0.5*32 - 16 = 3; t=1: 2 - 8 = -6; t=0: 1 + 0.5*8 - 4 + 0.25*-6 = -0.5
    assert advantages.ravel().tolist() == [-0.5, -6.0, 3.0]
    assert returns.ravel().tolist() == [3.5, 2.0, 19.0]


@pytest.mark.parametrize("envs", [1, 8, 40])
def test_when_every_row_is_done_nothing_is_bootstrapped(kernels: Any, envs: int) -> None:
    rollout = random_rollout(6, envs)
    ones = np.ones((6, envs), np.uint8)
    rollout = rollout._replace(
        dones=ones, valid=ones, last_values=np.full(envs, np.nan, np.float32)
    )
    advantages, _ = gae(kernels, rollout)
    np.testing.assert_array_equal(advantages, rollout.rewards - rollout.values)
    np.testing.assert_array_equal(discounted(kernels, rollout), rollout.rewards)


@pytest.mark.parametrize("envs", [1, 8, 40])
def test_a_done_on_the_last_row_ignores_the_last_value(kernels: Any, envs: int) -> None:
    rollout = random_rollout(4, envs)
    rollout.dones[-1] = 1
    poisoned = rollout._replace(last_values=np.full(envs, np.inf, np.float32))
    np.testing.assert_array_equal(gae(kernels, rollout), gae(kernels, poisoned))
    np.testing.assert_array_equal(discounted(kernels, rollout), discounted(kernels, poisoned))


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("envs", [1, 3, 8, 20, 40])
def test_nothing_leaks_back_over_an_episode_end(kernels: Any, envs: int, poison: float) -> None:
    rollout = random_rollout(8, envs)
    rollout.dones[3], rollout.valid[3] = 1, 1
    clean_gae, clean_returns = gae(kernels, rollout), discounted(kernels, rollout)
    rollout.rewards[4:], rollout.values[4:] = poison, poison
    for clean, dirty in zip(clean_gae, gae(kernels, rollout), strict=True):
        np.testing.assert_array_equal(clean[:4], dirty[:4])
    np.testing.assert_array_equal(clean_returns[:4], discounted(kernels, rollout)[:4])


@pytest.mark.parametrize("envs", [3, 8, 20, 40])
def test_nothing_leaks_from_one_environment_to_another(kernels: Any, envs: int) -> None:
    rollout = random_rollout(6, envs)
    clean_gae, clean_returns = gae(kernels, rollout), discounted(kernels, rollout)
    bad = envs // 2
    others = np.arange(envs) != bad
    rollout.rewards[:, bad], rollout.values[:, bad] = np.nan, np.inf
    for clean, dirty in zip(clean_gae, gae(kernels, rollout), strict=True):
        np.testing.assert_array_equal(clean[:, others], dirty[:, others])
    np.testing.assert_array_equal(clean_returns[:, others], discounted(kernels, rollout)[:, others])


@pytest.mark.parametrize("envs", [1, 8, 40])
def test_an_invalid_row_is_zero_and_carries_nothing(kernels: Any, envs: int) -> None:
    """A NaN in an invalid row's reward stays there; its value still bootstraps the row before."""
    rollout = random_rollout(3, envs)
    rollout.dones[:], rollout.valid[:] = 0, 1
    rollout.valid[1] = 0
    rollout.rewards[1] = np.nan
    advantages, returns = gae(kernels, rollout)
    assert not advantages[1].any()
    assert not returns[1].any()
    expected = rollout.rewards[0] + np.float32(GAMMA) * rollout.values[1] - rollout.values[0]
    np.testing.assert_allclose(advantages[0], expected, rtol=1e-6)
    gained = discounted(kernels, rollout)
    assert not gained[1].any()
    np.testing.assert_array_equal(gained[0], rollout.rewards[0])


def test_bool_masks_and_any_nonzero_byte_mean_the_same(kernels: Any) -> None:
    rollout = random_rollout(5, 12)
    as_bool = rollout._replace(dones=rollout.dones.astype(bool), valid=rollout.valid.astype(bool))
    as_bytes = rollout._replace(dones=rollout.dones * 255, valid=rollout.valid * 2)
    np.testing.assert_array_equal(gae(kernels, rollout), gae(kernels, as_bool))
    np.testing.assert_array_equal(gae(kernels, rollout), gae(kernels, as_bytes))


@pytest.mark.parametrize("shape", [(0, 0), (0, 4), (4, 0)])
def test_an_empty_rollout_does_nothing(kernels: Any, shape: tuple[int, int]) -> None:
    rollout = random_rollout(*shape)
    assert gae(kernels, rollout)[0].shape == shape
    assert discounted(kernels, rollout).shape == shape


def test_inputs_may_be_read_only_and_are_left_alone(kernels: Any) -> None:
    rollout = random_rollout(5, 12)
    copies = [array.copy() for array in rollout]
    for array in rollout:
        array.flags.writeable = False
    gae(kernels, rollout)
    for array, copy in zip(rollout, copies, strict=True):
        np.testing.assert_array_equal(array, copy)
