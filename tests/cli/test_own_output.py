"""JSON on standard output is one object, whatever environments print."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import pytest

from tensor_optix.cli.main import main
from tensor_optix.cli.own_output import everything_on_stderr
from tests.cli.conftest import TINY

if TYPE_CHECKING:
    from pathlib import Path


class Chatty(gymnasium.Env[np.ndarray, int]):
    """Ends after three steps, and prints: as Python does, and as C code does."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)  # type: ignore[assignment]

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self._steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        print("from Python")
        os.write(1, b"from C\n")
        self._steps += 1
        return np.zeros(2, np.float32), 1.0, self._steps == 3, False, {}


gymnasium.register("Chatty-v0", Chatty)


def printed(capfd: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """Run a command; what the environment prints must have gone to stderr."""
    capfd.readouterr()
    main([*words, "--json"])
    said = capfd.readouterr()
    assert "from Python" in said.err
    assert "from C" in said.err
    result: dict[str, Any] = json.loads(said.out)
    return result


def test_what_environments_print_is_not_among_the_figures_of_evaluate(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = [*TINY, "--max-steps", "256", "--run-dir", "run"]
    assert main(["train", "Chatty-v0", *options]) == 0
    assert printed(capfd, "evaluate", "run", "--episodes", "2")["returns"] == [3.0, 3.0]


def test_what_environments_print_is_not_among_the_findings_of_the_doctor(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = ["--seconds", "0.5", "--backend", "sync"]
    assert printed(capfd, "doctor", "Chatty-v0", *options)["environment"] == "Chatty-v0"


def fail_inside() -> None:
    with everything_on_stderr():
        print("inside")
        raise KeyError


def test_standard_output_is_itself_again_after_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError):
        fail_inside()
    print("outside")
    os.write(1, b"outside\n")
    sys.stdout.flush()
    said = capfd.readouterr()
    assert (said.out.split(), said.err) == (["outside", "outside"], "inside\n")
