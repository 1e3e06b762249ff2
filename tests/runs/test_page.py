"""The report as a page: one file, escaped, with all that the run decided."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tensor_optix.core.callbacks import Chosen, Degradation, Ending, Looked
from tensor_optix.runs.logged_run import read_run
from tensor_optix.runs.page import MOST_NUMBERED, page
from tensor_optix.runs.report import outcome_of
from tests.runs.made_runs import made_run
from tests.runs.test_logged_run import forks, tuned

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

VOID = {"meta", "link", "img", "br"}
EVIL = '<script>alert("1")</script>&amp;'


class Reader(HTMLParser):
    """Checks that what is opened is closed, and keeps tags and text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def written(path: Path, scores: Sequence[float | None], *events: Any, **config: Any) -> str:
    run = read_run(made_run(path, scores, events, **config))
    return page(run, outcome_of(run.record.stop, None))


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    assert not reader.open
    return reader


def items(text: str) -> list[str]:
    (listed,) = re.findall(r"<ol>\n(.*?)\n</ol>", text, re.DOTALL)
    return [" ".join(re.sub("<.*?>", "", one).split()) for one in listed.split("\n")]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a run of which much is to be told."""
    events = [
        Looked(steps=100, episodes=3, step_seconds=0.1),
        Chosen(option="algorithm", value="ppo", reason=EVIL),
        *forks(2, 3000),
    ]
    return written(
        tmp_path_factory.mktemp("page") / "a run",
        [1.0, 2.0, 20.5],
        *events,
        env_id=f"Cart{EVIL}-v1",
        wrappers=(f"a:{EVIL}",),
        max_steps=3500,
        ending=Ending.CAPPED,
        observation_space={"type": "Box", "low": [0.5] * 1000},
    )


def test_the_page_is_sound_and_asks_for_nothing(full: str) -> None:
    reader = read(full)
    assert reader.tags.count("svg") == 4, "two pictures, each for wide and for narrow windows"
    assert not {"script", "link", "img", "iframe"} & set(reader.tags)
    assert "http" not in full
    assert "@import" not in full
    assert set(re.findall(r"url\(([^)]{1,2})", full)) == {"#p"}, "only names within a picture"
    assert "prefers-color-scheme: dark" in full
    assert "@media print" in full


def test_the_headline_says_what_came_of_it(full: str) -> None:
    said = " ".join(read(full).text.split())
    assert f"Cart{EVIL}-v1 in {EVIL}: training reached its limit" in said
    assert "ppo (compiled kernels), 8 environments on sync, seed 0" in said
    assert "<dt>best score</dt><dd>20.5</dd>" in full
    assert "<dt>steps</dt><dd>3,500</dd><dd class=more>of at most 3,500</dd>" in full
    assert (
        "<p>Nothing left to gain (state: learning); more steps may give a better policy.</p>"
        in full
    )


def test_decisions_have_the_numbers_that_are_on_the_curve(full: str) -> None:
    listed = items(full)
    assert listed[0].startswith("1,000 steps, 00:00 first score 1")
    assert listed[1].endswith("new best 20.5 (4 episodes) (2 in a row)")
    assert listed[3].endswith(
        "went on with learning_rate 0.001 (tried in 500 steps: as it was 1, learning_rate 0.001 -)"
    )
    assert len(listed) == 4
    numbers = re.findall(r"font-size: 7.5px[^>]*>(\d+)</text>", full)
    assert numbers == [*"1234", *"1234"]
    before = " ".join(read(full).text.split())
    assert "Before it began looked at 100 random steps (3 episodes)chose algorithm ppo" in before


def test_texts_of_the_run_are_escaped(full: str) -> None:
    assert "<script" not in full
    assert read(full).text.count(EVIL) >= 3


def test_settings_and_versions_are_listed(full: str) -> None:
    assert "<th scope=row>hyperparams.learning_rate</th><td>0.0003</td>" in full
    assert "<th scope=row>versions.python</th>" in full
    (shown,) = re.findall(r"<th scope=row>observation_space</th><td>(.*?)</td>", full)
    assert len(shown) < 500
    assert shown.endswith(" ...")


def test_what_can_be_done_next_is_said_as_commands(full: str) -> None:
    assert re.search("tensor-optix train --resume &#x27;/.*/a run&#x27; --max-steps 7000<", full)
    assert re.search("tensor-optix plot /.*/[*]<", full)


def test_of_too_many_decisions_those_that_say_most_are_listed(tmp_path: Path) -> None:
    events = []
    for window in range(60):
        place = (window, 1000 * (window + 1))
        change = tuned(window, window, window + 1, window + 1)
        events += [Degradation(*place, smoothed=1.0, best=2.0), change]
    text = written(tmp_path / "run", list(np.arange(60.0)), *events)
    listed = items(text)
    assert len(listed) == MOST_NUMBERED
    assert not [one for one in listed if "new best" in one]
    assert "more are in events.jsonl" in text


def test_a_run_of_a_program_that_has_hardly_begun_has_a_page(tmp_path: Path) -> None:
    text = written(tmp_path, [], ending=None, hyperparams={}, algorithm="", agent_class="Mine")
    said = " ".join(read(text).text.split())
    assert "training is under way, or was killed" in said
    assert "nothing was scored" in said
    assert "None was taken." in said
    assert "--resume" not in text
