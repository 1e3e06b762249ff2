"""`tensor-optix evaluate`: the figures of the best policy, and what is said when there is none."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from tensor_optix.algorithms.agent_factory import make_agent
from tensor_optix.cli.building import episode_seed
from tensor_optix.cli.evaluation import _table
from tensor_optix.cli.main import main
from tensor_optix.core.checkpoint_registry import CheckpointRegistry
from tensor_optix.core.plain_warnings import quiet_making
from tests.cli.conftest import TINY


def evaluated(capsys: pytest.CaptureFixture[str], run: Path, *options: str) -> dict[str, Any]:
    assert main(["evaluate", str(run), "--json", *options]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


@pytest.fixture
def copied_run(finished_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_run, tmp_path / "copy"))


def test_the_figures_are_those_of_the_episodes(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = evaluated(capsys, finished_run)
    returns = np.array(result["returns"])
    assert result["episodes"] == len(returns) == len(result["lengths"]) == 20
    assert result["return"] == {
        "mean": pytest.approx(returns.mean()),
        "std": pytest.approx(returns.std()),
        "min": returns.min(),
        "max": returns.max(),
    }
    # CartPole pays 1 for each step.
    assert result["lengths"] == list(returns)


def test_the_same_seed_gives_the_same_figures(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = evaluated(capsys, finished_run, "--seed", "3")
    assert first == evaluated(capsys, finished_run, "--seed", "3")
    assert first["returns"] != evaluated(capsys, finished_run, "--seed", "4")["returns"]


def test_the_episodes_are_not_those_of_the_training(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = evaluated(capsys, finished_run, "--seed", "5")
    assert result["seed"] == result["training_seed"] == 5
    assert episode_seed(5) != 5


def test_the_seed_that_is_printed_gives_the_same_episodes(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for options in ([], ["--seed", "3"]):
        result = evaluated(capsys, finished_run, *options)
        assert evaluated(capsys, finished_run, "--seed", str(result["seed"])) == result


def by_hand(run: Path, result: dict[str, Any]) -> list[float]:
    """Play the first episodes of Gymnasium's own environments, knowing no more than was printed."""
    envs = [gymnasium.make("CartPole-v1") for _ in range(result["num_envs"])]
    agent = make_agent(envs[0], "ppo", "torch", hidden_sizes=[8])
    CheckpointRegistry(run / "checkpoints").load_best(agent)
    returns = []
    for number, env in enumerate(envs):
        observation, _ = env.reset(seed=result["env_seed"] + number)
        done, total = False, 0.0
        while not done:
            action = agent.act_greedy(observation[None])[0]
            observation, reward, terminated, truncated, _ = env.step(action)
            done, total = terminated or truncated, total + float(reward)
        returns.append(total)
    return returns


def test_a_loop_by_hand_plays_the_same_episodes(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--backend", "sync", "--episodes", "12", "--seed", "3"]
    result = evaluated(capsys, finished_run, *options)
    assert result["num_envs"] == 12
    assert by_hand(finished_run, result) == result["returns"]


@pytest.mark.skipif(importlib.util.find_spec("envpool") is None, reason="EnvPool is not installed")
def test_a_loop_by_hand_plays_the_same_episodes_of_an_envpool(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import envpool

    result = evaluated(capsys, finished_run, "--backend", "envpool", "--episodes", "4")
    agent = make_agent("CartPole-v1", "ppo", "torch", hidden_sizes=[8])
    CheckpointRegistry(finished_run / "checkpoints").load_best(agent)
    with quiet_making():
        options = {"num_envs": result["num_envs"], "seed": result["env_seed"]}
        pool = envpool.make("CartPole-v1", env_type="gymnasium", **options)
        observations, _ = pool.reset()
    alive, totals = np.ones(4, bool), np.zeros(4)
    while alive.any():
        observations, rewards, terminated, truncated, _ = pool.step(agent.act_greedy(observations))
        totals += rewards * alive
        alive &= ~(terminated | truncated)
    pool.close()
    assert list(totals) == result["returns"]


@pytest.mark.parametrize("factor", [1e-7, 1.0, -1e9, 1e300])
def test_figures_of_any_size_stand_below_their_names(factor: float) -> None:
    figures = {"mean": 123.456 * factor, "std": 0.5 * factor, "min": 0.0, "max": None}
    lines = _table({"return": figures, "length": dict.fromkeys(figures, 10.0)})
    assert len({len(line) for line in lines}) == 1
    assert all(len(line.split()) == 5 for line in lines[1:])


def test_no_plotting_library_is_needed(
    finished_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "matplotlib" else find_spec(name)
    )
    assert evaluated(capsys, finished_run, "--episodes", "2")["episodes"] == 2


def test_the_text_has_the_figures_and_the_seeds(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = evaluated(capsys, finished_run)
    assert main(["evaluate", str(finished_run)]) == 0
    text = capsys.readouterr().out
    assert "20 episodes, best actions" in text
    assert f"{result['return']['mean']:.4g}" in text
    assert f"{result['seed']}, of fresh episodes; --seed {result['seed']} plays them again" in text


def test_nothing_is_written_by_an_evaluation(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished_run.rglob("*")}
    evaluated(capsys, finished_run, "--episodes", "3")
    assert before == {path: path.stat().st_mtime_ns for path in finished_run.rglob("*")}


def test_a_run_directory_may_be_moved(
    finished_run: Path, copied_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = evaluated(capsys, copied_run)
    assert moved["returns"] == evaluated(capsys, finished_run)["returns"]


def test_if_the_best_is_damaged_the_next_is_played_and_said_so(
    copied_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = evaluated(capsys, copied_run)["snapshot"]
    weights = copied_run / "checkpoints" / f"snapshot_{best}" / "weights" / "actor.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    assert main(["evaluate", str(copied_run), "--json"]) == 0
    said = capsys.readouterr()
    assert "warning: skipping a damaged checkpoint" in said.err
    assert json.loads(said.out)["snapshot"] != best


def refused(capsys: pytest.CaptureFixture[str], run: Path) -> str:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert main(["evaluate", str(run)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    return said.err


def test_damaged_checkpoints_are_refused_in_one_line(
    copied_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for weights in copied_run.rglob("actor.safetensors"):
        weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    assert "every checkpoint" in refused(capsys, copied_run)


def test_missing_checkpoints_are_refused_in_one_line(
    copied_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(copied_run / "checkpoints")
    assert "holds no readable checkpoint" in refused(capsys, copied_run)


def test_a_run_of_an_earlier_version_is_one_of_ppo_in_pytorch(
    finished_run: Path, copied_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = json.loads((copied_run / "run.json").read_text())
    for name in ("algorithm", "framework", "computed_on", "channels"):
        del config[name]
    del config["normalize_observations"], config["normalize_rewards"]
    (copied_run / "run.json").write_text(json.dumps(config))
    returns = evaluated(capsys, copied_run)["returns"]
    assert returns == evaluated(capsys, finished_run)["returns"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"env_id": "CartPole-v1"}'])
def test_a_damaged_run_json_is_refused_in_one_line(
    text: str, copied_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copied_run / "run.json").write_text(text)
    assert "run.json is damaged" in refused(capsys, copied_run)


def test_weights_of_another_size_are_refused_in_one_line(
    copied_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = json.loads((copied_run / "run.json").read_text())
    (copied_run / "run.json").write_text(json.dumps(config | {"hidden_sizes": [9]}))
    assert "does not fit" in refused(capsys, copied_run)


class Feed(gymnasium.Env[np.ndarray, int]):
    """Pays the action, without end."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)  # type: ignore[assignment]

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        return np.zeros(2, np.float32), float(action), False, False, {}


gymnasium.register("Feed-v0", Feed)


@pytest.mark.parametrize(
    ("steps", "reported", "described"),
    [
        (2048, ", the mean reward a step, as no episode ends", " a step in training"),
        (256, "no policy was ever scored", "the last one of the training: it was never scored"),
    ],
)
def test_a_task_without_ends_is_played_for_a_while(
    steps: int,
    reported: str,
    described: str,
    here: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tensor_optix.core.decisions.episode_ends.MOST_STEPS", 100)
    options = [*TINY, "--backend", "sync", "--max-steps", str(steps), "--run-dir", "run"]
    assert main(["train", "Feed-v0", *options]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert reported in said
    assert "evaluate tensor-optix evaluate" in said
    assert ("scored by the mean reward a step" in said) is (steps == 2048)
    result = evaluated(capsys, Path("run"), "--episodes", "2")
    assert (result["episodes"], result["episodes_without_end"], result["steps"]) == (0, 2, 200)
    assert 0.0 <= result["reward_per_step"] <= 1.0
    assert (result["score"], result["score_is_per_step"]) == (result["reward_per_step"], True)
    assert result["most_steps"] == 100
    assert (result["training_score"] is None) is (steps == 256)
    assert main(["evaluate", "run", "--episodes", "2"]) == 0
    text = capsys.readouterr().out
    assert "2 of 2 episodes did not end within 100 steps" in text
    reward = f"{result['reward_per_step']:.4g}"
    assert f"score    {reward}, the mean reward a step, as no episode ended" in text
    assert described in text
