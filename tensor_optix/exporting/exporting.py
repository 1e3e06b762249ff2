"""`tensor_optix.export`: a policy comes in, a file that acts as it does goes out, or none."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tensor_optix.core.checkpoints.staging import private_path
from tensor_optix.exporting.facts import facts_of
from tensor_optix.exporting.formats import find_format, format_of_path
from tensor_optix.exporting.numpy_reading import Outputs
from tensor_optix.exporting.policy_graph import graph_of
from tensor_optix.exporting.verification import verify
from tensor_optix.policies.policy import Policy

if TYPE_CHECKING:
    from tensor_optix.adapters.inference_graph import FileInterface
    from tensor_optix.core.types import PathLike
    from tensor_optix.exporting.formats import ExportFormat
    from tensor_optix.exporting.verification import Agreement

SAVED_MODEL = "saved_model.pb"
"""In a directory that holds a SavedModel."""


@dataclass(frozen=True)
class Exported:
    """A file that was written, and how it was tried."""

    path: Path
    to: str
    interface: FileInterface
    """What goes in and comes out, and code that uses it."""
    scores: str
    """What actions are chosen by."""
    size: int
    """Bytes, of all files."""
    tried_by: str
    """What ran it, in words."""
    agreement: Agreement
    """With `predict`."""


def export(policy: Policy, path: PathLike, to: str | None = None) -> Exported:
    """Write a policy in a form that is run without this library, and try it before it is put in its place.

    What is written takes observations as the environment gives them, `[B, ...]`, and returns what its
    `step` takes, the best actions: whatever `policy.predict` does with an observation is in it. Inputs have
    the names of the observation's parts, `observation` where it has none, and `action_mask`, int8, where the
    policy was trained with masks. The output is `action`; ONNX and SavedModel have a second one, of what it
    is chosen by: `logits`, `q_values`, or `mean`, before the tanh.

    It is run on 1,000 observations, samples of their space and its ends, and compared with `predict`. A file
    that is there already is replaced.

    Args:
        policy: What `tensor_optix.load` returned.
        path: Of the file; for a SavedModel, of the directory.
        to: `"onnx"`, `"torchscript"`, `"savedmodel"`, `"safetensors"` or `"c"`. None: what the ending of
            the path says.

    Returns:
        What was written, how it is used, and how close it came.

    Raises:
        NotExportable: A ValueError, if the policy has no such form; the message says why.
        ValueError: If there is no such format.
        Disagreement: A RuntimeError, if what was written does not act as the policy does. It is gone then.
        ImportError: If a package is missing; the message says how to install it.
        OSError: If the file cannot be written.

    Examples:
        >>> import tensor_optix
        >>> policy = tensor_optix.train("CartPole-v1", max_steps=4096, progress=False)
        >>> tensor_optix.export(policy, "policy.safetensors").agreement.observations
        1000
    """
    if not isinstance(policy, Policy):
        raise TypeError(
            f"policy must be what tensor_optix.load returns, got {type(policy).__name__}"
        )
    target = Path(path).expanduser()
    format_ = format_of_path(target) if to is None else find_format(to)
    require_replaceable(target, format_)
    graph = graph_of(policy)
    module = format_.load()
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = private_path(target.parent)
    try:
        module.write(graph, draft, facts_of(policy))
        tried_by, read = module.reader(draft, graph)
        agreement = verify(policy, graph, lambda inputs: Outputs(*read(inputs)))
        size = _size(draft)
        _put(draft, target)
    finally:
        _remove(draft)
    interface = module.interface(target, graph)
    return Exported(target, format_.name, interface, graph.scores, size, tried_by, agreement)


def require_replaceable(target: Path, format_: ExportFormat) -> None:
    """Refuse a place that something else than an exported policy has.

    Raises:
        ValueError: If it does.
    """
    if not format_.is_directory:
        if target.is_dir():
            raise ValueError(
                f"{target} is a directory: give a file, such as {target / format_.file_name}"
            )
    elif target.is_file() or (target.is_dir() and _is_foreign(target)):
        raise ValueError(
            f"{target} is there already and is no SavedModel: give another directory, or delete it"
        )


def _is_foreign(directory: Path) -> bool:
    return any(directory.iterdir()) and not (directory / SAVED_MODEL).is_file()


def _put(draft: Path, target: Path) -> None:
    """Move what was written to its place, from which an earlier one goes."""
    if not target.is_dir():
        os.replace(draft, target)
        return
    former = private_path(target.parent)
    os.rename(target, former)
    try:
        os.rename(draft, target)
    except BaseException:
        os.rename(former, target)
        raise
    shutil.rmtree(former)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _size(path: Path) -> int:
    files = [one for one in path.rglob("*") if one.is_file()] if path.is_dir() else [path]
    return sum(one.stat().st_size for one in files)
