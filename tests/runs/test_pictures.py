"""How pictures look, and their files."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import matplotlib.image
import numpy as np
import pytest

from tensor_optix.runs.pictures import (
    MOST_POINTS,
    Ruler,
    house_style,
    inline_svg,
    line_look,
    new_figure,
    plain,
    smoothed,
    thinned,
    write_picture,
)

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure


@pytest.fixture
def figure() -> Figure:
    with house_style():
        figure = new_figure(4.0, 3.0)
        figure.subplots().plot([0, 1], [2, 3], label="a line", **line_look(0))
        figure.suptitle(plain("costs $5 & <more>, or $6"))
    return figure


def test_a_png_has_150_dots_an_inch(figure: Figure, tmp_path: Path) -> None:
    write_picture(figure, tmp_path / "a.png")
    assert matplotlib.image.imread(tmp_path / "a.png").shape[:2] == (450, 600)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_text_in_an_svg_is_text_and_word_for_word(figure: Figure, tmp_path: Path) -> None:
    write_picture(figure, tmp_path / "a.svg")
    assert "costs $5 &amp; &lt;more>, or $6" in (tmp_path / "a.svg").read_text().replace(
        "&gt;", ">"
    )


def test_the_same_picture_is_the_same_file(figure: Figure, tmp_path: Path) -> None:
    for suffix in ("svg", "pdf", "PNG"):
        write_picture(figure, tmp_path / f"a.{suffix}")
        write_picture(figure, tmp_path / f"b.{suffix}")
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")


def test_a_picture_that_cannot_be_written_leaves_the_one_before(
    figure: Figure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_picture(figure, tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(figure, "savefig", full)
    with pytest.raises(OSError, match="No space left"):
        write_picture(figure, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_a_picture_of_a_page_has_its_ink_and_refers_to_nothing_outside(figure: Figure) -> None:
    element = inline_svg(figure, 'one "line"')
    assert element.startswith('<svg role="img" aria-label="one &quot;line&quot;"')
    assert "currentColor" in element
    assert "var(--line-0, #0072B2)" in element
    assert "http" not in element
    assert not re.search(r'id="[a-z]+_\d', element)


def test_two_pictures_of_a_page_share_no_names(figure: Figure) -> None:
    names = [set(re.findall(r' id="([^"]+)"', inline_svg(figure, one))) for one in "ab"]
    assert names[0]
    assert not names[0] & names[1]


def test_28_lines_differ_in_colour_or_style() -> None:
    assert len({tuple(line_look(number).values()) for number in range(28)}) == 28


def test_a_mean_is_of_those_before_as_far_as_there_are_any() -> None:
    assert smoothed([1.0, 3.0, 5.0, 7.0], 2).tolist() == [1.0, 2.0, 4.0, 6.0]
    assert smoothed([1.0, 3.0], 10).tolist() == [1.0, 2.0]
    assert smoothed([1.0, 3.0], 1).tolist() == [1.0, 3.0]


def test_long_series_are_thinned_and_keep_their_ends() -> None:
    long, same = thinned(np.arange(9 * MOST_POINTS), range(9 * MOST_POINTS))
    assert (len(long), long[0], long[-1]) == (MOST_POINTS, 0, 9 * MOST_POINTS - 1)
    assert (long == same).all()
    assert thinned([1, 2])[0].tolist() == [1, 2]


class HalfASecond:
    def seconds_at(self, steps: object) -> np.ndarray:
        return np.asarray(steps, np.float64) / 2


@pytest.mark.parametrize(
    ("longest", "label", "place"),
    [
        (100.0, "seconds of training", 60.0),
        (7000.0, "minutes of training", 1.0),
        (1e5, "hours of training", 1 / 60),
        (1e6, "days of training", 1 / 1440),
    ],
)
def test_time_has_a_unit_that_suits_it(longest: float, label: str, place: float) -> None:
    ruler = Ruler("time", longest)
    assert ruler.label == label
    assert ruler.place(HalfASecond(), 120) == pytest.approx(place)
    assert Ruler("steps", longest).place(HalfASecond(), [120]).tolist() == [120.0]


def test_a_long_text_is_broken_and_no_formula() -> None:
    assert plain("a" * 50 + " " + "b" * 50) == "a" * 50 + "\n" + "b" * 50
    assert plain("_private-v0 $x$") == r"private-v0 \$x\$"
