"""Every Python example of the README runs as printed, only shorter."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_the_examples_run(number, tmp_path, monkeypatch):
    if "torch" in EXAMPLES[number]:
        pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    # Long enough for an episode of Acrobot-v1, which may take 500 steps, to finish.
    shorter = re.sub(r"window_size=\d+", "window_size=512", EXAMPLES[number])
    shorter = re.sub(r", max_episodes=\d+", "", shorter)
    shorter = shorter.replace("RLOptimizer(", "RLOptimizer(max_episodes=2, ")
    shorter = shorter.replace("import RLOptimizer(max_episodes=2, ", "import RLOptimizer(")
    exec(compile(shorter, f"README example {number}", "exec"), {"__name__": "example"})
    assert list(tmp_path.rglob("manifest.json"))


def test_the_two_commands_come_first():
    text = README.read_text()
    assert text.index("make train") < text.index("make test") < text.index("pip install")
