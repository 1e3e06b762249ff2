"""A run from Python leaves what the command's leaves, and `evaluate` plays it."""

from __future__ import annotations

import importlib.util
import json
import re
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import pytest

from tensor_optix import BatchPipeline, RLOptimizer, VectorBatchPipeline, make_agent
from tensor_optix.cli.main import main
from tensor_optix.runs.run_directory import RunDirectory
from tests.scripted import CountingAgent

if TYPE_CHECKING:
    from pathlib import Path

ENV_ID = "CartPole-v1"


def cart() -> Any:
    return gymnasium.make(ENV_ID)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def optimizer(directory: Path, pipeline: Any = None, **settings: Any) -> RLOptimizer:
    agent = make_agent(ENV_ID, seed=0, framework="torch", hidden_sizes=(8,))
    source = pipeline or BatchPipeline(env=cart(), window_size=64)
    return RLOptimizer(agent, source, run_dir=directory, seed=0, **settings)


def test_the_directory_holds_what_the_command_leaves(tmp_path: Path, capsys: Any) -> None:
    optimizer(tmp_path / "run", max_steps=1000).run()
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        *("run.json", "metrics.jsonl", "events.jsonl", "checkpoints"),
        *("report.txt", "learning_curve.png", "state", "lock"),
    }
    report = (tmp_path / "run" / "report.txt").read_text()
    assert report.startswith("CartPole-v1: training reached its limit\n")
    assert "another window would exceed the limit of 1,000 steps" in report
    assert main(["evaluate", str(tmp_path / "run"), "--episodes", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["episodes"] == 3


@pytest.mark.parametrize(
    "pipeline",
    [
        lambda: BatchPipeline(env_id=ENV_ID, window_size=64),
        lambda: VectorBatchPipeline([cart] * 2, window_size=64),
        lambda: VectorBatchPipeline(env=gymnasium.vector.SyncVectorEnv([cart] * 2), window_size=64),
        lambda: VectorBatchPipeline(env_id=ENV_ID, num_envs=2, backend="sync", window_size=64),
    ],
)
def test_what_was_trained_on_is_known_however_it_was_made(
    pipeline: Any, tmp_path: Path, capsys: Any
) -> None:
    optimizer(tmp_path / "run", pipeline(), max_episodes=2).run()
    config = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (config["env_id"], config["window_size"]) == (ENV_ID, 64)
    assert (config["algorithm"], config["hidden_sizes"]) == ("ppo", [8])
    assert (config["engine"], bool(config["updates_by"])) == ("auto", True)
    assert main(["evaluate", str(tmp_path / "run"), "--episodes", "1"]) == 0


@pytest.mark.parametrize(
    "env",
    [
        lambda: gymnasium.wrappers.TransformReward(cart(), lambda reward: 2 * reward),
        lambda: gymnasium.make(ENV_ID, max_episode_steps=20),
        lambda: gymnasium.make(ENV_ID, sutton_barto_reward=True),
        lambda: cart().unwrapped.__class__(),
    ],
)
def test_an_environment_that_an_id_does_not_make_is_not_played_as_if_it_did(
    env: Any, tmp_path: Path, capsys: Any
) -> None:
    optimizer(tmp_path / "run", BatchPipeline(env=env(), window_size=64), max_episodes=2).run()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["env_id"] == ""
    assert "tensor-optix evaluate" not in (tmp_path / "run" / "report.txt").read_text()
    assert main(["evaluate", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "its environments were not made from an id alone; play it from Python" in said


def test_which_axis_the_channels_are_is_kept(tmp_path: Path) -> None:
    env = OneImage()
    agent = make_agent(env, framework="torch", hidden_sizes=(8,), seed=0, channels="first")
    RLOptimizer(agent, BatchPipeline(env=env, window_size=64), run_dir=tmp_path, max_steps=64).run()
    config = RunDirectory(tmp_path).read_config()
    assert config.channels == "first"


class OneImage(gymnasium.Env[Any, Any]):
    """The same image for ever."""

    observation_space = gymnasium.spaces.Box(0.0, 1.0, (4, 4, 3))
    action_space = gymnasium.spaces.Discrete(2)  # type: ignore[assignment]

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros((4, 4, 3), np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return np.zeros((4, 4, 3), np.float32), 0.0, False, True, {}


def test_an_agent_of_the_users_own_is_named(tmp_path: Path, capsys: Any) -> None:
    pipeline = BatchPipeline(env=cart(), window_size=64)
    RLOptimizer(CountingAgent(), pipeline, run_dir=tmp_path / "run", max_episodes=2).run()
    assert (
        "CountingAgent, 1 environment on single, no seed"
        in (tmp_path / "run" / "report.txt").read_text()
    )
    assert main(["evaluate", str(tmp_path / "run")]) == 2
    assert "its agent, a CountingAgent, was not made by make_agent" in capsys.readouterr().err


def test_a_second_run_goes_on_where_the_first_one_ended(tmp_path: Path) -> None:
    run = optimizer(tmp_path / "run", max_episodes=3)
    run.run()
    first = run.best_snapshot
    run.run()
    windows = rows(tmp_path / "run" / "metrics.jsonl")
    assert [row["episode_id"] for row in windows] == [0, 1, 2, 3, 4, 5]
    assert [row["total_steps"] for row in windows] == [64 * n for n in range(1, 7)]
    seconds = [row["seconds"] for row in windows]
    assert seconds == sorted(seconds)
    kinds = [row["kind"] for row in rows(tmp_path / "run" / "events.jsonl")]
    assert kinds.count("baseline") == 1
    assert [kind for kind in kinds if kind in ("start", "stop")] == ["start", "stop"] * 2
    assert first is not None
    assert run.best_snapshot is not None
    steps = re.search(r"steps +(\d+) in", (tmp_path / "run" / "report.txt").read_text())
    assert steps is not None
    assert steps[1] == "384"


def test_each_run_may_make_its_own_steps(tmp_path: Path) -> None:
    run = optimizer(tmp_path / "run", max_steps=150)
    run.run()
    run.run()
    assert [row["total_steps"] for row in rows(tmp_path / "run" / "metrics.jsonl")] == [
        *(64, 128, 192, 256)
    ]
    stops = [row for row in rows(tmp_path / "run" / "events.jsonl") if row["kind"] == "stop"]
    assert [row["ending"] for row in stops] == ["CAPPED", "CAPPED"]


def test_steps_for_less_than_a_window_are_refused_before_one_is_made(tmp_path: Path) -> None:
    run = optimizer(tmp_path / "run", max_steps=63)
    with pytest.raises(ValueError, match="max_steps must be at least one window, 64 steps, got 63"):
        run.run()
    assert not (tmp_path / "run" / "run.json").exists()
    with pytest.raises(ValueError, match="max_steps must be a whole number of at least 1, got 0"):
        optimizer(tmp_path / "other", max_steps=0)


def test_a_report_lists_only_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "matplotlib" else find_spec(name)
    )
    optimizer(tmp_path / "run", max_episodes=1).run()
    listed = (tmp_path / "run" / "report.txt").read_text().splitlines()[-1]
    assert listed.split() == ["report.txt,", "metrics.jsonl,", "events.jsonl"]


def test_a_crash_is_reported(tmp_path: Path) -> None:
    class Failing(CountingAgent):
        def learn(self, episode_data: Any) -> dict[str, Any]:
            if self.updates == 2:
                raise RuntimeError("out of memory")
            return super().learn(episode_data)

    pipeline = BatchPipeline(env=cart(), window_size=64)
    run = RLOptimizer(Failing(), pipeline, run_dir=tmp_path / "run", max_episodes=4)
    with pytest.raises(RuntimeError, match="out of memory"):
        run.run()
    report = " ".join((tmp_path / "run" / "report.txt").read_text().split())
    assert "training crashed" in report
    assert "RuntimeError: out of memory. What was learned before is kept." in report
