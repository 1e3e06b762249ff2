"""What MIGRATING.md prints runs: snapshots as the 1.x releases wrote them, made by hand, are carried over."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tensor_optix.algorithms.catalogue import ALGORITHMS
from tests.printed_code import python_blocks, run

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "MIGRATING.md").read_text()
TORCH, KERAS = python_blocks(TEXT)
PARAMS = {"learning_rate": 3e-4, "clip_ratio": 0.2, "gamma": 0.99, "n_epochs": 10}


def snapshot(directory: Path, name: str) -> Path:
    """Make what a 1.x registry wrote, but for the weights; return where these go."""
    weights = directory / "checkpoints" / name / "weights"
    weights.mkdir(parents=True)
    metadata = {
        "snapshot_id": name.removeprefix("snapshot_"),
        "episode_id": 40,
        "timestamp": 1.7e9,
        "primary_score": 312.5,
        "metrics": {"mean_reward": 1.0},
        "hyperparams": PARAMS,
        "weights_path": str(weights),
    }
    (weights.parent / "metadata.json").write_text(json.dumps(metadata, indent=2))
    entry = {key: metadata[key] for key in ("snapshot_id", "primary_score", "episode_id")}
    manifest = [entry | {"snapshot_dir": str(weights.parent), "timestamp": 1.7e9}]
    (directory / "checkpoints" / "manifest.json").write_text(json.dumps(manifest))
    return weights


def carried_over(text: str) -> Any:
    names: dict[str, Any] = {}
    run(text, names, "MIGRATING")
    return names["agent"]


def test_a_snapshot_of_pytorch_is_carried_over(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    weights = snapshot(tmp_path, "snapshot_1a2b3c4d")

    def network(outputs: int) -> Any:
        layers = torch.nn.Linear(4, 64), torch.nn.Tanh(), torch.nn.Linear(64, outputs)
        return torch.nn.Sequential(*layers)

    networks = {"actor": network(2), "critic": network(1)}
    for name, net in networks.items():
        torch.save(net.state_dict(), weights / f"{name}.pt")
    agent = carried_over(TORCH)
    observations = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    logits = networks["actor"](torch.from_numpy(observations)).detach().numpy()
    np.testing.assert_array_equal(agent.act_greedy(observations), logits.argmax(axis=1))
    assert PARAMS.items() <= agent.get_hyperparams().params.items()
    assert (tmp_path / "carried_over" / "actor.safetensors").exists()


@pytest.mark.filterwarnings(
    "ignore:__array__:DeprecationWarning"
)  # of Keras, when it writes a model
def test_a_snapshot_of_tensorflow_is_carried_over(tmp_path, monkeypatch):
    keras = pytest.importorskip("keras")
    monkeypatch.chdir(tmp_path)
    weights = snapshot(tmp_path, "snapshot_5e6f7a8b")

    def network(outputs: int) -> Any:
        layers = keras.Input((4,)), keras.layers.Dense(64, "tanh"), keras.layers.Dense(outputs)
        return keras.Sequential(layers)

    networks = {"actor": network(2), "critic": network(1)}
    for name, net in networks.items():
        net.save(weights / f"{name}.keras")
    agent = carried_over(KERAS)
    observations = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    logits = np.asarray(networks["actor"](observations))
    np.testing.assert_array_equal(agent.act_greedy(observations), logits.argmax(axis=1))
    assert (tmp_path / "carried_over_tf" / "actor.safetensors").exists()


def test_the_hyperparameters_on_the_right_of_the_tables_exist():
    known = {name for one in ALGORITHMS.values() for name in one.default_params()}
    for name in (
        *("gamma", "gae_lambda", "n_epochs", "max_grad_norm", "vf_coef", "target_kl"),
        *("minibatch_size", "clip_ratio", "entropy_coef", "log_alpha_init", "replay_capacity"),
        *("learning_starts", "tau", "batch_size", "updates_per_step", "target_update_freq"),
        *("epsilon_decay_steps", "epsilon_min", "learning_rate"),
    ):
        assert name in known
        assert f"`{name}" in TEXT


def test_the_extra_that_is_called_all_brings_atari_and_mujoco():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    (everything,) = extras["all"]
    assert set(re.findall(r"\w+", everything.partition("[")[2])) == {
        *("atari", "cli", "envpool", "mujoco", "onnx", "tensorboard", "tensorflow", "torch"),
        *("tune", "video"),
    }
