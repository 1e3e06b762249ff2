"""The documentation site is built as its readers get it: warnings are errors, and there is no network."""

from __future__ import annotations

import importlib
import pkgutil
import re
import socket
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import tensor_optix
from tensor_optix.cli.main import main
from tensor_optix.public_names import homes

pytest.importorskip("mkdocstrings")
build = importlib.import_module("mkdocs.commands.build")
load_config = importlib.import_module("mkdocs.config").load_config

ROOT = Path(__file__).parent.parent.parent
BENCHMARKS = sorted((ROOT / "benchmarks").rglob("*.md"))
LOADING = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
"""What makes a browser load a file, and the attribute that names it."""


def refuse(*_: Any) -> None:
    raise AssertionError("the build asked for a network")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    path = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setenv("NO_MKDOCS_2_WARNING", "1")
        config = load_config(str(ROOT / "mkdocs.yml"), strict=True, site_dir=str(path))
        build.build(config)
    return path


class Page(HTMLParser):
    """The anchors of a page, what it loads, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors, self.loaded, self.text = set[str](), list[str](), ""
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self.anchors.add(known.get("id") or "")
        if tag in LOADING and known.get("rel") not in ("next", "prev", "canonical"):
            self.loaded.append(known.get(LOADING[tag]) or "")

    def handle_data(self, data: str) -> None:
        self.text += data


def packages() -> list[str]:
    found = pkgutil.walk_packages(tensor_optix.__path__, "tensor_optix.")
    return ["tensor_optix", *(one.name for one in found if one.ispkg)]


def test_every_public_name_of_every_package_has_an_entry(site):
    anchors = set[str]().union(
        *(Page(path).anchors for path in sorted((site / "reference").glob("*.html")))
    )
    wanted = {module + "." + name for name, module in homes("tensor_optix").items()}
    assert not wanted - anchors
    listed = {
        name for one in packages() for name in getattr(importlib.import_module(one), "__all__", ())
    }
    assert listed <= set(homes("tensor_optix"))


def test_every_kernel_has_an_entry(site):
    anchors = Page(site / "reference" / "kernels.html").anchors
    names = {one.rpartition(".")[2] for one in anchors}
    kernels = importlib.import_module("tensor_optix.kernels")
    assert {one for one in vars(kernels) if callable(getattr(kernels, one))} <= names


def test_the_help_of_every_subcommand_is_what_it_prints(site, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "92")
    page = " ".join(Page(site / "reference" / "command.html").text.split())
    assert main(["--help"]) == 0
    usage = capsys.readouterr().out.partition("}")[0]
    subcommands = usage.partition("{")[2].split(",")
    assert {"train", "evaluate"} <= set(subcommands)
    for one in subcommands:
        assert main([one, "--help"]) == 0
        assert " ".join(capsys.readouterr().out.split()) in page


def test_the_index_of_the_reference_names_every_name():
    text = (ROOT / "docs" / "reference" / "index.md").read_text()
    assert set(homes("tensor_optix")) <= set(re.findall(r"`(\w+)`", text))


@pytest.mark.parametrize("source", BENCHMARKS, ids=lambda path: path.stem)
def test_every_page_of_the_benchmarks_is_in_the_site(site, source):
    name = source.relative_to(ROOT).with_suffix(".html")
    page = Page(site / str(name).replace("README", "index"))
    title = source.read_text().partition("\n")[0].lstrip("# ")
    assert title.replace("`", "") in page.text


def test_a_public_name_in_a_page_leads_to_its_entry(site):
    entry = "../reference/training.html#tensor_optix.optimizer.RLOptimizer"
    assert f'href="{entry}"' in (site / "concepts" / "loop.html").read_text()


def test_pages_load_nothing_from_elsewhere(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 30
    loaded = {one for path in pages for one in Page(path).loaded}
    assert [one for one in loaded if "//" in one] == []
