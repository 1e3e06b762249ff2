"""The engine's products and a pass of PPO, against NumPy and PyTorch, on one thread.

Each row says which share of the machine's rate of products it reaches: that of 1024 x 1024 matrices in
float32, by NumPy's or PyTorch's BLAS, whichever is faster, in the same run.
"""

from __future__ import annotations

import math
import os
import time
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tensor_optix.kernels import engine
from tests.kernels.engine_parts import ADAM, Net, descent, net, normal

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from pytest_benchmark.fixture import BenchmarkFixture

    Array = NDArray[Any]
    Call = Callable[[], Any]

torch = pytest.importorskip("torch")
if os.environ.get("OMP_NUM_THREADS") != "1":
    pytest.skip("rates are of one thread: set OMP_NUM_THREADS=1", allow_module_level=True)
torch.set_num_threads(1)

LARGE = 1024
ROWS, MINIBATCH, DIMS, ACTIONS = 2048, 64, 4, 2
HIDDEN = (64, 64)
CLIP_RATIO, VF_COEF, ENTROPY_COEF, MAX_GRAD_NORM = 0.2, 0.5, 0.01, 0.5


@lru_cache
def gemm_rate() -> float:
    """Return the floating-point operations per second of the faster BLAS."""
    rng = np.random.default_rng(0)
    left, right = normal(rng, LARGE, LARGE), normal(rng, LARGE, LARGE)
    first, second = torch.from_numpy(left), torch.from_numpy(right)
    best = math.inf
    for call in 10 * (partial(np.matmul, left, right), partial(torch.matmul, first, second)):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return float(2 * LARGE**3 / best)


def product(contender: str, size: int) -> tuple[Call, int]:
    """Return a product of square matrices, and the operations that it takes."""
    rng = np.random.default_rng(1)
    left, right, result = (normal(rng, size, size) for _ in range(3))
    first, second, third = (torch.from_numpy(matrix) for matrix in (left, right, result))
    workspace = engine.Workspace()
    calls: dict[str, Call] = {
        "native": partial(engine.product, left, False, right, False, None, result, workspace),
        "numpy": partial(np.matmul, left, right, out=result),
        "torch": partial(torch.matmul, first, second, out=third),
    }
    return calls[contender], 2 * size**3


def operations(*nets: Net) -> int:
    """Return those of the products of a pass forward and backward over all rows."""
    sizes = [[weight.size for weight, *_ in one.layers] for one in nets]
    # Nobody asks for the gradient with respect to observations.
    return 2 * ROWS * sum(3 * sum(of_net) - of_net[0] for of_net in sizes)


def ppo(contender: str, size: int) -> tuple[Call, int]:
    """Return a pass of PPO as CartPole has it, of `size` rows, and the operations of its products."""
    rng = np.random.default_rng(2)
    actor, critic = net(rng, DIMS, *HIDDEN, ACTIONS), net(rng, DIMS, *HIDDEN, 1)
    actions = rng.integers(0, ACTIONS, (size, 1))
    observations, advantages, returns = (
        normal(rng, size, DIMS),
        normal(rng, size),
        normal(rng, size),
    )
    log_probs = np.full(size, math.log(0.5), np.float32)
    fields = [observations, actions, None, log_probs, advantages, returns]
    numbers = {"rate": 3e-4, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-5}
    optimizer = descent(actor, critic, rule=ADAM, **numbers)
    settings = (MINIBATCH, CLIP_RATIO, VF_COEF, ENTROPY_COEF, MAX_GRAD_NORM)
    objects = actor.engine, critic.engine, optimizer.engine, engine.Workspace()
    if contender == "native":
        call: Call = partial(engine.ppo, *objects, tuple(fields), (ACTIONS,), settings)
    else:
        call = torch_pass(actor, critic, fields)
    return call, operations(actor, critic)


def torch_pass(actor: Net, critic: Net, fields: list[Any]) -> Call:
    """Return the same pass as one would write it in PyTorch."""
    modules = [torch_module(one) for one in (actor, critic)]
    parameters = [list(module.parameters()) for module in modules]
    optimizer = torch.optim.Adam([*parameters[0], *parameters[1]], lr=3e-4, eps=1e-5)
    tensors = [torch.from_numpy(field) for field in fields if field is not None]

    def run() -> None:
        for parts in zip(*(tensor.split(MINIBATCH) for tensor in tensors), strict=True):
            optimizer.zero_grad()
            torch_loss(modules[0](parts[0]), modules[1](parts[0])[:, 0], parts).backward()
            for of_net in parameters:
                torch.nn.utils.clip_grad_norm_(of_net, MAX_GRAD_NORM)
            optimizer.step()

    return run


def torch_module(one: Net) -> Any:
    layers: list[Any] = []
    for weight, bias, _, _ in one.layers:
        linear = torch.nn.Linear(weight.shape[1], weight.shape[0])
        linear.weight.data, linear.bias.data = torch.from_numpy(weight), torch.from_numpy(bias)
        layers += [linear, torch.nn.Tanh()]
    return torch.nn.Sequential(*layers[:-1])


def torch_loss(logits: Any, values: Any, parts: tuple[Any, ...]) -> Any:
    _, actions, old_log_probs, advantages, returns = parts
    log_probs = torch.log_softmax(logits, -1)
    ratio = torch.exp(log_probs.gather(1, actions)[:, 0] - old_log_probs)
    clipped = ratio.clamp(1.0 - CLIP_RATIO, 1.0 + CLIP_RATIO)
    policy_loss = -torch.minimum(ratio * advantages, clipped * advantages).mean()
    entropy = -(log_probs.exp() * log_probs).sum(-1).mean()
    return policy_loss + VF_COEF * (values - returns).square().mean() - ENTROPY_COEF * entropy


CASES = [
    *(
        (product, size, contender)
        for size in (64, 256)
        for contender in ("native", "numpy", "torch")
    ),
    *((ppo, ROWS, contender) for contender in ("native", "torch")),
]


@pytest.mark.parametrize(("case", "size", "contender"), CASES)
def test_engine(
    benchmark: BenchmarkFixture,
    case: Callable[[str, int], tuple[Call, int]],
    size: int,
    contender: str,
) -> None:
    call, count = case(contender, size)
    call()
    benchmark.group = f"{case.__name__} {size}"
    benchmark(call)
    best = benchmark.stats.stats.min
    benchmark.extra_info["microseconds"] = round(best * 1e6, 2)
    benchmark.extra_info["share_of_gemm"] = round(count / best / gemm_rate(), 3)
