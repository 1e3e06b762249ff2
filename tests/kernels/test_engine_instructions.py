"""Which instruction set the engine works with, how one is forced, and the others' results."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tensor_optix.kernels import engine
from tests.kernels import engine_parts  # noqa: F401 (skips where there is no engine)

SETS = ["avx512", "avx2", "baseline"]
OURS = ("TENSOR_OPTIX_ENGINE", "PYTEST_XDIST_WORKER")
SAY = "from tensor_optix.kernels import engine; print(engine.instructions())"
# Of each file what uses all of the engine; the rest of them asks more of the same code.
CORE = {
    "products": ["shapes_at_random", "what_is_not_finite", "no_depth", "a_row_of_the_result"],
    "perceptrons": ["forward_is", "units_in_the_last_place", "squashing", "log_probs", "a_row"],
    "gradients": ["ppo", "backward", "log_std", "the_policy_gradient", "not_finite"],
    "off_policy": ["test_dqn", "twin_critics", "test_actors", "an_update_goes", "blending"],
    "optimizers": ["few_steps", "every_size"],
}


def fresh(forced: str | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with an instruction set forced, and with the options that this one has."""
    environment = {k: v for k, v in os.environ.items() if k not in OURS}
    if forced is not None:
        environment["TENSOR_OPTIX_ENGINE"] = forced
    options = ["-S"] if sys.flags.no_site else []
    command = [sys.executable, *options, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def require(instructions: str) -> None:
    """Skip where the machine does not run these."""
    said = fresh(instructions, "-c", SAY)
    if "must be what this machine runs" in said.stderr:
        pytest.skip(f"this machine does not run {instructions}")
    assert said.stdout.strip() == instructions, said.stderr


@pytest.mark.parametrize("instructions", SETS)
def test_an_instruction_set_can_be_forced(instructions: str) -> None:
    require(instructions)


@pytest.mark.parametrize("forced", [None, ""])
def test_the_best_is_the_default(forced: str | None) -> None:
    best = fresh(forced, "-c", SAY).stdout.strip()
    for instructions in SETS[: SETS.index(best)]:
        assert "must be what this machine runs" in fresh(instructions, "-c", SAY).stderr


@pytest.mark.parametrize("forced", ["neon", "AVX2", "avx2 ", "sse"])
def test_what_there_is_not_is_refused_with_what_there_is(forced: str) -> None:
    result = fresh(forced, "-c", SAY)
    assert result.returncode != 0
    assert "ImportError: TENSOR_OPTIX_ENGINE must be what this machine runs (" in result.stderr
    assert f"baseline), got '{forced}'" in result.stderr


@pytest.mark.parametrize("instructions", SETS)
def test_every_instruction_set_passes_the_core_tests(instructions: str) -> None:
    if instructions == engine.instructions():
        pytest.skip("these tests run it")
    require(instructions)
    files = [str(Path(__file__).with_name(f"test_engine_{name}.py")) for name in CORE]
    chosen = " or ".join(part for parts in CORE.values() for part in parts)
    options = ["-q", "-x", "-n0", "-p", "no:cacheprovider", "-k", chosen]
    result = fresh(instructions, "-m", "pytest", *options, *files)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    assert " passed" in result.stdout
