"""The pictures are those that their script draws."""

from __future__ import annotations

import importlib.util
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent.parent / "docs" / "pictures"
SPEC = importlib.util.spec_from_file_location("draw_pictures", FOLDER / "draw.py")
assert SPEC is not None
assert SPEC.loader is not None
DRAW = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(DRAW)


@pytest.mark.parametrize("name", DRAW.PICTURES)
def test_a_picture_is_as_its_script_draws_it(name):
    text = (FOLDER / f"{name}.svg").read_text()
    assert text == DRAW.PICTURES[name]().svg(), "run docs/pictures/draw.py"


@pytest.mark.parametrize("name", DRAW.PICTURES)
def test_a_picture_is_whole_and_has_a_title(name):
    root = ET.fromstring((FOLDER / f"{name}.svg").read_text())
    assert root.findtext("{http://www.w3.org/2000/svg}title")


def test_every_picture_is_drawn():
    assert {path.stem for path in FOLDER.glob("*.svg")} == set(DRAW.PICTURES)
