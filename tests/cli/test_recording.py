"""Films of a policy at play."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tensor_optix.cli.main import main
from tests.cli.conftest import TINY

if TYPE_CHECKING:
    from collections.abc import Callable

moviepy = pytest.importorskip("moviepy")
Image = pytest.importorskip("PIL.Image")

STAGE = """
import gymnasium
import numpy as np

class Stage(gymnasium.Env):
    metadata = {"render_modes": ["rgb_array", "human"], "render_fps": 50}
    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.step_count = 0
        return self._observation(), {}

    def step(self, action):
        self.step_count += 1
        if self.render_mode == "human":
            print("shown", self.step_count)
        return self._observation(), 1.0, self.step_count == 8, False, {}

    def render(self):
        # One column more is white with each step.
        frame = np.zeros((32, 64, 3), np.uint8)
        frame[:, : 4 * self.step_count] = 255
        return frame

    def _observation(self):
        return self.np_random.uniform(-1, 1, 2).astype(np.float32)

class Blind(Stage):
    metadata = {"render_modes": []}

gymnasium.register("Stage-v0", Stage)
gymnasium.register("Blind-v0", Blind)
"""


@pytest.fixture
def stage(here: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Train a little in an environment that draws, and return the run's directory."""
    Path("stage_for_films.py").write_text(STAGE)
    monkeypatch.syspath_prepend(str(here))

    def run(name: str) -> Path:
        env_id = f"stage_for_films:{name}-v0"
        options = (*TINY, "--max-steps", "256", "--run-dir", name, "--algo", "ppo", "--seed", "1")
        assert main(["train", env_id, *options]) == 0
        return here / name

    return run


def evaluated(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["evaluate", *options, "--json"]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def film_of(path: str) -> tuple[int, list[int]]:
    """Return how long a picture of a GIF is shown, in ms, and how many steps each picture tells of."""
    steps = []
    with Image.open(path) as film:
        for number in range(film.n_frames):
            film.seek(number)
            row = np.asarray(film.convert("L"))[16]
            steps.append(int(np.count_nonzero(row > 128)) // 4)
        return film.info["duration"], steps


def test_each_episode_is_a_film_from_its_first_to_its_last_step(
    stage: Callable[[str], Path], capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    run = stage("Stage")
    result = evaluated(
        capsys, str(run), "--record", "films", "--gif", "--episodes", "2", "--seed", "4"
    )
    assert result["films"] == [
        str(here / "films" / f"Stage-seed-4-episode-{n}.gif") for n in (0, 1)
    ]
    assert sorted(str(path) for path in (here / "films").iterdir()) == result["films"]
    for film in result["films"]:
        # Of 50 pictures a second every second one is shown: those of steps 0, 2, 4, 6, 8.
        assert film_of(film) == (40, [0, 2, 4, 6, 8])
    assert (result["num_envs"], result["backend"], result["lengths"]) == (1, "sync", [8, 8])


def test_films_are_mp4_otherwise_and_a_second_run_gives_the_same(
    stage: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = stage("Stage")
    first = evaluated(capsys, str(run), "--record", "films")
    assert [Path(film).suffix for film in first["films"]] == [".mp4"] * 3
    with moviepy.VideoFileClip(first["films"][0]) as clip:
        assert (tuple(clip.size), clip.fps) == ((64, 32), 50)
        assert clip.duration == pytest.approx(9 / 50, abs=0.03)
    assert evaluated(capsys, str(run), "--record", "films") == first


def test_the_text_names_the_films(
    stage: Callable[[str], Path], capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    run = stage("Stage")
    assert main(["evaluate", str(run), "--record", "films", "--episodes", "1", "--gif"]) == 0
    shown = capsys.readouterr()
    assert f"film     {here / 'films' / 'Stage-seed-1-episode-0.gif'}" in shown.out
    assert shown.err == ""


def test_a_window_shows_the_episodes(
    stage: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = stage("Stage")
    capsys.readouterr()
    assert main(["evaluate", str(run), "--render", "human", "--episodes", "1"]) == 0
    assert capsys.readouterr().out.count("shown") == 8


def test_what_cannot_draw_is_refused(
    stage: Callable[[str], Path], capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    run = stage("Blind")
    assert main(["evaluate", str(run), "--record", "films"]) == 2
    assert 'cannot be drawn as "rgb_array"' in capsys.readouterr().err
    assert not (here / "films").exists()


def test_without_moviepy_it_says_what_to_install(
    stage: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = stage("Stage")
    monkeypatch.setitem(sys.modules, "moviepy", None)
    assert main(["evaluate", str(run), "--record", "films"]) == 2
    assert "films need MoviePy: pip install 'tensor-optix[video]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--gif"], "--gif needs --record DIR"),
        (["--record", "films", "--render", "human"], "either --record or --render, not both"),
        (["--record", "films", "--backend", "envpool"], "leave --backend envpool out"),
        (["--record", "films", "--episodes", "0"], "--episodes must be at least 1, got 0"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    here: Path,
    finished_run: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    said: str,
) -> None:
    assert main(["evaluate", str(finished_run), *options]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not list(here.iterdir())
