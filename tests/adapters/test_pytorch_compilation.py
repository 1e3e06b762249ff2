"""Compiled updates on PyTorch: they compute what eager ones do, and give way to them where they fail."""

from __future__ import annotations

import logging
import math
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn

from tensor_optix.adapters.pytorch import backend
from tensor_optix.adapters.pytorch.compilation import (
    CompiledGradientDescent,
    Compiler,
    InductorFunction,
    compiled_backend,
)
from tensor_optix.algorithms.torch_ppo import TorchPPOAgent
from tensor_optix.core.types import HyperparamSet
from tests.algorithms import small_dqn, small_ppo, small_sac

SOURCE = "tensor_optix.adapters.pytorch.compilation"


def make_compiled(small: Any, **params: Any) -> Any:
    """Return the agent of a module of small ones with compiled updates."""
    return small.make_agent(compile=True, **params)


def weights_of(agent: Any) -> list[Any]:
    """Return copies of the weights of an agent's networks and targets."""
    networks = [*agent._networks.values(), *(target for target, _ in agent._targets.values())]
    return [p.detach().clone() for network in networks for p in network.parameters()]


def assert_close(weights: list[Any], expected: list[Any], rtol: float) -> None:
    torch.testing.assert_close(weights, expected, rtol=rtol, atol=rtol)


def compiled_count(agent: Any) -> int:
    descents = [v for v in vars(agent).values() if isinstance(v, CompiledGradientDescent)]
    return int(descents[0]._compiled._compiler.count)


def warnings_of(caplog: Any) -> list[Any]:
    """Return what the package warned of: the compiler's own records are of no concern."""
    return [record for record in caplog.records if record.name == SOURCE]


PPO_PARAMS = {"minibatch_size": 64, "n_epochs": 2}
PPO_ROWS = 150
"""Two whole minibatches and a short one."""


@pytest.fixture(scope="module")
def ppo() -> Any:
    """A compiled agent, which has learned from one window; its graph serves several tests."""
    agent = make_compiled(small_ppo, **PPO_PARAMS)
    agent.first_diagnostics = agent.learn(small_ppo.make_episode(PPO_ROWS))
    agent.first_weights = weights_of(agent)
    return agent


def test_compiled_updates_of_ppo_are_the_eager_ones(ppo):
    eager = small_ppo.make_agent(**PPO_PARAMS)
    before = weights_of(eager)
    expected = eager.learn(small_ppo.make_episode(PPO_ROWS))
    assert compiled_count(ppo) == 1
    assert ppo.first_diagnostics == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert_close(ppo.first_weights, weights_of(eager), 1e-6)
    with pytest.raises(AssertionError):
        assert_close(before, weights_of(eager), 1e-3)


@pytest.mark.parametrize(
    ("small", "graphs"),
    [(small_dqn, 2), pytest.param(small_sac, 4, marks=pytest.mark.slow)],
    ids=["dqn", "sac"],
)
def test_compiled_updates_of_off_policy_agents_are_the_eager_ones(small, graphs):
    params = {"learning_starts": 16, "per_alpha": 0.6}
    eager, compiled = small.make_agent(**params), make_compiled(small, **params)
    window = small.make_episode(24)
    expected, diagnostics = eager.learn(window), compiled.learn(window)
    assert compiled_count(compiled) == graphs
    assert diagnostics == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert_close(weights_of(compiled), weights_of(eager), 1e-6)


def test_changed_hyperparameters_compile_nothing_anew_and_take_effect(ppo, tmp_path, caplog):
    eager = small_ppo.make_agent(**PPO_PARAMS)
    ppo.save_state(tmp_path)
    eager.load_state(tmp_path)
    rng = np.random.default_rng(0)
    for _ in range(20):
        params = {
            "learning_rate": rng.uniform(1e-4, 1e-3),
            "clip_ratio": rng.uniform(0.1, 0.3),
            "entropy_coef": rng.uniform(0.0, 0.1),
            "max_grad_norm": rng.uniform(0.1, 1.0),
        }
        window = small_ppo.make_episode(PPO_ROWS + int(rng.integers(40)))
        for agent in (ppo, eager):
            agent.set_hyperparams(HyperparamSet(params))
            agent.learn(window)
    assert compiled_count(ppo) == 1
    assert_close(weights_of(ppo), weights_of(eager), 1e-4)
    assert not warnings_of(caplog)


def test_what_is_loaded_is_what_compiled_updates_go_on_from(ppo, tmp_path):
    """Bit by bit: weights, moments and minibatches of another agent, in networks already compiled."""
    other = make_compiled(small_ppo, seed=3, **PPO_PARAMS)
    other.learn(small_ppo.make_episode(PPO_ROWS))
    ppo.save_state(tmp_path)
    other.load_state(tmp_path)
    other.set_hyperparams(ppo.get_hyperparams())
    for agent in (ppo, other):
        agent.learn(small_ppo.make_episode(PPO_ROWS))
    assert compiled_count(other) == 1
    assert_close(weights_of(other), weights_of(ppo), 0.0)


def test_an_agent_is_made_with_compiled_updates_by_an_argument():
    actor, critic = nn.Linear(4, 2), nn.Linear(4, 1)
    adam = torch.optim.Adam([*actor.parameters(), *critic.parameters()])
    agents = [TorchPPOAgent(actor, critic, adam, compile=compile) for compile in (False, True)]
    assert [isinstance(agent._descent, CompiledGradientDescent) for agent in agents] == [
        False,
        True,
    ]


class Line:
    """One weight, whose gradient is the mean of what comes in."""

    def __init__(self, ops: Any) -> None:
        self.network = nn.Linear(1, 1, bias=False)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=0.1)
        self.bind(ops)

    def bind(self, ops: Any) -> None:
        """Learn by what `ops` compute, from now on."""
        self.descent = ops.gradient_descent(self.loss, {"line": self.network}, self.optimizer)
        self.loop = ops.update_loop(self.update, [self.network])

    def update(self, batch: Any, scalars: Any) -> Any:
        self.outputs = self.descent.step(batch, scalars)
        return {}, {}

    def loss(self, batch: Any, scalars: Any) -> Any:
        return self.network(batch["x"]).mean(), {"doubled": 2.0 * batch["x"]}

    def step(self, x: list[float], most: float) -> dict[str, Any]:
        fields = {"x": np.array(x, np.float32)[:, None]}
        self.loop(fields, len(x), {"max_grad_norm": most})
        return self.outputs


def test_a_compiled_update_leaves_out_what_is_not_finite_and_clips_the_rest():
    line = Line(compiled_backend(backend))
    before = line.network.weight.item()
    for bad in (math.nan, math.inf):
        assert float(line.step([1.0, bad], 0.5)["skipped"]) == 1.0
    assert line.network.weight.item() == before
    assert not line.optimizer.state
    for most, gradient in ((0.5, 0.5), (9.0, 3.0), (1.0, 1.0)):
        outputs = line.step([2.0, 4.0], most)
        assert float(outputs["skipped"]) == 0.0
        assert float(outputs["grad_norm"]) == pytest.approx(3.0)
        assert outputs["doubled"].tolist() == [[4.0], [8.0]]
        assert line.network.weight.grad.item() == pytest.approx(gradient)
    assert line.optimizer.state[line.network.weight]["step"] == 3
    assert line.descent._compiled._compiler.count == 1


class Opaque(nn.Linear):
    """A network that looks into its input, which a graph cannot follow."""

    def forward(self, x: Any) -> Any:
        return super().forward(x) * (2.0 if float(x.sum()) > 0.0 else 1.0)


def test_a_network_that_cannot_be_compiled_is_warned_of_once_and_runs_eagerly(caplog):
    lines = [Line(compiled_backend(backend)), Line(backend)]
    for line in lines:
        torch.manual_seed(0)
        line.network = Opaque(1, 1, bias=False)
        line.optimizer = torch.optim.Adam(line.network.parameters(), lr=0.1)
    for line, ops in zip(lines, (compiled_backend(backend), backend), strict=True):
        line.bind(ops)
        for x in (1.0, -1.0, 2.0):
            line.step([x, x], 1.0)
            line.step([x], 1.0)
    assert len(warnings_of(caplog)) == 1
    torch.testing.assert_close(lines[0].network.weight, lines[1].network.weight, rtol=0, atol=0)


WITHOUT_COMPILER = """
import logging, sys
logging.basicConfig(level=logging.WARNING, stream=sys.stdout)
from tests.adapters.test_pytorch_compilation import *
from tests.frameworks import framework_engine
with framework_engine():
    eager = small_dqn.make_agent()
agent = make_compiled(small_dqn)
for one in (eager, agent):
    one.learn(small_dqn.make_episode(24))
assert compiled_count(agent) == 0
assert_close(weights_of(agent), weights_of(eager), 0.0)
"""


def test_without_a_compiler_updates_run_eagerly_and_one_warning_says_why(tmp_path):
    nothing = {"CXX": str(tmp_path / "none"), "PATH": str(tmp_path)}
    environment = os.environ | nothing | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_COMPILER],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("compiling needs a C++ compiler") == 1


def test_a_function_is_compiled_for_a_limited_number_of_sizes(caplog, monkeypatch):
    compiler = Compiler()
    calls: list[int] = []
    monkeypatch.setattr(compiler, "compile", lambda fn, arguments: calls.append(1))
    compiler.is_engaged = True
    function = InductorFunction(lambda batch: batch, compiler)
    with caplog.at_level(logging.WARNING, SOURCE):
        for size in [*range(12), *range(12)]:
            assert function({"x": torch.zeros(size)}) is None
    assert len(calls) == 8
    assert len(warnings_of(caplog)) == 1


@pytest.mark.parametrize(
    ("is_pure", "expected"), [(True, [True, True, False]), (False, [False] * 3)]
)
def test_only_whole_minibatches_of_pure_updates_are_compiled(is_pure, expected, monkeypatch):
    seen: list[bool] = []

    def graph(arguments: Any) -> Any:
        seen[-1] = True
        return {"result": arguments[0]["x"]}

    def update(batch: Any, scalars: Any) -> Any:
        seen.append(False)
        same(batch)
        return {}, {}

    monkeypatch.setattr(Compiler, "compile", lambda self, fn, arguments: graph)
    ops = compiled_backend(backend)
    same = ops.without_gradient(lambda batch: batch["x"])
    fields = {"x": np.arange(5, dtype=np.float32)}
    ops.update_loop(update, [nn.Linear(1, 1)], is_pure)(fields, 2, {"rate": 1.0})
    assert seen == expected


def test_what_a_compiled_function_calls_becomes_part_of_its_graph(monkeypatch):
    compiled: list[Any] = []

    def graph_of(fn: Any, arguments: Any) -> Any:
        compiled.append(fn)
        outputs = fn(*arguments)
        return lambda arguments: outputs

    monkeypatch.setattr(f"{SOURCE}._compile", graph_of)
    ops = compiled_backend(backend)
    doubled = ops.without_gradient(lambda batch: 2.0 * batch["x"])
    outer = ops.without_gradient(lambda batch: doubled(batch) + 1.0)
    loop = ops.update_loop(lambda b, s: ({}, {"y": outer(b)}), [nn.Linear(1, 1)])
    _, rows = loop({"x": np.arange(2, dtype=np.float32)}, 2, {})
    assert rows["y"].tolist() == [1.0, 3.0]
    assert len(compiled) == 1
