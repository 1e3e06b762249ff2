"""Runs side by side: what is drawn of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import tensor_optix
from tensor_optix.runs.pictures import write_picture
from tensor_optix.runs.plots import plot
from tests.runs.made_runs import HYPERPARAMS, made_run
from tests.runs.test_logged_run import forks, tuned

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SEEDS = 5


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Runs of which each scores higher than the one before by 10."""
    place = tmp_path_factory.mktemp("five")
    return [
        made_run(place / str(seed), [10.0 * seed, 10.0 * seed + 100.0], seed=seed)
        for seed in range(SEEDS)
    ]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def note(figure: Figure) -> str:
    return figure.legends[0].get_title().get_text()


def band(axes: Axes) -> tuple[float, float]:
    """Where an interval begins and ends at the right of the axes."""
    heights = axes.collections[0].get_paths()[0].vertices
    last = heights[heights[:, 0] == heights[:, 0].max()][:, 1]
    return float(last.min()), float(last.max())


def test_seeds_are_one_line_with_an_interval(five: list[Path]) -> None:
    figure = plot(five, smooth=1)
    (axes,) = figure.axes
    middle = axes.lines[0]
    assert (middle.get_xdata()[0], middle.get_xdata()[-1]) == (1000, 2000)
    assert (middle.get_ydata()[0], middle.get_ydata()[-1]) == (20.0, 120.0)
    low, high = band(axes)
    assert 100.0 <= low < 120.0 < high <= 140.0
    assert legend(figure) == ["PPO (5 runs)"]
    assert note(figure) == "interquartile mean of the runs, and its 95% interval"
    assert axes.get_title() == "Cart-v1"
    assert axes.get_legend() is None


def test_a_run_that_ended_early_counts_on_with_its_last_score(tmp_path: Path) -> None:
    runs = [
        made_run(tmp_path / "a", [1.0, 1.0], seed=1),
        made_run(tmp_path / "b", [3.0] * 10, seed=2),
        made_run(tmp_path / "c", [5.0] * 10, seed=3),
    ]
    middle, ends = plot(runs).axes[0].lines
    assert set(np.round(middle.get_ydata(), 9)) == {3.0}
    assert middle.get_xdata()[-1] == 10_000
    assert list(ends.get_xdata()) == [2000]


def test_a_curve_of_a_single_seed_has_no_interval(five: list[Path], tmp_path: Path) -> None:
    other = made_run(tmp_path / "dqn", [1.0, 2.0], algorithm="dqn", hyperparams={"epsilon": 1.0})
    figure = plot([five[0], other])
    assert not figure.axes[0].collections
    assert legend(figure) == ["PPO (1 run)", "DQN (1 run)"]
    assert note(figure) == ""


def test_groups_differ_in_colour_and_style_and_keep_theirs_in_every_panel(
    five: list[Path], tmp_path: Path
) -> None:
    changed = {"hyperparams": HYPERPARAMS | {"learning_rate": 1e-2}}
    runs = [
        *five[:3],
        made_run(tmp_path / "a", [1.0, 2.0], **changed),
        made_run(tmp_path / "b", [1.0, 2.0], env_id="Pole-v1", **changed),
        made_run(tmp_path / "c", [1.0, 2.0], env_id="Pole-v1"),
    ]
    figure = plot(runs)
    assert [axes.get_title() for axes in figure.axes] == ["Cart-v1", "Pole-v1"]
    assert legend(figure) == [
        "PPO, learning rate 0.0003 (3, 1 runs)",
        "PPO, learning rate 0.01 (1 run)",
    ]
    looks = [
        {(str(line.get_color()), line.get_linestyle()) for line in axes.lines}
        for axes in figure.axes
    ]
    assert looks[0] == looks[1] == {("#0072B2", "-"), ("#D55E00", "--")}


def test_a_single_run_is_drawn_with_its_decisions(five: list[Path]) -> None:
    figure = plot(str(five[1]))
    assert "kept: 110" in legend(figure)
    assert figure.get_suptitle() == "Cart-v1, PPO, seed 1"


def test_the_same_run_twice_is_one(five: list[Path]) -> None:
    assert "kept: 110" in legend(plot([five[1], f"{five[1]}/../{five[1].name}"]))


def test_curves_over_the_time(five: list[Path]) -> None:
    (axes,) = plot(five, x="time").axes
    assert axes.get_xlabel() == "seconds of training"
    assert axes.lines[0].get_xdata()[-1] == 1.0


def test_a_profile_is_the_share_of_runs_that_kept_so_much(five: list[Path]) -> None:
    figure = plot(five, "profile")
    (line,) = figure.axes[0].lines
    share = dict(zip(map(float, line.get_xdata()), map(float, line.get_ydata()), strict=True))
    assert [share[score] for score in (100.0, 110.0, 140.0)] == pytest.approx([1.0, 0.8, 0.2])
    assert share[max(share)] == 0.0
    above = [level for level in share if 100.0 < level < 110.0]
    assert {share[level] for level in above} == {0.8}
    low, high = np.array(figure.axes[0].collections[0].get_paths()[0].vertices)[:, 1][[0, 0]]
    assert 0.0 <= low <= high <= 1.0
    assert note(figure) == "with 95% intervals of the shares"


def test_hyperparameters_that_changed_have_panels_and_the_others_are_named(tmp_path: Path) -> None:
    events = [tuned(0, 3e-4, 4e-4, 4e-4), *forks(2, 3000)]
    figure = plot(made_run(tmp_path / "run", [1.0] * 4, events), "hyperparams")
    (axes,) = figure.axes
    assert (axes.get_title(), axes.get_yscale()) == ("learning rate", "log")
    line, *marks = axes.lines
    assert line.get_xdata().tolist() == [0, 1000, 3500, 4000]
    assert line.get_ydata().tolist() == [3e-4, 4e-4, 1e-3, 1e-3]
    assert [(mark.get_xdata()[0], mark.get_marker()) for mark in marks] == [
        (1000, "o"),
        (3500, "s"),
    ]
    assert legend(figure) == ["tuned", "chosen among forks"]
    assert note(figure) == "unchanged: gamma 0.99, n epochs 10"


def test_hyperparameters_of_which_none_changed_have_all_a_panel(five: list[Path]) -> None:
    titles = [axes.get_title() for axes in plot(five, "hyperparams").axes]
    assert titles == ["learning rate", "gamma", "n epochs"]


def test_runs_without_scores_are_left_out_and_named(
    five: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    silent = made_run(tmp_path / "silent", [None, None])
    assert legend(plot([*five, silent])) == ["PPO (5 runs)"]
    assert caplog.messages == [f"{silent}: nothing was scored so far, so it is left out"]
    with pytest.raises(ValueError, match=f"nothing was scored so far in {silent}; wait until"):
        plot(silent)
    plot(silent, "hyperparams")


def test_what_is_damaged_is_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = made_run(tmp_path / "run", [1.0, 2.0])
    with (path / "metrics.jsonl").open("a") as file:
        file.write('{"episode_id": 2, "num_st')
    plot(path)
    assert caplog.messages == [f"{path}: 1 line of the log cannot be read, and is left out"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "curve"}, "kind must be one of curves, profile, hyperparams, got 'curve'"),
        ({"x": "hours"}, "x must be one of steps, time, got 'hours'"),
        ({"smooth": 0}, "smooth must be at least 1, got 0"),
        ({"runs": []}, "runs must be at least one run directory, got none"),
    ],
)
def test_other_arguments_are_refused(
    five: list[Path], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        plot(**({"runs": five} | arguments))


def test_many_groups_of_any_scale_are_drawn_without_a_warning(tmp_path: Path) -> None:
    runs = [
        made_run(
            tmp_path / str(n), [0.0, scale], env_id=f"${n}$-v1", hyperparams={"a_rate": 10.0**-n}
        )
        for n, scale in enumerate((1e-3, -1e6, 0.0, 1e12))
    ]
    write_picture(plot(runs), tmp_path / "curves.svg")
    write_picture(plot(runs, "profile"), tmp_path / "profile.svg")
    write_picture(plot(runs, "hyperparams"), tmp_path / "hyperparams.svg")
    assert ">$1$-v1</text>" in (tmp_path / "curves.svg").read_text()


def test_it_is_a_public_name() -> None:
    assert tensor_optix.plot is plot
