"""What MkDocs asks while it builds: pages that stand elsewhere in the repository, and the command's help.

The repository's own pages keep their places, so that links between them hold in both.
"""

from __future__ import annotations

import io
import os
import re
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mkdocs.structure.files import File

from tensor_optix.cli.main import main
from tensor_optix.public_names import homes

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
HELP_WIDTH = "92"
OUTSIDE = ("MIGRATING.md", "CHANGELOG.md", "CONTRIBUTING.md", "examples/README.md")
"""Pages that stand outside docs/, beside those of the benchmarks."""
HELP = "<!-- help of every subcommand -->"
SUBCOMMANDS = re.compile(r"usage: [^{]*\{([\w,-]+)\}")
APART = re.compile(r"(^```.*?^```$|^#[^\n]*$|^(?: {4})[^\n]*$)", re.DOTALL | re.MULTILINE)
"""Blocks of code and headings."""
NAME = re.compile(r"(?<![\[`])`(\w+)`(?![\]`])")
ENTRIES = homes("tensor_optix")
LINK = re.compile(r"\[([^\]]+)\]\(([^)#:]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that stand outside docs/."""
    for path in [*map(ROOT.joinpath, OUTSIDE), *sorted((ROOT / "benchmarks").rglob("*.md"))]:
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put in the help texts and the examples; leave no link to a file that is no page."""
    if page.file.src_uri == "examples/README.md":
        markdown = _with_scripts(markdown)
    folder = Path(page.file.src_uri).parent

    def kept(match: re.Match[str]) -> str:
        target = os.path.normpath(folder / match[2])
        is_page = files.get_file_from_path(Path(target).as_posix()) is not None
        # A path that is nowhere stays a link, for the build to complain of.
        return match[0] if is_page or not (ROOT / target).exists() else match[1]

    markdown = _with_names(LINK.sub(kept, markdown))
    return markdown.replace(HELP, _helps()) if HELP in markdown else markdown


def _with_names(markdown: str) -> str:
    """Return a page whose public names lead to their entries, but for blocks, headings and links."""
    parts = APART.split(markdown)
    for place in range(0, len(parts), 2):
        parts[place] = NAME.sub(_entry, parts[place])
    return "".join(parts)


def _entry(match: re.Match[str]) -> str:
    home = ENTRIES.get(match[1])
    return match[0] if home is None else f"[{match[0]}][{home}.{match[1]}]"


def _helps() -> str:
    """Return what the command prints of each of its subcommands."""
    found = SUBCOMMANDS.search(_printed("--help"))
    assert found is not None, "the usage of tensor-optix lists no subcommands"
    return "\n\n".join(
        f"## tensor-optix {one}\n\n```text\n{_printed(one, '--help')}\n```"
        for one in found[1].split(",")
    )


def _printed(*arguments: str) -> str:
    """Return what the command prints."""
    before, text = os.environ.get("COLUMNS"), io.StringIO()
    os.environ["COLUMNS"] = HELP_WIDTH
    try:
        with redirect_stdout(text):
            main(arguments)
    finally:
        _restore("COLUMNS", before)
    return text.getvalue().rstrip()


def _restore(name: str, value: Any) -> None:
    if value is None:
        del os.environ[name]
    else:
        os.environ[name] = value


def _with_scripts(markdown: str) -> str:
    """Return the page of the examples with the text of each script."""
    parts = [re.sub(r"\]\((\w+)\.py\)", r"](#\1)", markdown)]
    for path in sorted((ROOT / "examples").glob("*.py")):
        parts.append(f"## {path.name} {{#{path.stem}}}\n\n```python\n{path.read_text()}```\n")
    return "\n\n".join(parts)
