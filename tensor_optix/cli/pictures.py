"""`tensor-optix plot`: run directories come in, a picture goes out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tensor_optix.cli.errors import CommandError
from tensor_optix.runs.pictures import write_picture
from tensor_optix.runs.plots import plot as draw

if TYPE_CHECKING:
    from tensor_optix.cli.options import PlotOptions

NAMES = {"curves": "plot.png", "profile": "profile.png", "hyperparams": "hyperparams.png"}
"""Of a picture whose file was not named."""


def plot(options: PlotOptions) -> int:
    """Draw runs, and print where.

    Args:
        options: Were checked.

    Returns:
        0.

    Raises:
        CommandError: If the picture cannot be written.
        RunDirectoryError: If a directory holds no run, or nothing was scored.
    """
    path = options.out
    if path is None:
        (place,) = options.runs if len(options.runs) == 1 else [Path()]
        path = place / NAMES[options.kind]
    figure = draw(options.runs, options.kind, options.x, options.smooth)
    try:
        write_picture(figure, path.expanduser())
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror or error}") from error
    print(path)
    return 0
