"""The updates of DQN, SAC and TD3 against central differences in double precision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tensor_optix.kernels import engine
from tests.kernels import engine_oracle
from tests.kernels.engine_oracle import Double
from tests.kernels.engine_parts import (
    ACTIVATIONS,
    ADAM,
    RATE,
    RELU,
    UNLIMITED,
    Descent,
    Net,
    assert_gradients,
    bits,
    descent,
    gradients_of,
    net,
    normal,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[Any]

Fields = list[Any]
DIMS = 5
workspace = engine.Workspace()
OBSERVATIONS, ACTIONS, REWARDS, NEXT, DISCOUNTS, WEIGHTS, MASKS, NOISE, NEXT_NOISE, ERRORS = range(
    10
)
each_field = pytest.mark.parametrize("field", [OBSERVATIONS, REWARDS, NEXT, DISCOUNTS, WEIGHTS])
not_finite = pytest.mark.parametrize("value", [np.nan, np.inf])
adam = {"rule": ADAM, "rate": 1e-2, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8}


def replay_fields(rng: np.random.Generator, rows: int) -> Fields:
    """Return fields without actions, masks and noise; returns are of 0 to 3 steps."""
    discounts = (0.97 ** rng.integers(1, 4, rows) * (rng.random(rows) < 0.8)).astype(np.float32)
    weights = rng.uniform(0.1, 1.0, rows).astype(np.float32)
    observations, following = normal(rng, rows, DIMS), normal(rng, rows, DIMS)
    rewards, errors = normal(rng, rows), np.full(rows, 7.0, np.float32)
    return [observations, None, rewards, following, discounts, weights, None, None, None, errors]


def part(fields: Fields, *slices: slice) -> Fields:
    """Return some of the rows, copied."""
    return [
        None if field is None else np.concatenate([field[rows] for rows in slices])
        for field in fields
    ]


def weighted_squares(errors: Array, weights: Array) -> float:
    return float((weights * errors**2).mean())


class DqnCase:
    """A network, its target and fields of `rows` rows."""

    def __init__(
        self, seed: int, rows: int = 12, actions: int = 3, is_masked: bool = False, **settings: Any
    ) -> None:
        rng = np.random.default_rng(seed)
        self.network = net(rng, DIMS, 9, actions, **settings)
        self.target = net(rng, DIMS, 9, actions, **settings)
        self.fields = replay_fields(rng, rows)
        self.fields[ACTIONS] = rng.integers(0, actions, (rows, 1))
        if is_masked:
            masks = rng.random((rows, actions)) < 0.4
            masks[:, -1] |= ~masks.any(axis=1)
            self.fields[MASKS] = masks

    def run(
        self,
        optimizer: Descent,
        batch: int,
        fields: Fields | None = None,
        max_grad_norm: float = UNLIMITED,
    ) -> tuple[Any, ...]:
        arguments = (self.network.engine, self.target.engine, optimizer.engine, workspace)
        rows = tuple(self.fields if fields is None else fields)
        return engine.dqn(*arguments, rows, batch, max_grad_norm)  # type: ignore[no-any-return]

    def errors(self, network: Double) -> Array:
        fields = self.fields
        values = Double(self.target)(fields[NEXT])
        if fields[MASKS] is not None:
            values = np.where(fields[MASKS], values, -1e9)
        targets = fields[REWARDS] + fields[DISCOUNTS] * values.max(axis=1)
        taken = np.take_along_axis(network(fields[OBSERVATIONS]), fields[ACTIONS], axis=1)[:, 0]
        return np.asarray(targets - taken)


@pytest.mark.parametrize("is_masked", [False, True])
@pytest.mark.parametrize("actions", [1, 2, 3, 18])
@pytest.mark.parametrize("rows", [1, 7, 16, 70])
def test_dqn(rows: int, actions: int, is_masked: bool) -> None:
    case = DqnCase(1, rows, actions, is_masked)
    network, weights = Double(case.network), case.fields[WEIGHTS]
    errors = case.errors(network)
    expected = engine_oracle.numeric_gradients(
        lambda: weighted_squares(case.errors(network), weights), network.arrays
    )
    optimizer, sums = descent(case.network, rate=RATE), []
    found = gradients_of(case.network.arrays, lambda: sums.append(case.run(optimizer, rows)))
    assert_gradients(found, expected)
    np.testing.assert_allclose(case.fields[ERRORS], errors, rtol=1e-5, atol=1e-5)
    norm = np.sqrt(sum((gradient**2).sum() for gradient in expected))
    exact = (weighted_squares(errors, weights), np.abs(errors).mean(), norm)
    assert sums[0][:3] == pytest.approx(exact, rel=1e-5)
    assert sums[0][3:] == (1, 0)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_dqn_of_every_activation(activation: int) -> None:
    case = DqnCase(2, activation=activation, is_by_outputs=False)
    network = Double(case.network)
    expected = engine_oracle.numeric_gradients(
        lambda: weighted_squares(case.errors(network), case.fields[WEIGHTS]), network.arrays
    )
    optimizer = descent(case.network, rate=RATE)
    found = gradients_of(case.network.arrays, lambda: case.run(optimizer, 12))
    assert_gradients(found, expected)


def test_no_allowed_action_is_worth_the_value_of_masked_ones() -> None:
    """As in the frameworks: -1e9, discounted."""
    case = DqnCase(3)
    case.fields[MASKS] = np.zeros((12, 3), bool)
    case.fields[DISCOUNTS][:] = 0.5
    case.run(descent(case.network, rate=0.0), 12)
    assert case.fields[ERRORS] == pytest.approx(-5e8, rel=1e-6)


def test_updates_of_dqn_are_one_after_the_other() -> None:
    """Bit for bit; sums are over them."""
    case, twin = DqnCase(4, rows=20), DqnCase(4, rows=20)
    whole = case.run(descent(case.network, rate=0.1), 4)
    optimizer = descent(twin.network, rate=0.1)
    rows = [part(twin.fields, slice(first, first + 4)) for first in range(0, 20, 4)]
    parts = [twin.run(optimizer, 4, fields) for fields in rows]
    assert bits(case.network.arrays) == bits(twin.network.arrays)
    assert bits([case.fields[ERRORS]]) == bits([np.concatenate([row[ERRORS] for row in rows])])
    np.testing.assert_allclose(whole, np.sum(parts, axis=0), rtol=1e-12)


def test_dqns_gradient_is_limited() -> None:
    case, twin = DqnCase(5), DqnCase(5)
    whole = gradients_of(
        case.network.arrays, lambda: case.run(descent(case.network, rate=RATE), 12)
    )
    optimizer = descent(twin.network, rate=RATE)
    limited = gradients_of(twin.network.arrays, lambda: twin.run(optimizer, 12, max_grad_norm=0.01))
    norm = np.sqrt(sum((gradient**2).sum() for gradient in whole))
    assert_gradients(limited, [0.01 / norm * gradient for gradient in whole], 1e-4)


@each_field
@not_finite
def test_a_batch_of_dqn_that_is_not_finite_changes_nothing(value: float, field: int) -> None:
    """As if it had not been there, but that it is counted, and its errors are NaN."""
    case, twin = DqnCase(6), DqnCase(6)
    case.fields[field][5] = value
    optimizer, other = descent(case.network, **adam), descent(twin.network, **adam)
    sums = case.run(optimizer, 4)
    rest = part(twin.fields, slice(0, 4), slice(8, 12))
    expected = twin.run(other, 4, rest)
    assert bits(optimizer.state) == bits(other.state)
    assert sums[:3] == expected[:3]
    assert (sums[3:], expected[3:]) == ((3, 1), (2, 0))
    errors = case.fields[ERRORS]
    assert np.isnan(errors[4:8]).all()
    assert bits([errors[:4], errors[8:]]) == bits([rest[ERRORS][:4], rest[ERRORS][4:]])


class TwinCase:
    """An actor, two critics, what makes their targets, and fields of `rows` rows."""

    def __init__(
        self, seed: int, is_sac: bool, rows: int = 12, size: int = 3, **settings: Any
    ) -> None:
        rng = np.random.default_rng(seed)
        outputs = 2 * size if is_sac else size
        self.is_sac, self.size = is_sac, size
        self.actor = net(rng, DIMS, 9, outputs, **settings)
        self.target_actor = net(rng, DIMS, 9, outputs, **settings)
        critics = [net(rng, DIMS + size, 8, 1, **settings) for _ in range(4)]
        self.critics, self.targets = critics[:2], critics[2:]
        self.log_alpha = np.array([-0.7], np.float32)
        self.fields = replay_fields(rng, rows)
        self.fields[ACTIONS] = np.tanh(normal(rng, rows, size))
        self.fields[NOISE] = normal(rng, rows, size) if is_sac else None
        self.fields[NEXT_NOISE] = normal(rng, rows, size)
        if not is_sac:
            self.fields[NEXT_NOISE] = np.clip(self.fields[NEXT_NOISE], -0.5, 0.5)

    @property
    def networks(self) -> list[Net]:
        return [self.actor, *self.critics, *self.targets, self.target_actor]

    def optimizers(
        self, of_actor: float = 0.0, of_critics: float = 0.0, of_alpha: float = 0.0
    ) -> list[Descent]:
        """Return those of plain gradient descent at these rates."""
        optimizers = [descent(self.actor, rate=of_actor), descent(*self.critics, rate=of_critics)]
        if self.is_sac:
            optimizers.append(Descent([self.log_alpha], rate=of_alpha))
        return optimizers

    def run(
        self,
        optimizers: list[Descent],
        batch: int,
        fields: Fields | None = None,
        tau: float = 0.0,
        until_actor: int = 1,
        delay: int = 1,
    ) -> tuple[Any, ...]:
        networks = tuple(one.engine for one in self.networks[:5])
        rows = tuple(self.fields if fields is None else fields)
        descents = tuple(one.engine for one in optimizers)
        found: Any
        if self.is_sac:
            found = engine.sac(networks, descents, self.log_alpha, workspace, rows, batch, tau)
        else:
            settings = (tau, until_actor, delay)
            target = self.target_actor.engine
            found = engine.td3(networks, descents, target, workspace, rows, batch, settings)
        return found  # type: ignore[no-any-return]


class TwinOracle:
    """A `TwinCase` in double precision, as it is now."""

    def __init__(self, case: TwinCase) -> None:
        self.fields, self.is_sac, self.size = case.fields, case.is_sac, case.size
        self.actor, self.target_actor = Double(case.actor), Double(case.target_actor)
        self.critics = [Double(critic) for critic in case.critics]
        self.alpha = float(np.exp(case.log_alpha[0].astype(float)))
        self.targets = self._targets([Double(target) for target in case.targets])

    def _targets(self, critics: list[Double]) -> Array:
        following, noise = self.fields[NEXT], self.fields[NEXT_NOISE]
        log_probs: Array | float = 0.0
        if self.is_sac:
            actions, log_probs = engine_oracle.draw(self.actor(following), noise)
        else:
            actions = np.clip(np.tanh(self.target_actor(following)) + noise, -1.0, 1.0)
        one, two = (self._values(critic, following, actions) for critic in critics)
        least = np.minimum(one, two) - self.alpha * log_probs
        return np.asarray(self.fields[REWARDS] + self.fields[DISCOUNTS] * least)

    @staticmethod
    def _values(critic: Double, observations: Array, actions: Array) -> Array:
        return critic(np.concatenate([observations, actions], axis=1))[:, 0]

    def errors(self, i: int) -> Array:
        observations, actions = self.fields[OBSERVATIONS], self.fields[ACTIONS]
        return np.asarray(self.targets - self._values(self.critics[i], observations, actions))

    def critic_loss(self) -> float:
        weights = self.fields[WEIGHTS]
        return sum(weighted_squares(self.errors(i), weights) for i in range(2))

    def policy(self) -> tuple[Array, Array]:
        """Return actions and log-densities, which are 0 for TD3."""
        outputs = self.actor(self.fields[OBSERVATIONS])
        if self.is_sac:
            return engine_oracle.draw(outputs, self.fields[NOISE])
        return np.tanh(outputs), np.zeros(len(outputs))

    def actor_loss(self) -> float:
        actions, log_probs = self.policy()
        values = [self._values(one, self.fields[OBSERVATIONS], actions) for one in self.critics]
        value = np.minimum(*values) if self.is_sac else values[0]
        return float((self.alpha * log_probs - value).mean())

    def alpha_gradient(self) -> float:
        """Of `mean(-alpha * (log_prob + target entropy))`, which is -A, by log alpha."""
        return float(-self.alpha * (self.policy()[1] - self.size).mean())


def gradients(loss: Callable[[], float], *nets: Double) -> list[Array]:
    return engine_oracle.numeric_gradients(loss, [array for one in nets for array in one.arrays])


either = pytest.mark.parametrize("is_sac", [True, False], ids=["sac", "td3"])


@either
@pytest.mark.parametrize("size", [1, 3, 8, 17])
@pytest.mark.parametrize("rows", [1, 7, 32])
def test_twin_critics(rows: int, size: int, is_sac: bool) -> None:
    case = TwinCase(1, is_sac, rows, size)
    oracle, sums = TwinOracle(case), []
    if not is_sac and rows == 32:
        smoothed = np.tanh(oracle.target_actor(case.fields[NEXT])) + case.fields[NEXT_NOISE]
        assert (np.abs(smoothed) > 1.0).any()
    expected = gradients(oracle.critic_loss, *oracle.critics)
    optimizers, arrays = (
        case.optimizers(of_critics=RATE),
        [a for c in case.critics for a in c.arrays],
    )
    found = gradients_of(arrays, lambda: sums.append(case.run(optimizers, rows)))
    assert_gradients(found, expected, 2e-5)
    errors = 0.5 * (np.abs(oracle.errors(0)) + np.abs(oracle.errors(1)))
    np.testing.assert_allclose(case.fields[ERRORS], errors, rtol=1e-4, atol=1e-5)
    norm = np.sqrt(sum((gradient**2).sum() for gradient in expected))
    assert sums[0][1:3] == pytest.approx((oracle.critic_loss(), norm), rel=1e-5)
    updates = 0 if is_sac else 1
    assert sums[0][5:] == (1, 0, updates, 0)


@either
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("is_by_outputs", [True, False])
@pytest.mark.parametrize("size", [1, 3, 17])
def test_actors(size: int, is_by_outputs: bool, activation: int, is_sac: bool) -> None:
    case = TwinCase(2, is_sac, 12, size, is_by_outputs=is_by_outputs, activation=activation)
    oracle, sums = TwinOracle(case), []
    expected = gradients(oracle.actor_loss, oracle.actor)
    optimizers = case.optimizers(of_actor=RATE)
    found = gradients_of(case.actor.arrays, lambda: sums.append(case.run(optimizers, 12)))
    assert_gradients(found, expected, 2e-5)
    assert sums[0][0] == pytest.approx(oracle.actor_loss(), rel=1e-5, abs=1e-5)
    if is_sac:
        exact = oracle.alpha, -oracle.policy()[1].mean()
        assert sums[0][3:5] == pytest.approx(exact, rel=1e-5, abs=1e-5)


def test_sacs_actor_with_log_std_beyond_its_limits() -> None:
    case = TwinCase(3, True, 12, 9)
    bias = case.actor.layers[-1][1]
    assert bias is not None
    bias[9:] += np.linspace(-8.0, 5.0, 9)
    outputs = Double(case.actor)(case.fields[OBSERVATIONS])
    assert (outputs[:, 9:] < -5.0).any()
    assert (outputs[:, 9:] > 2.0).any()
    oracle = TwinOracle(case)
    expected = gradients(oracle.actor_loss, oracle.actor)
    optimizers = case.optimizers(of_actor=RATE)
    found = gradients_of(case.actor.arrays, lambda: case.run(optimizers, 12))
    assert_gradients(found, expected, 1e-4)


def test_critics_that_agree_share_the_actors_gradient() -> None:
    case = TwinCase(4, True)
    case.critics[1] = case.critics[0].clone()
    oracle = TwinOracle(case)
    expected = gradients(oracle.actor_loss, oracle.actor)
    optimizers = case.optimizers(of_actor=RATE)
    assert_gradients(
        gradients_of(case.actor.arrays, lambda: case.run(optimizers, 12)), expected, 2e-5
    )


@pytest.mark.parametrize("rows", [1, 12])
def test_the_weight_of_the_entropy(rows: int) -> None:
    case = TwinCase(5, True, rows)
    expected = TwinOracle(case).alpha_gradient()
    optimizers = case.optimizers(of_alpha=RATE)
    found = gradients_of([case.log_alpha], lambda: case.run(optimizers, rows))
    assert found[0][0] == pytest.approx(expected, rel=1e-5)


@either
def test_an_update_goes_critics_actor_weight_targets(is_sac: bool) -> None:
    """The actor learns from the critics of just now, with the weight of before; targets follow last."""
    case, rate = TwinCase(6, is_sac, activation=RELU), 0.25
    oracle = TwinOracle(case)
    targets = [Double(one) for one in (*case.targets, case.target_actor)]
    for array, gradient in zip(
        (array for critic in oracle.critics for array in critic.arrays),
        gradients(oracle.critic_loss, *oracle.critics),
        strict=True,
    ):
        array -= rate * gradient
    of_alpha, of_actor = oracle.alpha_gradient(), gradients(oracle.actor_loss, oracle.actor)
    for array, gradient in zip(oracle.actor.arrays, of_actor, strict=True):
        array -= rate * gradient
    for target, source in zip(targets, (*oracle.critics, oracle.actor), strict=True):
        for to, of in zip(target.arrays, source.arrays, strict=True):
            to += 0.1 * (of - to)
    if is_sac:
        targets[2] = Double(case.target_actor)
    log_alpha = float(case.log_alpha[0]) - rate * of_alpha
    rates = (rate, rate, rate) if is_sac else (rate, rate)
    case.run(case.optimizers(*rates), 12, tau=0.1)
    expected = [oracle.actor, *oracle.critics, *targets]
    for network, exact in zip(case.networks, expected, strict=True):
        for array, other in zip(network.arrays, exact.arrays, strict=True):
            np.testing.assert_allclose(array, other, rtol=1e-5, atol=1e-5)
    assert not is_sac or case.log_alpha[0] == pytest.approx(log_alpha, rel=1e-5)


@either
def test_updates_are_one_after_the_other(is_sac: bool) -> None:
    case, twin = TwinCase(7, is_sac, rows=20), TwinCase(7, is_sac, rows=20)
    whole = case.run(case.optimizers(0.1, 0.1, 0.1), 4, tau=0.1)
    optimizers = twin.optimizers(0.1, 0.1, 0.1)
    rows = [part(twin.fields, slice(first, first + 4)) for first in range(0, 20, 4)]
    parts = [twin.run(optimizers, 4, fields, tau=0.1) for fields in rows]
    for one, other in zip(case.networks, twin.networks, strict=True):
        assert bits(one.arrays) == bits(other.arrays)
    assert bits([case.fields[ERRORS]]) == bits([np.concatenate([row[ERRORS] for row in rows])])
    np.testing.assert_allclose(whole, np.sum(parts, axis=0), rtol=1e-12)


@either
def test_the_same_updates_twice_give_the_same_bits(is_sac: bool) -> None:
    results = []
    for _ in range(2):
        case = TwinCase(8, is_sac, rows=21, size=5)
        sums = case.run(case.optimizers(0.1, 0.1, 0.1), 7, tau=0.1)
        arrays = [array for one in case.networks for array in one.arrays]
        results.append((sums, bits([*arrays, case.log_alpha, case.fields[ERRORS]])))
    assert results[0] == results[1]


@pytest.mark.parametrize(("until_actor", "delay"), [(1, 2), (2, 2), (3, 3), (1, 1), (7, 1), (2, 4)])
def test_td3s_actor_and_targets_move_with_every_delayed_update(
    until_actor: int, delay: int
) -> None:
    case, twin = TwinCase(9, False, rows=24), TwinCase(9, False, rows=24)
    whole = case.run(case.optimizers(0.1, 0.1), 4, tau=0.1, until_actor=until_actor, delay=delay)
    optimizers, parts = twin.optimizers(0.1, 0.1), []
    for i in range(6):
        moves = i + 1 >= until_actor and (i + 1 - until_actor) % delay == 0
        others = [twin.actor, twin.target_actor, *twin.targets]
        before = [bits(one.arrays) for one in others]
        fields = part(twin.fields, slice(4 * i, 4 * i + 4))
        parts.append(twin.run(optimizers, 4, fields, tau=0.1, until_actor=1 if moves else 2))
        for one, old in zip(others, before, strict=True):
            assert (bits(one.arrays) != old) == moves
    for one, other in zip(case.networks, twin.networks, strict=True):
        assert bits(one.arrays) == bits(other.arrays)
    np.testing.assert_allclose(whole, np.sum(parts, axis=0), rtol=1e-12)


@either
@each_field
@not_finite
def test_critics_skip_what_is_not_finite(value: float, field: int, is_sac: bool) -> None:
    """Their weights and moments stay; the actor goes its own way, and the sums leave the update out."""
    if field == OBSERVATIONS:  # of which everything is NaN
        value = np.nan
    case = TwinCase(10, is_sac)
    case.fields[field][5] = value
    optimizers = [descent(case.actor, **adam), descent(*case.critics, **adam)]
    if is_sac:
        optimizers.append(Descent([case.log_alpha], **adam))
    before = [bits(one.state) for one in optimizers]
    sums = case.run(optimizers, 12, tau=0.1)
    after = [bits(one.state) for one in optimizers]
    assert after[1] == before[1]
    for i in (0, 2)[: 2 if is_sac else 1]:
        assert (after[i] == before[i]) == (field == OBSERVATIONS)
    assert np.isnan(case.fields[ERRORS]).all()
    assert sums == (0.0, 0.0, 0.0, 0.0, 0.0, 1, 1, *((0, 0) if is_sac else (1, 1)))


def test_sacs_actor_skips_noise_that_is_not_finite() -> None:
    """Critics learn; actor and weight stay, moments included."""
    case = TwinCase(11, True)
    case.fields[NOISE][5, 1] = np.nan
    optimizers = [descent(case.actor, **adam), descent(*case.critics, **adam)]
    optimizers.append(Descent([case.log_alpha], **adam))
    before = [bits(one.state) for one in optimizers]
    sums = case.run(optimizers, 12)
    after = [bits(one.state) for one in optimizers]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, True]
    assert np.isfinite(case.fields[ERRORS]).all()
    assert sums == (0.0, 0.0, 0.0, 0.0, 0.0, 1, 1, 0, 0)


@either
def test_sums_are_over_updates_made_only(is_sac: bool) -> None:
    """Skipped ones first, so that the networks are as they were."""
    case, twin = TwinCase(12, is_sac), TwinCase(12, is_sac)
    case.fields[REWARDS][1] = np.nan
    still, other = case.optimizers(), twin.optimizers()
    sums = case.run(still, 4)
    rest = part(twin.fields, slice(4, 8), slice(8, 12))
    expected = twin.run(other, 4, rest)
    assert sums[:5] == expected[:5]
    assert (sums[5:7], expected[5:7]) == ((3, 1), (2, 0))
    assert bits([case.fields[ERRORS][4:]]) == bits([rest[ERRORS]])


@pytest.mark.parametrize("rate", [0.0, 0.005, 0.3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("sizes", [(1, 1), (3, 7, 2), (16, 17, 33)], ids=str)
def test_blending(sizes: tuple[int, ...], rate: float) -> None:
    rng = np.random.default_rng(13)
    target, source = net(rng, *sizes), net(rng, *sizes)
    olds = [array.astype(float) for array in target.arrays]
    engine.blend(target.engine, source.engine, rate)
    for old, new, to in zip(olds, target.arrays, source.arrays, strict=True):
        np.testing.assert_allclose(new, old + rate * (to - old), rtol=1e-6, atol=1e-6)
    if rate == 1.0:
        assert bits(target.arrays) == bits(source.arrays)
