"""The formats that policies are exported to: a name, or the ending of a file, comes in, a format goes out."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any, NamedTuple

from tensor_optix.core.argument_checks import closest

if TYPE_CHECKING:
    from pathlib import Path


class ExportFormat(NamedTuple):
    """What files a policy can become."""

    name: str
    title: str
    """As its makers write it."""
    ending: str
    module: str
    """Has its `write`, `reader` and `interface`."""
    packages: tuple[str, ...] = ()
    """That it needs."""
    extra: str = ""
    """Of ours, which installs them."""
    is_directory: bool = False
    """Whether what is written is a directory."""

    @property
    def file_name(self) -> str:
        """What it is called in a run directory."""
        return f"policy{self.ending}"

    def load(self) -> Any:
        """Return the module.

        Raises:
            ImportError: If a package is not installed, with the command that installs it.
        """
        for package in self.packages:
            if importlib.util.find_spec(package) is None:
                raise ImportError(
                    f"{package} is not installed: pip install 'tensor-optix[{self.extra}]'"
                )
        return importlib.import_module(f"tensor_optix.{self.module}")


TORCHSCRIPT, SAVED_MODEL = "adapters.pytorch.torchscript", "adapters.tensorflow.saved_model"
ONNX = ("onnx", "onnxruntime")
FORMATS = {
    one.name: one
    for one in (
        ExportFormat("onnx", "ONNX", ".onnx", "exporting.onnx_files", ONNX, "onnx"),
        ExportFormat("torchscript", "TorchScript", ".pt", TORCHSCRIPT, ("torch",), "torch"),
        ExportFormat(
            *("savedmodel", "SavedModel", ".savedmodel", SAVED_MODEL),
            *(("tensorflow",), "tensorflow"),
            is_directory=True,
        ),
        ExportFormat("safetensors", "safetensors", ".safetensors", "exporting.safetensors_files"),
        ExportFormat("c", "C99", ".h", "exporting.c_headers"),
    )
}
"""By their names."""
OTHER_NAMES = {
    "torch": "torchscript",
    "pytorch": "torchscript",
    "jit": "torchscript",
    "tf": "savedmodel",
    "tensorflow": "savedmodel",
    "saved_model": "savedmodel",
    "h": "c",
}


def find_format(name: str) -> ExportFormat:
    """Return the format of a name, in capitals or not, or of another of its names, such as "tf".

    Raises:
        ValueError: If there is none of that name, with the closest match.
    """
    known = {one: one for one in FORMATS} | OTHER_NAMES
    found = FORMATS.get(known.get(str(name).lower(), ""))
    if found is None:
        near = closest(name, known) if isinstance(name, str) else None
        hint = f"; did you mean {known[near]!r}?" if near else ""
        raise ValueError(f"to must be one of {', '.join(FORMATS)}, got {name!r}{hint}")
    return found


def format_of_path(path: Path) -> ExportFormat:
    """Return the format that the ending of a file says.

    Raises:
        ValueError: If it says none.
    """
    endings = {one.ending: one for one in FORMATS.values()}
    if path.suffix not in endings:
        raise ValueError(
            f"the ending of {path} says no format ({', '.join(endings)} do): say which it is to be, "
            f"one of {', '.join(FORMATS)}"
        )
    return endings[path.suffix]
