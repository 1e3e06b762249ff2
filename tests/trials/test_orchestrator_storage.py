"""Studies that are kept: they go on later, and several processes work on one of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

optuna = pytest.importorskip("optuna")

from tensor_optix.trials.study import TrialStudy
from tests.trials.small_search import ParamAgent, quick_collections, search, states  # noqa: F401

pytestmark = pytest.mark.usefixtures("quick_collections")

if TYPE_CHECKING:
    from tensor_optix.trials.orchestrator import TrialOrchestrator

WORKER = """
import sys, time
from tests.trials.small_search import ParamPipeline, search

class Slow(ParamPipeline):
    def score(self, updates, window):
        time.sleep(0.01)
        return super().score(updates, window)

orchestrator = search(
    pipeline_factory=Slow, storage=sys.argv[1], study_name="shared", n_trials=8, finalists=2,
    finalist_seeds=2, n_startup_trials=8,
)
orchestrator.study
print("ready", flush=True)
sys.stdin.readline()
print(orchestrator.run())
"""


def drawn(orchestrator: TrialOrchestrator) -> list[float]:
    return [trial.params["x"] for trial in orchestrator.study.trials]


@pytest.mark.parametrize("place", ["sqlite:///{}/study.db", "{}/below/study.journal"])
def test_a_study_goes_on_with_fresh_draws_and_its_budget_is_of_all_runs(
    place: str, tmp_path: Path
) -> None:
    kept = {"storage": place.format(tmp_path), "study_name": "s", "seed": None}
    first = search(**kept, n_trials=2)
    first.run()
    second = search(**kept, n_trials=5, finalists=2, finalist_seeds=2)
    best = second.run()
    assert drawn(second)[:2] == drawn(first)[:2]
    assert len(set(drawn(second))) == 5
    # A third one finds nothing to do, and the same best.
    agents: list[ParamAgent] = []
    third = search(
        **kept,
        agent_factory=lambda params: agents.append(ParamAgent(params)) or agents[-1],
        finalists=2,
        finalist_seeds=2,
    )
    assert third.run() == best
    assert agents == []


@pytest.mark.parametrize("place", ["~/study.journal", "sqlite:///~/study.db"])
def test_a_study_may_lie_in_the_home_directory(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    search(storage=place, study_name="s", n_trials=2).run()
    assert (tmp_path / place.rpartition("/")[2]).exists()
    assert not (tmp_path / "~").exists()


def test_a_study_that_goes_on_draws_as_one_that_was_never_ended(tmp_path: Path) -> None:
    kept = {"storage": tmp_path / "a.log", "study_name": "s"}
    search(**kept, n_trials=2).run()
    parts, whole = search(**kept), search()
    parts.run()
    whole.run()
    assert drawn(parts) == drawn(whole)


def test_a_storage_of_optunas_own_may_be_given() -> None:
    storage = optuna.storages.InMemoryStorage()
    search(storage=storage, study_name="s", n_trials=2).run()
    assert len(optuna.load_study(study_name="s", storage=storage).trials) == 2


def test_a_study_of_the_other_direction_is_refused(tmp_path: Path) -> None:
    kept = {"storage": tmp_path / "a.log", "study_name": "s"}
    search(**kept, n_trials=1).run()
    with pytest.raises(ValueError, match="has the direction maximize, got 'minimize'"):
        search(**kept, direction="minimize").run()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"param_space": {"x": ("float", 0.0, 2.0)}},
            r"param_space\['x'\] is \['float', 0.0, 1.0\] there, \['float', 0.0, 2.0\] here",
        ),
        (
            {"param_space": {"y": ("float", 0.0, 1.0)}},
            r"\['x'\] is .* there, not given here; param_space\['y'\] is not given there",
        ),
        ({"param_space": {"x": ("categorical", 0, 1)}}, r"\['categorical', 0, 1\] here"),
        ({"trial_steps": 8}, "trial_steps is 4 there, 8 here"),
        ({"about": {"env_id": "b"}}, "env_id is 'a' there, 'b' here"),
        ({"param_space": None}, r"param_space\['z'\] is not given there"),
    ],
)
def test_a_study_about_something_else_is_refused_and_left_as_it_was(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    class Bounded(ParamAgent):
        default_param_bounds = {"z": (0.1, 0.4)}  # noqa: RUF012

    kept = {"storage": tmp_path / "a.log", "study_name": "s", "about": {"env_id": "a"}}
    begun = search(**kept, n_trials=1)
    begun.run()
    before = begun.study.user_attrs
    with pytest.raises(ValueError, match=message) as caught:
        search(**kept | changes, agent_factory=Bounded).run()
    assert "choose another study_name or storage" in str(caught.value)
    assert begun.study.user_attrs == before
    assert states(begun) == ["COMPLETE"]


def test_a_study_with_every_kind_of_spec_is_recognized_and_may_be_opened_with_less(
    tmp_path: Path,
) -> None:
    space = {
        "a": ("log_float", 1, 2),
        "b": ("int", 1, 3),
        "c": ("categorical", (64, 64), None, True, 1),
    }
    kept = {"storage": tmp_path / "a.log", "study_name": "s"}
    search(**kept, param_space=space, n_trials=1, about={"sizes": (8, 8)}).run()
    again = search(**kept, param_space=space, about={"sizes": [8, 8]})
    assert len(again.study.trials) == 1
    assert len(search(**kept, param_space=None).study.trials) == 1


def test_a_trial_that_two_processes_begin_at_once_is_given_up_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    orchestrator = search(n_trials=2)
    best = orchestrator.run()
    # Between the look at the budget and the new trial, another process began the last one.
    count = TrialStudy.count
    monkeypatch.setattr(
        TrialStudy, "count", lambda kept: count(kept) if len(kept.study.trials) > 2 else 0
    )
    assert orchestrator.run() == best
    assert states(orchestrator) == ["COMPLETE", "COMPLETE", "FAIL"]
    assert "another process" in orchestrator.study.trials[2].user_attrs["uncounted"]


def test_two_processes_share_a_study_and_its_budget(tmp_path: Path) -> None:
    journal = str(tmp_path / "study.journal")
    workers = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", WORKER, journal],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    outputs = [worker.communicate("go\n", timeout=60)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    study: Any = search(storage=journal, study_name="shared", n_trials=8)
    counted = [one for one in study.study.trials if "uncounted" not in one.user_attrs]
    assert len(counted) == 8
    assert states(study).count("COMPLETE") == 8
    # At random both would draw the same points, were they seeded alike.
    assert len({one.params["x"] for one in counted}) == 8
    assert outputs[0] == outputs[1]
