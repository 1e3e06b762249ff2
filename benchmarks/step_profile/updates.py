"""Whole updates of each algorithm by the engine's functions, and what they are made of."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from benchmarks.peers.settings import DQN, PPO, SAC
from benchmarks.step_profile.measure import microseconds
from tensor_optix.adapters.native.optimizers import NativeAdam
from tensor_optix.adapters.native.perceptron import Perceptron
from tensor_optix.kernels import engine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from benchmarks.peers.settings import Settings
    from benchmarks.step_profile.measure import Call

    Array = NDArray[Any]
    Sizes = tuple[int, ...]

CALL = 64
"""Batches of a call that makes many updates."""
DQN_NORM = 10.0
ADAM_PASSES, BLEND_PASSES = 7, 3
"""Floats moved for each weight: Adam reads gradient, weight and moments, and writes the last three."""


@dataclass(frozen=True)
class Product:
    """One of a pass: `[rows, inner]` times `[inner, columns]`, in the layout that the pass has."""

    rows: int
    inner: int
    columns: int
    of: Literal["outputs", "weights", "inputs"]

    @property
    def operations(self) -> int:
        """Multiplications and additions."""
        return 2 * self.rows * self.inner * self.columns

    def call(self, workspace: Any) -> Call:
        """Return the engine's."""
        rng = np.random.default_rng(0)
        is_left_turned, is_right_turned = self.of == "weights", self.of == "outputs"
        left = normal(rng, *_turned(self.rows, self.inner, is_left_turned))
        right = normal(rng, *_turned(self.inner, self.columns, is_right_turned))
        bias = normal(rng, self.columns) if self.of == "outputs" else None
        result = np.empty((self.rows, self.columns), np.float32)
        sides = (left, is_left_turned, right, is_right_turned)
        return partial(engine.product, *sides, bias, result, workspace)


def _turned(rows: int, columns: int, is_turned: bool) -> tuple[int, int]:
    return (columns, rows) if is_turned else (rows, columns)


def forward(sizes: Sizes, rows: int) -> list[Product]:
    """Return the products of a pass forward."""
    return [Product(rows, inner, outer, "outputs") for inner, outer in pairwise(sizes)]


def weight_gradients(sizes: Sizes, rows: int) -> list[Product]:
    """Return the products that give the gradients of all weights."""
    return [Product(outer, rows, inner, "weights") for inner, outer in pairwise(sizes)]


def input_gradients(sizes: Sizes, rows: int, columns: int = 0) -> list[Product]:
    """Return those that give the gradients of what layers take; of the first one's, of some columns only."""
    layers = list(pairwise(sizes))
    first = [Product(rows, layers[0][1], columns, "inputs")] if columns else []
    return first + [Product(rows, outer, inner, "inputs") for inner, outer in layers[1:]]


def learning(sizes: Sizes, rows: int) -> list[Product]:
    """Return the products of a pass forward and backward."""
    makers = (forward, weight_gradients, input_gradients)
    return [product for make in makers for product in make(sizes, rows)]


@dataclass(frozen=True)
class Update:
    """One update of an algorithm.

    Attributes:
        whole: Makes some updates.
        made: How many.
        products: Of one update.
        stepped: Sizes of the networks that Adam moves.
        blended: Sizes of those that targets follow, with each update.
    """

    whole: Call
    made: int
    products: Sequence[Product]
    stepped: Sequence[Sizes]
    blended: Sequence[Sizes] = ()

    @property
    def operations(self) -> int:
        """Those of the products."""
        return sum(product.operations for product in self.products)

    def products_time(self) -> float:
        """Measure the products, one by one, without what it costs Python to call so many functions."""
        workspace = engine.Workspace()
        calls = [product.call(workspace) for product in self.products]
        nothing = Product(1, 1, 1, "outputs").call(workspace)
        calling = microseconds(lambda: [nothing() for _ in calls])
        return microseconds(lambda: [call() for call in calls]) - calling

    def optimizer_time(self) -> float:
        """Measure Adam's steps: an update with a single row, less one that is left out for its NaN."""
        return sum(_adam_time(sizes) for sizes in self.stepped)

    def blend_time(self) -> float:
        """Measure the steps of the targets."""
        pairs = [(bound(network(sizes)), bound(network(sizes))) for sizes in self.blended]
        return microseconds(lambda: [engine.blend(*pair, 0.005) for pair in pairs]) if pairs else 0

    @property
    def adam_bytes(self) -> int:
        """What Adam reads and writes."""
        return 4 * ADAM_PASSES * sum(map(num_weights, self.stepped))

    @property
    def blend_bytes(self) -> int:
        """What the targets' steps read and write."""
        return 4 * BLEND_PASSES * sum(map(num_weights, self.blended))


def normal(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape, np.float32)


def num_weights(sizes: Sizes) -> int:
    return sum((inner + 1) * outer for inner, outer in pairwise(sizes))


def network(sizes: Sizes, activation: Literal["tanh", "relu"] = "relu") -> Perceptron:
    return Perceptron(sizes[0], sizes[-1], sizes[1:-1], activation, seed=0)


def bound(one: Perceptron) -> Any:
    """Return the engine's view of a network."""
    return engine.Perceptron([tuple(layer) for layer in one.layers()])


def adam(weights: Sequence[Array]) -> Any:
    """Return the engine's Adam, of a rate of 0, so that every call computes the same."""
    optimizer = NativeAdam(0.0)
    optimizer.bind("optimizer", weights)
    leaves = [tuple(leaf) for leaf in optimizer.leaves()]
    rule = int(optimizer.rule), optimizer.is_decoupled, optimizer.is_nesterov
    made = engine.Optimizer(*rule, leaves, optimizer.step)
    made.set(*dataclasses.astuple(optimizer.settings()))
    return made


def _adam_time(sizes: Sizes) -> float:
    one = network(sizes)
    observations = normal(np.random.default_rng(0), 1, sizes[0])
    parts = (bound(one), adam(one.weights), engine.Workspace(), observations)
    actions = np.zeros((1, 1), np.int64)
    times = [
        microseconds(partial(engine.policy_gradient, *parts, actions, np.full(1, goal, np.float32)))
        for goal in (1.0, math.nan)
    ]
    return times[0] - times[1]


def update_of(settings: Settings, dims: int, actions: int) -> Update:
    """Return an update with the networks and batches of some settings.

    Args:
        settings: Of the case.
        dims: Numbers of an observation.
        actions: How many there are; negative: how many numbers one has.
    """
    if isinstance(settings, PPO):
        return _ppo(settings, dims, actions)
    if isinstance(settings, DQN):
        return _dqn(settings, dims, actions)
    return _sac(settings, dims, -actions)


def _ppo(settings: PPO, dims: int, actions: int) -> Update:
    rng, rows = np.random.default_rng(0), settings.rows
    hidden, is_discrete = settings.hidden_sizes, actions > 0
    outputs = actions if is_discrete else -2 * actions
    sizes = [(dims, *hidden, outputs), (dims, *hidden, 1)]
    actor, critic = (network(one, "tanh") for one in sizes)
    taken = (
        rng.integers(0, actions, (rows, 1)) if is_discrete else 0.5 * normal(rng, rows, -actions)
    )
    old = np.full(rows, -math.log(max(actions, 2)), np.float32)
    fields = (normal(rng, rows, dims), taken, None, old, normal(rng, rows), normal(rng, rows))
    numbers = (settings.clip, settings.vf_coef, settings.entropy_coef, settings.max_grad_norm)
    whole = partial(
        engine.ppo,
        *(bound(actor), bound(critic), adam([*actor.weights, *critic.weights])),
        *(engine.Workspace(), fields, (actions,) if is_discrete else ()),
        (settings.minibatch, *numbers),
    )
    products = [product for one in sizes for product in learning(one, settings.minibatch)]
    return Update(whole, math.ceil(rows / settings.minibatch), products, sizes)


def _replay_rows(
    rows: int, dims: int, actions: Array, noises: tuple[Array | None, Array | None]
) -> tuple[Array | None, ...]:
    rng = np.random.default_rng(1)
    ones = np.ones(rows, np.float32)
    observations, following = normal(rng, rows, dims), normal(rng, rows, dims)
    rewards, td_errors = normal(rng, rows), np.empty(rows, np.float32)
    fields = (observations, actions, rewards, following, 0.99 * ones, ones, None)
    return (*fields, *noises, td_errors)


def _dqn(settings: DQN, dims: int, actions: int) -> Update:
    sizes = (dims, *settings.hidden_sizes, actions)
    online, target = network(sizes), network(sizes)
    rows = CALL * settings.batch
    taken = np.random.default_rng(0).integers(0, actions, (rows, 1))
    whole = partial(
        engine.dqn,
        *(bound(online), bound(target), adam(online.weights), engine.Workspace()),
        *(_replay_rows(rows, dims, taken, (None, None)), settings.batch),
        (DQN_NORM, settings.target_every, settings.target_every),
    )
    products = forward(sizes, settings.batch) + learning(sizes, settings.batch)
    return Update(whole, CALL, products, [sizes])


def _sac(settings: SAC, dims: int, size: int) -> Update:
    rng, rows = np.random.default_rng(0), settings.batch
    of_actor = (dims, *settings.hidden_sizes, 2 * size)
    of_critic = (dims + size, *settings.hidden_sizes, 1)
    actor, *others = (network(one) for one in (of_actor, *4 * [of_critic]))
    log_alpha = np.zeros(1, np.float32)
    optimizers = (actor.weights, others[0].weights + others[1].weights, [log_alpha])
    noises = (normal(rng, rows, size), normal(rng, rows, size))
    fields = _replay_rows(rows, dims, np.tanh(normal(rng, rows, size)), noises)
    whole = partial(
        engine.sac,
        tuple(bound(one) for one in (actor, *others)),
        tuple(adam(weights) for weights in optimizers),
        *(log_alpha, engine.Workspace(), fields, rows, settings.tau),
    )
    # The targets' values; each critic's update; the gradients of its values with respect to actions.
    critic = forward(of_critic, rows) + learning(of_critic, rows)
    critic += forward(of_critic, rows) + input_gradients(of_critic, rows, size)
    products = forward(of_actor, rows) + learning(of_actor, rows) + 2 * critic
    stepped = [of_actor, of_critic, of_critic]
    return Update(whole, 1, products, stepped, [of_critic, of_critic])
