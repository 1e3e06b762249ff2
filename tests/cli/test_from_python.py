"""`tensor_optix.train`: what the command does, from Python."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import pytest

import tensor_optix
from tensor_optix.core.callbacks import LoopCallback, WindowReport
from tensor_optix.policies.policy import Policy
from tensor_optix.runs.run_directory import RunDirectory, RunDirectoryError

if TYPE_CHECKING:
    from collections.abc import Callable

TINY: dict[str, Any] = {"num_envs": 2, "window_size": 64, "n_epochs": 1, "hidden_sizes": 8}


class Windows(LoopCallback):
    def __init__(self, at_window: Callable[[], None] = lambda: None) -> None:
        self.steps: list[int] = []
        self.at_window = at_window

    def on_window(self, report: WindowReport) -> None:
        self.steps.append(report.total_steps)
        self.at_window()


def test_it_trains_as_the_command_does_and_returns_the_best_policy(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    windows = Windows()
    policy = tensor_optix.train(
        "CartPole-v1", "PPO", max_steps=512, seed=3, callbacks=[windows], lr=0.01, **TINY
    )
    assert isinstance(policy, Policy)
    observation, _ = gymnasium.make("CartPole-v1").reset(seed=0)
    assert policy.predict(observation) in (0, 1)
    (run,) = (here / "runs" / "CartPole-v1").iterdir()
    config = RunDirectory(run).read_config()
    assert (config.algorithm, config.seed, config.num_envs) == ("ppo", 3, 2)
    assert config.hyperparams["learning_rate"] == 0.01
    assert len(windows.steps) == 4
    # Piped, nothing is shown.
    assert capsys.readouterr() == ("", "")


def test_the_algorithm_is_chosen_where_none_is_named(here: Path) -> None:
    tensor_optix.train("CartPole-v1", max_steps=3000, seed=3, run_dir="run")
    assert '"chosen"' in Path("run/events.jsonl").read_text()


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        (
            {"learning_rat": 1},
            ValueError,
            'there is no option "learning_rat"; did you mean "learning_rate"',
        ),
        ({"algo": "sacc"}, ValueError, "did you mean 'sac'"),
        ({"num_envs": 0}, ValueError, "--num-envs must be at least 1, got 0"),
        ({"num_envs": "two"}, ValueError, "num_envs must be a whole number, got 'two'"),
        ({"timesteps": 3}, ValueError, "was given max_steps twice, as 'timesteps' too"),
        ({"resume": "run"}, ValueError, "no argument 'resume'"),
        ({"callbacks": [Windows]}, TypeError, "a callback must be a LoopCallback"),
        ({"framework": "jax"}, ValueError, "framework must be one of"),
        ({"device": "cuda:77", "framework": "native"}, ValueError, "cuda:77"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(
    here: Path, options: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        tensor_optix.train("CartPole-v1", **options)
    assert not list(here.iterdir())


def test_an_environment_that_is_not_there_is_refused(here: Path) -> None:
    with pytest.raises(ValueError, match='did you mean "CartPole-v1"'):
        tensor_optix.train("CartPol-v1")


def test_an_environment_that_is_an_object_is_told_where_it_belongs(here: Path) -> None:
    with pytest.raises(TypeError, match=r"got TimeLimit: register an environment"):
        tensor_optix.train(gymnasium.make("CartPole-v1"))  # type: ignore[arg-type]


def test_a_directory_that_holds_a_run_is_refused(here: Path, finished_run: Path) -> None:
    with pytest.raises(RunDirectoryError, match="another run is here"):
        tensor_optix.train("CartPole-v1", run_dir=finished_run)


BROKEN = """
import gymnasium

class Broken(gymnasium.Wrapper):
    steps = 0

    def step(self, action):
        self.steps += 1
        if self.steps > 300:
            raise OSError("the robot fell over")
        return self.env.step(action)
"""


def test_what_the_environment_raises_comes_out_and_says_where_the_rest_is(here: Path) -> None:
    Path("broken_robot.py").write_text(BROKEN)
    options: dict[str, Any] = {"wrapper": "broken_robot:Broken", "run_dir": "run", **TINY}
    with pytest.raises(Exception, match="the robot fell over") as caught:
        tensor_optix.train("CartPole-v1", "ppo", max_steps=5000, backend="sync", **options)
    assert "what was learned before is kept in run" in caught.value.__notes__
    assert Path("run/traceback.txt").exists()
    assert isinstance(tensor_optix.load("run"), Policy)


def test_ctrl_c_ends_the_window_and_keeps_what_was_learned(
    here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    windows = Windows(lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        tensor_optix.train(
            "CartPole-v1", "ppo", max_steps=5000, run_dir="run", callbacks=[windows], **TINY
        )
    assert len(windows.steps) == 1
    # Also where nothing else is shown.
    assert "the window under way is ended" in caplog.text
    assert isinstance(tensor_optix.load("run"), Policy)
    assert "interrupted" in Path("run/report.txt").read_text()


def test_without_the_packages_of_the_command_it_says_what_to_install() -> None:
    code = (
        "import importlib.util as util; found = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name == 'tyro' else found(name, *rest)\n"
        "import tensor_optix\n"
        "try: tensor_optix.train('CartPole-v1')\n"
        "except ImportError as error: print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "tyro is not installed: pip install 'tensor-optix[cli]'"
