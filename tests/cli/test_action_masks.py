"""The command on environments that tell which actions are allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gymnasium
import pytest

from tensor_optix.cli.main import main
from tests.cli.conftest import TINY
from tests.pipeline.masked_envs import OnlyMasksTell

if TYPE_CHECKING:
    from pathlib import Path

gymnasium.register("OnlyMasksTell-v0", OnlyMasksTell, disable_env_checker=True)


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_training_and_evaluation_take_nothing_that_is_not_allowed(here: Path, algorithm, capsys):
    OnlyMasksTell.forbidden = OnlyMasksTell.steps = 0
    options = ["--algo", algorithm, "--backend", "sync", "--max-steps", "2048", "--seed", "1"]
    tiny = TINY if algorithm == "ppo" else (*TINY[:4], *TINY[-2:])
    code = main(["train", "OnlyMasksTell-v0", *tiny, *options, "--run-dir", "run", "--plain"])
    assert code == 0
    assert main(["evaluate", "run", "--episodes", "8"]) == 0
    assert OnlyMasksTell.steps > 1500
    assert OnlyMasksTell.forbidden == 0
    assert "8 episodes" in capsys.readouterr().out
