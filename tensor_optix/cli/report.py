"""`tensor-optix report`: a run directory comes in, its report goes out, as text or as a page."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tensor_optix.cli.errors import CommandError
from tensor_optix.cli.kept_warnings import kept_warnings
from tensor_optix.core.checkpoint_registry import CheckpointRegistry
from tensor_optix.core.checkpoints.staging import private_path
from tensor_optix.runs.logged_run import read_run
from tensor_optix.runs.report import closing_report, outcome_of

if TYPE_CHECKING:
    from pathlib import Path

    from tensor_optix.cli.options import ReportOptions
    from tensor_optix.core.types import PolicySnapshot
    from tensor_optix.runs.run_directory import RunDirectory

PAGE = "report.html"


def report(options: ReportOptions) -> int:
    """Print the report of a run, or write it as a page and print where.

    Args:
        options: Were checked.

    Returns:
        0.

    Raises:
        CommandError: If the page cannot be written.
        RunDirectoryError: If the directory holds no run.
    """
    run = read_run(options.run_dir)
    outcome = outcome_of(run.record.stop, _best(run.directory))
    if run.damage:
        print(f"warning: {run.damage}", file=sys.stderr)
    if not options.html:
        print(closing_report(run.record, run.config, run.directory, outcome), end="")
        return 0
    from tensor_optix.runs.page import page

    path = (options.out or options.run_dir / PAGE).expanduser()
    _write(path, page(run, outcome))
    print(path)
    return 0


def _best(directory: RunDirectory) -> PolicySnapshot | None:
    """Return the run's best policy, as far as its files can be read; nothing is written."""
    with kept_warnings():
        registry = CheckpointRegistry(directory.checkpoints, read_only=True)
        return next(iter(registry.snapshots), None)


def _write(path: Path, text: str) -> None:
    """Write a file, in place of one that is there, wholly or not at all."""
    unfinished = private_path(path.parent)
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise CommandError(f"cannot write {path}: {error.strerror}") from error
