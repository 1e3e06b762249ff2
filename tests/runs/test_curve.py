"""The picture of one run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib.image
import numpy as np
import pytest

from tensor_optix.core.callbacks import Degradation, Dormant, Plateau, Rollback
from tensor_optix.runs.curve import NARROW, RunView, draw_curve, run_figure
from tensor_optix.runs.logged_run import read_run
from tensor_optix.runs.pictures import Ruler
from tensor_optix.runs.record import TrainingRecord
from tests.runs.made_runs import made_config, made_run
from tests.runs.test_logged_run import forks, tuned

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

STANDSTILL = {"evaluations": 9, "non_improvements": 5, "interval": 1, "best": 5.0, "noise": 1.0}


def drawn(path: Path, scores: list[float], *events: Any, **view: Any) -> Figure:
    run = read_run(made_run(path, scores, events))
    return run_figure(run.record, run.config, RunView(clock=run, **view))


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def line(figure: Figure, label: str) -> tuple[list[float], list[float]]:
    (found,) = (one for one in figure.axes[0].lines if one.get_label() == label)
    return list(map(float, found.get_xdata())), list(map(float, found.get_ydata()))


def test_scores_and_the_best_stand_over_their_steps(tmp_path: Path) -> None:
    figure = drawn(tmp_path / "run", [1.0, 5.0, 3.0])
    assert line(figure, "score") == ([1000, 2000, 3000], [1, 5, 3])
    assert line(figure, "score of the best policy") == ([1000, 2000, 3000], [1, 5, 5])
    assert line(figure, "kept: 5") == ([2000], [5])
    assert figure.axes[1].get_xlabel() == "environment steps"
    assert figure.get_suptitle() == "Cart-v1, PPO, seed 0"


def test_or_over_the_time(tmp_path: Path) -> None:
    figure = drawn(tmp_path / "run", [1.0, 5.0], ruler=Ruler("time", 1.0))
    assert line(figure, "score")[0] == [0.5, 1.0]
    assert figure.axes[1].get_xlabel() == "seconds of training"


def test_many_scores_have_a_mean_beside_them(tmp_path: Path) -> None:
    scores = list(np.arange(200.0))
    assert line(drawn(tmp_path / "a", scores), "mean of 4 scores")[1][-1] == 197.5
    assert line(drawn(tmp_path / "b", scores, smooth=2), "mean of 2 scores")[1][:2] == [0.0, 0.5]
    assert "mean of" not in " ".join(legend(drawn(tmp_path / "c", scores, smooth=1)))


def test_decisions_are_marked_and_named_once_outside_of_the_data(tmp_path: Path) -> None:
    place = {"episode_id": 4, "total_steps": 5000}
    figure = drawn(
        tmp_path / "run",
        [1.0, 2.0, 3.0, 4.0, 5.0, 5.0],
        *forks(1, 2000),
        *forks(2, 3000),
        tuned(3, 1e-3, 2e-3, 2e-3),
        Degradation(**place, smoothed=1.0, best=5.0),
        Rollback(**place, snapshot="a"),
        Plateau(**place, **STANDSTILL),
        Dormant(**place, **STANDSTILL),
    )
    named = legend(figure)
    assert named[-7:] == [
        "trying other settings",
        "settings chosen",
        "tuned",
        "score fell",
        "back to the best",
        "no recent gain",
        "nothing left to gain",
    ]
    assert not figure.axes[0].get_legend()
    upright = [one for one in figure.axes[0].lines if len(set(one.get_xdata())) == 1]
    assert len(upright) == 9 + 1, "each decision, and the star"


def test_experiments_are_shaded(tmp_path: Path) -> None:
    figure = drawn(tmp_path / "run", [1.0, 2.0], experiments=[(500, 800), (900, 1000)])
    (shade,) = figure.axes[0].collections
    assert [path.vertices[:, 0].tolist()[1:3] for path in shade.get_paths()] == [
        [500, 800],
        [900, 1000],
    ]
    assert "experiments" in legend(figure)
    low, high = figure.axes[0].get_ylim()
    assert low > 0.9
    assert high < 2.1


def test_numbers_of_neighbours_are_on_levels_of_their_own(tmp_path: Path) -> None:
    run = read_run(made_run(tmp_path / "run", list(np.arange(100.0))))
    view = RunView(size=NARROW, numbered=run.record.decisions)
    texts = run_figure(run.record, run.config, view).axes[0].texts
    assert [text.get_text() for text in texts] == [str(number) for number in range(1, 101)]
    levels = [text.get_position()[1] for text in texts[:5]]  # type: ignore[attr-defined]
    assert len(set(levels)) == 5


def test_a_run_without_scores_says_so() -> None:
    figure = run_figure(TrainingRecord(), made_config(), RunView())
    assert [text.get_text() for text in figure.axes[0].texts] == ["no episode was scored"]


@pytest.mark.parametrize("scale", [1e-3, 1e6, 0.0])
@pytest.mark.parametrize("count", [1, 500])
def test_any_scale_is_drawn_without_a_warning(scale: float, count: int, tmp_path: Path) -> None:
    scores = list(-scale * np.arange(float(count)))
    run = read_run(made_run(tmp_path / "run", scores, window=123_456, env_id="Odd$-v1"))
    draw_curve(run.record, run.config, tmp_path / "curve.png")
    assert matplotlib.image.imread(tmp_path / "curve.png").shape[:2] == (720, 1200)
