"""Code that is printed in Markdown, and how tests run it: as printed, only shorter.

The blocks of a page run in order, in one process, in the present directory, and share their names:

* `python`: executed. With `title="NAME.py"` it is a file of the reader's, which is written, and not executed.
* `sh`: each line that begins with `tensor-optix` runs in this process. `pip install` must name extras that
  there are, `make` a target, `python` a script of the repository.
* others (`text`, `json`, ...): nothing happens, but that those with a title are written.

What is printed for a GPU runs on the CPU where there is none.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tensor_optix.cli.main import main
from tests.frameworks import require

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(
    r"^```(?P<language>\w+)(?P<attributes>[^\n]*)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE
)
FRAMEWORK_WORDS = {
    "import torch": "torch",
    'framework="torch"': "torch",
    "import keras": "tensorflow",
    "NativePPOAgent": "native",
    '"native"': "native",
}
"""What shows that code needs a framework."""
PACKAGE_WORDS = {
    "TrialOrchestrator": "optuna",
    "tensor-optix tune": "optuna",
    "Pong-v5": "envpool",
    "HalfCheetah-v5": "envpool",
    "TensorBoardCallback": "tensorboard",
    "--tensorboard": "tensorboard",
    "MLflowCallback": "mlflow",
}
"""What shows that code needs another package."""
SHORTER_TRIALS = {
    "n_trials=20": "n_trials=2, finalists=1",
    "trial_steps=20_000": "trial_steps=2048",
}
SHORT_RUN = '__import__("functools").partial(RLOptimizer, max_episodes=2)'
SMALL_LEARNER = {"--num-envs": "2", "--window-size": "64", "--hidden-sizes": "8"}
SMALL: dict[str, dict[str, str]] = {
    "train": SMALL_LEARNER | {"--max-steps": "256"},
    "tune": SMALL_LEARNER | {"--trials": "1", "--trial-steps": "256"},
    "evaluate": {"--episodes": "2"},
    "doctor": {"--seconds": "1"},
}
"""Options that make a command short."""


@dataclass(frozen=True)
class Block:
    """Code in a page."""

    language: str
    code: str
    title: str | None = None


def blocks(text: str) -> list[Block]:
    """Return the blocks of a page."""
    found = []
    for match in BLOCK.finditer(text):
        title = re.search(r'title="([^"]+)"', match["attributes"])
        found.append(Block(match["language"], match["code"], title and title[1]))
    return found


def python_blocks(text: str) -> list[str]:
    """Return the code of the Python blocks of a page."""
    return [one.code for one in blocks(text) if one.language == "python"]


def skip_what_needs_more(code: str) -> None:
    """Skip the test that is about to run code for which something is not installed."""
    for word, package in PACKAGE_WORDS.items():
        if word in code and importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    for word, framework in FRAMEWORK_WORDS.items():
        if word in code:
            require(framework)


def shorter(code: str, window_size: int) -> str:
    """Return code whose runs take two windows."""
    code = re.sub(r"window_size=\d+", f"window_size={window_size}", code)
    code = re.sub(r",? max_episodes=\d+", "", code)
    code = re.sub(r"\bRLOptimizer\(", f"{SHORT_RUN}(", code)
    code = re.sub(r"(tensor_optix\.train\([^)]*max_steps=)[\d_]+", r"\g<1>2048", code)
    for long, short in SHORTER_TRIALS.items():
        code = code.replace(long, short)
    return code


def run(code: str, names: dict[str, Any], label: str) -> None:
    """Execute code."""
    exec(compile(code, label, "exec"), names)


def run_page(found: Iterable[Block], window_size: int = 128) -> None:
    """Run the blocks of a page, in order."""
    names: dict[str, Any] = {"__name__": "page"}
    for number, block in enumerate(found):
        if block.title is not None:
            Path(block.title).write_text(block.code)
        elif block.language == "python":
            run(shorter(on_this_machine(block.code), window_size), names, f"block {number}")
        elif block.language == "sh":
            run_lines(on_this_machine(block.code))


def on_this_machine(code: str) -> str:
    """Return code that computes on a device that is there."""
    if "cuda" not in code or pytest.importorskip("torch").cuda.is_available():
        return code
    return code.replace("cuda", "cpu")


def run_lines(code: str) -> None:
    """Run or check the lines of a `sh` block."""
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            CHECKS[words[0]](words[1:])


def _tensor_optix(words: Sequence[str]) -> None:
    assert main(shorter_command(words)) == 0, words


def shorter_command(words: Sequence[str]) -> list[str]:
    """Return the arguments of a command that ends soon."""
    found = list(words)
    small = {"--max-steps": "512"} if "--resume" in words else SMALL.get(words[0], {})
    for option, value in small.items():
        while option in found:
            place = found.index(option)
            del found[place : place + 2]
        found += [option, value]
    return found


def _pip(words: Sequence[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert words[0] == "install", words
    for word in words[1:]:
        name, _, extras = word.rstrip("]").partition("[")
        assert name == project["name"], word
        assert set(filter(None, extras.split(","))) <= set(project["optional-dependencies"]), word


def _make(words: Sequence[str]) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(words) <= set(targets), words


def _python(words: Sequence[str]) -> None:
    assert (ROOT / words[0]).is_file(), words


CHECKS = {"tensor-optix": _tensor_optix, "pip": _pip, "make": _make, "python": _python}
"""What is done with a line that begins with a word; another word is a KeyError."""
