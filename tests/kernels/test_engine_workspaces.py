"""Workspaces: what memory or how many threads a call has changes no bit of what it makes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tensor_optix.kernels import engine
from tests.kernels.engine_parts import ADAM, UNLIMITED, bits, descent, net, normal

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[Any]

DIMS, SIZE, ROWS = 5, 3, 24
adam = {"rule": ADAM, "rate": 1e-2, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8}
Results = tuple[Any, list[bytes]]


def ppo(workspace: Any, hidden: int) -> Results:
    rng = np.random.default_rng(1)
    actor, critic = net(rng, DIMS, hidden, hidden, SIZE), net(rng, DIMS, hidden, hidden, 1)
    optimizer = descent(actor, critic, **adam)
    actions, fields = rng.integers(0, SIZE, (ROWS, 1)), [normal(rng, ROWS) for _ in range(3)]
    batch = (normal(rng, ROWS, DIMS), actions, None, *fields)
    objects = actor.engine, critic.engine, optimizer.engine, workspace
    sums = engine.ppo(*objects, batch, (SIZE,), (10, 0.2, 0.5, 0.01, 0.5))
    return sums, bits(optimizer.state)


def replay(rng: np.random.Generator) -> list[Any]:
    fields: list[Any] = [normal(rng, ROWS, DIMS), None, normal(rng, ROWS), normal(rng, ROWS, DIMS)]
    ones = np.ones(ROWS, np.float32)
    return [*fields, ones * 0.9, ones, None, None, None, np.zeros(ROWS, np.float32)]


def dqn(workspace: Any, hidden: int) -> Results:
    rng = np.random.default_rng(2)
    network, target = (net(rng, DIMS, hidden, hidden, SIZE) for _ in range(2))
    optimizer, fields = descent(network, **adam), replay(rng)
    fields[1] = rng.integers(0, SIZE, (ROWS, 1))
    objects = network.engine, target.engine, optimizer.engine, workspace
    sums = engine.dqn(*objects, tuple(fields), 8, UNLIMITED)
    return sums, bits([*optimizer.state, fields[9]])


def twins(workspace: Any, hidden: int, is_sac: bool) -> Results:
    rng = np.random.default_rng(3)
    outputs = 2 * SIZE if is_sac else SIZE
    actor, target_actor = (net(rng, DIMS, hidden, hidden, outputs) for _ in range(2))
    critics = [net(rng, DIMS + SIZE, hidden, hidden, 1) for _ in range(4)]
    log_alpha, fields = np.zeros(1, np.float32), replay(rng)
    fields[1] = np.tanh(normal(rng, ROWS, SIZE))
    fields[7:9] = normal(rng, ROWS, SIZE), normal(rng, ROWS, SIZE)
    optimizers = [descent(actor, **adam), descent(*critics[:2], **adam)]
    descents = tuple(one.engine for one in optimizers)
    networks = tuple(one.engine for one in (actor, *critics))
    if is_sac:
        leaf = [(log_alpha, None, None, None)]
        of_alpha = engine.Optimizer(2, False, False, leaf, None)
        of_alpha.set(0.1, 0.0, 0.0, 0.0, 0.0)
        rest = log_alpha, workspace, tuple(fields), 8, 0.1
        sums = engine.sac(networks, (*descents, of_alpha), *rest)
    else:
        rest = target_actor.engine, workspace, tuple(fields), 8, (0.1, 2, 2)
        sums = engine.td3(networks, descents, *rest)
    arrays = [array for one in (*critics, target_actor) for array in one.arrays]
    state = [array for one in optimizers for array in one.state]
    return sums, bits([*arrays, *state, log_alpha, fields[9]])


def sac(workspace: Any, hidden: int) -> Results:
    return twins(workspace, hidden, True)


def td3(workspace: Any, hidden: int) -> Results:
    return twins(workspace, hidden, False)


def forward(workspace: Any, hidden: int) -> Results:
    rng = np.random.default_rng(4)
    network, inputs = net(rng, DIMS, hidden, hidden, SIZE), normal(rng, 700, DIMS)
    outputs = np.empty((700, SIZE), np.float32)
    engine.forward(network.engine, inputs, outputs, workspace)
    return None, bits([outputs])


CALLS: list[Callable[[Any, int], Results]] = [ppo, dqn, sac, td3, forward]
each_call = pytest.mark.parametrize("call", CALLS)


@each_call
@pytest.mark.parametrize("hidden", [4, 64, 130])
def test_two_threads_give_the_bits_of_one(call: Callable[[Any, int], Results], hidden: int) -> None:
    expected = call(engine.Workspace(), hidden)
    for workspace in (engine.Workspace(2), engine.Workspace(threads=1)):
        assert [call(workspace, hidden) for _ in range(5)] == [expected] * 5


@each_call
def test_a_workspace_of_larger_calls_gives_the_same_bits(
    call: Callable[[Any, int], Results],
) -> None:
    expected, workspace = call(engine.Workspace(), 20), engine.Workspace()
    for other in CALLS:
        other(workspace, 100)
        assert call(workspace, 20) == expected


@pytest.mark.parametrize("threads", [1, 2])
def test_calls_at_once_take_turns_in_a_workspace(threads: int) -> None:
    """An agent acts in one thread and learns in another."""
    workspace, wrong = engine.Workspace(threads), []

    def go_on(call: Callable[[Any, int], Results], hidden: int) -> None:
        expected = call(engine.Workspace(), hidden)
        wrong.extend([call for _ in range(40) if call(workspace, hidden) != expected])

    sizes = zip(CALLS, (200, 100, 50, 150, 256), strict=True)
    callers = [threading.Thread(target=go_on, args=pair) for pair in sizes]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


@pytest.mark.parametrize("threads", [-1, "two", None, 1.5, 2**70])
def test_a_number_of_threads_that_is_none(threads: Any) -> None:
    with pytest.raises(TypeError):
        engine.Workspace(threads)


def test_workspaces_of_two_threads_come_and_go() -> None:
    """Used or not."""
    for _ in range(50):
        engine.Workspace(2)
        ppo(engine.Workspace(2), 4)
