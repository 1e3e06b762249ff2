"""Arguments, wrappers, modules and backends: what was chosen is what is trained and what is played."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tensor_optix.cli.main import main
from tensor_optix.cli.options import TrainOptions, environment_arguments
from tensor_optix.cli.parsing import parse
from tensor_optix.pipeline.play import play_bounded
from tensor_optix.runs.interruption import Interruption
from tensor_optix.runs.run_directory import RunDirectory
from tests.cli.conftest import TINY

PLACE = "tests.core.chosen_envs"
HALL = f"{PLACE}:Hall-v0"
CHOSEN = ("--env-kwargs", "size=3", "length=5", 'config={"pay": 8}', "shape=(2, 3)")
WRAPPED = ("--wrapper", f"{PLACE}:Half", "--wrapper", f"{PLACE}:less_one")


@pytest.fixture(scope="module")
def chosen_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with arguments and wrappers: 3 is paid for each of the 5 steps of an episode."""
    path = tmp_path_factory.mktemp("chosen") / "run"
    options = [*TINY, "--max-steps", "512", "--seed", "5", "--run-dir", str(path)]
    assert main(["train", HALL, *options, *CHOSEN, *WRAPPED]) == 0
    return path


def evaluated(capsys: pytest.CaptureFixture[str], run: Path, *options: str) -> dict[str, Any]:
    assert main(["evaluate", str(run), "--json", "--episodes", "4", *options]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


# ---- what is typed


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("size=8", 8),
        ("size=-1.5", -1.5),
        ("render_mode=None", None),
        ("render_mode=null", None),
        ("slippery=false", False),
        ("slippery=True", True),
        ("reward_type=dense", "dense"),
        ("reward_type='8'", "8"),
        ("name=", ""),
        ("name=a=b", "a=b"),
        ("level=08", "08"),
        ("frame_bound=(10, 300)", (10, 300)),
        ('config={"a": 1, "b": [true, null]}', {"a": 1, "b": [True, None]}),
        ("config={'a': 1, 'b': [True, None]}", {"a": 1, "b": [True, None]}),
    ],
)
def test_values_are_python_or_json_or_text(word: str, value: Any) -> None:
    (read,) = environment_arguments([word]).values()
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["size"], 'must be KEY=VALUE, such as size=8, got "size"'),
        (["=8"], 'must be KEY=VALUE, such as size=8, got "=8"'),
        (["a b=8"], 'must be KEY=VALUE, such as size=8, got "a b=8"'),
        (["a=8", "a=9"], "must say each argument once, got a twice"),
        (["a={1, 2}"], r"--env-kwargs\['a'\] must be a number, .* got set"),
    ],
)
def test_words_that_say_no_argument_are_refused(words: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        environment_arguments(words)


@pytest.mark.parametrize(
    "typed",
    [
        ["X-v0", "--env-kwargs", "a=1", "b=-2", "--wrapper", "m:A", "--wrapper", "m:B"],
        ["--env-kwargs", "a=1", "--wrapper=m:A", "--env_kwargs=b=-2", "--wrapper", "m:B", "X-v0"],
    ],
)
def test_options_may_be_repeated_and_none_is_lost(typed: list[str]) -> None:
    options = parse(["train", *typed])
    assert isinstance(options, TrainOptions)
    recipe = options.environment
    assert (recipe.env_id, recipe.kwargs) == ("X-v0", {"a": 1, "b": -2})
    assert recipe.wrappers == ("m:A", "m:B")


# ---- what is trained and played


def test_what_was_chosen_is_in_run_json_and_comes_back_as_it_was(chosen_run: Path) -> None:
    stored = json.loads((chosen_run / "run.json").read_text())
    assert stored["env_kwargs"]["config"] == {"pay": 8}
    assert stored["wrappers"] == [f"{PLACE}:Half", f"{PLACE}:less_one"]
    recipe = RunDirectory(chosen_run).read_config().environment
    assert recipe.kwargs == {"size": 3, "length": 5, "config": {"pay": 8}, "shape": (2, 3)}
    assert recipe.env_id == HALL


def test_evaluate_plays_in_the_environment_that_was_trained_in(
    chosen_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = evaluated(capsys, chosen_run)
    assert (result["returns"], result["lengths"]) == ([15.0] * 4, [5] * 4)
    assert result["wrappers"] == [f"{PLACE}:Half", f"{PLACE}:less_one"]
    assert main(["evaluate", str(chosen_run), "--episodes", "1"]) == 0
    text = capsys.readouterr().out
    assert (
        f"{HALL}(size=3, length=5, config={{'pay': 8}}, shape=(2, 3)) in Half in less_one" in text
    )


def test_runs_of_earlier_versions_have_neither(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = evaluated(capsys, finished_run)
    copy = Path(shutil.copytree(finished_run, tmp_path / "copy"))
    config = json.loads((copy / "run.json").read_text())
    del config["env_kwargs"], config["wrappers"]
    (copy / "run.json").write_text(json.dumps(config))
    assert evaluated(capsys, copy) == before


def test_evaluate_may_be_stepped_by_another_backend(
    chosen_run: Path, finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluated(capsys, finished_run, "--backend", "vector")["backend"] == "vector"
    assert evaluated(capsys, chosen_run, "--backend", "async")["returns"] == [15.0] * 4
    assert main(["evaluate", str(chosen_run), "--backend", "envpool"]) == 2
    assert "wrappers take one environment each" in capsys.readouterr().err
    assert main(["evaluate", str(finished_run), "--backend", "fast"]) == 2
    assert "backend must be one of auto, " in capsys.readouterr().err


def test_a_run_with_envpool_is_played_where_there_is_none_if_gymnasium_has_the_environment(
    finished_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "envpool", None)
    copy = Path(shutil.copytree(finished_run, tmp_path / "copy"))
    config = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps(config | {"backend": "envpool"}))
    assert main(["evaluate", str(copy), "--json", "--episodes", "4"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["backend"] == "sync"
    assert said.err == (
        "warning: EnvPool stepped the training, but has no CartPole-v1 here: Gymnasium steps it\n"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((HALL, "--env-kwargs", "sise=3"), 'takes no argument "sise"; did you mean "size"?'),
        ((HALL, "--env-kwargs", "config={}"), "KeyError: 'pay'; look at --env-kwargs"),
        (
            (HALL, "--env-kwargs", "size"),
            '--env-kwargs must be KEY=VALUE, such as size=8, got "size"',
        ),
        ((HALL, "--wrapper", f"{PLACE}:Halfs"), 'did you mean "Half"?'),
        ((HALL, "--wrapper", "TimeLimit"), 'did you mean "gymnasium.wrappers:TimeLimit"?'),
        ((f"{PLACE}s:Hall-v0",), f'did you mean "{PLACE}"?'),
        ((f"{PLACE}:Hal-v0",), f'did you mean "{HALL}"?'),
    ],
)
def test_what_is_misspelt_is_said_in_one_line_and_nothing_is_written(
    arguments: tuple[str, ...], said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *arguments, *TINY]) == 2
    assert said in (error := capsys.readouterr().err)
    assert error.count("\n") == 1
    assert not any(here.iterdir())


def test_module_and_wrapper_may_lie_in_the_current_directory(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "lying_here.py").write_text(
        "import gymnasium\n"
        "from tests.core.chosen_envs import Half, Hall\n"
        'gymnasium.register("Here-v0", Hall)\n'
        "wrapped = Half\n"
    )
    chosen = ["lying_here:Here-v0", "--wrapper", "lying_here:wrapped"]
    assert main(["train", *chosen, *TINY, "--max-steps", "256", "--run-dir", "run"]) == 0
    capsys.readouterr()
    assert evaluated(capsys, Path("run"))["returns"] == [5.0] * 4


def test_tune_searches_in_the_environment_and_tells_the_command_that_trains_in_it(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    budget = ["--trials", "1", "--trial-steps", "256", "--seed", "1", "--run-dir", "search"]
    assert main(["tune", HALL, *TINY, *budget, *CHOSEN, *WRAPPED]) == 0
    said = capsys.readouterr().out
    assert json.loads((here / "search" / "best_params.json").read_text())["best_score"] == 15.0
    words = "--env-kwargs size=3 length=5 'config={\"pay\": 8}' 'shape=(2, 3)' --wrapper"
    assert f"{words} {PLACE}:Half --wrapper {PLACE}:less_one" in said
    storage = ["--storage", "search/study.journal", "--study-name", HALL, "--run-dir", "other"]
    assert main(["tune", HALL, *TINY, *budget[:-2], *storage]) == 2
    assert "is about something else" in capsys.readouterr().err


# ---- episodes that do not end, and Ctrl-C


def test_a_signal_ends_the_playing_and_shows_what_was_played(
    chosen_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any, **options: Any) -> Any:
        *others, is_over = arguments
        asked = iter(range(100))

        def over() -> bool:
            if next(asked) == 11:
                signal.raise_signal(signal.SIGINT)
            return bool(is_over())

        return play_bounded(*others, over, **options)

    monkeypatch.setattr("tensor_optix.cli.evaluation.play_bounded", interrupted)
    assert main(["evaluate", str(chosen_run), "--episodes", "40", "--json"]) == 130
    result = json.loads(capsys.readouterr().out)
    assert (result["interrupted"], result["episodes"]) == (True, 32)
    assert result["episodes_without_end"] == 0
    assert main(["evaluate", str(chosen_run), "--episodes", "40"]) == 130
    text = capsys.readouterr().out
    assert "Ctrl-C ended it after 160 steps, with 32 of 40 episodes: the short ones are" in text


def test_before_anything_is_played_a_signal_is_one_line(
    chosen_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def terminated(*arguments: Any) -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("tensor_optix.cli.evaluation.build_agent", terminated)
    assert main(["evaluate", str(chosen_run)]) == 143
    assert capsys.readouterr().err == "tensor-optix: interrupted before anything was played\n"
    assert Interruption().signal is None


def test_some_episodes_that_do_not_end_are_told_apart_from_those_that_do(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "some_end.py").write_text(
        "import gymnasium\n"
        "from tests.core.chosen_envs import Hall\n"
        "made = []\n"
        "def make():\n"
        "    made.append(Hall(length=None if len(made) % 3 == 2 else 10))\n"
        "    return made[-1]\n"
        'gymnasium.register("SomeEnd-v0", make)\n'
    )
    monkeypatch.setattr("tensor_optix.core.decisions.episode_ends.MOST_STEPS", 50)
    options = [
        *TINY,
        "--algo",
        "ppo",
        "--backend",
        "sync",
        "--max-steps",
        "256",
        "--run-dir",
        "run",
    ]
    assert main(["train", "some_end:SomeEnd-v0", *options]) == 0
    capsys.readouterr()
    result = evaluated(capsys, Path("run"))
    assert (result["episodes"], result["episodes_without_end"]) == (2, 2)
    assert (result["score"], result["score_is_per_step"], result["most_steps"]) == (10.0, False, 50)
    assert main(["evaluate", "run", "--episodes", "3"]) == 0
    assert "1 of 3 episodes did not end within 50 steps" in capsys.readouterr().out
