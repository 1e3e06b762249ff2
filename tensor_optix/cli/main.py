"""The `tensor-optix` command: arguments come in, an exit code goes out.

0: done. 1: the training crashed, or the doctor found a problem. 2: it cannot be done as asked, and nothing
was written. 130 and 143: ended by Ctrl-C and SIGTERM. Heavy packages are imported by the subcommands that
need them.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from tensor_optix.cli.errors import CommandError, require_packages
from tensor_optix.runs.run_directory import RunDirectoryError

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments after the command's name. None: those of this process.

    Returns:
        The exit code.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments == ["--version"]:
        from tensor_optix import __version__

        print(f"tensor-optix {__version__}")
        return 0
    try:
        return _dispatch(arguments or ["--help"])
    except (CommandError, RunDirectoryError) as error:
        # Messages of other packages may hold line breaks.
        print("tensor-optix: error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("tensor-optix: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read the output is gone; keep Python from failing when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _dispatch(arguments: list[str]) -> int:
    require_packages()
    from tensor_optix.cli.options import (
        DoctorOptions,
        ExportOptions,
        PlotOptions,
        ReportOptions,
        ResumeOptions,
        TrainOptions,
        TuneOptions,
    )
    from tensor_optix.cli.parsing import parse

    try:
        options = parse(arguments)
        options.check()
    except ValueError as error:
        raise CommandError(str(error)) from error
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 2
    if isinstance(options, TuneOptions | TrainOptions | DoctorOptions):
        options = options.in_full()
    if isinstance(options, TuneOptions):
        from tensor_optix.cli.tune import tune

        return tune(options)
    if isinstance(options, TrainOptions | ResumeOptions):
        require_packages("matplotlib")
        from tensor_optix.cli.training import train

        return train(options)
    if isinstance(options, DoctorOptions):
        from tensor_optix.cli.doctor import doctor

        return doctor(options)
    if isinstance(options, PlotOptions):
        require_packages("matplotlib")
        from tensor_optix.cli.pictures import plot

        return plot(options)
    if isinstance(options, ReportOptions):
        require_packages(*["matplotlib"] * options.html)
        from tensor_optix.cli.report import report

        return report(options)
    if isinstance(options, ExportOptions):
        from tensor_optix.cli.export import export

        return export(options)
    from tensor_optix.cli.evaluation import evaluate

    return evaluate(options)
