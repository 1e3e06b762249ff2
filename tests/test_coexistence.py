"""Both frameworks in one process, each without the other, and Keras on a framework that is not TensorFlow."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("torch")
pytest.importorskip("tensorflow")

PREAMBLE = """
import sys
import numpy as np
from tensor_optix import EpisodeData, HyperparamSet, make_agent

SMALL = HyperparamSet({"n_epochs": 1, "minibatch_size": 8})


def learned(agent):
    rng = np.random.default_rng(0)
    observations = rng.standard_normal((16, 4)).astype(np.float32)
    nowhere, at_the_end = [False] * 16, [False] * 15 + [True]
    actions = [int(agent.act(observation)) for observation in observations]
    assert set(actions) <= {0, 1}, actions
    rewards = np.ones(16, np.float32)
    window = EpisodeData(observations, np.array(actions), rewards, at_the_end, nowhere, [], 0)
    figures = agent.learn(window)
    assert np.isfinite(figures["policy_loss"]), figures
"""
LEARN_WITH = {
    "torch": """
import torch
from tensor_optix import TorchPPOAgent

actor, critic = torch.nn.Linear(4, 2), torch.nn.Linear(4, 1)
adam = torch.optim.Adam([*actor.parameters(), *critic.parameters()], lr=3e-4)
learned(TorchPPOAgent(actor, critic, adam, SMALL))
""",
    "tensorflow": """
import keras
from tensor_optix import TFPPOAgent

actor, critic = (
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(outputs)]) for outputs in (2, 1)
)
learned(TFPPOAgent(actor, critic, keras.optimizers.Adam(3e-4), SMALL))
""",
}
IMPORT_ALL = {
    "torch": """
from tensor_optix import TorchAgent, TorchDQNAgent, TorchGaussianPPOAgent, TorchPPOAgent
from tensor_optix import TorchEvaluator, TorchSACAgent
""",
    "tensorflow": """
from tensor_optix import TFAgent, TFDQNAgent, TFEvaluator, TFGaussianPPOAgent, TFPPOAgent, TFSACAgent
""",
}
REFUSED_TWICE = """
said = []
for _ in range(2):
    try:
        from tensor_optix import TFPPOAgent
    except ImportError as error:
        said.append(str(error))
assert len(said) == 2, said
assert said[0] == said[1], said
print(said[0])
assert not {"jax", "torch"} & set(sys.modules)
"""


def python(script: str, **environment: str) -> str:
    """Run a script in a process of its own; return its standard output."""
    inherited = {name: text for name, text in os.environ.items() if name != "KERAS_BACKEND"}
    result = subprocess.run(
        [sys.executable, "-c", script],
        env=inherited | {"TF_CPP_MIN_LOG_LEVEL": "3"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize(("first", "second"), [("torch", "tensorflow"), ("tensorflow", "torch")])
def test_agents_of_both_learn_in_one_process_and_those_of_one_do_not_load_the_other(first, second):
    alone = f"\nassert {second!r} not in sys.modules, 'loaded by the agents of {first}'\n"
    ready_made = f"make_agent('CartPole-v1', framework={first!r}, hidden_sizes=(4,))"
    of_one = IMPORT_ALL[first] + LEARN_WITH[first] + ready_made + alone
    python(PREAMBLE + of_one + LEARN_WITH[second])


@pytest.mark.parametrize("chosen", ["torch", "jax"])
def test_keras_on_another_framework_is_refused_with_the_setting_that_helps(chosen):
    said = python("import sys\n" + REFUSED_TWICE, KERAS_BACKEND=chosen)
    assert f"got KERAS_BACKEND={chosen}" in said
    assert "set the environment variable KERAS_BACKEND=tensorflow" in said


def test_keras_that_was_imported_on_another_framework_is_refused_as_well():
    # An empty module in place of TensorFlow, which takes seconds: it is not come to.
    imported = "import sys\nimport keras\nsys.modules['tensorflow'] = sys.modules['math']\n"
    refused = REFUSED_TWICE.replace('assert not {"jax", "torch"} & set(sys.modules)', "")
    said = python(imported + refused, KERAS_BACKEND="torch")
    assert "Keras must run on TensorFlow, got torch" in said
    assert "set the environment variable KERAS_BACKEND=tensorflow" in said
