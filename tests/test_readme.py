"""Every Python example of the README runs as printed, only shorter."""

from __future__ import annotations

from pathlib import Path

import pytest

from tensor_optix.pipeline.play import play_episodes
from tensor_optix.pipeline.vector_env import make_vector_env
from tests.printed_code import python_blocks, run, shorter, skip_what_needs_more

README = Path(__file__).parent.parent / "README.md"
EXAMPLES = python_blocks(README.read_text())


FULL_RUNS = [text for text in EXAMPLES if "CartPole-v1" in text and "PPOAgent" in text]
ENSEMBLES = [text for text in EXAMPLES if "EnsembleAgent(" in text]
WINDOW_SIZE = 512
"""Long enough for an episode of Acrobot-v1, which may take 500 steps, to finish."""
FULL_SCORE = 475.0
"""Above which CartPole-v1 counts as solved."""


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_the_examples_run(number, tmp_path, monkeypatch):
    skip_what_needs_more(EXAMPLES[number])
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "example"}
    run(shorter(EXAMPLES[number], WINDOW_SIZE), names, f"README example {number}")
    assert list(tmp_path.rglob("manifest.json")) or set(names["best_params"]) > {"learning_rate"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "example", FULL_RUNS + ENSEMBLES, ids=["native", "torch", "tensorflow", "ensemble"]
)
def test_the_first_examples_solve_cartpole_as_printed(example, tmp_path, monkeypatch):
    skip_what_needs_more(example)
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "example"}
    run(example, names, "README example")
    env = make_vector_env("CartPole-v1", 10, "sync", 99)
    returns, _ = play_episodes(names["agent"], env, 100)
    env.close()
    assert returns.mean() >= FULL_SCORE


def test_the_two_commands_come_first():
    text = README.read_text()
    assert text.index("make train") < text.index("make test") < text.index("pip install")
