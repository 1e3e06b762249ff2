"""`tensor-optix train`: what a run leaves behind, says, and how it ends."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.image
import pytest

from tensor_optix.algorithms.frameworks import lightest_framework
from tensor_optix.algorithms.ppo import PPO
from tensor_optix.cli.main import main
from tensor_optix.core.checkpoint_registry import CheckpointRegistry
from tests.cli.conftest import TINY, files_below

if TYPE_CHECKING:
    from collections.abc import Callable


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_directory_holds_all_that_was_promised(finished_run: Path) -> None:
    assert {path.name for path in finished_run.iterdir()} == {
        "run.json",
        "checkpoints",
        "metrics.jsonl",
        "events.jsonl",
        "learning_curve.png",
        "report.txt",
        "state",
        "lock",
    }


def test_run_json_describes_the_run(finished_run: Path) -> None:
    config = json.loads((finished_run / "run.json").read_text())
    assert config["env_id"] == "CartPole-v1"
    assert config["backend"] != "auto"
    assert (config["seed"], config["num_envs"], config["window_size"]) == (5, 2, 64)
    assert config["hidden_sizes"] == [8]
    framework = lightest_framework(sees_images=False, device="auto")
    assert (config["algorithm"], config["framework"]) == ("ppo", framework.name)
    assert config["computed_on"] in ("cpu", "gpu")
    assert (config["normalize_observations"], config["normalize_rewards"]) == (False, False)
    assert config["hyperparams"]["n_epochs"] == 1
    assert config["hyperparams"]["clip_ratio"] == 0.2
    assert "tensor_optix" in config["versions"]
    assert "tensorflow" not in config["versions"]
    assert config["engine"] == "auto"
    assert config["updates_by"].startswith(("the native engine (", "PyTorch, as "))


def test_the_learning_curve_is_an_image_with_something_on_it(finished_run: Path) -> None:
    image = matplotlib.image.imread(finished_run / "learning_curve.png")
    assert image.shape[:2] == (720, 1200)
    assert (image[..., :3] < 0.9).any(axis=2).mean() > 0.005


def test_the_report_says_why_how_much_and_what_next(finished_run: Path) -> None:
    report = (finished_run / "report.txt").read_text()
    last = rows(finished_run / "metrics.jsonl")[-1]
    assert "limit of 2,048 steps" in report
    assert f"{last['total_steps']:,} in 00:" in report
    assert f"tensor-optix evaluate {finished_run}" in report
    assert re.search(r"learning   entropy [\d.]+, KL ", report)
    (kept,) = re.findall(r"\S*snapshot_[0-9a-f]{8}", report)
    assert (finished_run / "checkpoints" / Path(kept).name / "weights").is_dir()


def test_the_report_says_how_many_episodes_the_best_score_rests_on(finished_run: Path) -> None:
    report = (finished_run / "report.txt").read_text()
    best = CheckpointRegistry(finished_run / "checkpoints").best
    assert best is not None
    assert best.eval_metrics.score_count > 0
    plural = "" if best.eval_metrics.score_count == 1 else "s"
    said = re.search(r"best .* steps, the mean return of (\d+) episode(s?); kept in", report)
    assert said is not None
    assert said.groups() == (str(best.eval_metrics.score_count), plural)


def test_the_step_limit_is_neared_but_not_exceeded(finished_run: Path) -> None:
    assert 2048 - 128 < rows(finished_run / "metrics.jsonl")[-1]["total_steps"] <= 2048


def test_plain_lines_tell_what_runs_and_how_it_goes(
    train: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--seed", "5") == 0
    said = capsys.readouterr()
    assert said.err == ""
    first, looked, chosen, second, *_ = said.out.splitlines()
    title = lightest_framework(sees_images=False, device="auto").title
    assert re.fullmatch(rf"CartPole-v1: ppo \({title}, \w+\), 2 environments on \w+, seed 5", first)
    assert re.fullmatch(r"00:0\d +0 steps  looked at 4,\d+ random steps .+", looked)
    assert re.fullmatch(r"00:0\d +0 steps  chose algorithm ppo: .+", chosen)
    assert re.fullmatch(
        r"\d\d:\d\d +\d+ steps  score [\d.-]+  best [\d.-]+  [\d,]+ steps/s  learning", second
    )
    assert "CartPole-v1: training reached its limit" in said.out
    assert "\x1b" not in said.out


def test_the_same_seed_gives_the_same_scores(train: Callable[..., int], here: Path) -> None:
    for name in ("a", "b"):
        assert train("--seed", "7", "--run-dir", name) == 0
    scores = [[row["score"] for row in rows(here / name / "metrics.jsonl")] for name in ("a", "b")]
    assert len(scores[0]) > 10
    assert scores[0] == scores[1]


def test_the_engine_is_the_one_that_was_asked_for(
    train: Callable[..., int], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--engine", "framework", "--run-dir", "run", steps=256) == 0
    config = json.loads((here / "run" / "run.json").read_text())
    assert config["engine"] == "framework"
    assert config["updates_by"] == "PyTorch, as engine='framework' was asked for"
    assert main(["evaluate", "run", "--engine", "auto", "--episodes", "1"]) == 0
    assert train("--engine", "fast") == 2
    assert "'fast'" in capsys.readouterr().err


def test_other_settings_are_tried_where_updates_do_nothing_unless_tuning_is_off(
    train: Callable[..., int], here: Path
) -> None:
    for name, options in (("on", ()), ("off", ("--no-tune",))):
        rate = ("--ppo.learning-rate", "1e-6", "--max-steps", "40000", "--seed", "1")
        assert train(*rate, "--run-dir", name, *options) == 0
        config = json.loads((here / name / "run.json").read_text())
        assert config["tune"] == (name == "on")
        events = [row for row in rows(here / name / "events.jsonl") if row["kind"] == "forked"]
        assert bool(events) == (name == "on")
    report = " ".join((here / "on" / "report.txt").read_text().split())
    assert "the first updates hardly move the policy" in report


def test_two_runs_in_a_row_get_directories_and_seeds_of_their_own(
    train: Callable[..., int], here: Path
) -> None:
    assert train(steps=256) == 0
    assert train(steps=256) == 0
    first, second = sorted((here / "runs" / "CartPole-v1").iterdir())
    seeds = [json.loads((run / "run.json").read_text())["seed"] for run in (first, second)]
    assert seeds[0] != seeds[1]


def test_a_directory_with_another_run_is_refused_and_untouched(
    train: Callable[..., int], here: Path, finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished_run.rglob("*")}
    assert train("--run-dir", str(finished_run)) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "another run is here" in said
    assert before == {path: path.stat().st_mtime_ns for path in finished_run.rglob("*")}


@pytest.mark.parametrize("run_dir", ["file", "file/below", "n" * 300, "/proc/self/nowhere"])
def test_an_impossible_run_directory_is_refused(
    run_dir: str, train: Callable[..., int], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "file").touch()
    assert train("--run-dir", run_dir) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "choose another --run-dir" in said
    assert files_below(here) == {"file"}


def test_a_crash_keeps_what_was_learned(
    train: Callable[..., int],
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    learn, calls = PPO.learn, list[int]()

    def failing(self: PPO, episode_data: Any) -> dict[str, Any]:
        calls.append(1)
        if len(calls) > 5:
            raise ArithmeticError("the fifth was the last")
        return learn(self, episode_data)

    monkeypatch.setattr(PPO, "learn", failing)
    assert train("--run-dir", "run") == 1
    said = capsys.readouterr()
    assert said.err == (
        "tensor-optix: training crashed: ArithmeticError: the fifth was the last; "
        "the traceback is in run/traceback.txt\n"
    )
    assert "training crashed" in (here / "run" / "report.txt").read_text()
    assert "in failing" in (here / "run" / "traceback.txt").read_text()
    assert (here / "run" / "learning_curve.png").exists()
    monkeypatch.undo()
    assert main(["evaluate", str(here / "run"), "--episodes", "2"]) == 0


def test_an_environment_may_lie_in_the_working_directory(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "my_cart.py").write_text(
        "import gymnasium\n"
        "gymnasium.register('MyCart-v0', 'gymnasium.envs.classic_control:CartPoleEnv', "
        "max_episode_steps=20)\n"
    )
    options = ["--num-envs", "2", "--window-size", "64", "--max-steps", "256"]
    assert main(["train", "my_cart:MyCart-v0", *options, "--backend", "sync"]) == 0
    (run,) = (here / "runs" / "my_cart-MyCart-v0").iterdir()
    assert main(["evaluate", str(run), "--episodes", "2"]) == 0
    assert "MyCart-v0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("env_id", "steps", "is_said"),
    [("Pendulum-v1", 256, True), ("Pendulum-v1", 512, False), ("CartPole-v1", 256, False)],
)
def test_a_time_limit_that_no_episode_can_reach_is_told_at_the_start(
    env_id: str, steps: int, is_said: bool, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pendulum's is 200, and two environments share the steps. CartPole's episodes end sooner."""
    assert main(["train", env_id, *TINY, "--max-steps", str(steps)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert ("no episode can reach its time limit of 200 steps within the 128" in said) is is_said
    assert ("no policy was ever scored" in said) is is_said


def test_a_run_directory_may_begin_with_the_home_directory(
    train: Callable[..., int], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(here))
    assert train("--run-dir", "~/run") == 0
    assert main(["evaluate", "~/run", "--episodes", "2"]) == 0
    assert (here / "run" / "run.json").exists()
    assert not (here / "~").exists()
