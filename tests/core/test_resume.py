"""A run that was killed goes on as if nothing had happened."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tensor_optix.core.callbacks import Resumed, RunLog, Unsaved
from tensor_optix.core.checkpoints.run_keeper import RunKeeper
from tensor_optix.core.checkpoints.saved_state import CheckpointError
from tests.core.scripted_loop import Setup
from tests.scripted import CountingAgent, KillAt, Killed, ScriptedOptimizer, ScriptedPipeline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tensor_optix.core.types import EpisodeData

WINDOWS = 30


class EveryWindow(RunKeeper):
    """Keeps the run between any two windows."""

    @property
    def is_due(self) -> bool:
        self.wait()
        return True


class LastingPipeline(ScriptedPipeline):
    """Goes on with its windows, if it is told which is the next."""

    def __init__(self, score_of: Any, goes_on: bool = True) -> None:
        super().__init__(score_of)
        self.goes_on = goes_on

    def episodes(self) -> Iterator[EpisodeData]:
        while True:
            self.collected += 1
            yield self.window(self.collected - 1)

    def state_dict(self) -> dict[str, Any]:
        return {"collected": self.collected}

    def load_state_dict(self, state: dict[str, Any]) -> bool:
        self.collected = state["collected"]
        return self.goes_on


class LastingOptimizer(ScriptedOptimizer):
    def state_dict(self) -> dict[str, Any]:
        return {"calls": list(self.calls)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.calls = list(state["calls"])


def score_of(updates: int, window: int) -> float:
    """Rises, falls for a while, rises again, with noise that follows from the window."""
    noise = float(np.random.default_rng(window).normal())
    return 5.0 * updates - 12.0 * max(0, updates - 12) + 14.0 * max(0, updates - 20) + noise


def start(directory: Path, resume: bool = False, goes_on: bool = True, **options: Any) -> Setup:
    """Return a run of `WINDOWS` windows, ready to begin."""
    callbacks = [RunLog(directory, resume), *options.pop("callbacks", [])]
    options.setdefault("keeper", EveryWindow(directory / "state", 0.0, resume))
    return Setup(
        directory / "checkpoints",
        score_of,
        pipeline=LastingPipeline(score_of, goes_on),
        optimizer=LastingOptimizer(),
        rollback_on_degradation=True,
        callbacks=callbacks,
        max_episodes=options.pop("max_episodes", WINDOWS),
        max_snapshots=4,
        **options,
    )


def told(setup: Setup) -> tuple[list[Any], list[Any]]:
    """Return what a run did, but for times and the names of snapshots."""
    windows = []
    for report in setup.diary.windows:
        row = asdict(report)
        for name in ("seconds", "collect_seconds", "learn_seconds"):
            del row[name]
        windows.append(row)
    events = []
    for event in setup.diary.events:
        numbers = {name: value for name, value in event.numbers.items() if name != "snapshot"}
        events.append((event.kind, event.episode_id, event.total_steps, numbers))
    return windows, events


def logged(directory: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / name).read_text().splitlines()]


@pytest.mark.parametrize("window", range(1, WINDOWS, 5))
def test_a_run_killed_in_any_window_ends_as_if_it_had_not_been(tmp_path, window):
    straight = start(tmp_path / "straight").run()
    run = tmp_path / "run"
    killed = start(run, callbacks=[KillAt(window)])
    with pytest.raises(Killed):
        killed.run()
    resumed = start(run, resume=True).run()

    windows, events = told(straight)
    before, after = told(killed), told(resumed)
    assert before[0][:window] + after[0] == windows
    known = [one for one in before[1] if one[1] < window and one[0] != "stop"]
    assert after[1][0][0] == "resumed"
    assert known + after[1][1:] == events
    assert resumed.agent.updates == straight.agent.updates
    assert resumed.agent.params == straight.agent.params
    best, other = straight.controller.best_snapshot, resumed.controller.best_snapshot
    assert best.eval_metrics.primary_score == other.eval_metrics.primary_score
    stored = [
        [one.eval_metrics.primary_score for one in each.registry.snapshots]
        for each in (straight, resumed)
    ]
    assert stored[0] == stored[1]
    assert [row["episode_id"] for row in logged(run, "metrics.jsonl")] == list(range(WINDOWS))
    kinds = [row["kind"] for row in logged(run, "events.jsonl")]
    assert kinds.count("start") == kinds.count("resumed") == kinds.count("stop") == 1


def test_a_run_killed_again_and_again_ends_as_if_it_had_not_been(tmp_path):
    straight = start(tmp_path / "straight").run()
    for window in range(3, WINDOWS, 4):
        with pytest.raises(Killed):
            start(tmp_path / "run", resume=window > 3, callbacks=[KillAt(window)]).run()
    resumed = start(tmp_path / "run", resume=True).run()
    assert resumed.agent.updates == straight.agent.updates
    rows = [logged(tmp_path / name, "metrics.jsonl") for name in ("straight", "run")]
    for mine, other in zip(*rows, strict=True):
        assert [mine[key] for key in ("score", "best", "state")] == [
            other[key] for key in ("score", "best", "state")
        ]


def test_where_episodes_cannot_go_on_the_best_policy_since_then_is_kept(tmp_path):
    killed = start(tmp_path, callbacks=[KillAt(9)], keeper=RunKeeper(tmp_path / "state", 1e9))
    with pytest.raises(Killed):
        killed.run()
    best = killed.registry.best
    resumed = start(tmp_path, resume=True, goes_on=False, max_episodes=2).run()
    event = next(one for one in resumed.diary.events if isinstance(one, Resumed))
    assert (event.windows, event.after, event.episodes_go_on) == (1, "killed", False)
    assert resumed.controller.best_snapshot == best


def test_policies_found_after_the_checkpoint_are_not_lost_before_they_are_found_again(tmp_path):
    killed = start(tmp_path, callbacks=[KillAt(9)], keeper=RunKeeper(tmp_path / "state", 1e9))
    with pytest.raises(Killed):
        killed.run()
    best = killed.registry.best
    assert best is not None
    assert best.episode_id > 2
    # It ends before it comes to where the best policy was found.
    resumed = start(tmp_path, resume=True, max_episodes=2).run()
    assert best.snapshot_id in [one.snapshot_id for one in resumed.registry.snapshots]


def test_a_run_goes_on_with_a_larger_budget_after_it_stopped(tmp_path):
    start(tmp_path, max_episodes=10).run()
    resumed = start(tmp_path, resume=True, max_episodes=25).run()
    assert [report.episode_id for report in resumed.diary.windows] == list(range(10, 25))
    assert resumed.diary.events[0].after == "capped"
    again = start(tmp_path, resume=True, max_episodes=25).run()
    assert again.diary.windows == []
    assert again.diary.events[-1].reason == "the cap of 25 windows was reached"


def test_without_a_checkpoint_a_run_that_resumes_begins(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"of": "a run without a checkpoint"}\n')
    setup = start(tmp_path, resume=True).run()
    assert setup.diary.kinds()[0] == "start"
    assert [row["episode_id"] for row in logged(tmp_path, "metrics.jsonl")] == list(range(WINDOWS))


def newest(directory: Path) -> Path:
    return max((directory / "state").glob("ckpt_*"))


@pytest.mark.parametrize("damage", ["torn", "altered", "gone", "foreign"])
def test_a_damaged_checkpoint_is_told_of_and_the_one_before_is_taken(tmp_path, caplog, damage):
    with pytest.raises(Killed):
        start(tmp_path, callbacks=[KillAt(9)]).run()
    loop = newest(tmp_path) / "loop.json"
    content = loop.read_bytes()
    match damage:
        case "torn":
            loop.write_bytes(content[: len(content) // 2])
        case "altered":
            loop.write_bytes(content.replace(b'"windows":9', b'"windows":8'))
        case "gone":
            loop.unlink()
        case "foreign":
            (newest(tmp_path) / "more.json").write_text("{}")
    resumed = start(tmp_path, resume=True).run()
    assert "ckpt_00000009 is damaged" in caplog.text
    assert resumed.diary.events[0].windows == 8
    assert [row["episode_id"] for row in logged(tmp_path, "metrics.jsonl")] == list(range(WINDOWS))


def test_without_a_sound_checkpoint_nothing_is_begun_and_nothing_touched(tmp_path):
    with pytest.raises(Killed):
        start(tmp_path, callbacks=[KillAt(9)]).run()
    for path in (tmp_path / "state").glob("ckpt_*/manifest.json"):
        path.write_text(path.read_text().replace('"steps"', '"stops"'))
    before = (tmp_path / "events.jsonl").read_bytes()
    resumed = start(tmp_path, resume=True)
    # Asked again, it does not begin anew over what is there.
    for _ in range(2):
        with pytest.raises(CheckpointError, match=r"no checkpoint in .* is sound"):
            resumed.run()
    assert (tmp_path / "events.jsonl").read_bytes() == before


class OtherAgent(CountingAgent):
    pass


def test_another_agent_cannot_go_on_with_the_run(tmp_path):
    start(tmp_path, max_episodes=3).run()
    with pytest.raises(CheckpointError, match="has agent 'CountingAgent', got 'OtherAgent'"):
        start(tmp_path, resume=True, agent=OtherAgent()).run()


def test_a_full_disk_ends_no_training_and_the_old_checkpoint_stays(tmp_path, monkeypatch):
    sync = os.fsync
    setup = start(tmp_path, max_episodes=8)

    def refuse(descriptor: int) -> None:
        is_staged = "/state/.staging" in os.readlink(f"/proc/self/fd/{descriptor}")
        if is_staged and (tmp_path / "state/ckpt_00000003").exists():
            raise OSError(28, "No space left on device")
        sync(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", refuse)
        setup.run()
    assert len(setup.diary.windows) == 8
    events = [one for one in setup.diary.events if isinstance(one, Unsaved)]
    assert len(events) == 1
    assert "No space left" in events[0].reason
    assert newest(tmp_path).name == "ckpt_00000003"
    assert not list((tmp_path / "state").glob(".staging*"))
    resumed = start(tmp_path, resume=True, max_episodes=8).run()
    assert [report.episode_id for report in resumed.diary.windows] == [3, 4, 5, 6, 7]


def test_an_agent_that_cannot_be_saved_is_told_of(tmp_path):
    class Stubborn(CountingAgent):
        def save_state(self, path: Any) -> None:
            if "state" in str(path):
                raise RuntimeError("not now")
            super().save_state(path)

    setup = start(tmp_path, agent=Stubborn(), max_episodes=3).run()
    reasons = [one.reason for one in setup.diary.events if isinstance(one, Unsaved)]
    assert reasons[0] == "RuntimeError: not now"


def test_a_checkpoint_whose_file_is_a_link_elsewhere_is_not_kept(tmp_path):
    class Linking(CountingAgent):
        def save_state(self, path: Any) -> None:
            super().save_state(path)
            if "state" in str(path):
                (Path(path) / "weights").symlink_to(tmp_path / "weights")

    (tmp_path / "weights").write_text("may be others tomorrow")
    setup = start(tmp_path, agent=Linking(), max_episodes=3).run()
    reasons = [one.reason for one in setup.diary.events if isinstance(one, Unsaved)]
    assert "must name a regular file" in reasons[0]
    assert not list((tmp_path / "state").glob("ckpt_*"))


def test_the_last_two_checkpoints_stay(tmp_path):
    start(tmp_path, max_episodes=7).run()
    names = sorted(path.name for path in (tmp_path / "state").iterdir())
    assert names == ["ckpt_00000006", "ckpt_00000007"]


def test_a_run_directory_may_be_moved(tmp_path):
    with pytest.raises(Killed):
        start(tmp_path / "one", callbacks=[KillAt(9)]).run()
    shutil.move(tmp_path / "one", tmp_path / "two")
    resumed = start(tmp_path / "two", resume=True).run()
    assert resumed.diary.events[0].windows == 9
    assert resumed.controller.best_snapshot is not None


class FailsAt(LastingPipeline):
    """An environment that fails in a window."""

    def window(self, window: int) -> EpisodeData:
        if window == 6:
            raise RuntimeError("the robot fell over")
        return super().window(window)


def test_an_environment_that_fails_costs_no_more_than_its_window(tmp_path):
    setup = start(tmp_path, keeper=RunKeeper(tmp_path / "state", 1e9))
    setup.controller._collector._pipeline = FailsAt(score_of)
    with pytest.raises(RuntimeError, match="fell over"):
        setup.run()
    assert newest(tmp_path).name == "ckpt_00000006"
    resumed = start(tmp_path, resume=True).run()
    assert resumed.diary.windows[0].episode_id == 6


def test_generators_that_all_code_shares_go_on(tmp_path):
    class Rolling(CountingAgent):
        def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
            super().learn(episode_data)
            return {"roll": float(np.random.rand())}  # noqa: NPY002

    def rolls(*setups: Setup) -> list[float]:
        return [report.diagnostics["roll"] for one in setups for report in one.diary.windows]

    np.random.seed(1)  # noqa: NPY002
    straight = start(tmp_path / "straight", agent=Rolling()).run()
    np.random.seed(1)  # noqa: NPY002
    killed = start(tmp_path / "run", agent=Rolling(), callbacks=[KillAt(9)])
    with pytest.raises(Killed):
        killed.run()
    np.random.seed(2)  # noqa: NPY002
    resumed = start(tmp_path / "run", resume=True, agent=Rolling()).run()
    assert rolls(killed)[:9] + rolls(resumed) == rolls(straight)
