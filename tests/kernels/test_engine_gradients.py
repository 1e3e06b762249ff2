"""The gradients of the on-policy losses against central differences in double precision.

The engine returns no gradients: plain gradient descent at a rate that is a power of 2 shows them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tensor_optix.kernels import engine
from tests.kernels import engine_oracle
from tests.kernels.engine_parts import (
    ACTIVATIONS,
    IDENTITY,
    RATE,
    TANH,
    UNLIMITED,
    Net,
    assert_gradients,
    bits,
    descent,
    gradients_of,
    net,
    normal,
    random_masks,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[Any]

COUNTS: list[tuple[int, ...]] = [(2,), (6,), (3, 2, 4), ()]  # none: a squashed Gaussian
workspace = engine.Workspace()


def ppo_batch(
    rng: np.random.Generator,
    actor: Net,
    counts: Sequence[int],
    rows: int = 12,
    is_masked: bool = False,
    spread: float = 0.6,
) -> tuple[Any, ...]:
    """Return fields whose old log-probabilities differ from the present ones by up to `spread`."""
    observations = normal(rng, rows, 5)
    outputs = engine_oracle.Double(actor)(observations)
    masks = None
    if counts:
        actions = np.stack([rng.integers(0, count, rows) for count in counts], axis=1)
        masks = random_masks(rng, counts, actions) if is_masked else None
    else:
        mean, log_std = engine_oracle.gaussian_parameters(outputs)
        actions = (mean + np.exp(log_std) * normal(rng, *mean.shape)).astype(np.float32)
    log_probs, _ = engine_oracle.policy(outputs, actions, counts, masks)
    old = (log_probs + rng.uniform(-spread, spread, rows)).astype(np.float32)
    return observations, actions, masks, old, normal(rng, rows), normal(rng, rows)


def actor_and_critic(
    rng: np.random.Generator, counts: Sequence[int], size: int = 3, **settings: Any
) -> tuple[Net, Net]:
    outputs = sum(counts) if counts else 2 * size
    return net(rng, 5, 9, outputs, **settings), net(rng, 5, 8, 1, **settings)


def run_ppo(
    nets: tuple[Net, Net],
    optimizer: Any,
    batch: tuple[Any, ...],
    counts: Sequence[int],
    settings: tuple[float, float, float],
    minibatch: int = 1000,
    max_grad_norm: float = UNLIMITED,
) -> tuple[Any, ...]:
    actor, critic = nets
    numbers = (minibatch, *settings, max_grad_norm)
    arguments = (actor.engine, critic.engine, optimizer, workspace, batch, counts, numbers)
    return engine.ppo(*arguments)  # type: ignore[no-any-return]


def assert_ppo(
    nets: tuple[Net, Net],
    batch: tuple[Any, ...],
    counts: Sequence[int],
    settings: tuple[float, float, float] = (0.2, 0.5, 0.01),
    most: float = 1e-5,
) -> None:
    nets = nets[0].clone(), nets[1].clone()
    actor, critic = map(engine_oracle.Double, nets)
    observations = batch[0]

    def loss() -> float:
        outputs, values = actor(observations), critic(observations)[:, 0]
        return engine_oracle.ppo(outputs, values, batch, counts, settings)[0]

    expected = engine_oracle.numeric_gradients(loss, [*actor.arrays, *critic.arrays])
    outputs, values = actor(observations), critic(observations)[:, 0]
    _, parts = engine_oracle.ppo(outputs, values, batch, counts, settings)
    optimizer = descent(*nets, rate=RATE).engine
    sums: list[tuple[Any, ...]] = []
    found = gradients_of(
        [*nets[0].arrays, *nets[1].arrays],
        lambda: sums.append(run_ppo(nets, optimizer, batch, counts, settings)),
    )
    assert_gradients(found, expected, most)
    *numbers, norm, updates, skipped = sums[0]
    assert (updates, skipped) == (1, 0)
    assert numbers == pytest.approx(list(parts.values()), rel=most, abs=most)
    exact_norm = np.sqrt(sum((gradient**2).sum() for gradient in expected))
    assert norm == pytest.approx(exact_norm, rel=most)


@pytest.mark.parametrize(
    ("counts", "is_masked"),
    [*((counts, False) for counts in COUNTS), *((counts, True) for counts in COUNTS if counts)],
    ids=str,
)
def test_ppo_where_some_ratios_are_clipped(counts: tuple[int, ...], is_masked: bool) -> None:
    rng = np.random.default_rng(1)
    nets = actor_and_critic(rng, counts)
    batch = ppo_batch(rng, nets[0], counts, rows=40, is_masked=is_masked)
    outputs = engine_oracle.Double(nets[0])(batch[0])
    ratio = np.exp(engine_oracle.policy(outputs, batch[1], counts, batch[2])[0] - batch[3])
    # Above and below the limits, with and against the advantage.
    for is_beyond in (ratio > 1.2, ratio < 0.8):
        assert (is_beyond & (batch[4] > 0.0)).any()
        assert (is_beyond & (batch[4] < 0.0)).any()
    assert_ppo(nets, batch, counts)


@pytest.mark.parametrize("counts", COUNTS, ids=str)
def test_ppo_where_no_ratio_is_clipped(counts: tuple[int, ...]) -> None:
    rng = np.random.default_rng(2)
    nets = actor_and_critic(rng, counts)
    assert_ppo(nets, ppo_batch(rng, nets[0], counts, spread=0.1), counts)
    assert_ppo(nets, ppo_batch(rng, nets[0], counts, spread=3.0), counts, (1e6, 0.5, 0.01))


@pytest.mark.parametrize("counts", COUNTS, ids=str)
@pytest.mark.parametrize(
    "settings", [(0.2, 0.0, 0.0), (0.2, 1.0, 0.0), (0.2, 0.0, 0.5), (0.1, 2.0, 3.0)], ids=str
)
def test_each_part_of_ppos_loss_has_its_weight(
    settings: tuple[float, float, float], counts: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(3)
    nets = actor_and_critic(rng, counts)
    assert_ppo(nets, ppo_batch(rng, nets[0], counts), counts, settings)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("is_by_outputs", [True, False])
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("last", [IDENTITY, TANH])
def test_every_kind_of_layer_backward(
    activation: int, is_by_outputs: bool, has_bias: bool, last: int
) -> None:
    rng = np.random.default_rng(4)
    settings = {"activation": activation, "is_by_outputs": is_by_outputs, "has_bias": has_bias}
    nets = actor_and_critic(rng, (3, 2), last=last, **settings)
    assert_ppo(nets, ppo_batch(rng, nets[0], (3, 2)), (3, 2))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_an_activation_may_end_a_network(activation: int) -> None:
    rng = np.random.default_rng(5)
    nets = actor_and_critic(rng, (4,), last=activation)
    assert_ppo(nets, ppo_batch(rng, nets[0], (4,)), (4,))


@pytest.mark.parametrize(
    "sizes", [(5, 4), (5, 20, 4), (5, 17, 16, 15, 4), (5, 3, 3, 3, 3, 4)], ids=str
)
@pytest.mark.parametrize("rows", [1, 2, 7, 16, 33])
def test_depths_and_rows(sizes: tuple[int, ...], rows: int) -> None:
    rng = np.random.default_rng(6)
    nets = net(rng, *sizes), net(rng, *sizes[:-1], 1)
    assert_ppo(nets, ppo_batch(rng, nets[0], (4,), rows), (4,))


@pytest.mark.parametrize("size", [1, 4, 8, 9, 17])
def test_log_std_beyond_its_limits_has_no_gradient(size: int) -> None:
    """The least standard deviation, e^-5, makes of the mean's rounding 148 times as much."""
    rng = np.random.default_rng(7)
    nets = actor_and_critic(rng, (), size)
    bias = nets[0].layers[-1][1]
    assert bias is not None
    bias[size:] += np.linspace(-9.0, 6.0, size) if size > 1 else -9.0
    outputs = engine_oracle.Double(nets[0])(normal(rng, 100, 5))
    assert (outputs[:, size:] < -5.0).any()
    assert size == 1 or (outputs[:, size:] > 2.0).any()
    assert_ppo(nets, ppo_batch(rng, nets[0], ()), (), most=2e-4)


def test_actions_far_from_the_mean_and_of_saturated_tanh() -> None:
    rng = np.random.default_rng(8)
    nets = actor_and_critic(rng, ())
    observations, actions, masks, _, advantages, returns = ppo_batch(rng, nets[0], ())
    actions = 4.0 * actions
    outputs = engine_oracle.Double(nets[0])(observations)
    old = engine_oracle.squashed(outputs, actions)[0].astype(np.float32)
    assert np.abs(actions).max() > 9.0
    assert_ppo(nets, (observations, actions, masks, old, advantages, returns), (), most=1e-4)


def test_one_action_alone_has_no_gradient() -> None:
    rng = np.random.default_rng(9)
    nets = actor_and_critic(rng, (1,))
    batch = ppo_batch(rng, nets[0], (1,))
    optimizer = descent(*nets, rate=RATE).engine
    found = gradients_of(
        nets[0].arrays, lambda: run_ppo(nets, optimizer, batch, (1,), (0.2, 0.5, 0.01))
    )
    assert all(not gradient.any() for gradient in found)


def policy_gradient(
    network: Net, optimizer: Any, batch: tuple[Array, Array, Array]
) -> tuple[float, float, int, int]:
    found: Any = engine.policy_gradient(network.engine, optimizer, workspace, *batch)
    return found  # type: ignore[no-any-return]


@pytest.mark.parametrize("rows", [1, 5, 16, 100])
@pytest.mark.parametrize("actions", [2, 3, 17])
def test_the_policy_gradient(actions: int, rows: int) -> None:
    rng = np.random.default_rng(10)
    network = net(rng, 5, 9, actions)
    chosen = rng.integers(0, actions, (rows, 1))
    batch = normal(rng, rows, 5), chosen, normal(rng, rows)
    double = engine_oracle.Double(network)

    def loss() -> float:
        log_probs, _ = engine_oracle.choices(double(batch[0]), chosen, (actions,))
        return float(-(log_probs * batch[2]).mean())

    exact = loss()
    expected = engine_oracle.numeric_gradients(loss, double.arrays)
    optimizer = descent(network, rate=RATE).engine
    sums: list[Any] = []
    found = gradients_of(
        network.arrays, lambda: sums.append(policy_gradient(network, optimizer, batch))
    )
    assert_gradients(found, expected)
    norm = np.sqrt(sum((gradient**2).sum() for gradient in expected))
    assert sums[0][:2] == pytest.approx((exact, norm), rel=1e-5, abs=1e-6)
    assert sums[0][2:] == (1, 0)


@pytest.mark.parametrize("counts", COUNTS, ids=str)
def test_a_pass_is_updates_one_after_the_other(counts: tuple[int, ...]) -> None:
    """Bit for bit, the last minibatch shorter; sums are over the updates, added in whatever order."""
    rng = np.random.default_rng(11)
    nets = actor_and_critic(rng, counts)
    twins = nets[0].clone(), nets[1].clone()
    batch = ppo_batch(rng, nets[0], counts, rows=23)
    settings = (0.2, 0.5, 0.01)
    whole = run_ppo(nets, descent(*nets, rate=0.1).engine, batch, counts, settings, minibatch=5)
    optimizer = descent(*twins, rate=0.1).engine
    parts = []
    for first in range(0, 23, 5):
        part = tuple(None if field is None else field[first : first + 5] for field in batch)
        parts.append(run_ppo(twins, optimizer, part, counts, settings))
    for one, other in zip(nets, twins, strict=True):
        assert bits(one.arrays) == bits(other.arrays)
    np.testing.assert_allclose(whole, np.sum(parts, axis=0), rtol=1e-12)


@pytest.mark.parametrize("counts", COUNTS, ids=str)
def test_the_same_pass_twice_gives_the_same_bits(counts: tuple[int, ...]) -> None:
    rng = np.random.default_rng(12)
    nets = actor_and_critic(rng, counts)
    batch, before = ppo_batch(rng, nets[0], counts, rows=50), [one.clone() for one in nets]
    results = []
    for memory in (engine.Workspace(), workspace):
        copies = before[0].clone(), before[1].clone()
        optimizer = descent(*copies, rate=0.1).engine
        numbers = (7, 0.2, 0.5, 0.01, 0.5)
        arguments = (copies[0].engine, copies[1].engine, optimizer, memory, batch, counts, numbers)
        sums = engine.ppo(*arguments)
        results.append((sums, bits([*copies[0].arrays, *copies[1].arrays])))
    assert results[0] == results[1]


@pytest.mark.parametrize("max_grad_norm", [1e-3, 0.5, 1e3])
def test_each_network_is_limited_by_itself(max_grad_norm: float) -> None:
    rng = np.random.default_rng(13)
    nets = actor_and_critic(rng, (3,))
    batch, settings = ppo_batch(rng, nets[0], (3,)), (0.2, 5.0, 0.01)
    twins = nets[0].clone(), nets[1].clone()

    def gradients(of: tuple[Net, Net], limit: float) -> list[list[Array]]:
        optimizer = descent(*of, rate=RATE).engine
        arrays = [*of[0].arrays, *of[1].arrays]
        found = gradients_of(
            arrays, lambda: run_ppo(of, optimizer, batch, (3,), settings, max_grad_norm=limit)
        )
        return [found[: len(of[0].arrays)], found[len(of[0].arrays) :]]

    limited = gradients(twins, max_grad_norm)
    for whole, part in zip(gradients(nets, UNLIMITED), limited, strict=True):
        norm = np.sqrt(sum((gradient**2).sum() for gradient in whole))
        assert norm > 0.05
        scale = min(1.0, max_grad_norm / norm)
        assert_gradients(part, [scale * gradient for gradient in whole], 1e-4)


@pytest.mark.parametrize("field", [0, 3, 4, 5])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("counts", [(3,), ()], ids=str)
def test_a_minibatch_that_is_not_finite_changes_nothing(
    counts: tuple[int, ...], value: float, field: int
) -> None:
    """As if it had not been there, but that it is counted."""
    rng = np.random.default_rng(14)
    nets = actor_and_critic(rng, counts)
    twins = nets[0].clone(), nets[1].clone()
    batch, settings = ppo_batch(rng, nets[0], counts, rows=12), (0.2, 0.5, 0.01)
    rest = tuple(None if part is None else np.concatenate([part[:4], part[8:]]) for part in batch)
    # One that PPO's limits do not hide.
    batch[4][5] = -1.0
    batch[field][5] = -value if field == 3 else value
    adam = {"rule": 0, "rate": 1e-2, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8}
    optimizer, other = descent(*nets, **adam), descent(*twins, **adam)
    sums = run_ppo(nets, optimizer.engine, batch, counts, settings, minibatch=4)
    expected = run_ppo(twins, other.engine, rest, counts, settings, minibatch=4)
    assert bits(optimizer.state) == bits(other.state)
    assert sums[:-2] == expected[:-2]
    assert (sums[-2:], expected[-2:]) == ((3, 1), (2, 0))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_policy_gradient_that_is_not_finite_changes_nothing(value: float) -> None:
    rng = np.random.default_rng(15)
    network = net(rng, 5, 9, 3)
    optimizer = descent(network, rule=0, rate=1e-2, beta1=0.9, beta2=0.99, epsilon=1e-8)
    batch = normal(rng, 6, 5), rng.integers(0, 3, (6, 1)), normal(rng, 6)
    batch[2][3] = value
    before = bits(optimizer.state)
    assert policy_gradient(network, optimizer.engine, batch) == (0.0, 0.0, 1, 1)
    assert bits(optimizer.state) == before
