"""The boards that a run of the command logs to: its description comes in, callbacks go out."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

from tensor_optix.cli.errors import CommandError
from tensor_optix.core.json_values import to_readable_json
from tensor_optix.loggers.csv_callback import CSVCallback
from tensor_optix.loggers.mlflow_callback import MLflowCallback
from tensor_optix.loggers.tensorboard_callback import TensorBoardCallback
from tensor_optix.loggers.wandb_callback import WandbCallback
from tensor_optix.runs.run_files import attempt

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tensor_optix.core.callbacks import LoopCallback
    from tensor_optix.runs.run_directory import RunConfig, RunDirectory


def boards(config: RunConfig, directory: RunDirectory) -> list[LoopCallback]:
    """Return a callback for each board that a run was asked to log to; nothing is written yet.

    Raises:
        CommandError: If the package of one is not installed.
    """
    found: list[LoopCallback] = []
    try:
        if config.csv:
            found.append(CSVCallback(directory.progress))
        if config.tensorboard:
            found.append(TensorBoardCallback(directory.tensorboard))
        if config.wandb is not None:
            listed, name = to_readable_json(asdict(config)), directory.path.name
            found.append(WandbCallback(config.wandb, name, listed, dir=str(directory.path)))
        if config.mlflow is not None:
            name = directory.path.name
            found.append(
                MLflowCallback(config.mlflow, name, params=to_readable_json(asdict(config)))
            )
    except ImportError as error:
        raise CommandError(str(error)) from error
    return found


def show_curve(
    boards: Sequence[LoopCallback], directory: RunDirectory, steps: int, note: Callable[[str], None]
) -> None:
    """Show the learning curve where pictures are shown, if there is one.

    Args:
        boards: Of the run, which is over.
        directory: Holds the curve.
        steps: Environment steps of the run.
        note: Is told what went wrong.
    """
    for board in boards:
        if isinstance(board, TensorBoardCallback):
            attempt(partial(board.show, "learning_curve", directory.curve, steps), note)
