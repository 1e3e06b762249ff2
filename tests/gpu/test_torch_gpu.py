"""PyTorch on a GPU: the contract, recorded updates, and how often host and device wait for each other."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("PyTorch sees no GPU", allow_module_level=True)

from tensor_optix.adapters.pytorch import backend
from tensor_optix.adapters.pytorch.cuda import CudaPlace, Staging, cuda_backend
from tensor_optix.algorithms.torch_ppo import TorchPPOAgent
from tensor_optix.core.types import HyperparamSet
from tests.frameworks import load
from tests.gpu.gpu_contract import (
    CASES,
    GPU,
    WINDOWS,
    Case,
    GpuContract,
    assert_alike,
    assert_says_alike,
)

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def full_precision():
    """Products in float32 as the CPU makes them, not in TF32."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


class TestTorchGpu(GpuContract):
    framework = "torch"

    def place(self, variable: Any) -> str:
        return str(variable.device)


@pytest.fixture
def make_with(monkeypatch):
    """A function that makes an agent with other functions for updates on a GPU."""
    prepare = backend.prepare

    def make(case: Case, kind: str) -> Any:
        def prepared(networks: Any, device: str, compile: bool) -> Any:
            ops = prepare(networks, device, compile)
            if kind == "recorded":
                return ops
            place = CudaPlace(backend.resolve_device(device))
            return backend if kind == "eager" else cuda_backend(backend, place, records=False)

        with monkeypatch.context() as patch:
            patch.setattr(backend, "prepare", prepared)
            return case.agent("torch", GPU)

    return make


@pytest.mark.parametrize("name", CASES)
def test_updates_are_recorded_and_those_of_plain_pytorch(name, make_with, caplog):
    case = CASES[name]
    agents = [make_with(case, kind) for kind in ("eager", "waiting for nothing", "recorded")]
    with caplog.at_level(logging.WARNING):
        for seed in range(3):
            first, *others = (agent.learn(case.window(seed)) for agent in agents)
            for other in others:
                assert_says_alike(other, first)
    for agent in agents[1:]:
        assert_alike(agent, agents[0])
    assert not [r for r in caplog.records if "CUDA graph" in r.getMessage()]
    assert getattr(agents[2], case.loop)._recorded._replay is not None
    assert getattr(agents[1], case.loop)._recorded._replay is None


def waits_of(agent: Any, updates: int) -> int:
    """Return how often the host waited for the device in one call of PPO's loop."""
    rng, rows = np.random.default_rng(0), 8 * updates
    fields = {
        "observations": rng.standard_normal((rows, 4), np.float32),
        "actions": rng.integers(0, 3, rows),
        "log_probs": rng.uniform(-2.0, 0.0, rows).astype(np.float32),
        "advantages": rng.standard_normal(rows, np.float32),
        "returns": rng.standard_normal(rows, np.float32),
    }
    numbers = {"clip_ratio": 0.2, "vf_coef": 0.5, "entropy_coef": 0.01, "max_grad_norm": 0.5}
    agent._epoch(fields, 8, numbers)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            agent._epoch(fields, 8, numbers)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(one.message) for one in caught)


@pytest.mark.parametrize("kind", ["waiting for nothing", "recorded"])
def test_the_host_does_not_wait_for_single_updates(kind, make_with):
    agent = make_with(CASES["ppo"], kind)
    assert waits_of(agent, 5) == waits_of(agent, 50) <= 3


def test_a_window_goes_to_the_gpu_once_whatever_the_number_of_passes(monkeypatch):
    staged, moved = [], []
    copy, to = Staging._copy, torch.Tensor.to

    def counted_to(self: Any, *arguments: Any, **options: Any) -> Any:
        found = to(self, *arguments, **options)
        if found.is_cuda and not self.is_cuda and self.is_floating_point():
            moved.append(tuple(self.shape))
        return found

    def counted_copy(self: Any, name: str, array: Any) -> Any:
        staged.append(name)
        return copy(self, name, array)

    monkeypatch.setattr(Staging, "_copy", counted_copy)
    monkeypatch.setattr(torch.Tensor, "to", counted_to)
    counts = []
    for epochs in (2, 7):
        agent = CASES["ppo of images"]._replace(params=WINDOWS | {"n_epochs": epochs})
        learner = agent.agent("torch", GPU)
        learner.learn(agent.window())
        staged.clear()
        moved.clear()
        learner.learn(agent.window(1))
        # The numbers of the loss are few, and go there with each pass.
        counts.append((sorted(staged), len([shape for shape in moved if shape != (4,)])))
    assert counts[0] == counts[1]
    assert counts[0][0] == ["actions", "advantages", "log_probs", "observations", "returns"]


def test_the_learning_rate_follows_in_recorded_updates(make_with):
    case = CASES["ppo"]
    agents = [make_with(case, kind) for kind in ("eager", "recorded")]
    for seed, rate in enumerate((1e-3, 5e-3, 1e-4)):
        for agent in agents:
            agent.set_hyperparams(HyperparamSet({"learning_rate": rate}))
            agent.learn(case.window(seed))
    assert_alike(*agents, tolerance=5e-4)


def test_compiled_updates_are_the_eager_ones():
    framework = load("torch")

    def make(compile: bool) -> Any:
        actor, critic = framework.perceptron((4, 16, 3)), framework.perceptron((4, 16, 1), 1)
        adam = framework.adam(1e-3, actor, critic)
        params = HyperparamSet(WINDOWS)
        agent = TorchPPOAgent(actor, critic, adam, params, device=GPU, compile=compile)
        agent.seed(0)
        return agent

    compiled, eager = make(True), make(False)
    for seed in range(2):
        window = CASES["ppo"].window(seed)
        assert_says_alike(compiled.learn(window), eager.learn(window))
    assert_alike(compiled, eager)
