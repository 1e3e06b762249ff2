"""What `benchmarks.peers` does with measurements; the peers themselves are not among the tests' packages."""

from __future__ import annotations

import dataclasses
import json

import pytest

from benchmarks.peers import table
from benchmarks.peers.__main__ import Results
from benchmarks.peers.cases import CONTENDERS, SCORES, SPEED
from benchmarks.peers.process import HERE, last_line
from benchmarks.peers.settings import PPO
from benchmarks.peers.worker import STARTED, Watch


def speed(contender, number, steps_per_second, case="cartpole-ppo", threads=1):
    return {
        "case": case,
        "contender": contender,
        "threads": threads,
        "round": number,
        "steps_per_second": steps_per_second,
        "warm_up": 2.0,
        "versions": {"torch": "2.13.0"},
    }


def run(contender, seed, seconds, reached=True, algorithm="ppo"):
    return {
        "case": "cartpole",
        "contender": contender,
        "algorithm": algorithm,
        "seed": seed,
        "cap": 60.0,
        "seconds": seconds,
        "reached": reached,
        "steps": 1000 * (seed + 1),
    }


SPEEDS = [
    *(speed("sb3", number, one) for number, one in enumerate((100.0, 300.0, 200.0))),
    *(speed("torch", number, one) for number, one in enumerate((400.0, 500.0, 900.0))),
]


def test_rounds_go_from_contender_to_contender():
    rounds = table.schedule(["a", "b", "c"], 2, [])
    assert rounds == [(0, "a"), (0, "b"), (0, "c"), (1, "a"), (1, "b"), (1, "c")]


def test_an_interrupted_run_goes_on_with_the_rounds_that_are_left():
    rounds = table.schedule(["a", "b"], 2, [("a", 0), ("b", 0), ("a", 1)])
    assert rounds == [(1, "b")]


def test_a_row_has_median_and_spread_of_its_rounds():
    theirs, ours = table.speed_rows(SPEEDS)
    assert (theirs["contender"], theirs["median"]) == ("sb3", 200.0)
    assert (theirs["least"], theirs["most"], theirs["rounds"]) == (100.0, 300.0, 3)
    assert (ours["contender"], ours["median"], ours["warm_up"]) == ("torch", 500.0, 2.0)


def test_ratios_are_of_medians_and_of_each_of_ours():
    theirs, ours = table.speed_rows(SPEEDS)
    assert theirs["times_as_fast"] == {"torch": 2.5}
    assert ours["times_as_fast"] == {"torch": 1.0}


def test_ratios_are_of_one_number_of_threads():
    rows = table.speed_rows([*SPEEDS, speed("sb3", 0, 50.0, threads=2)])
    assert [(row["threads"], row["contender"]) for row in rows] == [
        (1, "sb3"),
        (1, "torch"),
        (2, "sb3"),
    ]
    assert rows[-1]["times_as_fast"] == {}


def test_a_seed_that_came_too_late_counts_as_the_longest():
    (row,) = table.score_rows(
        [run("sb3", 1, 60.0, reached=False), run("sb3", 0, 20.0), run("sb3", 2, 30.0)]
    )
    assert row["each"] == [20.0, None, 30.0]
    assert row["median"] == 30.0


def test_a_median_beyond_the_cap_is_none_and_is_printed_as_such():
    late = [run("plain", seed, 60.0, reached=False) for seed in range(3)]
    (row,) = table.score_rows(late)
    assert row["median"] is None
    assert "| > 60 | > 60, > 60, > 60 |" in table.table(late)


def test_the_best_peer_is_none_of_ours():
    rows = table.score_rows([run("sb3", 0, 20.0), run("sbx", 0, 8.0), run("torch", 0, 2.0)])
    assert table.best_peer(rows, "cartpole") == 8.0
    assert table.best_peer(rows, "acrobot") is None


def test_the_table_says_ratio_share_versions_and_failures():
    failure = {"case": "cartpole-dqn", "contender": "native", "threads": 1, "failure": "no such"}
    printed = table.table([*SPEEDS, run("sb3", 0, 20.0), run("torch", 0, 5.0), failure])
    assert "| Stable-Baselines3 | 200 | 100 to 300 | 3 | 2.0 | 2.50 |" in printed
    assert "| tensor-optix, PyTorch | ppo | 5.0 | 5.0 | 1,000 | 0.25 |" in printed
    assert "torch 2.13.0" in printed
    assert "tensor-optix, native in cartpole-dqn: no such" in printed


def test_results_are_read_again_and_a_failure_made_good_is_gone(tmp_path):
    results = Results(tmp_path / "results.jsonl")
    results.add({"case": "cartpole-ppo", "contender": "sb3", "threads": 1, "failure": "no wheel"})
    results.add({"case": "cartpole-ppo", "contender": "sbx", "threads": 1, "failure": "no jax"})
    results.add(speed("sb3", 0, 100.0))
    again = Results(tmp_path / "results.jsonl")
    assert len(again.rows) == 3
    assert [row["contender"] for row in again.measured] == ["sb3", "sbx"]
    assert json.dumps(again.measured[0]) == json.dumps(speed("sb3", 0, 100.0))


def test_a_watch_takes_evaluations_out_of_the_time(monkeypatch):
    monkeypatch.setenv(STARTED, "0")
    watch = Watch(475.0, cap=10.0**12)
    assert not watch.is_over(1000, lambda episodes: 100.0)
    first = watch.row["seconds"]
    watch._evaluating += 1000.0
    assert watch.is_over(2000, lambda episodes: 475.0)
    assert watch.row["reached"]
    assert watch.row["seconds"] < first


def test_a_watch_gives_up_behind_the_cap(monkeypatch):
    monkeypatch.setenv(STARTED, "0")
    watch = Watch(475.0, cap=1.0)
    assert watch.is_over(1000, lambda episodes: 474.9)
    assert not watch.row["reached"]


def test_a_failure_is_told_by_its_last_line():
    assert last_line("Traceback\nValueError: no\n\n") == "ValueError: no"
    assert last_line(" \n") == "it ended without a word"


@pytest.mark.parametrize("name", CONTENDERS)
def test_every_contender_has_a_file_and_pinned_requirements(name):
    contender = CONTENDERS[name]
    assert (HERE / "contenders" / f"{contender.module}.py").exists()
    lines = (HERE / "requirements" / f"{contender.requirements}.txt").read_text().splitlines()
    packages = [line for line in lines if not line.startswith("#")]
    assert all("==" in line for line in packages)
    pinned = {line.partition("==")[0].lower() for line in packages}
    assert set(contender.packages) - {"keras"} <= pinned


def all_settings():
    cases = [case for suite in SPEED.values() for case in suite.values()]
    speeds = [case.settings_of(name) for case in cases for name in CONTENDERS]
    peers = [one for case in SCORES.values() for one in case.settings.values()]
    return [*speeds, *(one for algorithms in peers for one in algorithms.values())]


def test_rollouts_are_shared_out_evenly():
    for settings in all_settings():
        assert dataclasses.is_dataclass(settings)
        rows = settings.rows if isinstance(settings, PPO) else settings.train_every
        assert rows % settings.num_envs == 0


def test_all_contenders_of_a_case_make_the_same_updates():
    for cases in SPEED.values():
        for case in cases.values():
            given = {dataclasses.replace(case.settings_of(name), env_id="") for name in CONTENDERS}
            assert len(given) == 1
