"""Frameworks of a run: a name comes in, one that is imported and knows its device goes out."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from tensor_optix.algorithms.agent_factory import has_images
from tensor_optix.algorithms.frameworks import NATIVE, find_framework, lightest_framework
from tensor_optix.cli.errors import CommandError
from tensor_optix.runs.display import announced

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tensor_optix.algorithms.frameworks import Framework
    from tensor_optix.core.observation_layout import AnySpace

_ADAPTERS = {
    "torch": "tensor_optix.adapters.pytorch.backend",
    "tensorflow": "tensor_optix.adapters.tensorflow.backend",
    "native": "tensor_optix.adapters.native.backend",
}
"""The modules that decide where to compute, and import the frameworks for it."""


def require_framework(name: str | None) -> Framework:
    """Return the framework of a name, or the first that is installed, without importing it.

    Raises:
        CommandError: If there is none of that name, or it is not installed.
    """
    try:
        return find_framework(name)
    except (ValueError, ImportError) as error:
        raise CommandError(str(error)) from error


def framework_for(
    name: str | None, observation_space: AnySpace, device: str = "auto", engine: str = "auto"
) -> Framework:
    """Return the framework of a name; None: the one that suits observations, device and engine.

    Raises:
        CommandError: If it, or any, is not installed.
    """
    if name is not None:
        return require_framework(name)
    try:
        return lightest_framework(has_images(observation_space), device, engine)
    except ImportError as error:
        raise CommandError(str(error)) from error


def is_loaded(framework: Framework) -> bool:
    """Whether a framework was imported, or needs not be, so that `load` takes no time."""
    return framework is NATIVE or framework.name in sys.modules


def load(framework: Framework) -> None:
    """Import a framework; TensorFlow set up for a command, and without the messages of its start.

    Raises:
        CommandError: If it cannot be imported as it is installed.
    """
    try:
        with _tensorflow_prepared() if framework.name == "tensorflow" else nullcontext():
            importlib.import_module(_ADAPTERS[framework.name])
    except ImportError as error:
        raise CommandError(f"cannot use {framework.title}: {error}") from error


def load_announced(framework: Framework, plain: bool) -> None:
    """Import a framework as `load` does, and tell who sits at a terminal what takes so long."""
    said = announced(f"loading {framework.title} ...", plain)
    with nullcontext() if is_loaded(framework) else said:
        load(framework)


def computing_device(framework: Framework, device: str) -> str:
    """Return what a device is: "cpu", "gpu", "gpu:1", ...

    Args:
        framework: Was loaded.
        device: As given by the option, "auto" too.

    Raises:
        CommandError: If the framework cannot use it on this machine.
    """
    try:
        return _KINDS_OF_DEVICES[framework.name](device)
    except ValueError as error:
        raise CommandError(str(error).replace("; choose", "; for --device choose")) from error


@contextmanager
def _tensorflow_prepared() -> Iterator[None]:
    """Set what TensorFlow reads from the environment when it is imported."""
    # Keras has to run on TensorFlow here, whatever the user has it run on elsewhere; and others may
    # need the rest of a GPU's memory.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    wants_all = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "0"
    with nullcontext() if wants_all else _native_messages_kept_back():
        yield


@contextmanager
def _native_messages_kept_back() -> Iterator[None]:
    """Keep what native code writes to the standard error, unless Python reports a failure.

    TensorFlow's first messages come before it looks at its own log level.
    """
    sys.stderr.flush()
    before = os.dup(2)
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except Exception:
            kept.seek(0)
            os.write(before, kept.read())
            raise
        finally:
            os.dup2(before, 2)
            os.close(before)


def _torch_device(device: str) -> str:
    from tensor_optix.adapters.pytorch.backend import resolve_device

    place = resolve_device(device)
    return _short(place.type.replace("cuda", "gpu"), place.index or 0)


def _tensorflow_device(device: str) -> str:
    from tensor_optix.adapters.tensorflow.backend import resolve_device

    place = resolve_device(device)
    if place is not None:
        _, kind, index = place.split(":")
        return _short(kind.lower(), int(index))
    try:
        resolve_device("gpu")
    except ValueError:
        return "cpu"
    return "gpu"


def _native_device(device: str) -> str:
    from tensor_optix.adapters.native.backend import require_device

    require_device(device)
    return "cpu"


_KINDS_OF_DEVICES = {
    "torch": _torch_device,
    "tensorflow": _tensorflow_device,
    "native": _native_device,
}


def _short(kind: str, index: int) -> str:
    return f"{kind}:{index}" if index else kind
