"""`tensor-optix export`: a run directory comes in, a file that acts as its best policy does goes out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensor_optix.cli.errors import CommandError
from tensor_optix.core.checkpoints.saved_state import CheckpointError
from tensor_optix.exporting.exporting import export as export_policy
from tensor_optix.exporting.formats import FORMATS, find_format, format_of_path
from tensor_optix.exporting.verification import Disagreement
from tensor_optix.policies.loading import load
from tensor_optix.runs.run_directory import RunDirectory, RunDirectoryError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tensor_optix.adapters.inference_graph import GraphInput
    from tensor_optix.cli.options import ExportOptions
    from tensor_optix.exporting.exporting import Exported
    from tensor_optix.exporting.formats import ExportFormat

DEFAULT = FORMATS["onnx"]
KILO = 1000


def export(options: ExportOptions) -> int:
    """Export the best policy of a run, and print what was written and how close it is.

    Returns:
        0: done.

    Raises:
        CommandError: If there is no run, its policy has no such form, a package is missing, or the file
            does not act as the policy does.
    """
    try:
        format_ = _format(options)
        path = _path(options, format_)
        exported = export_policy(load(options.run_dir), path, format_.name)
    except RunDirectoryError:
        raise
    except OSError as error:
        where = error.filename or options.out or options.run_dir
        raise CommandError(f"cannot write {where}: {error.strerror or error}") from error
    except (ValueError, ImportError, CheckpointError, Disagreement) as error:
        raise CommandError(str(error)) from error
    print("\n".join(_said(exported)))
    return 0


def _format(options: ExportOptions) -> ExportFormat:
    if options.to is not None:
        return find_format(options.to)
    return DEFAULT if options.out is None else format_of_path(options.out)


def _path(options: ExportOptions, format_: ExportFormat) -> Path:
    if options.out is not None:
        return options.out
    directory = RunDirectory(options.run_dir)
    if directory.path.is_dir() and not directory.config.is_file():
        raise CommandError(
            f"{directory.path} is no run directory (no {directory.config.name}): give that of a run, or say "
            "with --out where to write"
        )
    return directory.path / format_.file_name


def _said(exported: Exported) -> list[str]:
    format_ = FORMATS[exported.to]
    return [
        f"wrote    {exported.path}, {_bytes(exported.size)} of {format_.title}",
        *_named("inputs", exported.inputs),
        *_named("outputs", exported.outputs),
        f"tried    {_agreement(exported)}",
        *_usage(exported),
    ]


def _named(what: str, values: Sequence[GraphInput]) -> list[str]:
    names = [what, *[""] * (len(values) - 1)]
    return [
        f"{name:<8} {one.name} [{', '.join(map(str, ('batch', *one.shape)))}] {one.dtype}"
        for name, one in zip(names, values, strict=True)
    ]


def _agreement(exported: Exported) -> str:
    agreement = exported.agreement
    said = f"by {exported.tried_by}: agrees with predict on {agreement.observations:,} observations"
    if agreement.actions is not None:
        said += f", largest difference {agreement.actions:.1g} of the actions' range"
    elif agreement.scores is not None:
        said += f", largest difference {agreement.scores:.1g} of the {exported.scores}"
    if agreement.ties:
        said += f"; on {agreement.ties:,} of them the two best actions are as good as equal"
    return said


def _usage(exported: Exported) -> list[str]:
    """Return two lines of Python that run a file of ONNX."""
    if exported.to != DEFAULT.name:
        return []
    given = ", ".join(
        f'"{one.name}": {"observation" if one.name == "observation" else f"batch_of_{place}"}'
        for place, one in enumerate(exported.inputs)
    )
    return [
        f'use      session = onnxruntime.InferenceSession("{exported.path}")',
        f"         {', '.join(one.name for one in exported.outputs)} = session.run(None, {{{given}}})",
    ]


def _bytes(size: int) -> str:
    value, unit = float(size), "B"
    for larger in ("kB", "MB", "GB"):
        if value < KILO:
            break
        value, unit = value / KILO, larger
    return f"{value:.3g} {unit}"
