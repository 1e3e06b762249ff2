"""`tensor-optix export`: a run directory comes in, a file that acts as its best policy does goes out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensor_optix.algorithms.frameworks import FRAMEWORKS
from tensor_optix.cli.errors import CommandError
from tensor_optix.cli.framework_loading import load_announced
from tensor_optix.core.checkpoints.saved_state import CheckpointError
from tensor_optix.exporting.exporting import export as export_policy
from tensor_optix.exporting.formats import FORMATS, find_format, format_of_path
from tensor_optix.exporting.verification import Disagreement
from tensor_optix.policies.loading import load
from tensor_optix.runs.display import announced
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
        policy = load(options.run_dir)
        _load_framework(format_)
        with announced(f"trying it as {format_.title} ...", plain=False):
            exported = export_policy(policy, path, format_.name)
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


def _load_framework(format_: ExportFormat) -> None:
    """Import the framework of a format, if it has one, as commands do: without the messages of its start."""
    framework = FRAMEWORKS.get(format_.extra)
    if framework is not None and framework.is_installed:
        load_announced(framework, plain=False)


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
    interface = exported.interface
    batch = ("batch",) if interface.is_batched else ()
    return [
        f"wrote    {exported.path}, {_bytes(exported.size)} of {FORMATS[exported.to].title}",
        *_listed("inputs", [_described(one, batch) for one in interface.inputs]),
        *_listed("outputs", [_described(one, batch) for one in interface.outputs]),
        f"tried    {_agreement(exported)}",
        *_listed("use", interface.usage),
    ]


def _listed(what: str, lines: Sequence[str]) -> list[str]:
    names = [what, *[""] * (len(lines) - 1)]
    return [f"{name:<8} {line}" for name, line in zip(names, lines, strict=True)]


def _described(value: GraphInput, batch: tuple[str, ...]) -> str:
    shape = ", ".join(map(str, (*batch, *value.shape)))
    return f"{value.name} {f'[{shape}] ' * bool(shape)}{value.dtype}"


def _agreement(exported: Exported) -> str:
    agreement = exported.agreement
    said = f"by {exported.tried_by}: agrees with predict on {agreement.observations:,} observations"
    if agreement.actions is not None:
        said += f", largest difference {agreement.actions:.1g} of the actions' range"
    elif agreement.scores is not None:
        said += f", largest difference {agreement.scores:.1g} of the {exported.scores}"
    if agreement.ties:
        said += f"; on {agreement.ties:,} of them another action is as good, and it takes that"
    return said


def _bytes(size: int) -> str:
    value, unit = float(size), "B"
    for larger in ("kB", "MB", "GB"):
        if value < KILO:
            break
        value, unit = value / KILO, larger
    return f"{value:.3g} {unit}"
