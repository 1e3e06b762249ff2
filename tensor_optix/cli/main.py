"""The `tensor-optix` command: arguments come in, an exit code goes out.

0: done. 1: the training crashed. 2: it cannot be done as asked, and nothing was written. 130 and
143: ended by Ctrl-C and SIGTERM. Heavy packages are imported by the subcommands that need them.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import TYPE_CHECKING, Annotated

from tensor_optix.cli.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensor_optix.cli.options import EvaluateOptions, TrainOptions, TuneOptions

# The parser joins the lines of a paragraph, and does not wrap them: so these are short.
DESCRIPTION = """Trains a policy by itself, and stops when nothing is left to gain.

- tensor-optix train CartPole-v1
- tensor-optix train Pendulum-v1 --algo sac
- tensor-optix tune CartPole-v1 --trials 20
- tensor-optix evaluate runs/CartPole-v1/TIME
- tensor-optix --version"""


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
    except CommandError as error:
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
    _require_packages("tyro", "rich")
    from tensor_optix.cli.options import TrainOptions, TuneOptions

    try:
        options = _parse(arguments)
        options.check()
    except ValueError as error:
        raise CommandError(str(error)) from error
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 2
    if isinstance(options, TuneOptions):
        from tensor_optix.cli.framework_loading import require_framework
        from tensor_optix.cli.tune import tune

        return tune(options, require_framework(options.framework))
    _require_packages("matplotlib")
    if isinstance(options, TrainOptions):
        from tensor_optix.cli.framework_loading import require_framework
        from tensor_optix.cli.training import train

        return train(options, require_framework(options.framework))
    from tensor_optix.cli.evaluation import evaluate

    return evaluate(options)


def _parse(arguments: list[str]) -> TrainOptions | TuneOptions | EvaluateOptions:
    import tyro

    from tensor_optix.cli.options import EvaluateOptions, TrainOptions, TuneOptions

    return tyro.cli(
        Annotated[TrainOptions, tyro.conf.subcommand("train")]
        | Annotated[TuneOptions, tyro.conf.subcommand("tune")]
        | Annotated[EvaluateOptions, tyro.conf.subcommand("evaluate")],
        prog="tensor-optix",
        description=DESCRIPTION,
        args=arguments,
    )


def _require_packages(*names: str) -> None:
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise CommandError(f"{name} is not installed: pip install 'tensor-optix[cli]'")
