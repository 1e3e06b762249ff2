"""Compile the kernels with sanitizers into `build/sanitized` and run their tests in a temporary folder.

`python tests/kernels/sanitize.py [pytest arguments]`, with g++ installed, and cmake, ninja,
nanobind and the test dependencies in the Python that runs it. The checkout's own extension is left
alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "sanitized"
"""Kept, so that what has not changed is compiled once."""


def run(*command: str | Path, **variables: str) -> None:
    """Run a command in this environment plus `variables`; raise if it fails."""
    subprocess.run([str(part) for part in command], env=os.environ | variables, check=True)


def build() -> Path:
    """Compile the extension and return its path."""
    tools = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    options = [
        "-DCMAKE_CXX_COMPILER=g++",
        "-DTENSOR_OPTIX_SANITIZE=ON",
        f"-DPython_EXECUTABLE={sys.executable}",
        "--log-level=WARNING",
    ]
    run("cmake", "-S", ROOT, "-B", BUILD, "-G", "Ninja", *options, PATH=tools)
    run("cmake", "--build", BUILD, "--", "--quiet", PATH=tools)
    return BUILD / f"_native{sysconfig.get_config_var('EXT_SUFFIX')}"


def library(name: str) -> str:
    """Return the path of one of the compiler's own libraries."""
    command = ["g++", f"-print-file-name={name}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def copy_package(folder: Path, extension: Path) -> None:
    """Put the package, with `extension` as its only one, and its tests into `folder`."""
    ignore = shutil.ignore_patterns("*.so", "__pycache__")
    for name in ("tensor_optix", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", folder)
    shutil.copy(extension, folder / "tensor_optix" / "kernels")


def main(arguments: list[str]) -> int:
    """Build, test, and return the exit status of the tests."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_package(folder, build())
        variables = {
            "TENSOR_OPTIX_KERNELS": "native",
            # Python never frees everything, so leaks cannot be told from its own.
            "ASAN_OPTIONS": "detect_leaks=0",
            "UBSAN_OPTIONS": "print_stacktrace=1",
            # Without libstdc++ the sanitizer would not find the exceptions it must intercept.
            "LD_PRELOAD": f"{library('libasan.so')}:{library('libstdc++.so')}",
            "PYTHONPATH": os.pathsep.join([name, sysconfig.get_path("purelib")]),
        }
        # -S: an editable install of the checkout would otherwise come before this copy.
        python = [sys.executable, "-S"]
        check = (
            "from tensor_optix.kernels import _native; "
            f"assert _native.__file__.startswith({name!r}), _native.__file__"
        )
        # A sanitizer ends the process: what it says must not be lost with pytest's capture.
        # What Numba compiles has no sanitizer in it, and took three quarters of the time.
        options = [
            "-q",
            "-p",
            "no:cacheprovider",
            "--capture=sys",
            "-k",
            "not numba and not both_backends",
        ]
        tests = ["-m", "pytest", "tests/kernels", *options, *arguments]
        environment = os.environ | variables
        subprocess.run([*python, "-c", check], cwd=folder, env=environment, check=True)
        return subprocess.run(
            [*python, *tests], cwd=folder, env=environment, check=False
        ).returncode


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
