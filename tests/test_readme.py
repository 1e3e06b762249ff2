"""Every Python example of the README runs as printed, only shorter."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tensor_optix.pipeline.play import play_episodes
from tensor_optix.pipeline.vector_env import make_vector_env
from tests.frameworks import require

README = Path(__file__).parent.parent / "README.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


FULL_RUNS = [text for text in EXAMPLES if "CartPole-v1" in text and "PPOAgent" in text]
ENSEMBLES = [text for text in EXAMPLES if "EnsembleAgent(" in text]
SHORTER_TRIALS = {
    "n_trials=20": "n_trials=2, finalists=1",
    "trial_steps=20_000": "trial_steps=2048",
}
FULL_SCORE = 475.0
"""Above which CartPole-v1 counts as solved."""


def skip_without_framework(example):
    if "TrialOrchestrator" in example:
        pytest.importorskip("optuna")
    needed = {"import torch": "torch", "import keras": "tensorflow", "NativePPOAgent": "native"}
    for word, framework in needed.items():
        if word in example:
            require(framework)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_the_examples_run(number, tmp_path, monkeypatch):
    skip_without_framework(EXAMPLES[number])
    monkeypatch.chdir(tmp_path)
    # Long enough for an episode of Acrobot-v1, which may take 500 steps, to finish.
    shorter = re.sub(r"window_size=\d+", "window_size=512", EXAMPLES[number])
    shorter = re.sub(r", max_episodes=\d+", "", shorter)
    shorter = shorter.replace("RLOptimizer(", "RLOptimizer(max_episodes=2, ")
    for long, short in SHORTER_TRIALS.items():
        shorter = shorter.replace(long, short)
    names = {"__name__": "example"}
    exec(compile(shorter, f"README example {number}", "exec"), names)
    assert list(tmp_path.rglob("manifest.json")) or set(names["best_params"]) > {"learning_rate"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "example", FULL_RUNS + ENSEMBLES, ids=["native", "torch", "tensorflow", "ensemble"]
)
def test_the_first_examples_solve_cartpole_as_printed(example, tmp_path, monkeypatch):
    skip_without_framework(example)
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "example"}
    exec(compile(example, "README example", "exec"), names)
    env = make_vector_env("CartPole-v1", 10, "sync", 99)
    returns, _ = play_episodes(names["agent"], env, 100)
    env.close()
    assert returns.mean() >= FULL_SCORE


def test_the_two_commands_come_first():
    text = README.read_text()
    assert text.index("make train") < text.index("make test") < text.index("pip install")
